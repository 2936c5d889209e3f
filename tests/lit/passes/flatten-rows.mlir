// What is elementwise behind a linear layer works on the layer's own matrix, one op after the other.
// RUN: dlas-opt %s --pass-pipeline=dlas-flatten-rows --notes | FileCheck %s

// CHECK: // dlas-flatten-rows: done: bias: works on 10x4
// CHECK: // dlas-flatten-rows: done: residual: works on 10x4
// CHECK: // dlas-flatten-rows: refused: rows: operand of type tensor<2x5xf32> is neither whole nor one per column

// CHECK-LABEL: func.func @main
func.func @main(%p: tensor<10x4xf32>, %bias: tensor<4xf32>, %x: tensor<2x5x4xf32>) -> tensor<2x5x4xf32> {
  // CHECK: %[[B:.*]] = linalg.generic {{.*}} ins(%arg0, %arg1 : tensor<10x4xf32>, tensor<4xf32>)
  // CHECK: %[[X:.*]] = tensor.collapse_shape %arg2
  // CHECK-SAME{LITERAL}: [[0, 1], [2]]
  // CHECK: %[[S:.*]] = linalg.generic {{.*}} ins(%[[B]], %[[X]] : tensor<10x4xf32>, tensor<10x4xf32>)
  // CHECK: %[[Y:.*]] = tensor.expand_shape %[[S]]
  // CHECK: return %[[Y]]
  %empty = tensor.empty() : tensor<2x5x4xf32>
  %e = tensor.expand_shape %p [[0, 1], [2]] output_shape [2, 5, 4] : tensor<10x4xf32> into tensor<2x5x4xf32>
  %b = linalg.generic {indexing_maps = [affine_map<(a, b, c) -> (a, b, c)>, affine_map<(a, b, c) -> (c)>, affine_map<(a, b, c) -> (a, b, c)>], iterator_types = ["parallel", "parallel", "parallel"]} ins(%e, %bias : tensor<2x5x4xf32>, tensor<4xf32>) outs(%empty : tensor<2x5x4xf32>) attrs = {dlas.layer = "bias"} {
  ^bb0(%l: f32, %r: f32, %o: f32):
    %s = arith.addf %l, %r : f32
    linalg.yield %s : f32
  } -> tensor<2x5x4xf32>
  %y = linalg.generic {indexing_maps = [affine_map<(a, b, c) -> (a, b, c)>, affine_map<(a, b, c) -> (a, b, c)>, affine_map<(a, b, c) -> (a, b, c)>], iterator_types = ["parallel", "parallel", "parallel"]} ins(%b, %x : tensor<2x5x4xf32>, tensor<2x5x4xf32>) outs(%empty : tensor<2x5x4xf32>) attrs = {dlas.layer = "residual"} {
  ^bb0(%l: f32, %r: f32, %o: f32):
    %s = arith.addf %l, %r : f32
    linalg.yield %s : f32
  } -> tensor<2x5x4xf32>
  return %y : tensor<2x5x4xf32>
}

// CHECK-LABEL: func.func @rows
func.func @rows(%p: tensor<10x4xf32>, %x: tensor<2x5xf32>) -> tensor<2x5x4xf32> {
  // CHECK: linalg.generic {{.*}}["parallel", "parallel", "parallel"]
  %empty = tensor.empty() : tensor<2x5x4xf32>
  %e = tensor.expand_shape %p [[0, 1], [2]] output_shape [2, 5, 4] : tensor<10x4xf32> into tensor<2x5x4xf32>
  %b = linalg.generic {indexing_maps = [affine_map<(a, b, c) -> (a, b, c)>, affine_map<(a, b, c) -> (a, b)>, affine_map<(a, b, c) -> (a, b, c)>], iterator_types = ["parallel", "parallel", "parallel"]} ins(%e, %x : tensor<2x5x4xf32>, tensor<2x5xf32>) outs(%empty : tensor<2x5x4xf32>) attrs = {dlas.layer = "rows"} {
  ^bb0(%l: f32, %r: f32, %o: f32):
    %s = arith.addf %l, %r : f32
    linalg.yield %s : f32
  } -> tensor<2x5x4xf32>
  return %b : tensor<2x5x4xf32>
}

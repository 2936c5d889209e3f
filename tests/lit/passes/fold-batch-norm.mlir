// Scales go into the weights; what is left is one addition, or one scale and shift.
// RUN: dlas-opt %s --pass-pipeline=dlas-fold-batch-norm | FileCheck %s
// RUN: dlas-opt %s --pass-pipeline='dlas-fold-batch-norm{into-weights=false}' | FileCheck %s --check-prefix=APART

#id = affine_map<(n, c, h, w) -> (n, c, h, w)>
#channel = affine_map<(n, c, h, w) -> (c, 0, 0)>
#vector = affine_map<(n, c, h, w) -> (c)>

// As torch decomposes it: a subtraction, two multiplications, an addition.
// scale = 0.5 * 4 = 2 and 0.25 * 4 = 1; shift = 3 - 1 * 2 and 3 - 2 * 1.
// CHECK-LABEL: func.func @after_convolution
// APART-LABEL: func.func @after_convolution
func.func @after_convolution(%x: tensor<1x1x2x2xf32>) -> tensor<1x2x2x2xf32> {
  // CHECK: %[[W:.*]] = arith.constant dense<{{.*}}2.000000e+01{{.*}}1.000000e+01{{.*}}> : tensor<2x1x1x1xf32>
  // APART: arith.constant dense<1.000000e+01> : tensor<2x1x1x1xf32>
  %w = arith.constant dense<10.0> : tensor<2x1x1x1xf32>
  %mean = arith.constant dense<[[[1.0]], [[2.0]]]> : tensor<2x1x1xf32>
  %inverse = arith.constant dense<[[[0.5]], [[0.25]]]> : tensor<2x1x1xf32>
  %gamma = arith.constant dense<4.0> : tensor<2x1x1xf32>
  %beta = arith.constant dense<3.0> : tensor<2x1x1xf32>
  %zero = arith.constant 0.0 : f32
  %empty = tensor.empty() : tensor<1x2x2x2xf32>
  %init = linalg.fill ins(%zero : f32) outs(%empty : tensor<1x2x2x2xf32>) -> tensor<1x2x2x2xf32>
  // CHECK: %[[C:.*]] = linalg.conv_2d_nchw_fchw {{.*}}ins(%arg0, %[[W]] :
  // APART: %[[C:.*]] = linalg.conv_2d_nchw_fchw
  %c = linalg.conv_2d_nchw_fchw {dlas.layer = "conv"} ins(%x, %w : tensor<1x1x2x2xf32>, tensor<2x1x1x1xf32>) outs(%init : tensor<1x2x2x2xf32>) -> tensor<1x2x2x2xf32>
  // The addition is the convolution's bias now, and has its layer's name.
  // CHECK: %[[H:.*]] = arith.constant dense<1.000000e+00> : tensor<2xf32>
  // CHECK: linalg.generic {{.*}} ins(%[[C]], %[[H]] : tensor<1x2x2x2xf32>, tensor<2xf32>){{.*}}dlas.layer = "conv"
  // APART: arith.constant dense<[2.000000e+00, 1.000000e+00]> : tensor<2xf32>
  // APART: linalg.generic {{.*}} ins(%[[C]],
  // CHECK-NOT: arith.mulf
  // CHECK: arith.addf
  // CHECK-NOT: linalg.generic
  // APART: arith.mulf
  // APART-NEXT: arith.addf
  %0 = linalg.generic {indexing_maps = [#id, #channel, #id], iterator_types = ["parallel", "parallel", "parallel", "parallel"]} ins(%c, %mean : tensor<1x2x2x2xf32>, tensor<2x1x1xf32>) outs(%empty : tensor<1x2x2x2xf32>) attrs = {dlas.layer = "bn"} {
  ^bb0(%a: f32, %b: f32, %out: f32):
    %v = arith.subf %a, %b : f32
    linalg.yield %v : f32
  } -> tensor<1x2x2x2xf32>
  %1 = linalg.generic {indexing_maps = [#id, #channel, #id], iterator_types = ["parallel", "parallel", "parallel", "parallel"]} ins(%0, %inverse : tensor<1x2x2x2xf32>, tensor<2x1x1xf32>) outs(%empty : tensor<1x2x2x2xf32>) attrs = {dlas.layer = "bn"} {
  ^bb0(%a: f32, %b: f32, %out: f32):
    %v = arith.mulf %a, %b : f32
    linalg.yield %v : f32
  } -> tensor<1x2x2x2xf32>
  %2 = linalg.generic {indexing_maps = [#id, #channel, #id], iterator_types = ["parallel", "parallel", "parallel", "parallel"]} ins(%1, %gamma : tensor<1x2x2x2xf32>, tensor<2x1x1xf32>) outs(%empty : tensor<1x2x2x2xf32>) attrs = {dlas.layer = "bn"} {
  ^bb0(%a: f32, %b: f32, %out: f32):
    %v = arith.mulf %a, %b : f32
    linalg.yield %v : f32
  } -> tensor<1x2x2x2xf32>
  %3 = linalg.generic {indexing_maps = [#id, #channel, #id], iterator_types = ["parallel", "parallel", "parallel", "parallel"]} ins(%2, %beta : tensor<1x2x2x2xf32>, tensor<2x1x1xf32>) outs(%empty : tensor<1x2x2x2xf32>) attrs = {dlas.layer = "bn"} {
  ^bb0(%a: f32, %b: f32, %out: f32):
    %v = arith.addf %a, %b : f32
    linalg.yield %v : f32
  } -> tensor<1x2x2x2xf32>
  return %3 : tensor<1x2x2x2xf32>
}

// As ONNX gives it: one generic with five operands. The groups' channels are scaled in order.
// CHECK-LABEL: func.func @grouped
func.func @grouped(%x: tensor<1x2x1x2x2xf32>) -> tensor<1x4x2x2xf32> {
  // CHECK: arith.constant dense<{{\[\[\[\[\[}}1.000000e+00]]], {{\[\[\[}}2.000000e+00]]]], {{\[\[\[\[}}3.000000e+00]]], {{\[\[\[}}4.000000e+00]]]]]> : tensor<2x2x1x1x1xf32>
  %w = arith.constant dense<1.0> : tensor<2x2x1x1x1xf32>
  %gamma = arith.constant dense<[1.0, 2.0, 3.0, 4.0]> : tensor<4xf32>
  %none = arith.constant dense<0.0> : tensor<4xf32>
  %var = arith.constant dense<1.0> : tensor<4xf32>
  %zero = arith.constant 0.0 : f32
  %empty = tensor.empty() : tensor<1x4x2x2xf32>
  %empty5 = tensor.empty() : tensor<1x2x2x2x2xf32>
  %init = linalg.fill ins(%zero : f32) outs(%empty5 : tensor<1x2x2x2x2xf32>) -> tensor<1x2x2x2x2xf32>
  // CHECK: linalg.conv_2d_ngchw_gfchw
  %c = linalg.conv_2d_ngchw_gfchw ins(%x, %w : tensor<1x2x1x2x2xf32>, tensor<2x2x1x1x1xf32>) outs(%init : tensor<1x2x2x2x2xf32>) -> tensor<1x2x2x2x2xf32>
  // CHECK: %[[Y:.*]] = tensor.collapse_shape
  // CHECK-NEXT: return %[[Y]]
  %y = tensor.collapse_shape %c [[0], [1, 2], [3], [4]] : tensor<1x2x2x2x2xf32> into tensor<1x4x2x2xf32>
  %n = linalg.generic {indexing_maps = [#id, #vector, #vector, #vector, #vector, #id], iterator_types = ["parallel", "parallel", "parallel", "parallel"]} ins(%y, %gamma, %none, %none, %var : tensor<1x4x2x2xf32>, tensor<4xf32>, tensor<4xf32>, tensor<4xf32>, tensor<4xf32>) outs(%empty : tensor<1x4x2x2xf32>) {
  ^bb0(%in: f32, %g: f32, %b: f32, %m: f32, %v: f32, %out: f32):
    %r = math.rsqrt %v : f32
    %0 = arith.subf %in, %m : f32
    %1 = arith.mulf %0, %r : f32
    %2 = arith.mulf %1, %g : f32
    %3 = arith.addf %2, %b : f32
    linalg.yield %3 : f32
  } -> tensor<1x4x2x2xf32>
  return %n : tensor<1x4x2x2xf32>
}

// Before an activation (pre-activation networks): one x * s + h with 1-D constants.
// CHECK-LABEL: func.func @pre_activation
func.func @pre_activation(%x: tensor<1x2x2x2xf32>) -> tensor<1x2x2x2xf32> {
  // CHECK-DAG: arith.constant dense<[4.000000e+00, 6.000000e+00]> : tensor<2xf32>
  // CHECK-DAG: arith.constant dense<[-4.000000e+00, -1.200000e+01]> : tensor<2xf32>
  %mean = arith.constant dense<[[[1.0]], [[2.0]]]> : tensor<2x1x1xf32>
  %scale = arith.constant dense<[[[4.0]], [[6.0]]]> : tensor<2x1x1xf32>
  %empty = tensor.empty() : tensor<1x2x2x2xf32>
  // CHECK: linalg.generic {{.*}} ins(%arg0, %{{.*}}, %{{.*}} : tensor<1x2x2x2xf32>, tensor<2xf32>, tensor<2xf32>){{.*}}dlas.layer = "bn"
  // CHECK: arith.mulf
  // CHECK-NEXT: arith.addf
  // CHECK-NOT: linalg.generic
  %0 = linalg.generic {indexing_maps = [#id, #channel, #id], iterator_types = ["parallel", "parallel", "parallel", "parallel"]} ins(%x, %mean : tensor<1x2x2x2xf32>, tensor<2x1x1xf32>) outs(%empty : tensor<1x2x2x2xf32>) attrs = {dlas.layer = "bn"} {
  ^bb0(%a: f32, %b: f32, %out: f32):
    %v = arith.subf %a, %b : f32
    linalg.yield %v : f32
  } -> tensor<1x2x2x2xf32>
  %1 = linalg.generic {indexing_maps = [#channel, #id, #id], iterator_types = ["parallel", "parallel", "parallel", "parallel"]} ins(%scale, %0 : tensor<2x1x1xf32>, tensor<1x2x2x2xf32>) outs(%empty : tensor<1x2x2x2xf32>) attrs = {dlas.layer = "bn"} {
  ^bb0(%a: f32, %b: f32, %out: f32):
    %v = arith.mulf %a, %b : f32
    linalg.yield %v : f32
  } -> tensor<1x2x2x2xf32>
  return %1 : tensor<1x2x2x2xf32>
}

// A batch norm after a linear layer.
// CHECK-LABEL: func.func @linear
func.func @linear(%x: tensor<3x2xf32>) -> tensor<3x2xf32> {
  // CHECK: arith.constant dense<{{\[}}[2.000000e+00, 3.000000e+00], [2.000000e+00, 3.000000e+00]]> : tensor<2x2xf32>
  %w = arith.constant dense<1.0> : tensor<2x2xf32>
  %scale = arith.constant dense<[2.0, 3.0]> : tensor<2xf32>
  %zero = arith.constant 0.0 : f32
  %empty = tensor.empty() : tensor<3x2xf32>
  %init = linalg.fill ins(%zero : f32) outs(%empty : tensor<3x2xf32>) -> tensor<3x2xf32>
  // CHECK: %[[Y:.*]] = linalg.matmul
  // CHECK-NEXT: return %[[Y]]
  %y = linalg.matmul ins(%x, %w : tensor<3x2xf32>, tensor<2x2xf32>) outs(%init : tensor<3x2xf32>) -> tensor<3x2xf32>
  %n = linalg.generic {indexing_maps = [affine_map<(m, n) -> (m, n)>, affine_map<(m, n) -> (n)>, affine_map<(m, n) -> (m, n)>], iterator_types = ["parallel", "parallel"]} ins(%y, %scale : tensor<3x2xf32>, tensor<2xf32>) outs(%empty : tensor<3x2xf32>) {
  ^bb0(%a: f32, %b: f32, %out: f32):
    %v = arith.mulf %a, %b : f32
    linalg.yield %v : f32
  } -> tensor<3x2xf32>
  return %n : tensor<3x2xf32>
}

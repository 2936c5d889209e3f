// What does not go into weights, and why.
// RUN: dlas-opt %s --pass-pipeline=dlas-fold-batch-norm --notes | FileCheck %s

#id = affine_map<(n, c, h, w) -> (n, c, h, w)>
#vector = affine_map<(n, c, h, w) -> (c)>

// CHECK-DAG: // dlas-fold-batch-norm: refused: shared: the result of linalg.conv_2d_nchw_fchw has several uses
// CHECK-DAG: // dlas-fold-batch-norm: refused: computed: the weights of linalg.conv_2d_nchw_fchw are not constant
// CHECK-DAG: // dlas-fold-batch-norm: refused: infinite: its scale or shift is not finite (variance plus epsilon must be positive)
// CHECK-DAG: // dlas-fold-batch-norm: refused: training: its mean and variance are computed from the data (training mode)
// CHECK-DAG: // dlas-fold-batch-norm: refused: columns: it does not vary along the output channels

// CHECK-LABEL: func.func @several_uses
func.func @several_uses(%x: tensor<1x1x2x2xf32>, %init: tensor<1x2x2x2xf32>) -> (tensor<1x2x2x2xf32>, tensor<1x2x2x2xf32>) {
  // CHECK: arith.constant dense<1.000000e+01> : tensor<2x1x1x1xf32>
  %w = arith.constant dense<10.0> : tensor<2x1x1x1xf32>
  %scale = arith.constant dense<[4.0, 6.0]> : tensor<2xf32>
  %empty = tensor.empty() : tensor<1x2x2x2xf32>
  %c = linalg.conv_2d_nchw_fchw ins(%x, %w : tensor<1x1x2x2xf32>, tensor<2x1x1x1xf32>) outs(%init : tensor<1x2x2x2xf32>) -> tensor<1x2x2x2xf32>
  // CHECK: arith.mulf
  %n = linalg.generic {indexing_maps = [#id, #vector, #id], iterator_types = ["parallel", "parallel", "parallel", "parallel"]} ins(%c, %scale : tensor<1x2x2x2xf32>, tensor<2xf32>) outs(%empty : tensor<1x2x2x2xf32>) attrs = {dlas.layer = "shared"} {
  ^bb0(%a: f32, %b: f32, %out: f32):
    %v = arith.mulf %a, %b : f32
    linalg.yield %v : f32
  } -> tensor<1x2x2x2xf32>
  return %c, %n : tensor<1x2x2x2xf32>, tensor<1x2x2x2xf32>
}

// CHECK-LABEL: func.func @computed_weights
func.func @computed_weights(%x: tensor<1x1x2x2xf32>, %w: tensor<2x1x1x1xf32>, %init: tensor<1x2x2x2xf32>) -> tensor<1x2x2x2xf32> {
  %scale = arith.constant dense<[4.0, 6.0]> : tensor<2xf32>
  %empty = tensor.empty() : tensor<1x2x2x2xf32>
  %c = linalg.conv_2d_nchw_fchw ins(%x, %w : tensor<1x1x2x2xf32>, tensor<2x1x1x1xf32>) outs(%init : tensor<1x2x2x2xf32>) -> tensor<1x2x2x2xf32>
  // CHECK: arith.mulf
  %n = linalg.generic {indexing_maps = [#id, #vector, #id], iterator_types = ["parallel", "parallel", "parallel", "parallel"]} ins(%c, %scale : tensor<1x2x2x2xf32>, tensor<2xf32>) outs(%empty : tensor<1x2x2x2xf32>) attrs = {dlas.layer = "computed"} {
  ^bb0(%a: f32, %b: f32, %out: f32):
    %v = arith.mulf %a, %b : f32
    linalg.yield %v : f32
  } -> tensor<1x2x2x2xf32>
  return %n : tensor<1x2x2x2xf32>
}

// CHECK-LABEL: func.func @negative_variance
func.func @negative_variance(%x: tensor<1x2x2x2xf32>) -> tensor<1x2x2x2xf32> {
  %var = arith.constant dense<[-1.0, 1.0]> : tensor<2xf32>
  %empty = tensor.empty() : tensor<1x2x2x2xf32>
  // CHECK: math.rsqrt
  %n = linalg.generic {indexing_maps = [#id, #vector, #id], iterator_types = ["parallel", "parallel", "parallel", "parallel"]} ins(%x, %var : tensor<1x2x2x2xf32>, tensor<2xf32>) outs(%empty : tensor<1x2x2x2xf32>) attrs = {dlas.layer = "infinite"} {
  ^bb0(%a: f32, %b: f32, %out: f32):
    %r = math.rsqrt %b : f32
    %v = arith.mulf %a, %r : f32
    linalg.yield %v : f32
  } -> tensor<1x2x2x2xf32>
  return %n : tensor<1x2x2x2xf32>
}

// CHECK-LABEL: func.func @batch_statistics
func.func @batch_statistics(%x: tensor<1x2x2x2xf32>, %mean: tensor<2xf32>, %var: tensor<2xf32>) -> tensor<1x2x2x2xf32> {
  %empty = tensor.empty() : tensor<1x2x2x2xf32>
  // CHECK: math.rsqrt
  %n = linalg.generic {indexing_maps = [#id, #vector, #vector, #id], iterator_types = ["parallel", "parallel", "parallel", "parallel"]} ins(%x, %mean, %var : tensor<1x2x2x2xf32>, tensor<2xf32>, tensor<2xf32>) outs(%empty : tensor<1x2x2x2xf32>) attrs = {dlas.layer = "training"} {
  ^bb0(%a: f32, %m: f32, %b: f32, %out: f32):
    %r = math.rsqrt %b : f32
    %d = arith.subf %a, %m : f32
    %v = arith.mulf %d, %r : f32
    linalg.yield %v : f32
  } -> tensor<1x2x2x2xf32>
  return %n : tensor<1x2x2x2xf32>
}

// CHECK-LABEL: func.func @along_columns
func.func @along_columns(%x: tensor<1x1x2x2xf32>, %init: tensor<1x2x2x2xf32>) -> tensor<1x2x2x2xf32> {
  // CHECK: arith.constant dense<1.000000e+01> : tensor<2x1x1x1xf32>
  %w = arith.constant dense<10.0> : tensor<2x1x1x1xf32>
  %scale = arith.constant dense<[4.0, 6.0]> : tensor<2xf32>
  %empty = tensor.empty() : tensor<1x2x2x2xf32>
  %c = linalg.conv_2d_nchw_fchw ins(%x, %w : tensor<1x1x2x2xf32>, tensor<2x1x1x1xf32>) outs(%init : tensor<1x2x2x2xf32>) -> tensor<1x2x2x2xf32>
  // CHECK: arith.mulf
  %n = linalg.generic {indexing_maps = [#id, affine_map<(n, c, h, w) -> (w)>, #id], iterator_types = ["parallel", "parallel", "parallel", "parallel"]} ins(%c, %scale : tensor<1x2x2x2xf32>, tensor<2xf32>) outs(%empty : tensor<1x2x2x2xf32>) attrs = {dlas.layer = "columns"} {
  ^bb0(%a: f32, %b: f32, %out: f32):
    %v = arith.mulf %a, %b : f32
    linalg.yield %v : f32
  } -> tensor<1x2x2x2xf32>
  return %n : tensor<1x2x2x2xf32>
}

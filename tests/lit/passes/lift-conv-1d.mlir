// A 1-D convolution, and what is around it, works on images of one row.
// RUN: dlas-opt %s --pass-pipeline=dlas-lift-conv-1d --notes | FileCheck %s

// CHECK: // dlas-lift-conv-1d: done: conv1: linalg.conv_1d_ncw_fcw became linalg.conv_2d_nchw_fchw over one row

// The padding before, the bias with ReLU behind, and the mean of a second reader have no reshapes between them.
// CHECK-LABEL: func.func @chain
// CHECK: %[[X:.*]] = tensor.expand_shape %arg0 {{\[}}[0], [1], [2, 3]] output_shape [1, 2, 1, 5]
// CHECK: %[[P:.*]] = tensor.pad %[[X]] low[0, 0, 0, 1] high[0, 0, 0, 1]
// CHECK: %[[W:.*]] = arith.constant dense<2.000000e+00> : tensor<4x2x1x3xf32>
// CHECK: %[[C:.*]] = linalg.conv_2d_nchw_fchw {dilations = dense<1> : vector<2xi64>, dlas.layer = "conv1", strides = dense<[1, 2]> : vector<2xi64>} ins(%[[P]], %[[W]] : tensor<1x2x1x7xf32>, tensor<4x2x1x3xf32>)
// CHECK: %[[Y:.*]] = linalg.generic {{.*}} ins(%[[C]], %{{.*}} : tensor<1x4x1x3xf32>, tensor<4xf32>)
// CHECK: %[[R:.*]] = tensor.collapse_shape %[[Y]] {{\[}}[0], [1], [2, 3]]
// CHECK: %[[M:.*]] = linalg.generic {{.*}}iterator_types = ["parallel", "parallel", "reduction", "reduction"]} ins(%[[Y]]
// CHECK: return %[[R]], %[[M]]
func.func @chain(%x: tensor<1x2x5xf32>) -> (tensor<1x4x3xf32>, tensor<1x4xf32>) {
  %zero = arith.constant 0.0 : f32
  %w = arith.constant dense<2.0> : tensor<4x2x3xf32>
  %bias = arith.constant dense<[1.0, 2.0, 3.0, 4.0]> : tensor<4xf32>
  %p = tensor.pad %x low[0, 0, 1] high[0, 0, 1] {
  ^bb0(%i: index, %j: index, %k: index):
    tensor.yield %zero : f32
  } : tensor<1x2x5xf32> to tensor<1x2x7xf32>
  %e = tensor.empty() : tensor<1x4x3xf32>
  %init = linalg.fill ins(%zero : f32) outs(%e : tensor<1x4x3xf32>) -> tensor<1x4x3xf32>
  %c = linalg.conv_1d_ncw_fcw {dlas.layer = "conv1", strides = dense<2> : vector<1xi64>} ins(%p, %w : tensor<1x2x7xf32>, tensor<4x2x3xf32>) outs(%init : tensor<1x4x3xf32>) -> tensor<1x4x3xf32>
  %y = linalg.generic {
    indexing_maps = [affine_map<(n, c, w) -> (n, c, w)>, affine_map<(n, c, w) -> (c)>, affine_map<(n, c, w) -> (n, c, w)>],
    iterator_types = ["parallel", "parallel", "parallel"]
  } ins(%c, %bias : tensor<1x4x3xf32>, tensor<4xf32>) outs(%e : tensor<1x4x3xf32>) {
  ^bb0(%a: f32, %b: f32, %out: f32):
    %s = arith.addf %a, %b : f32
    %r = arith.maximumf %s, %zero : f32
    linalg.yield %r : f32
  } -> tensor<1x4x3xf32>
  %em = tensor.empty() : tensor<1x4xf32>
  %im = linalg.fill ins(%zero : f32) outs(%em : tensor<1x4xf32>) -> tensor<1x4xf32>
  %m = linalg.generic {
    indexing_maps = [affine_map<(n, c, w) -> (n, c, w)>, affine_map<(n, c, w) -> (n, c)>],
    iterator_types = ["parallel", "parallel", "reduction"]
  } ins(%y : tensor<1x4x3xf32>) outs(%im : tensor<1x4xf32>) {
  ^bb0(%a: f32, %out: f32):
    %s = arith.addf %a, %out : f32
    linalg.yield %s : f32
  } -> tensor<1x4xf32>
  return %y, %m : tensor<1x4x3xf32>, tensor<1x4xf32>
}

// torch-mlir's grouped 1-D convolution slides along columns; groups, and weights that are no constant, are kept.
// CHECK-LABEL: func.func @columns
// CHECK: %[[X:.*]] = tensor.expand_shape %arg0 {{\[}}[0], [1], [2, 3]] output_shape [1, 4, 1, 6]
// CHECK: %[[G:.*]] = tensor.expand_shape %[[X]] {{\[}}[0], [1, 2], [3], [4]] output_shape [1, 2, 2, 1, 6]
// CHECK: %[[F:.*]] = tensor.collapse_shape %arg1 {{\[}}[0], [1], [2], [3, 4]] : tensor<2x2x2x3x1xf32> into tensor<2x2x2x3xf32>
// CHECK: %[[W:.*]] = tensor.expand_shape %[[F]] {{\[}}[0], [1], [2], [3, 4]] output_shape [2, 2, 2, 1, 3]
// CHECK: %[[C:.*]] = linalg.conv_2d_ngchw_gfchw {dilations = dense<[1, 2]> : vector<2xi64>, strides = dense<1> : vector<2xi64>} ins(%[[G]], %[[W]] : tensor<1x2x2x1x6xf32>, tensor<2x2x2x1x3xf32>)
// CHECK: %[[J:.*]] = tensor.collapse_shape %[[C]] {{\[}}[0], [1, 2], [3], [4]] : tensor<1x2x2x1x2xf32> into tensor<1x4x1x2xf32>
// CHECK: %[[Y:.*]] = tensor.collapse_shape %[[J]] {{\[}}[0], [1], [2, 3]] : tensor<1x4x1x2xf32> into tensor<1x4x2xf32>
// CHECK: return %[[Y]]
func.func @columns(%x: tensor<1x4x6xf32>, %w: tensor<2x2x2x3x1xf32>) -> tensor<1x4x2xf32> {
  %zero = arith.constant 0.0 : f32
  %column = tensor.expand_shape %x [[0], [1], [2, 3]] output_shape [1, 4, 6, 1] : tensor<1x4x6xf32> into tensor<1x4x6x1xf32>
  %g = tensor.expand_shape %column [[0], [1, 2], [3], [4]] output_shape [1, 2, 2, 6, 1] : tensor<1x4x6x1xf32> into tensor<1x2x2x6x1xf32>
  %e = tensor.empty() : tensor<1x2x2x2x1xf32>
  %init = linalg.fill ins(%zero : f32) outs(%e : tensor<1x2x2x2x1xf32>) -> tensor<1x2x2x2x1xf32>
  %c = linalg.conv_2d_ngchw_gfchw {dilations = dense<[2, 1]> : vector<2xi64>} ins(%g, %w : tensor<1x2x2x6x1xf32>, tensor<2x2x2x3x1xf32>) outs(%init : tensor<1x2x2x2x1xf32>) -> tensor<1x2x2x2x1xf32>
  %y = tensor.collapse_shape %c [[0], [1, 2], [3, 4]] : tensor<1x2x2x2x1xf32> into tensor<1x4x2xf32>
  return %y : tensor<1x4x2xf32>
}

// CHECK-LABEL: func.func @pooling
// CHECK: linalg.pooling_nchw_max {dilations = dense<1> : vector<2xi64>, strides = dense<[1, 2]> : vector<2xi64>} ins(%{{.*}}, %{{.*}} : tensor<1x2x1x5xf32>, tensor<1x3xf32>)
func.func @pooling(%x: tensor<1x2x5xf32>, %init: tensor<1x2x2xf32>) -> tensor<1x2x2xf32> {
  %window = tensor.empty() : tensor<3xf32>
  %y = linalg.pooling_ncw_max {strides = dense<2> : vector<1xi64>} ins(%x, %window : tensor<1x2x5xf32>, tensor<3xf32>) outs(%init : tensor<1x2x2xf32>) -> tensor<1x2x2xf32>
  return %y : tensor<1x2x2xf32>
}

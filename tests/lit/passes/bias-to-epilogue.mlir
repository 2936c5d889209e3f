// Convolutions start from zero; what they started from is added after them.
// RUN: dlas-opt %s --pass-pipeline=dlas-bias-to-epilogue | FileCheck %s

// CHECK-DAG: #[[ID4:.*]] = affine_map<(d0, d1, d2, d3) -> (d0, d1, d2, d3)>
// CHECK-DAG: #[[CHANNEL:.*]] = affine_map<(d0, d1, d2, d3) -> (d1)>

// CHECK-LABEL: func.func @broadcast
func.func @broadcast(%x: tensor<1x3x8x8xf32>, %w: tensor<2x3x1x1xf32>) -> tensor<1x2x8x8xf32> {
  %b = arith.constant dense<[1.0, 2.0]> : tensor<2xf32>
  %empty = tensor.empty() : tensor<1x2x8x8xf32>
  // CHECK-NOT: linalg.broadcast
  %init = linalg.broadcast ins(%b : tensor<2xf32>) outs(%empty : tensor<1x2x8x8xf32>) dimensions = [0, 2, 3]
  // CHECK: %[[ZERO:.*]] = linalg.fill {dlas.layer = "conv"}
  // CHECK: %[[C:.*]] = linalg.conv_2d_nchw_fchw {{.*}}outs(%[[ZERO]] :
  %y = linalg.conv_2d_nchw_fchw {dlas.layer = "conv"} ins(%x, %w : tensor<1x3x8x8xf32>, tensor<2x3x1x1xf32>) outs(%init : tensor<1x2x8x8xf32>) -> tensor<1x2x8x8xf32>
  // CHECK: %[[B:.*]] = arith.constant dense<[1.000000e+00, 2.000000e+00]> : tensor<2xf32>
  // CHECK: %[[Y:.*]] = linalg.generic {indexing_maps = [#[[ID4]], #[[CHANNEL]], #[[ID4]]]{{.*}}} ins(%[[C]], %[[B]] : tensor<1x2x8x8xf32>, tensor<2xf32>){{.*}}dlas.layer = "conv"
  // CHECK: arith.addf
  // CHECK: return %[[Y]]
  return %y : tensor<1x2x8x8xf32>
}

// A bias that the model computes stays a value.
// CHECK-LABEL: func.func @computed_bias
func.func @computed_bias(%x: tensor<1x3x8x8xf32>, %w: tensor<2x3x1x1xf32>, %b: tensor<2xf32>) -> tensor<1x2x8x8xf32> {
  %empty = tensor.empty() : tensor<1x2x8x8xf32>
  %init = linalg.generic {indexing_maps = [affine_map<(n, c, h, w) -> (c)>, affine_map<(n, c, h, w) -> (n, c, h, w)>], iterator_types = ["parallel", "parallel", "parallel", "parallel"]} ins(%b : tensor<2xf32>) outs(%empty : tensor<1x2x8x8xf32>) {
  ^bb0(%in: f32, %out: f32):
    linalg.yield %in : f32
  } -> tensor<1x2x8x8xf32>
  // CHECK: %[[C:.*]] = linalg.conv_2d_nchw_fchw
  %y = linalg.conv_2d_nchw_fchw ins(%x, %w : tensor<1x3x8x8xf32>, tensor<2x3x1x1xf32>) outs(%init : tensor<1x2x8x8xf32>) -> tensor<1x2x8x8xf32>
  // CHECK: linalg.generic {{.*}} ins(%[[C]], %arg2 : tensor<1x2x8x8xf32>, tensor<2xf32>)
  return %y : tensor<1x2x8x8xf32>
}

// For a grouped convolution the bias comes after the collapse_shape, on NCHW.
// CHECK-LABEL: func.func @grouped
func.func @grouped(%x: tensor<1x2x3x8x8xf32>, %w: tensor<2x2x3x1x1xf32>) -> tensor<1x4x8x8xf32> {
  %b = arith.constant dense<[1.0, 2.0, 3.0, 4.0]> : tensor<4xf32>
  %empty = tensor.empty() : tensor<1x4x8x8xf32>
  %init = linalg.broadcast ins(%b : tensor<4xf32>) outs(%empty : tensor<1x4x8x8xf32>) dimensions = [0, 2, 3]
  %split = tensor.expand_shape %init [[0], [1, 2], [3], [4]] output_shape [1, 2, 2, 8, 8] : tensor<1x4x8x8xf32> into tensor<1x2x2x8x8xf32>
  // CHECK: %[[ZERO:.*]] = linalg.fill {{.*}}outs(%{{.*}} : tensor<1x2x2x8x8xf32>)
  // CHECK: %[[C:.*]] = linalg.conv_2d_ngchw_gfchw {{.*}}outs(%[[ZERO]] :
  %c = linalg.conv_2d_ngchw_gfchw ins(%x, %w : tensor<1x2x3x8x8xf32>, tensor<2x2x3x1x1xf32>) outs(%split : tensor<1x2x2x8x8xf32>) -> tensor<1x2x2x8x8xf32>
  // CHECK: %[[Y:.*]] = tensor.collapse_shape %[[C]]
  %y = tensor.collapse_shape %c [[0], [1, 2], [3], [4]] : tensor<1x2x2x8x8xf32> into tensor<1x4x8x8xf32>
  // CHECK: linalg.generic {indexing_maps = [#[[ID4]], #[[CHANNEL]], #[[ID4]]]{{.*}}} ins(%[[Y]], %{{.*}} : tensor<1x4x8x8xf32>, tensor<4xf32>)
  return %y : tensor<1x4x8x8xf32>
}

// A constant that repeats a vector is one; an init of zeros leaves no addition.
// CHECK-LABEL: func.func @constants
func.func @constants(%x: tensor<1x1x2x2xf32>, %w: tensor<2x1x1x1xf32>) -> (tensor<1x2x2x2xf32>, tensor<1x2x2x2xf32>) {
  // CHECK: arith.constant dense<[1.000000e+00, 2.000000e+00]> : tensor<2xf32>
  %b = arith.constant dense<[[[[1.0, 1.0], [1.0, 1.0]], [[2.0, 2.0], [2.0, 2.0]]]]> : tensor<1x2x2x2xf32>
  %z = arith.constant dense<0.0> : tensor<1x2x2x2xf32>
  %y = linalg.conv_2d_nchw_fchw ins(%x, %w : tensor<1x1x2x2xf32>, tensor<2x1x1x1xf32>) outs(%b : tensor<1x2x2x2xf32>) -> tensor<1x2x2x2xf32>
  // CHECK: linalg.generic {{.*}} tensor<2xf32>)
  // CHECK: %[[V:.*]] = linalg.conv_2d_nchw_fchw
  // CHECK-NOT: linalg.generic
  %v = linalg.conv_2d_nchw_fchw ins(%x, %w : tensor<1x1x2x2xf32>, tensor<2x1x1x1xf32>) outs(%z : tensor<1x2x2x2xf32>) -> tensor<1x2x2x2xf32>
  // CHECK: return %{{.*}}, %[[V]]
  return %y, %v : tensor<1x2x2x2xf32>, tensor<1x2x2x2xf32>
}

// CHECK-LABEL: func.func @dynamic_batch
func.func @dynamic_batch(%x: tensor<?x3x8x8xf32>, %w: tensor<2x3x1x1xf32>) -> tensor<?x2x8x8xf32> {
  %b = arith.constant dense<[1.0, 2.0]> : tensor<2xf32>
  %c0 = arith.constant 0 : index
  %n = tensor.dim %x, %c0 : tensor<?x3x8x8xf32>
  // CHECK: %[[EMPTY:.*]] = tensor.empty(%{{.*}}) : tensor<?x2x8x8xf32>
  %empty = tensor.empty(%n) : tensor<?x2x8x8xf32>
  // CHECK: %[[ZERO:.*]] = linalg.fill ins(%{{.*}}) outs(%[[EMPTY]] :
  %init = linalg.broadcast ins(%b : tensor<2xf32>) outs(%empty : tensor<?x2x8x8xf32>) dimensions = [0, 2, 3]
  // CHECK: linalg.conv_2d_nchw_fchw {{.*}}outs(%[[ZERO]] :
  %y = linalg.conv_2d_nchw_fchw ins(%x, %w : tensor<?x3x8x8xf32>, tensor<2x3x1x1xf32>) outs(%init : tensor<?x2x8x8xf32>) -> tensor<?x2x8x8xf32>
  return %y : tensor<?x2x8x8xf32>
}

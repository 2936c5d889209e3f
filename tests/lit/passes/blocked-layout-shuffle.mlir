// A channel shuffle between two convolutions stays in channel blocks: a block of each of the two groups becomes two.
// Groups that do not divide a block are refused, with a reason.
// RUN: dlas-opt %s --pass-pipeline='dlas-blocked-layout{lanes=8 registers=16}' --notes --elide 8 | FileCheck %s

// CHECK: refused: odd: tensor.collapse_shape: 3 groups of 8 channels: no whole blocks of 8, 3 lanes apart

// CHECK-LABEL: func.func @shuffled
func.func @shuffled(%x: tensor<1x8x5x6xf32>) -> tensor<1x32x5x6xf32> {
  %zero = arith.constant 0.0 : f32
  %w0 = arith.constant dense<0.5> : tensor<32x8x1x1xf32>
  %w1 = arith.constant dense<0.25> : tensor<32x32x1x1xf32>
  %e = tensor.empty() : tensor<1x32x5x6xf32>
  %i = linalg.fill ins(%zero : f32) outs(%e : tensor<1x32x5x6xf32>) -> tensor<1x32x5x6xf32>
  // CHECK: flow.dispatch.workgroups{{.*}} -> tensor<1x1x5x6x8xf32>
  // CHECK: %[[A:.*]] = flow.dispatch.workgroups{{.*}} -> tensor<1x4x5x6x8xf32>
  %a = linalg.conv_2d_nchw_fchw {dlas.layer = "a"} ins(%x, %w0 : tensor<1x8x5x6xf32>, tensor<32x8x1x1xf32>) outs(%i : tensor<1x32x5x6xf32>) -> tensor<1x32x5x6xf32>
  // CHECK: %[[S:.*]] = flow.dispatch.workgroups[%{{.*}}](%[[A]]) {{.*}} -> tensor<1x4x5x6x8xf32>
  // CHECK: iree_tensor_ext.dispatch.tensor.load {{.*}} sizes = [1, 2, 5, 6, 8], strides = [1, 2, 1, 1, 1]
  // CHECK: vector.shuffle %[[G0:.*]], %{{.*}} [0, 0, 1, 1, 2, 2, 3, 3]
  // CHECK: vector.shuffle %{{.*}}, %[[G1:.*]] [0, 8, 2, 9, 4, 10, 6, 11]
  // CHECK: vector.shuffle %[[G0]], %{{.*}} [4, 4, 5, 5, 6, 6, 7, 7]
  // CHECK: vector.shuffle %{{.*}}, %[[G1]] [0, 12, 2, 13, 4, 14, 6, 15]
  // CHECK-NOT: linalg.transpose
  %g = tensor.expand_shape %a [[0], [1, 2], [3], [4]] output_shape [1, 2, 16, 5, 6] : tensor<1x32x5x6xf32> into tensor<1x2x16x5x6xf32>
  %e2 = tensor.empty() : tensor<1x16x2x5x6xf32>
  %t = linalg.transpose ins(%g : tensor<1x2x16x5x6xf32>) outs(%e2 : tensor<1x16x2x5x6xf32>) permutation = [0, 2, 1, 3, 4]
  %s = tensor.collapse_shape %t [[0], [1, 2], [3], [4]] : tensor<1x16x2x5x6xf32> into tensor<1x32x5x6xf32>
  // CHECK: flow.dispatch.workgroups[%{{.*}}](%[[S]], {{.*}} -> tensor<1x4x5x6x8xf32>
  %y = linalg.conv_2d_nchw_fchw {dlas.layer = "y"} ins(%s, %w1 : tensor<1x32x5x6xf32>, tensor<32x32x1x1xf32>) outs(%i : tensor<1x32x5x6xf32>) -> tensor<1x32x5x6xf32>
  return %y : tensor<1x32x5x6xf32>
}

// CHECK-LABEL: func.func @refused
// CHECK: linalg.transpose
func.func @refused(%a: tensor<1x24x5x6xf32>) -> tensor<1x24x5x6xf32> {
  %g = tensor.expand_shape %a [[0], [1, 2], [3], [4]] output_shape [1, 3, 8, 5, 6] : tensor<1x24x5x6xf32> into tensor<1x3x8x5x6xf32>
  %e = tensor.empty() : tensor<1x8x3x5x6xf32>
  %t = linalg.transpose ins(%g : tensor<1x3x8x5x6xf32>) outs(%e : tensor<1x8x3x5x6xf32>) permutation = [0, 2, 1, 3, 4]
  %s = tensor.collapse_shape %t [[0], [1, 2], [3], [4]] {dlas.layer = "odd"} : tensor<1x8x3x5x6xf32> into tensor<1x24x5x6xf32>
  return %s : tensor<1x24x5x6xf32>
}

// An init that is no per-channel bias is added as the tensor it is; a convolution from zero is left alone.
// RUN: dlas-opt %s --pass-pipeline=dlas-bias-to-epilogue --notes | FileCheck %s

// CHECK: // dlas-bias-to-epilogue: done: conv: the init tensor is added after the convolution
// CHECK-NOT: // dlas-bias

// CHECK-LABEL: func.func @accumulate
func.func @accumulate(%x: tensor<1x3x8x8xf32>, %w: tensor<2x3x1x1xf32>, %residual: tensor<1x2x8x8xf32>) -> tensor<1x2x8x8xf32> {
  // CHECK: %[[C:.*]] = linalg.conv_2d_nchw_fchw
  // CHECK: linalg.generic {{.*}} ins(%[[C]], %arg2 : tensor<1x2x8x8xf32>, tensor<1x2x8x8xf32>)
  %y = linalg.conv_2d_nchw_fchw {dlas.layer = "conv"} ins(%x, %w : tensor<1x3x8x8xf32>, tensor<2x3x1x1xf32>) outs(%residual : tensor<1x2x8x8xf32>) -> tensor<1x2x8x8xf32>
  return %y : tensor<1x2x8x8xf32>
}

// CHECK-LABEL: func.func @from_zero
func.func @from_zero(%x: tensor<1x3x8x8xf32>, %w: tensor<2x3x1x1xf32>) -> tensor<1x2x8x8xf32> {
  %zero = arith.constant 0.0 : f32
  %empty = tensor.empty() : tensor<1x2x8x8xf32>
  %init = linalg.fill ins(%zero : f32) outs(%empty : tensor<1x2x8x8xf32>) -> tensor<1x2x8x8xf32>
  // CHECK: linalg.conv_2d_nchw_fchw
  // CHECK-NEXT: return
  %y = linalg.conv_2d_nchw_fchw ins(%x, %w : tensor<1x3x8x8xf32>, tensor<2x3x1x1xf32>) outs(%init : tensor<1x2x8x8xf32>) -> tensor<1x2x8x8xf32>
  return %y : tensor<1x2x8x8xf32>
}

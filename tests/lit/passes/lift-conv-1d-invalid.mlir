// 1-D convolutions that stay as they are, and 2-D ones that are none.
// RUN: dlas-opt %s --pass-pipeline=dlas-lift-conv-1d --notes | FileCheck %s

// CHECK: // dlas-lift-conv-1d: refused: any length: dynamic shapes
// CHECK: // dlas-lift-conv-1d: refused: last: its channels come last
// CHECK-NOT: // dlas-lift-conv-1d

// CHECK-LABEL: func.func @dynamic
func.func @dynamic(%x: tensor<1x2x?xf32>, %w: tensor<4x2x3xf32>, %init: tensor<1x4x?xf32>) -> tensor<1x4x?xf32> {
  // CHECK: linalg.conv_1d_ncw_fcw
  %y = linalg.conv_1d_ncw_fcw {dlas.layer = "any length"} ins(%x, %w : tensor<1x2x?xf32>, tensor<4x2x3xf32>) outs(%init : tensor<1x4x?xf32>) -> tensor<1x4x?xf32>
  return %y : tensor<1x4x?xf32>
}

// CHECK-LABEL: func.func @channels_last
func.func @channels_last(%x: tensor<1x5x2xf32>, %w: tensor<3x2x4xf32>, %init: tensor<1x3x4xf32>) -> tensor<1x3x4xf32> {
  // CHECK: linalg.conv_1d_nwc_wcf
  %y = linalg.conv_1d_nwc_wcf {dlas.layer = "last"} ins(%x, %w : tensor<1x5x2xf32>, tensor<3x2x4xf32>) outs(%init : tensor<1x3x4xf32>) -> tensor<1x3x4xf32>
  return %y : tensor<1x3x4xf32>
}

// A 3x3 window over a padded column moves along one dimension, but is none of width 1.
// CHECK-LABEL: func.func @wide_window
func.func @wide_window(%x: tensor<1x2x5x3xf32>, %w: tensor<4x2x3x3xf32>, %init: tensor<1x4x3x1xf32>) -> tensor<1x4x3x1xf32> {
  // CHECK: linalg.conv_2d_nchw_fchw {{.*}}tensor<1x2x5x3xf32>
  %y = linalg.conv_2d_nchw_fchw ins(%x, %w : tensor<1x2x5x3xf32>, tensor<4x2x3x3xf32>) outs(%init : tensor<1x4x3x1xf32>) -> tensor<1x4x3x1xf32>
  return %y : tensor<1x4x3x1xf32>
}

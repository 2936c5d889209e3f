// What is left alone: rows left over below a larger output, inputs read whole, dynamic extents.
// RUN: dlas-opt %s --pass-pipeline=dlas-trim-inputs --notes | FileCheck %s

// CHECK-NOT: // dlas-trim-inputs
// CHECK-NOT: tensor.extract_slice

// CHECK-LABEL: func.func @leftover
func.func @leftover(%x: tensor<1x8x8x8xf32>, %w: tensor<4x8x3x3xf32>, %init: tensor<1x4x3x3xf32>) -> tensor<1x4x3x3xf32> {
  // CHECK: ins(%arg0, %arg1 :
  %y = linalg.conv_2d_nchw_fchw {strides = dense<2> : vector<2xi64>, dilations = dense<1> : vector<2xi64>} ins(%x, %w : tensor<1x8x8x8xf32>, tensor<4x8x3x3xf32>) outs(%init : tensor<1x4x3x3xf32>) -> tensor<1x4x3x3xf32>
  return %y : tensor<1x4x3x3xf32>
}

// CHECK-LABEL: func.func @whole
func.func @whole(%x: tensor<1x8x3x3xf32>, %w: tensor<4x8x3x3xf32>, %init: tensor<1x4x1x1xf32>) -> tensor<1x4x1x1xf32> {
  // CHECK: ins(%arg0, %arg1 :
  %y = linalg.conv_2d_nchw_fchw {strides = dense<2> : vector<2xi64>, dilations = dense<1> : vector<2xi64>} ins(%x, %w : tensor<1x8x3x3xf32>, tensor<4x8x3x3xf32>) outs(%init : tensor<1x4x1x1xf32>) -> tensor<1x4x1x1xf32>
  return %y : tensor<1x4x1x1xf32>
}

// CHECK-LABEL: func.func @dynamic
func.func @dynamic(%x: tensor<?x8x4x4xf32>, %w: tensor<4x8x3x3xf32>, %init: tensor<?x4x1x1xf32>) -> tensor<?x4x1x1xf32> {
  // CHECK: ins(%arg0, %arg1 :
  %y = linalg.conv_2d_nchw_fchw {strides = dense<2> : vector<2xi64>, dilations = dense<1> : vector<2xi64>} ins(%x, %w : tensor<?x8x4x4xf32>, tensor<4x8x3x3xf32>) outs(%init : tensor<?x4x1x1xf32>) -> tensor<?x4x1x1xf32>
  return %y : tensor<?x4x1x1xf32>
}

// A window that fits once reads no more than it needs: less padding, or a slice.
// RUN: dlas-opt %s --pass-pipeline=dlas-trim-inputs --notes | FileCheck %s

// CHECK: // dlas-trim-inputs: done: padded: its input of 1x8x4x4 became 1x8x3x3
// CHECK: // dlas-trim-inputs: done: grouped: its input of 1x2x4x4x4 became 1x2x4x3x3
// CHECK: // dlas-trim-inputs: done: pool: its input of 1x8x6x6 became 1x8x6x5

// CHECK-LABEL: func.func @padded
func.func @padded(%x: tensor<1x8x2x2xf32>, %w: tensor<4x8x3x3xf32>, %init: tensor<1x4x1x1xf32>) -> tensor<1x4x1x1xf32> {
  %zero = arith.constant 0.0 : f32
  // CHECK: %[[P:.*]] = tensor.pad %arg0 low[0, 0, 1, 1] high[0, 0, 0, 0]
  // CHECK: tensor<1x8x2x2xf32> to tensor<1x8x3x3xf32>
  %p = tensor.pad %x low[0, 0, 1, 1] high[0, 0, 1, 1] {
  ^bb0(%a: index, %b: index, %c: index, %d: index):
    tensor.yield %zero : f32
  } : tensor<1x8x2x2xf32> to tensor<1x8x4x4xf32>
  // CHECK: linalg.conv_2d_nchw_fchw {{.*}}ins(%[[P]], %arg1 :
  %y = linalg.conv_2d_nchw_fchw {strides = dense<2> : vector<2xi64>, dilations = dense<1> : vector<2xi64>, dlas.layer = "padded"} ins(%p, %w : tensor<1x8x4x4xf32>, tensor<4x8x3x3xf32>) outs(%init : tensor<1x4x1x1xf32>) -> tensor<1x4x1x1xf32>
  return %y : tensor<1x4x1x1xf32>
}

// CHECK-LABEL: func.func @grouped
func.func @grouped(%x: tensor<1x8x2x2xf32>, %w: tensor<2x2x4x3x3xf32>, %init: tensor<1x2x2x1x1xf32>) -> tensor<1x2x2x1x1xf32> {
  %zero = arith.constant 0.0 : f32
  // CHECK: tensor.pad %arg0 low[0, 0, 1, 1] high[0, 0, 0, 0]
  // CHECK: tensor.expand_shape {{.*}} output_shape [1, 2, 4, 3, 3] : tensor<1x8x3x3xf32> into tensor<1x2x4x3x3xf32>
  %p = tensor.pad %x low[0, 0, 1, 1] high[0, 0, 1, 1] {
  ^bb0(%a: index, %b: index, %c: index, %d: index):
    tensor.yield %zero : f32
  } : tensor<1x8x2x2xf32> to tensor<1x8x4x4xf32>
  %g = tensor.expand_shape %p [[0], [1, 2], [3], [4]] output_shape [1, 2, 4, 4, 4] : tensor<1x8x4x4xf32> into tensor<1x2x4x4x4xf32>
  %y = linalg.conv_2d_ngchw_gfchw {strides = dense<2> : vector<2xi64>, dilations = dense<1> : vector<2xi64>, dlas.layer = "grouped"} ins(%g, %w : tensor<1x2x4x4x4xf32>, tensor<2x2x4x3x3xf32>) outs(%init : tensor<1x2x2x1x1xf32>) -> tensor<1x2x2x1x1xf32>
  return %y : tensor<1x2x2x1x1xf32>
}

// A dilated window, nothing padded, one of two dimensions: a slice.
// CHECK-LABEL: func.func @sliced
func.func @sliced(%x: tensor<1x8x6x6xf32>, %w: tensor<1x3xf32>, %init: tensor<1x8x6x1xf32>) -> tensor<1x8x6x1xf32> {
  // CHECK: tensor.extract_slice %arg0[0, 0, 0, 0] [1, 8, 6, 5] [1, 1, 1, 1] : tensor<1x8x6x6xf32> to tensor<1x8x6x5xf32>
  %y = linalg.pooling_nchw_max {strides = dense<[1, 2]> : vector<2xi64>, dilations = dense<[1, 2]> : vector<2xi64>, dlas.layer = "pool"} ins(%x, %w : tensor<1x8x6x6xf32>, tensor<1x3xf32>) outs(%init : tensor<1x8x6x1xf32>) -> tensor<1x8x6x1xf32>
  return %y : tensor<1x8x6x1xf32>
}

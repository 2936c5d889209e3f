// A grouped convolution reads and writes NCHW, whatever reshapes of the model's own are next to it.
// RUN: dlas-opt %s --pass-pipeline=dlas-group-reshapes --notes | FileCheck %s

// CHECK: // dlas-group-reshapes: done: merged: reads and writes NCHW
// CHECK-NOT: // dlas-group-reshapes

// CHECK-LABEL: func.func @merged
// CHECK: %[[E:.*]] = tensor.expand_shape %arg0 {{\[}}[0], [1, 2, 3, 4]]
// CHECK: %[[X:.*]] = tensor.collapse_shape %[[E]] {{\[}}[0], [1, 2], [3], [4]] : tensor<1x2x2x3x3xf32> into tensor<1x4x3x3xf32>
// CHECK: %[[G:.*]] = tensor.expand_shape %[[X]] {{\[}}[0], [1, 2], [3], [4]]
// CHECK: %[[C:.*]] = linalg.conv_2d_ngchw_gfchw {{.*}}ins(%[[G]],
// CHECK: %[[Y:.*]] = tensor.collapse_shape %[[C]] {{\[}}[0], [1, 2], [3], [4]] : tensor<1x2x2x2x2xf32> into tensor<1x4x2x2xf32>
// CHECK: %[[F:.*]] = tensor.expand_shape %[[Y]] {{\[}}[0], [1, 2], [3], [4]]
// CHECK: tensor.collapse_shape %[[F]] {{\[}}[0], [1, 2, 3, 4]]
func.func @merged(%x: tensor<1x36xf32>, %w: tensor<2x2x2x2x2xf32>, %init: tensor<1x2x2x2x2xf32>) -> tensor<1x16xf32> {
  %e = tensor.expand_shape %x [[0], [1, 2, 3, 4]] output_shape [1, 2, 2, 3, 3] : tensor<1x36xf32> into tensor<1x2x2x3x3xf32>
  %c = linalg.conv_2d_ngchw_gfchw {dlas.layer = "merged"} ins(%e, %w : tensor<1x2x2x3x3xf32>, tensor<2x2x2x2x2xf32>) outs(%init : tensor<1x2x2x2x2xf32>) -> tensor<1x2x2x2x2xf32>
  %y = tensor.collapse_shape %c [[0], [1, 2, 3, 4]] : tensor<1x2x2x2x2xf32> into tensor<1x16xf32>
  return %y : tensor<1x16xf32>
}

// CHECK-LABEL: func.func @canonical
// CHECK: %[[E:.*]] = tensor.expand_shape %arg0
// CHECK-NEXT: linalg.conv_2d_ngchw_gfchw {{.*}}ins(%[[E]],
// CHECK-NEXT: tensor.collapse_shape
// CHECK-NEXT: return
func.func @canonical(%x: tensor<1x4x3x3xf32>, %w: tensor<2x2x2x2x2xf32>, %init: tensor<1x2x2x2x2xf32>) -> tensor<1x4x2x2xf32> {
  %e = tensor.expand_shape %x [[0], [1, 2], [3], [4]] output_shape [1, 2, 2, 3, 3] : tensor<1x4x3x3xf32> into tensor<1x2x2x3x3xf32>
  %c = linalg.conv_2d_ngchw_gfchw {dlas.layer = "same"} ins(%e, %w : tensor<1x2x2x3x3xf32>, tensor<2x2x2x2x2xf32>) outs(%init : tensor<1x2x2x2x2xf32>) -> tensor<1x2x2x2x2xf32>
  %y = tensor.collapse_shape %c [[0], [1, 2], [3], [4]] : tensor<1x2x2x2x2xf32> into tensor<1x4x2x2xf32>
  return %y : tensor<1x4x2x2xf32>
}

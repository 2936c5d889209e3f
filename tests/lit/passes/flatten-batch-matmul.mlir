// Batches that share one weight matrix are the rows of one product.
// RUN: dlas-opt %s --pass-pipeline=dlas-flatten-batch-matmul | FileCheck %s

// CHECK-LABEL: func.func @broadcast
func.func @broadcast(%x: tensor<2x3x2xf32>) -> tensor<2x3x2xf32> {
  %w = arith.constant dense<[[1.0, 2.0], [3.0, 4.0]]> : tensor<2x2xf32>
  %zero = arith.constant 0.0 : f32
  %e = tensor.empty() : tensor<2x3x2xf32>
  %eb = tensor.empty() : tensor<2x2x2xf32>
  %init = linalg.fill ins(%zero : f32) outs(%e : tensor<2x3x2xf32>) -> tensor<2x3x2xf32>
  // CHECK-NOT: linalg.broadcast
  %b = linalg.broadcast ins(%w : tensor<2x2xf32>) outs(%eb : tensor<2x2x2xf32>) dimensions = [0]
  // CHECK: %[[X:.*]] = tensor.collapse_shape %arg0 {{\[}}[0, 1], [2]] : tensor<2x3x2xf32> into tensor<6x2xf32>
  // CHECK: %[[W:.*]] = arith.constant dense<{{\[}}[1.000000e+00, 2.000000e+00], [3.000000e+00, 4.000000e+00]]> : tensor<2x2xf32>
  // CHECK: %[[P:.*]] = linalg.matmul {dlas.layer = "attention.query"} ins(%[[X]], %[[W]] : tensor<6x2xf32>, tensor<2x2xf32>)
  // CHECK: %[[Y:.*]] = tensor.expand_shape %[[P]] {{\[}}[0, 1], [2]] output_shape [2, 3, 2]
  // CHECK: return %[[Y]]
  %y = linalg.batch_matmul {dlas.layer = "attention.query"} ins(%x, %b : tensor<2x3x2xf32>, tensor<2x2x2xf32>) outs(%init : tensor<2x3x2xf32>) -> tensor<2x3x2xf32>
  return %y : tensor<2x3x2xf32>
}

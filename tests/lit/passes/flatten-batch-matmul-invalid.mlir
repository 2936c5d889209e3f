// Products that stay batched.
// RUN: dlas-opt %s --pass-pipeline=dlas-flatten-batch-matmul --notes | FileCheck %s

// CHECK: // dlas-flatten-batch-matmul: refused: experts: its weights differ between batches
// CHECK: // dlas-flatten-batch-matmul: refused: residual: it does not start from zero

// CHECK-LABEL: func.func @different_weights
func.func @different_weights(%x: tensor<2x3x1xf32>, %init: tensor<2x3x1xf32>) -> tensor<2x3x1xf32> {
  %w = arith.constant dense<[[[1.0]], [[2.0]]]> : tensor<2x1x1xf32>
  // CHECK: linalg.batch_matmul
  %y = linalg.batch_matmul {dlas.layer = "experts"} ins(%x, %w : tensor<2x3x1xf32>, tensor<2x1x1xf32>) outs(%init : tensor<2x3x1xf32>) -> tensor<2x3x1xf32>
  return %y : tensor<2x3x1xf32>
}

// CHECK-LABEL: func.func @accumulates
func.func @accumulates(%x: tensor<2x3x1xf32>, %init: tensor<2x3x1xf32>) -> tensor<2x3x1xf32> {
  %w = arith.constant dense<2.0> : tensor<2x1x1xf32>
  // CHECK: linalg.batch_matmul
  %y = linalg.batch_matmul {dlas.layer = "residual"} ins(%x, %w : tensor<2x3x1xf32>, tensor<2x1x1xf32>) outs(%init : tensor<2x3x1xf32>) -> tensor<2x3x1xf32>
  return %y : tensor<2x3x1xf32>
}

// A product of two activations (attention) is nothing to report.
// CHECK-LABEL: func.func @activations
func.func @activations(%x: tensor<2x3x1xf32>, %z: tensor<2x1x4xf32>, %init: tensor<2x3x4xf32>) -> tensor<2x3x4xf32> {
  // CHECK: linalg.batch_matmul
  %y = linalg.batch_matmul ins(%x, %z : tensor<2x3x1xf32>, tensor<2x1x4xf32>) outs(%init : tensor<2x3x4xf32>) -> tensor<2x3x4xf32>
  return %y : tensor<2x3x4xf32>
}

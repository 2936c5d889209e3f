// A transform script runs in IREE's context, alone or after passes.
// RUN: dlas-opt %s --transform-script %S/Inputs/generalize.mlir --entry-point generalize | FileCheck %s
// RUN: dlas-opt %s --context iree --pass-pipeline=cse --transform-script %S/Inputs/generalize.mlir --entry-point generalize | FileCheck %s
// RUN: not dlas-opt %s --transform-script %S/Inputs/generalize.mlir 2>&1 | FileCheck %s --check-prefix=ENTRY
// RUN: not dlas-opt %s --transform-script %S/Inputs/generalize.mlir --pass-pipeline=dlas-name-layers 2>&1 | FileCheck %s --check-prefix=CONTEXT

// ENTRY: no named sequence @__transform_main (it has: generalize)
// CONTEXT: a transform script runs in IREE's context

// CHECK-LABEL: func.func @main
func.func @main(%x: tensor<4x4xf32>, %w: tensor<4x4xf32>, %init: tensor<4x4xf32>) -> tensor<4x4xf32> {
  // CHECK-NOT: linalg.matmul
  // CHECK: linalg.generic
  %y = linalg.matmul ins(%x, %w : tensor<4x4xf32>, tensor<4x4xf32>) outs(%init : tensor<4x4xf32>) -> tensor<4x4xf32>
  return %y : tensor<4x4xf32>
}

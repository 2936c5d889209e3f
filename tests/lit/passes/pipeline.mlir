// The tool itself: several passes with MLIR's own between them, and what it says about a wrong pipeline.
// RUN: dlas-opt %s --pass-pipeline='dlas-name-layers,func.func(canonicalize),cse,dlas-fold-constants{max-growth=1}' | FileCheck %s
// RUN: not dlas-opt %s --pass-pipeline=dlas-fold-everything 2>&1 | FileCheck %s --check-prefix=UNKNOWN
// RUN: not dlas-opt %s --pass-pipeline=fold-everything 2>&1 | FileCheck %s --check-prefix=NATIVE
// RUN: not dlas-opt %s --pass-pipeline='dlas-fold-constants{max-growth=1' 2>&1 | FileCheck %s --check-prefix=BRACKETS
// RUN: not dlas-opt %s --pass-pipeline=dlas-fold-constants --context iree 2>&1 | FileCheck %s --check-prefix=CONTEXT
// RUN: not dlas-opt %t.missing --pass-pipeline=cse 2>&1 | FileCheck %s --check-prefix=MISSING

// UNKNOWN: unknown pass 'dlas-fold-everything' (known passes: {{.*}}dlas-fold-batch-norm
// NATIVE: unknown pass or wrong options in 'fold-everything'
// BRACKETS: brackets do not match
// CONTEXT: --context iree, but dlas-fold-constants runs in torch-mlir
// MISSING: missing: cannot be read: No such file or directory

// CHECK-LABEL: func.func @main
func.func @main(%x: tensor<4xf32>) -> tensor<4xf32> {
  // CHECK-NEXT: return %arg0
  %w = arith.constant dense<[[1.0, 2.0]]> : tensor<1x2xf32>
  %unused = tensor.collapse_shape %w [[0, 1]] : tensor<1x2xf32> into tensor<2xf32>
  return %x : tensor<4xf32>
}

// Pruned layers that the sparsifier's loops are not for, with the reason; dense ones are nothing to report.
// RUN: dlas-opt %s --pass-pipeline='dlas-sparsifier-kernels' --notes | FileCheck %s

// CHECK: refused: slow: linalg.matmul: MLIR's sparsifier would be slower: 50.0% non-zeros, {{.*}} cycles, {{.*}} by IREE's dense code
// CHECK: refused: turned: linalg.matmul: MLIR's sparsifier: transposed or broadcast operands
// CHECK: refused: any: linalg.conv_2d_nchw_fchw: MLIR's sparsifier: dynamic shapes
// CHECK-NOT: refused
// CHECK-NOT: flow.dispatch.workgroups
func.func @slow(%x: tensor<1x2xf32>, %init: tensor<1x2xf32>) -> tensor<1x2xf32> {
  %w = arith.constant dense<[[1.0, 0.0], [0.0, 1.0]]> : tensor<2x2xf32>
  %y = linalg.matmul {dlas.layer = "slow", dlas.sparse = "any"} ins(%x, %w : tensor<1x2xf32>, tensor<2x2xf32>) outs(%init : tensor<1x2xf32>) -> tensor<1x2xf32>
  return %y : tensor<1x2xf32>
}

func.func @turned(%x: tensor<2x1xf32>, %init: tensor<1x2xf32>) -> tensor<1x2xf32> {
  %w = arith.constant dense<[[1.0, 0.0], [0.0, 1.0]]> : tensor<2x2xf32>
  %y = linalg.matmul indexing_maps = [affine_map<(m, n, k) -> (k, m)>, affine_map<(m, n, k) -> (k, n)>, affine_map<(m, n, k) -> (m, n)>]
    {dlas.layer = "turned", dlas.sparse = "any"} ins(%x, %w : tensor<2x1xf32>, tensor<2x2xf32>) outs(%init : tensor<1x2xf32>) -> tensor<1x2xf32>
  return %y : tensor<1x2xf32>
}

func.func @any(%x: tensor<1x1x?x4xf32>, %init: tensor<1x1x?x4xf32>) -> tensor<1x1x?x4xf32> {
  %w = arith.constant dense<0.0> : tensor<1x1x1x1xf32>
  %y = linalg.conv_2d_nchw_fchw {dlas.layer = "any", dlas.sparse = "any"} ins(%x, %w : tensor<1x1x?x4xf32>, tensor<1x1x1x1xf32>) outs(%init : tensor<1x1x?x4xf32>) -> tensor<1x1x?x4xf32>
  return %y : tensor<1x1x?x4xf32>
}

func.func @dense(%x: tensor<1x1xf32>, %init: tensor<1x1xf32>) -> tensor<1x1xf32> {
  %w = arith.constant dense<2.0> : tensor<1x1xf32>
  %y = linalg.matmul {dlas.layer = "dense"} ins(%x, %w : tensor<1x1xf32>, tensor<1x1xf32>) outs(%init : tensor<1x1xf32>) -> tensor<1x1xf32>
  return %y : tensor<1x1xf32>
}

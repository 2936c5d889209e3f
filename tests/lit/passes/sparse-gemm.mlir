// A convolution with CSR weights as im2col and a product with the matrix, a linear layer as the product alone, which MLIR's sparsifier takes from there:
// a loop over the positions of a row.
// RUN: dlas-opt %s --pass-pipeline='dlas-type-sparse-weights{algorithm=gemm},dlas-sparse-gemm' --notes | FileCheck %s
// RUN: dlas-opt %s --pass-pipeline='dlas-type-sparse-weights{algorithm=gemm},dlas-sparse-gemm,sparsification-and-bufferization' | FileCheck %s --check-prefix=LOOPS

// CHECK-DAG: done: conv: im2col and a product with the CSR matrix
// CHECK-DAG: refused: grouped: linalg.conv_2d_ngchw_gfchw has groups: no product with one matrix
// CHECK-DAG: done: linear: a product with the CSR matrix
// CHECK-DAG: #[[WINDOW:.*]] = affine_map<(d0, d1, d2, d3, d4, d5) -> (d0, d1, d4 * 2 + d2, d5 + d3 * 3)>
// CHECK-DAG: #[[MATRIX:.*]] = affine_map<(d0, d1, d2, d3) -> (d1, d2)>

// LOOPS: scf.for %[[ROW:.*]] = %c0 to %c2
// LOOPS: %[[FIRST:.*]] = memref.load %{{.*}}[%[[ROW]]] : memref<?xi32>
// LOOPS: scf.for %[[J:.*]] = %
// LOOPS: memref.load %{{.*}}[%[[J]]] : memref<?xi32>
// LOOPS: memref.load %{{.*}}[%[[J]]] : memref<?xf32>
func.func @main(%x: tensor<1x2x5x7xf32>, %y: tensor<1x2x1x4x4xf32>, %z: tensor<4x2xf32>) -> (tensor<1x2x2x4xf32>, tensor<1x2x1x4x4xf32>, tensor<4x3xf32>) {
  %zero = arith.constant 0.0 : f32
  %w = arith.constant dense<[[[[0.0, 2.0], [0.0, 0.0]], [[0.0, 0.0], [0.0, 3.0]]], [[[0.0, 0.0], [0.0, 0.0]], [[0.0, 0.0], [0.0, 0.0]]]]> : tensor<2x2x2x2xf32>
  %e = tensor.empty() : tensor<1x2x2x4xf32>
  %i = linalg.fill ins(%zero : f32) outs(%e : tensor<1x2x2x4xf32>) -> tensor<1x2x2x4xf32>
  // CHECK: %[[CSR:.*]] = sparse_tensor.assemble
  // CHECK: %[[COLUMNS:.*]] = linalg.generic {indexing_maps = [#[[WINDOW]], {{.*}} ins(%arg0 : tensor<1x2x5x7xf32>) outs({{.*}} : tensor<1x2x2x2x2x4xf32>)
  // CHECK: %[[FLAT:.*]] = tensor.collapse_shape %[[COLUMNS]] {{.*}} into tensor<1x8x8xf32>
  // CHECK: linalg.generic {indexing_maps = [#[[MATRIX]], {{.*}} iterator_types = ["parallel", "parallel", "reduction", "parallel"]} ins(%[[CSR]], %[[FLAT]] :
  // CHECK-NOT: linalg.conv_2d_nchw_fchw
  %0 = linalg.conv_2d_nchw_fchw {dlas.layer = "conv", strides = dense<[2, 1]> : vector<2xi64>, dilations = dense<[1, 3]> : vector<2xi64>} ins(%x, %w : tensor<1x2x5x7xf32>, tensor<2x2x2x2xf32>) outs(%i : tensor<1x2x2x4xf32>) -> tensor<1x2x2x4xf32>
  // CHECK: linalg.conv_2d_ngchw_gfchw
  %wg = arith.constant dense<[[[[[1.0]]]], [[[[0.0]]]]]> : tensor<2x1x1x1x1xf32>
  %eg = tensor.empty() : tensor<1x2x1x4x4xf32>
  %ig = linalg.fill ins(%zero : f32) outs(%eg : tensor<1x2x1x4x4xf32>) -> tensor<1x2x1x4x4xf32>
  %1 = linalg.conv_2d_ngchw_gfchw {dlas.layer = "grouped"} ins(%y, %wg : tensor<1x2x1x4x4xf32>, tensor<2x1x1x1x1xf32>) outs(%ig : tensor<1x2x1x4x4xf32>) -> tensor<1x2x1x4x4xf32>
  // CHECK: %[[LINEAR:.*]] = sparse_tensor.assemble {{.*}} to tensor<3x2xf32,
  // CHECK: linalg.generic {{.*}} iterator_types = ["parallel", "parallel", "reduction"]} ins(%[[LINEAR]], %arg2 :
  // CHECK-NOT: linalg.matmul
  %wl = arith.constant dense<[[0.0, 2.0, 0.0], [3.0, 0.0, 0.0]]> : tensor<2x3xf32>
  %el = tensor.empty() : tensor<4x3xf32>
  %il = linalg.fill ins(%zero : f32) outs(%el : tensor<4x3xf32>) -> tensor<4x3xf32>
  %2 = linalg.matmul {dlas.layer = "linear"} ins(%z, %wl : tensor<4x2xf32>, tensor<2x3xf32>) outs(%il : tensor<4x3xf32>) -> tensor<4x3xf32>
  return %0, %1, %2 : tensor<1x2x2x4xf32>, tensor<1x2x1x4x4xf32>, tensor<4x3xf32>
}

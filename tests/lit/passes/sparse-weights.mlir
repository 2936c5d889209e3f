// Weights with zeros are typed as CSR, [C_out, C_PG * K_h * K_w] with i32 positions and coordinates (of a linear layer the
// transpose, whose rows are outputs); and made dense again for IREE, which has no sparse_tensor. The algorithm stays as an attribute.
// RUN: dlas-opt %s --pass-pipeline='dlas-type-sparse-weights' --notes | FileCheck %s
// RUN: dlas-opt %s --pass-pipeline='dlas-type-sparse-weights{share=0.2 algorithm=gemm}' --notes | FileCheck %s --check-prefix=SHARE
// RUN: dlas-opt %s --pass-pipeline='dlas-type-sparse-weights,dlas-densify-sparse-weights' --notes | FileCheck %s --check-prefix=DENSE
// RUN: not dlas-opt %s --pass-pipeline='dlas-type-sparse-weights{algorithm=magic}' 2>&1 | FileCheck %s --check-prefix=ALGORITHM
// RUN: not dlas-opt %s --pass-pipeline='dlas-type-sparse-weights{share=2}' 2>&1 | FileCheck %s --check-prefix=RANGE

// ALGORITHM: algorithm='magic' is not one of any, direct, gemm, spatial-pack
// RANGE: share=2.0 is not between 0 and 1

// CHECK: done: conv: CSR [2, 8], 3 of 16 stored, any
// CHECK: done: grouped: CSR [4, 2], 6 of 8 stored, any
// CHECK: done: depthwise: CSR [2, 2], 0 of 4 stored, any
// CHECK: done: linear: CSR [3, 2], 2 of 6 stored, any
// CHECK: refused: turned: transposed or broadcast operands
// CHECK-NOT: full
// CHECK: #[[CSR:.*]] = #sparse_tensor.encoding<{ map = (d0, d1) -> (d0 : dense, d1 : compressed), posWidth = 32, crdWidth = 32 }>

// SHARE: done: conv: CSR [2, 8], 3 of 16 stored, gemm
// SHARE: refused: grouped: 75% of the weights are not zero
// SHARE: done: depthwise
// SHARE: refused: linear: 33% of the weights are not zero

// DENSE: done: conv: dense 2x2x2x2
// DENSE: done: linear: dense 2x3

func.func @main(%x: tensor<1x2x4x4xf32>, %y: tensor<1x2x2x4x4xf32>, %z: tensor<4x2xf32>) -> (tensor<1x2x3x3xf32>, tensor<1x2x2x4x4xf32>, tensor<1x2x4x3xf32>, tensor<1x1x4x4xf32>, tensor<4x3xf32>, tensor<4x3xf32>) {
  %zero = arith.constant 0.0 : f32
  // CHECK-DAG: %[[P:.*]] = arith.constant dense<[0, 2, 3]> : tensor<3xi32>
  // CHECK-DAG: %[[C:.*]] = arith.constant dense<[1, 7, 4]> : tensor<3xi32>
  // CHECK-DAG: %[[V:.*]] = arith.constant dense<[2.000000e+00, 3.000000e+00, 5.000000e+00]> : tensor<3xf32>
  // CHECK: %[[A:.*]] = sparse_tensor.assemble (%[[P]], %[[C]]), %[[V]] : {{.*}} to tensor<2x8xf32, #[[CSR]]>
  // CHECK: %[[D:.*]] = sparse_tensor.convert %[[A]] : tensor<2x8xf32, #[[CSR]]> to tensor<2x8xf32>
  // CHECK: %[[W:.*]] = tensor.expand_shape %[[D]] {{\[\[0\], \[1, 2, 3\]\]}}
  // CHECK: linalg.conv_2d_nchw_fchw {dlas.layer = "conv", dlas.sparse = "any"} ins(%{{.*}}, %[[W]] :
  // DENSE: %[[W:.*]] = arith.constant dense<{{\[\[\[\[}}0.000000e+00, 2.000000e+00]{{.*}}> : tensor<2x2x2x2xf32>
  // DENSE-NOT: sparse_tensor
  // DENSE: linalg.conv_2d_nchw_fchw {dlas.layer = "conv", dlas.sparse = "any"} ins(%{{.*}}, %[[W]] :
  %w = arith.constant dense<[[[[0.0, 2.0], [0.0, 0.0]], [[0.0, 0.0], [0.0, 3.0]]], [[[0.0, 0.0], [0.0, 0.0]], [[5.0, 0.0], [0.0, 0.0]]]]> : tensor<2x2x2x2xf32>
  %e = tensor.empty() : tensor<1x2x3x3xf32>
  %i = linalg.fill ins(%zero : f32) outs(%e : tensor<1x2x3x3xf32>) -> tensor<1x2x3x3xf32>
  %0 = linalg.conv_2d_nchw_fchw {dlas.layer = "conv"} ins(%x, %w : tensor<1x2x4x4xf32>, tensor<2x2x2x2xf32>) outs(%i : tensor<1x2x3x3xf32>) -> tensor<1x2x3x3xf32>

  // CHECK: sparse_tensor.assemble {{.*}} to tensor<4x2xf32, #[[CSR]]>
  // CHECK: tensor.expand_shape {{.*}} {{\[\[0, 1\], \[2, 3, 4\]\]}}
  // CHECK: linalg.conv_2d_ngchw_gfchw {dlas.layer = "grouped", dlas.sparse = "any"}
  // SHARE: linalg.conv_2d_ngchw_gfchw {dlas.layer = "grouped"}
  %wg = arith.constant dense<[[[[[1.0]], [[0.0]]], [[[2.0]], [[3.0]]]], [[[[4.0]], [[5.0]]], [[[0.0]], [[6.0]]]]]> : tensor<2x2x2x1x1xf32>
  %eg = tensor.empty() : tensor<1x2x2x4x4xf32>
  %ig = linalg.fill ins(%zero : f32) outs(%eg : tensor<1x2x2x4x4xf32>) -> tensor<1x2x2x4x4xf32>
  %1 = linalg.conv_2d_ngchw_gfchw {dlas.layer = "grouped"} ins(%y, %wg : tensor<1x2x2x4x4xf32>, tensor<2x2x2x1x1xf32>) outs(%ig : tensor<1x2x2x4x4xf32>) -> tensor<1x2x2x4x4xf32>

  // CHECK: sparse_tensor.assemble {{.*}} to tensor<2x2xf32, #[[CSR]]>
  // CHECK: linalg.depthwise_conv_2d_nchw_chw {dlas.layer = "depthwise", dlas.sparse = "any"}
  %wd = arith.constant dense<0.0> : tensor<2x1x2xf32>
  %ed = tensor.empty() : tensor<1x2x4x3xf32>
  %id = linalg.fill ins(%zero : f32) outs(%ed : tensor<1x2x4x3xf32>) -> tensor<1x2x4x3xf32>
  %2 = linalg.depthwise_conv_2d_nchw_chw {dlas.layer = "depthwise"} ins(%x, %wd : tensor<1x2x4x4xf32>, tensor<2x1x2xf32>) outs(%id : tensor<1x2x4x3xf32>) -> tensor<1x2x4x3xf32>

  // Without a zero.
  // CHECK: linalg.conv_2d_nchw_fchw {dlas.layer = "full"}
  %wf = arith.constant dense<1.0> : tensor<1x2x1x1xf32>
  %ef = tensor.empty() : tensor<1x1x4x4xf32>
  %if = linalg.fill ins(%zero : f32) outs(%ef : tensor<1x1x4x4xf32>) -> tensor<1x1x4x4xf32>
  %3 = linalg.conv_2d_nchw_fchw {dlas.layer = "full"} ins(%x, %wf : tensor<1x2x4x4xf32>, tensor<1x2x1x1xf32>) outs(%if : tensor<1x1x4x4xf32>) -> tensor<1x1x4x4xf32>
  // CHECK-DAG: %[[LP:.*]] = arith.constant dense<[0, 1, 2, 2]> : tensor<4xi32>
  // CHECK-DAG: %[[LC:.*]] = arith.constant dense<[1, 0]> : tensor<2xi32>
  // CHECK-DAG: %[[LV:.*]] = arith.constant dense<[3.000000e+00, 2.000000e+00]> : tensor<2xf32>
  // CHECK: %[[L:.*]] = sparse_tensor.assemble (%[[LP]], %[[LC]]), %[[LV]] : {{.*}} to tensor<3x2xf32, #[[CSR]]>
  // CHECK: %[[LD:.*]] = sparse_tensor.convert %[[L]] : tensor<3x2xf32, #[[CSR]]> to tensor<3x2xf32>
  // CHECK: %[[T:.*]] = linalg.transpose ins(%[[LD]] : tensor<3x2xf32>) {{.*}} permutation = [1, 0]
  // CHECK: linalg.matmul {dlas.layer = "linear", dlas.sparse = "any"} ins(%{{.*}}, %[[T]] : tensor<4x2xf32>, tensor<2x3xf32>)
  // DENSE: %[[L:.*]] = arith.constant dense<{{\[\[}}0.000000e+00, 2.000000e+00, 0.000000e+00], [3.000000e+00, 0.000000e+00, 0.000000e+00]]> : tensor<2x3xf32>
  // DENSE: linalg.matmul {dlas.layer = "linear", dlas.sparse = "any"} ins(%{{.*}}, %[[L]] :
  %wl = arith.constant dense<[[0.0, 2.0, 0.0], [3.0, 0.0, 0.0]]> : tensor<2x3xf32>
  %el = tensor.empty() : tensor<4x3xf32>
  %il = linalg.fill ins(%zero : f32) outs(%el : tensor<4x3xf32>) -> tensor<4x3xf32>
  %4 = linalg.matmul {dlas.layer = "linear"} ins(%z, %wl : tensor<4x2xf32>, tensor<2x3xf32>) outs(%il : tensor<4x3xf32>) -> tensor<4x3xf32>

  // CHECK: linalg.matmul {{.*}}dlas.layer = "turned"}
  %wt = arith.constant dense<[[0.0, 2.0], [0.0, 3.0], [0.0, 0.0]]> : tensor<3x2xf32>
  %5 = linalg.matmul indexing_maps = [affine_map<(d0, d1, d2) -> (d0, d2)>, affine_map<(d0, d1, d2) -> (d1, d2)>, affine_map<(d0, d1, d2) -> (d0, d1)>] {dlas.layer = "turned"} ins(%z, %wt : tensor<4x2xf32>, tensor<3x2xf32>) outs(%il : tensor<4x3xf32>) -> tensor<4x3xf32>
  return %0, %1, %2, %3, %4, %5 : tensor<1x2x3x3xf32>, tensor<1x2x2x4x4xf32>, tensor<1x2x4x3xf32>, tensor<1x1x4x4xf32>, tensor<4x3xf32>, tensor<4x3xf32>
}

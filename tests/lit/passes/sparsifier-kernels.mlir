// The sparsifier's loops over buffers are vector code on tensors in a kernel of ours: 5 vectors of 8 pixels at a time,
// with their sums in registers while the non-zeros of a row are walked.
// RUN: dlas-opt %s --pass-pipeline='dlas-sparsifier-kernels{lanes=8 registers=16}' --notes | FileCheck %s

// CHECK: done: conv: sparse: sparsifier{rows=2 vectors=5 lanes=8 pixels=40}: the loops of MLIR's sparsifier: 8.3% non-zeros, {{.*}} cycles, {{.*}} by IREE's dense code

// Columns are distances in the input of 2 x 6 x 10 pixels per channel: 1 is the next column, 10 the next row, 60 the next plane.
// CHECK-LABEL: func.func @main
// CHECK-DAG: %[[X:.*]] = tensor.collapse_shape %arg0 {{\[}}[0, 1, 2, 3, 4]] : tensor<1x1x2x6x10xf32> into tensor<120xf32>
// CHECK-DAG: arith.constant dense<[0, 1, 2]> : tensor<3xi32>
// CHECK-DAG: arith.constant dense<[61, 10]> : tensor<2xi32>
// CHECK-DAG: arith.constant dense<[2.000000e+00, 3.000000e+00]> : tensor<2xf32>
// CHECK: flow.dispatch.workgroups[%{{.*}}](%{{.*}}) : (tensor<1x{{[0-9]+}}xf32>, tensor<3xi32>, tensor<2xi32>, tensor<2xf32>) -> tensor<2x1x40xf32>
// CHECK: scf.for %[[K:.*]] = %{{.*}} to %c2
// CHECK: scf.for %[[P:.*]] = %{{.*}} to %c40{{.*}} step %c40
// CHECK-COUNT-5: vector.transfer_read {{.*}} : tensor<2x40xf32>, vector<8xf32>
// CHECK: tensor.extract %{{.*}}[%[[K]]] : tensor<3xi32>
// CHECK: scf.for %[[J:.*]] = %{{.*}} to %{{.*}} step %c1{{.*}} iter_args({{.*}}) -> (vector<8xf32>, vector<8xf32>, vector<8xf32>, vector<8xf32>, vector<8xf32>)
// CHECK: tensor.extract %{{.*}}[%[[J]]] : tensor<2xi32>
// CHECK: tensor.extract %{{.*}}[%[[J]]] : tensor<2xf32>
// CHECK: vector.transfer_read {{.*}} : tensor<{{[0-9]+}}xf32>, vector<8xf32>
// CHECK: vector.fma {{.*}}dlas.kernel = "sparse_{{.*}}", dlas.role = "root"} : vector<8xf32>
// CHECK: scf.yield
// CHECK-COUNT-5: vector.transfer_write {{.*}} : vector<8xf32>, tensor<2x40xf32>
// CHECK-NOT: memref
// The columns behind each row's pixels are cut off.
// CHECK: tensor.extract_slice {{.*}} tensor<2x1x4x10xf32> to tensor<2x1x4x9xf32>
// CHECK-NOT: linalg.conv_3d
func.func @main(%x: tensor<1x1x2x6x10xf32>) -> tensor<1x2x1x4x9xf32> {
  %zero = arith.constant 0.0 : f32
  %w = arith.constant dense<[[[[[0.0, 0.0], [0.0, 0.0], [0.0, 0.0]], [[0.0, 2.0], [0.0, 0.0], [0.0, 0.0]]]],
                             [[[[0.0, 0.0], [3.0, 0.0], [0.0, 0.0]], [[0.0, 0.0], [0.0, 0.0], [0.0, 0.0]]]]]> : tensor<2x1x2x3x2xf32>
  %e = tensor.empty() : tensor<1x2x1x4x9xf32>
  %init = linalg.fill ins(%zero : f32) outs(%e : tensor<1x2x1x4x9xf32>) -> tensor<1x2x1x4x9xf32>
  %y = linalg.conv_3d_ncdhw_fcdhw {dlas.layer = "conv", dlas.sparse = "any"} ins(%x, %w : tensor<1x1x2x6x10xf32>, tensor<2x1x2x3x2xf32>) outs(%init : tensor<1x2x1x4x9xf32>) -> tensor<1x2x1x4x9xf32>
  return %y : tensor<1x2x1x4x9xf32>
}

// strassen_matmul: sums of the input by a kernel of their own, then 7 products of halves for each pair of register tiles.
// RUN: %python %S/Inputs/schedule.py %s x86_64-v4 sums cores=1 | FileCheck %s --check-prefix=SUMS
// RUN: %python %S/Inputs/schedule.py %s x86_64-v4 matmul cores=1 | FileCheck %s
// RUN: not %python %S/Inputs/schedule.py %s x86_64-v4 matmul k_w=24 2>&1 | FileCheck %s --check-prefix=WIDE

// SUMS: // sums: strassen_input
// SUMS-LABEL: func.func @{{.*}} attributes {dlas.schedule = "strassen_input"}
// Two pairs of 8 rows: the last one begins at row 2 of 18.
// SUMS: affine.min affine_map<(d0) -> (d0 * 16, 2)>
// SUMS: scf.for %{{.*}} to %c8 step %c1 {{.*}} -> (tensor<7x1x8x16xf32>)
// SUMS-COUNT-4: vector.transfer_read {{.*}} tensor<16x32xf32>, vector<16xf32>
// SUMS-COUNT-7: vector.transfer_write {{.*}} tensor<7x1x8x16xf32>
// SUMS-NOT: vector.transfer_write

// CHECK: // matmul: strassen_matmul rows=8 t_o=16 k_w=32 block=16
// CHECK-LABEL: func.func @{{.*}} attributes {dlas.schedule = "strassen_matmul"}
// CHECK-NOT: linalg.
// CHECK: scf.for %{{.*}} = %c0 to %c2 step %c1 {{.*}} -> (tensor<18x32xf32>, tensor<3x1x8x16xf32>)
// 7 products, each of 8 accumulators and 4 steps at a time: P1, which is kept, P6 and P7.
// CHECK-COUNT-32: vector.fma %{{.*}} : vector<16xf32>
// CHECK-COUNT-8: vector.transfer_write {{.*}} tensor<3x1x8x16xf32>
// CHECK-COUNT-32: vector.fma %{{.*}} : vector<16xf32>
// CHECK-COUNT-32: vector.fma %{{.*}} : vector<16xf32>
// CHECK-COUNT-8: vector.transfer_write {{.*}} tensor<3x1x8x16xf32>
// C21, then P1 again for C11.
// CHECK-COUNT-32: vector.fma %{{.*}} : vector<16xf32>
// CHECK-COUNT-8: vector.transfer_write {{.*}} tensor<18x32xf32>
// CHECK-COUNT-32: vector.fma %{{.*}} : vector<16xf32>
// CHECK-COUNT-8: vector.transfer_write {{.*}} tensor<18x32xf32>
// P5, with P1 + P6 kept for C12, and C22.
// CHECK-COUNT-32: vector.fma %{{.*}} : vector<16xf32>
// CHECK-COUNT-8: vector.transfer_write {{.*}} tensor<3x1x8x16xf32>
// CHECK-COUNT-8: vector.transfer_write {{.*}} tensor<18x32xf32>
// C12.
// CHECK-COUNT-32: vector.fma %{{.*}} : vector<16xf32>
// CHECK-COUNT-8: vector.transfer_write {{.*}} tensor<18x32xf32>
// CHECK-NOT: vector.fma
// CHECK: return

// WIDE: error: strassen_matmul: k_w=24 is not a multiple of 2 * t_o=32
func.func @main(%x: tensor<18x32xf32>) -> tensor<18x40xf32> {
  %zero = arith.constant 0.0 : f32
  %w = arith.constant dense<2.0> : tensor<32x40xf32>
  %empty = tensor.empty() : tensor<18x40xf32>
  %init = linalg.fill ins(%zero : f32) outs(%empty : tensor<18x40xf32>) -> tensor<18x40xf32>
  %y = linalg.matmul {dlas.layer = "linear", dlas.knobs = {schedule = "strassen_matmul", rows = 8, t_o = 16}} ins(%x, %w : tensor<18x32xf32>, tensor<32x40xf32>) outs(%init : tensor<18x40xf32>) -> tensor<18x40xf32>
  return %y : tensor<18x40xf32>
}

// matmul: a register tile of rows x T_O is carried by the reduction; rows and depths that do not divide are peeled.
// RUN: %python %S/Inputs/schedule.py %s x86_64-v3 matmul t_o=16 rows=4 depth=8 | FileCheck %s
// RUN: %python %S/Inputs/script.py matmul t_o=16 rows=4 depth=8 -- w=6 i=20 epilogue=1 | FileCheck %s --check-prefix=SCRIPT
// RUN: not %python %S/Inputs/script.py matmul t_o=24 rows=4 depth=8 2>&1 | FileCheck %s --check-prefix=TO
// RUN: not %python %S/Inputs/script.py matmul t_o=16 rows=4 depth=0 2>&1 | FileCheck %s --check-prefix=DEPTH

// CHECK: // matmul: matmul t_o=16 rows=4 depth=8
// CHECK-LABEL: func.func @{{.*}} attributes {dlas.schedule = "matmul"}
// CHECK-NOT: linalg.
// CHECK: scf.for %{{.*}} = %c0 to %c16 step %c8 iter_args({{.*}}) -> (vector<4x16xf32>)
// 4 rows x 8 steps.
// CHECK-COUNT-32: vector.fma %{{.*}} : vector<16xf32>
// CHECK-NOT: vector.fma
// CHECK: scf.yield %{{.*}} : vector<4x16xf32>
// The last 4 steps of the reduction.
// CHECK-COUNT-16: vector.fma %{{.*}} : vector<16xf32>
// The last 2 rows.
// CHECK: scf.for %{{.*}} = %c0 to %c16 step %c8 iter_args({{.*}}) -> (vector<2x16xf32>)
// CHECK-NOT: linalg.
// CHECK: return

// SCRIPT: transform.structured.fuse {{.*}} tile_sizes [4, 0]
// SCRIPT: transform.loop.peel
// SCRIPT: transform.structured.tile_using_for {{.*}} tile_sizes [0, 0, 8]
// SCRIPT: transform.loop.peel

// TO: error: matmul: t_o=24 is not a power of two (use 8, 16, 32 or 64)
// DEPTH: error: matmul: rows=4, depth=0: not positive
func.func @main(%x: tensor<6x20xf32>) -> tensor<6x32xf32> {
  %zero = arith.constant 0.0 : f32
  %w = arith.constant dense<2.0> : tensor<20x32xf32>
  %empty = tensor.empty() : tensor<6x32xf32>
  %init = linalg.fill ins(%zero : f32) outs(%empty : tensor<6x32xf32>) -> tensor<6x32xf32>
  %y = linalg.matmul {dlas.layer = "linear"} ins(%x, %w : tensor<6x20xf32>, tensor<20x32xf32>) outs(%init : tensor<6x32xf32>) -> tensor<6x32xf32>
  return %y : tensor<6x32xf32>
}

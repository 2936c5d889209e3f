// attention: both products in register tiles that the reduction carries, the exponentials between them; columns and
// rows that do not divide are peeled. batch_matmul is one such product.
// RUN: %python %S/Inputs/schedule.py %S/../passes/sequence-kernels-attention.mlir x86_64-v3 attention m=20 rows=4 depth=8 | FileCheck %s
// RUN: %python %S/Inputs/schedule.py %S/../passes/sequence-kernels-attention.mlir x86_64-v3 pack | FileCheck %s --check-prefix=PACK
// RUN: %python %S/Inputs/script.py attention m=20 t_o=16 rows=4 depth=8 width=16 -- m=20 n=24 k=20 context_n=8 context_k=20 | FileCheck %s --check-prefix=SCRIPT
// RUN: %python %S/Inputs/script.py batch_matmul m=6 t_o=16 rows=4 depth=8 -- m=6 n=24 k=16 | FileCheck %s --check-prefix=PRODUCT
// RUN: not %python %S/Inputs/script.py attention m=20 t_o=24 rows=4 depth=8 2>&1 | FileCheck %s --check-prefix=TO
// RUN: not %python %S/Inputs/script.py batch_matmul m=20 t_o=16 rows=0 depth=8 2>&1 | FileCheck %s --check-prefix=ROWS
// RUN: not %python %S/Inputs/script.py attention m=20 t_o=16 rows=4 depth=8 width=24 2>&1 | FileCheck %s --check-prefix=WIDTH
// RUN: not %python %S/Inputs/script.py rows width=24 rows=4 2>&1 | FileCheck %s --check-prefix=STEP

// CHECK: // attention: attention m=20 t_o=8 rows=4 depth=8 width=16
// CHECK-LABEL: func.func @{{.*}} attributes {dlas.schedule = "attention"}
// CHECK-NOT: linalg.
// Scores: columns, rows, depth.
// CHECK: scf.for %{{.*}} = %c0 to %c24 step %c8
// CHECK: scf.for %{{.*}} = %c0 to %c20 step %c4
// CHECK: scf.for %{{.*}} = %c0 to %c16 step %c8 iter_args({{.*}}) -> (vector<4x8xf32>)
// CHECK-COUNT-32: vector.fma %{{.*}} : vector<8xf32>
// CHECK-NOT: vector.fma
// CHECK: scf.for %{{.*}} = %c0 to %c20 step %c1
// CHECK: math.exp %{{.*}} : vector<16xf32>
// CHECK: math.exp %{{.*}} : vector<4xf32>
// Context: 20 rows, 16 of 20 scores in the loop.
// CHECK: scf.for %{{.*}} = %c0 to %c20 step %c4
// CHECK: scf.for %{{.*}} = %c0 to %c16 step %c8 iter_args({{.*}}) -> (vector<4x8xf32>)
// CHECK-COUNT-48: vector.fma %{{.*}} : vector<8xf32>
// CHECK-NOT: vector.fma
// CHECK: return

// Keys are transposed in registers; values are whole vectors of a row.
// PACK: // pack: pack_matrix
// PACK-NOT: linalg.
// PACK: vector.shuffle
// PACK: // pack: pack_matrix
// PACK-NOT: linalg.
// PACK-NOT: vector.shuffle
// PACK: vector.transfer_write %{{.*}} vector<{{.*}}8xf32>

// SCRIPT: attributes{dlas.role = "scores"}
// SCRIPT: transform.structured.fuse {{.*}} tile_sizes [0, 16]
// SCRIPT: transform.loop.peel
// SCRIPT: transform.structured.fuse {{.*}} tile_sizes [4, 0]
// SCRIPT: transform.structured.tile_using_for {{.*}} tile_sizes [0, 0, 8]
// SCRIPT: transform.loop.peel
// SCRIPT: attributes{dlas.role = "context"}
// SCRIPT: transform.structured.fuse {{.*}} tile_sizes [4, 0]

// PRODUCT: attributes{dlas.role = "root"}
// PRODUCT: transform.structured.fuse {{.*}} tile_sizes [0, 16]
// PRODUCT: transform.loop.peel
// PRODUCT: transform.structured.fuse {{.*}} tile_sizes [4, 0]
// PRODUCT: transform.loop.peel

// TO: error: attention: t_o=24 is not a power of two (use 8, 16, 32 or 64)
// ROWS: error: attention: m=20, rows=0, depth=8: not positive
// WIDTH: error: attention: width=24 is not a power of two
// STEP: error: rows: width=24 is not a power of two (use 8, 16, 32 or 64)

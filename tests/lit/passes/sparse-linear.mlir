// A linear layer whose weights are mostly zeros is computed by the others: for a row with lanes on the non-zeros of an
// output, columns in 16 bits; for several rows with lanes on the rows, which are packed before, once for all readers.
// RUN: dlas-opt %s --pass-pipeline='dlas-blocked-layout{lanes=8 registers=16}' --notes | FileCheck %s
// RUN: dlas-opt %s --pass-pipeline='dlas-blocked-layout{lanes=4 registers=32}' | FileCheck %s --check-prefix=NARROW

// CHECK-DAG: done: vector: sparse: sparse_matvec{n_w=64 chunk=512}: 0.0% of the weights are not zero: lanes on the non-zeros, 64 outputs of a row
// CHECK-DAG: done: -: pack: pack_rows{ow=8 block=8}: 8x8 transposes in registers
// CHECK-DAG: done: rows: sparse: sparse_matmul{n_w=32 chunk=32 vectors=14 group=1 chains=1}: 0.0% of the weights are not zero: lanes on 112 rows, 32 inputs at a time
// CHECK-DAG: done: full: matmul: matmul{

// CHECK-LABEL: func.func @vector
// CHECK-DAG: arith.constant dense<0> : tensor<65xi32>
// CHECK: flow.dispatch.workgroups{{.*}} -> tensor<1x64xf32>
// CHECK: scf.for {{.*}} -> (vector<8xf32>)
// CHECK: tensor.extract {{.*}} : tensor<2xi64>
// CHECK: arith.andi
// CHECK: arith.shrui
// CHECK: %[[X:.*]] = vector.from_elements
// CHECK: vector.fma %{{.*}}, %[[X]], %{{.*}} {{.*}}dlas.role = "root"{{.*}} : vector<8xf32>
// CHECK: tensor.insert
// CHECK: arith.maximumf {{.*}} : vector<8xf32>
// CHECK-NOT: linalg.matmul
// NARROW-LABEL: func.func @vector
// NARROW: vector.fma {{.*}} : vector<8xf32>
// NARROW: arith.maximumf {{.*}} : vector<4xf32>
func.func @vector(%x: tensor<1x512xf32>) -> tensor<1x64xf32> {
  %zero = arith.constant 0.0 : f32
  %w = arith.constant dense<0.0> : tensor<512x64xf32>
  %e = tensor.empty() : tensor<1x64xf32>
  %i = linalg.fill ins(%zero : f32) outs(%e : tensor<1x64xf32>) -> tensor<1x64xf32>
  %y = linalg.matmul {dlas.layer = "vector", dlas.sparse = "direct"} ins(%x, %w : tensor<1x512xf32>, tensor<512x64xf32>) outs(%i : tensor<1x64xf32>) -> tensor<1x64xf32>
  %r = linalg.generic {indexing_maps = [affine_map<(d0, d1) -> (d0, d1)>, affine_map<(d0, d1) -> (d0, d1)>], iterator_types = ["parallel", "parallel"]} ins(%y : tensor<1x64xf32>) outs(%e : tensor<1x64xf32>) attrs = {dlas.layer = "vector"} {
  ^bb0(%a: f32, %b: f32):
    %0 = arith.maximumf %a, %zero : f32
    linalg.yield %0 : f32
  } -> tensor<1x64xf32>
  return %r : tensor<1x64xf32>
}

// Both read the same packed rows, in tiles of 112: the last of them begins at row 888, before the end of the one before.
// CHECK-LABEL: func.func @rows
// CHECK: %[[P:.*]] = flow.dispatch.workgroups{{.*}} : (tensor<1000x32xf32>) -> tensor<9x32x112xf32>
// CHECK: arith.minsi %{{.*}}, %c888
// CHECK: vector.shuffle {{.*}} [0, 1, 2, 3, 8, 9, 10, 11]
// CHECK: vector.shuffle {{.*}} [0, 1, 8, 9, 4, 5, 12, 13]
// CHECK: vector.shuffle {{.*}} [0, 8, 2, 10, 4, 12, 6, 14]
// CHECK: flow.dispatch.workgroups[%{{.*}}](%[[P]], {{.*}} -> tensor<1000x32xf32>
// CHECK: vector.broadcast
// CHECK-COUNT-14: vector.fma {{.*}}dlas.role = "root"
// CHECK: vector.shuffle
// CHECK: flow.dispatch.workgroups[%{{.*}}](%[[P]], {{.*}} -> tensor<1000x32xf32>
func.func @rows(%x: tensor<1000x32xf32>) -> (tensor<1000x32xf32>, tensor<1000x32xf32>) {
  %zero = arith.constant 0.0 : f32
  %w = arith.constant dense<0.0> : tensor<32x32xf32>
  %w2 = arith.constant dense<0.0> : tensor<32x32xf32>
  %e = tensor.empty() : tensor<1000x32xf32>
  %i = linalg.fill ins(%zero : f32) outs(%e : tensor<1000x32xf32>) -> tensor<1000x32xf32>
  %y = linalg.matmul {dlas.layer = "rows", dlas.sparse = "direct"} ins(%x, %w : tensor<1000x32xf32>, tensor<32x32xf32>) outs(%i : tensor<1000x32xf32>) -> tensor<1000x32xf32>
  %z = linalg.matmul {dlas.layer = "rows", dlas.sparse = "direct"} ins(%x, %w2 : tensor<1000x32xf32>, tensor<32x32xf32>) outs(%i : tensor<1000x32xf32>) -> tensor<1000x32xf32>
  return %y, %z : tensor<1000x32xf32>, tensor<1000x32xf32>
}

// Too few zeros.
// CHECK-LABEL: func.func @full
func.func @full(%x: tensor<1x2xf32>) -> tensor<1x8xf32> {
  %zero = arith.constant 0.0 : f32
  %w = arith.constant dense<[[1.0, 2.0, 3.0, 4.0, 5.0, 6.0, 7.0, 8.0], [0.0, 2.0, 3.0, 4.0, 5.0, 6.0, 7.0, 8.0]]> : tensor<2x8xf32>
  %e = tensor.empty() : tensor<1x8xf32>
  %i = linalg.fill ins(%zero : f32) outs(%e : tensor<1x8xf32>) -> tensor<1x8xf32>
  %y = linalg.matmul {dlas.layer = "full", dlas.sparse = "direct"} ins(%x, %w : tensor<1x2xf32>, tensor<2x8xf32>) outs(%i : tensor<1x8xf32>) -> tensor<1x8xf32>
  return %y : tensor<1x8xf32>
}

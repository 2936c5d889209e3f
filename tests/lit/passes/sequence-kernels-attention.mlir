// Attention is one kernel per rows of a head: queries are read, and the context is written, between the heads of their
// tokens; keys are packed column by column, values row by row; the factors of both go into the keys.
// RUN: dlas-opt %s --pass-pipeline='dlas-sequence-kernels{lanes=8 registers=16}' --notes | FileCheck %s

// CHECK-DAG: done: attention: attention: attention{m=20 t_o=8 rows=10 depth=16 width=16}: 20 rows of 20 scores on the stack
// CHECK-DAG: done: attention: pack: pack_matrix{
// CHECK-LABEL: func.func @main
func.func @main(%q: tensor<1x20x3x16xf32>, %k: tensor<1x20x3x16xf32>, %v: tensor<1x20x3x8xf32>) -> tensor<1x20x3x8xf32> {
  %low = arith.constant 0xFF800000 : f32
  %zero = arith.constant 0.0 : f32
  %half = arith.constant 0.5 : f32
  %qe = tensor.empty() : tensor<1x3x20x16xf32>
  %ke = tensor.empty() : tensor<1x3x16x20xf32>
  %ve = tensor.empty() : tensor<1x3x20x8xf32>
  // Keys: transposed, multiplied by 0.5 * 0.5, and the 4 columns up to whole vectors are zeros.
  // CHECK: %[[K:.*]] = flow.dispatch.workgroups[%{{.*}}](%arg1) : (tensor<1x20x3x16xf32>) -> tensor<3x16x24xf32>
  // CHECK: tensor.load {{.*}} sizes = [1, 20, 1, 16]
  // CHECK: linalg.generic
  // CHECK: arith.constant 2.500000e-01 : f32
  // CHECK: linalg.fill {{.*}}dlas.role = "border"
  // CHECK: %[[V:.*]] = flow.dispatch.workgroups[%{{.*}}](%arg2) : (tensor<1x20x3x8xf32>) -> tensor<3x20x8xf32>
  // CHECK: %[[Y:.*]] = flow.dispatch.workgroups[%{{.*}}](%arg0, %[[K]], %[[V]]) : {{.*}} -> tensor<1x20x3x8xf32>
  // CHECK: linalg.generic {{.*}}dlas.role = "scores"
  // CHECK: scf.for
  // CHECK: math.exp
  // CHECK: linalg.generic {{.*}}dlas.role = "context"
  // CHECK: return %[[Y]]
  %qt = linalg.transpose ins(%q : tensor<1x20x3x16xf32>) outs(%qe : tensor<1x3x20x16xf32>) permutation = [0, 2, 1, 3]
  %qs = linalg.generic {indexing_maps = [affine_map<(a, b, c, d) -> (a, b, c, d)>, affine_map<(a, b, c, d) -> (a, b, c, d)>], iterator_types = ["parallel", "parallel", "parallel", "parallel"]} ins(%qt : tensor<1x3x20x16xf32>) outs(%qe : tensor<1x3x20x16xf32>) {
  ^bb0(%l: f32, %o: f32):
    %r = arith.mulf %l, %half : f32
    linalg.yield %r : f32
  } -> tensor<1x3x20x16xf32>
  %kt = linalg.transpose ins(%k : tensor<1x20x3x16xf32>) outs(%ke : tensor<1x3x16x20xf32>) permutation = [0, 2, 3, 1]
  %ks = linalg.generic {indexing_maps = [affine_map<(a, b, c, d) -> (a, b, c, d)>, affine_map<(a, b, c, d) -> (a, b, c, d)>], iterator_types = ["parallel", "parallel", "parallel", "parallel"]} ins(%kt : tensor<1x3x16x20xf32>) outs(%ke : tensor<1x3x16x20xf32>) {
  ^bb0(%l: f32, %o: f32):
    %r = arith.mulf %l, %half : f32
    linalg.yield %r : f32
  } -> tensor<1x3x16x20xf32>
  %vt = linalg.transpose ins(%v : tensor<1x20x3x8xf32>) outs(%ve : tensor<1x3x20x8xf32>) permutation = [0, 2, 1, 3]
  %q3 = tensor.collapse_shape %qs [[0, 1], [2], [3]] : tensor<1x3x20x16xf32> into tensor<3x20x16xf32>
  %k3 = tensor.collapse_shape %ks [[0, 1], [2], [3]] : tensor<1x3x16x20xf32> into tensor<3x16x20xf32>
  %v3 = tensor.collapse_shape %vt [[0, 1], [2], [3]] : tensor<1x3x20x8xf32> into tensor<3x20x8xf32>
  %se = tensor.empty() : tensor<3x20x20xf32>
  %si = linalg.fill ins(%zero : f32) outs(%se : tensor<3x20x20xf32>) -> tensor<3x20x20xf32>
  %s = linalg.batch_matmul {dlas.layer = "attention"} ins(%q3, %k3 : tensor<3x20x16xf32>, tensor<3x16x20xf32>) outs(%si : tensor<3x20x20xf32>) -> tensor<3x20x20xf32>
  %rows = tensor.empty() : tensor<3x20xf32>
  %lows = linalg.fill ins(%low : f32) outs(%rows : tensor<3x20xf32>) -> tensor<3x20xf32>
  %max = linalg.generic {indexing_maps = [affine_map<(a, b, c) -> (a, b, c)>, affine_map<(a, b, c) -> (a, b)>], iterator_types = ["parallel", "parallel", "reduction"]} ins(%s : tensor<3x20x20xf32>) outs(%lows : tensor<3x20xf32>) {
  ^bb0(%l: f32, %o: f32):
    %r = arith.maximumf %l, %o : f32
    linalg.yield %r : f32
  } -> tensor<3x20xf32>
  %e = linalg.generic {indexing_maps = [affine_map<(a, b, c) -> (a, b, c)>, affine_map<(a, b, c) -> (a, b)>, affine_map<(a, b, c) -> (a, b, c)>], iterator_types = ["parallel", "parallel", "parallel"]} ins(%s, %max : tensor<3x20x20xf32>, tensor<3x20xf32>) outs(%se : tensor<3x20x20xf32>) {
  ^bb0(%l: f32, %m: f32, %o: f32):
    %d = arith.subf %l, %m : f32
    %r = math.exp %d : f32
    linalg.yield %r : f32
  } -> tensor<3x20x20xf32>
  %zeros = linalg.fill ins(%zero : f32) outs(%rows : tensor<3x20xf32>) -> tensor<3x20xf32>
  %sum = linalg.generic {indexing_maps = [affine_map<(a, b, c) -> (a, b, c)>, affine_map<(a, b, c) -> (a, b)>], iterator_types = ["parallel", "parallel", "reduction"]} ins(%e : tensor<3x20x20xf32>) outs(%zeros : tensor<3x20xf32>) {
  ^bb0(%l: f32, %o: f32):
    %r = arith.addf %l, %o : f32
    linalg.yield %r : f32
  } -> tensor<3x20xf32>
  %p = linalg.generic {indexing_maps = [affine_map<(a, b, c) -> (a, b, c)>, affine_map<(a, b, c) -> (a, b)>, affine_map<(a, b, c) -> (a, b, c)>], iterator_types = ["parallel", "parallel", "parallel"]} ins(%e, %sum : tensor<3x20x20xf32>, tensor<3x20xf32>) outs(%se : tensor<3x20x20xf32>) {
  ^bb0(%l: f32, %m: f32, %o: f32):
    %r = arith.divf %l, %m : f32
    linalg.yield %r : f32
  } -> tensor<3x20x20xf32>
  %ce = tensor.empty() : tensor<3x20x8xf32>
  %ci = linalg.fill ins(%zero : f32) outs(%ce : tensor<3x20x8xf32>) -> tensor<3x20x8xf32>
  %c = linalg.batch_matmul {dlas.layer = "attention"} ins(%p, %v3 : tensor<3x20x20xf32>, tensor<3x20x8xf32>) outs(%ci : tensor<3x20x8xf32>) -> tensor<3x20x8xf32>
  %c4 = tensor.expand_shape %c [[0, 1], [2], [3]] output_shape [1, 3, 20, 8] : tensor<3x20x8xf32> into tensor<1x3x20x8xf32>
  %ye = tensor.empty() : tensor<1x20x3x8xf32>
  %y = linalg.transpose ins(%c4 : tensor<1x3x20x8xf32>) outs(%ye : tensor<1x20x3x8xf32>) permutation = [0, 2, 1, 3]
  return %y : tensor<1x20x3x8xf32>
}

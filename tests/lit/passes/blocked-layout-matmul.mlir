// A linear layer is one kernel over packed weights, [N/T_O, K, T_O], with bias and activation in it; its rows and
// columns stay row-major. Columns that do not fill the last tile are cut off.
// RUN: dlas-opt %s --pass-pipeline='dlas-blocked-layout{lanes=8 registers=16}' --notes --elide 64 | FileCheck %s

// CHECK: done: linear: matmul: matmul{
// CHECK-LABEL: func.func @main
func.func @main(%x: tensor<4x24xf32>) -> tensor<4x12xf32> {
  %zero = arith.constant 0.0 : f32
  %w = arith.constant dense<2.0> : tensor<24x12xf32>
  %bias = arith.constant dense<[0., 1., 2., 3., 4., 5., 6., 7., 8., 9., 10., 11.]> : tensor<12xf32>
  %empty = tensor.empty() : tensor<4x12xf32>
  %init = linalg.fill ins(%zero : f32) outs(%empty : tensor<4x12xf32>) -> tensor<4x12xf32>
  // The padding of the weights and of the bias is zeros.
  // CHECK: arith.constant dense_resource<__elided__> : tensor<{{1x24x16|2x24x8}}xf32>
  // CHECK: arith.constant dense<[0.000000e+00, {{.*}}, 1.100000e+01, 0.000000e+00, 0.000000e+00, 0.000000e+00, 0.000000e+00]> : tensor<16xf32>
  // CHECK: %[[Y:.*]] = flow.dispatch.workgroups{{.*}}(%arg0, {{.*}} -> tensor<4x16xf32>
  // CHECK: linalg.fill {{.*}}dlas.role = "init"
  // CHECK: linalg.generic {{.*}}iterator_types = ["parallel", "parallel", "reduction"]{{.*}}dlas.role = "root"
  // CHECK: linalg.generic {{.*}}dlas.role = "epilogue"
  // CHECK: arith.addf
  // CHECK: tensor.extract_slice %[[Y]][0, 0] [4, 12] [1, 1]
  %y = linalg.matmul {dlas.layer = "linear"} ins(%x, %w : tensor<4x24xf32>, tensor<24x12xf32>) outs(%init : tensor<4x12xf32>) -> tensor<4x12xf32>
  %biased = linalg.generic {indexing_maps = [affine_map<(d0, d1) -> (d0, d1)>, affine_map<(d0, d1) -> (d1)>, affine_map<(d0, d1) -> (d0, d1)>], iterator_types = ["parallel", "parallel"]} ins(%y, %bias : tensor<4x12xf32>, tensor<12xf32>) outs(%empty : tensor<4x12xf32>) {
  ^bb0(%l: f32, %r: f32, %out: f32):
    %s = arith.addf %l, %r : f32
    linalg.yield %s : f32
  } -> tensor<4x12xf32>
  return %biased : tensor<4x12xf32>
}

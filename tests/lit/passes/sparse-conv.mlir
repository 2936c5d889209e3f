// A convolution whose weights are mostly zeros is computed by the others: CSR arrays whose columns are positions in the
// flattened, padded input; an inner loop of one offset, one value and an FMA per vector of pixels.
// RUN: dlas-opt %s --pass-pipeline='dlas-blocked-layout{lanes=8 registers=16}' --notes | FileCheck %s
// RUN: dlas-opt %s --pass-pipeline='dlas-blocked-layout{lanes=4 registers=32}' | FileCheck %s --check-prefix=NARROW

// CHECK-DAG: done: conv: sparse: sparse_conv{accumulators=14 channels=2 k_w=2}: 8.3% of the weights are not zero
// CHECK-DAG: done: -: planar: row_copy{
// CHECK-DAG: done: -: unplanar: row_copy{

// Pixel (0, 0) is at 24, the multiple of 8 behind a row of 17 and a column; a plane has 336 elements. Channel 0 has the
// tap in the middle, and of input channel 1 the last one (24 + 336 + 17 + 1); channel 1 the first one of input channel 0.
// CHECK-LABEL: func.func @conv
// CHECK-DAG: arith.constant dense<[0, 2, 3]> : tensor<3xi32>
// CHECK-DAG: arith.constant dense<[24, 378, 6]> : tensor<3xi32>
// CHECK-DAG: arith.constant dense<[2.000000e+00, 3.000000e+00, 5.000000e+00]> : tensor<3xf32>
// CHECK: flow.dispatch.workgroups{{.*}} -> tensor<1x2x336xf32>
// CHECK: scf.for {{.*}} -> (vector<8xf32>, vector<8xf32>
// CHECK: tensor.extract {{.*}} : tensor<3xi32>
// CHECK: vector.broadcast {{.*}} : f32 to vector<8xf32>
// CHECK: vector.fma {{.*}}dlas.role = "root"
// CHECK-NOT: linalg.conv
// NARROW-LABEL: func.func @conv
// NARROW: vector.fma {{.*}} : vector<4xf32>
func.func @conv(%x: tensor<1x2x16x16xf32>) -> tensor<1x2x16x16xf32> {
  %zero = arith.constant 0.0 : f32
  %w = arith.constant dense<[[[[0.0, 0.0, 0.0], [0.0, 2.0, 0.0], [0.0, 0.0, 0.0]], [[0.0, 0.0, 0.0], [0.0, 0.0, 0.0], [0.0, 0.0, 3.0]]],
                             [[[5.0, 0.0, 0.0], [0.0, 0.0, 0.0], [0.0, 0.0, 0.0]], [[0.0, 0.0, 0.0], [0.0, 0.0, 0.0], [0.0, 0.0, 0.0]]]]> : tensor<2x2x3x3xf32>
  %pad = tensor.pad %x low[0, 0, 1, 1] high[0, 0, 1, 1] {
  ^bb0(%a0: index, %a1: index, %a2: index, %a3: index):
    tensor.yield %zero : f32
  } : tensor<1x2x16x16xf32> to tensor<1x2x18x18xf32>
  %empty = tensor.empty() : tensor<1x2x16x16xf32>
  %init = linalg.fill ins(%zero : f32) outs(%empty : tensor<1x2x16x16xf32>) -> tensor<1x2x16x16xf32>
  %y = linalg.conv_2d_nchw_fchw {dlas.layer = "conv", dlas.sparse = "direct"} ins(%pad, %w : tensor<1x2x18x18xf32>, tensor<2x2x3x3xf32>) outs(%init : tensor<1x2x16x16xf32>) -> tensor<1x2x16x16xf32>
  return %y : tensor<1x2x16x16xf32>
}

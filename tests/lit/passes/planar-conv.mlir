// Groups whose channels neither fill nor divide a block are computed on flattened padded planes: weights in the order in
// which they are read, an accumulator per output channel and vector of pixels, and one splat for all vectors of a channel.
// RUN: dlas-opt %s --pass-pipeline='dlas-blocked-layout{lanes=8 registers=16}' --notes | FileCheck %s
// RUN: dlas-opt %s --pass-pipeline='dlas-blocked-layout{lanes=4 registers=32}' | FileCheck %s --check-prefix=NARROW

// CHECK-DAG: done: conv: grouped: planar_conv{t_k=3 accumulators=4 k_w=6 run=9}: lanes along planes, 3x4 accumulators of 8 pixels
// CHECK-DAG: done: -: planar: row_copy{
// CHECK-DAG: done: -: unplanar: row_copy{

// Two groups of three channels; rows of 17 elements, so that the pixels are 271 from the first to the last: nine tiles
// of four vectors, of which the last begins at 239, over the one before.
// CHECK-LABEL: func.func @conv
// CHECK-DAG: arith.constant dense<{{.*}}> : tensor<162xf32>
// CHECK: flow.dispatch.workgroups
// CHECK: scf.for
// CHECK: %[[LAST:.*]] = arith.constant 239 : index
// CHECK: arith.minsi %{{.*}}, %[[LAST]]
// CHECK: scf.for
// CHECK: scf.for {{.*}} -> (vector<8xf32>, vector<8xf32>, vector<8xf32>, vector<8xf32>, vector<8xf32>, vector<8xf32>, vector<8xf32>, vector<8xf32>, vector<8xf32>, vector<8xf32>, vector<8xf32>, vector<8xf32>)
// CHECK-COUNT-3: vector.broadcast {{.*}} : f32 to vector<8xf32>
// CHECK-NOT: vector.broadcast
// CHECK: vector.transfer_read
// CHECK-COUNT-3: vector.fma {{.*}}dlas.role = "root"
// CHECK: vector.transfer_read
// CHECK-NOT: linalg.conv
// NARROW-LABEL: func.func @conv
// NARROW: vector.fma {{.*}} : vector<4xf32>
func.func @conv(%x: tensor<1x6x16x16xf32>) -> tensor<1x6x16x16xf32> {
  %zero = arith.constant 0.0 : f32
  %w = arith.constant dense<2.0> : tensor<2x3x3x3x3xf32>
  %pad = tensor.pad %x low[0, 0, 1, 1] high[0, 0, 1, 1] {
  ^bb0(%a0: index, %a1: index, %a2: index, %a3: index):
    tensor.yield %zero : f32
  } : tensor<1x6x16x16xf32> to tensor<1x6x18x18xf32>
  %groups = tensor.expand_shape %pad [[0], [1, 2], [3], [4]] output_shape [1, 2, 3, 18, 18] : tensor<1x6x18x18xf32> into tensor<1x2x3x18x18xf32>
  %empty = tensor.empty() : tensor<1x2x3x16x16xf32>
  %init = linalg.fill ins(%zero : f32) outs(%empty : tensor<1x2x3x16x16xf32>) -> tensor<1x2x3x16x16xf32>
  %conv = linalg.conv_2d_ngchw_gfchw {dlas.layer = "conv"} ins(%groups, %w : tensor<1x2x3x18x18xf32>, tensor<2x3x3x3x3xf32>) outs(%init : tensor<1x2x3x16x16xf32>) -> tensor<1x2x3x16x16xf32>
  %y = tensor.collapse_shape %conv [[0], [1, 2], [3], [4]] : tensor<1x2x3x16x16xf32> into tensor<1x6x16x16xf32>
  return %y : tensor<1x6x16x16xf32>
}

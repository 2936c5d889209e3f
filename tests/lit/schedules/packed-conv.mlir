// packed_conv on a kernel: the accumulators of a register tile (2 blocks x 4 pixels x 8 lanes) are carried by the
// reduction loops as vectors, and each step of the innermost loop is FMAs and nothing else that computes.
// RUN: %python %S/Inputs/schedule.py %s x86_64-v3 conv t_o=16 ow=4 winograd=0 | FileCheck %s

// CHECK: // conv: packed_conv t_o=16 ow=4
// CHECK-LABEL: func.func @{{.*}} attributes {dlas.schedule = "packed_conv"}
// CHECK-NOT: linalg.

// Rows, then tiles of 4 pixels of the first 8.
// CHECK: scf.for %{{.*}} = %c0 to %c6 step %c1 {{.*}} -> (tensor<2x6x10x8xf32>)
// CHECK: scf.for %{{.*}} = %c0 to %c8 step %c4 {{.*}} -> (tensor<2x6x10x8xf32>)
// Channel blocks, kernel rows, kernel columns.
// CHECK: scf.for %{{.*}} = %c0 to %c2 step %c1 iter_args(%{{.*}} = %{{.*}}) -> (vector<2x4x8xf32>)
// CHECK: scf.for %{{.*}} = %c0 to %c3 step %c1 iter_args(%{{.*}} = %{{.*}}) -> (vector<2x4x8xf32>)
// CHECK: scf.for %{{.*}} = %c0 to %c3 step %c1 iter_args(%{{.*}} = %{{.*}}) -> (vector<2x4x8xf32>)
// 8 channels x 2 blocks x 4 pixels.
// CHECK: %[[W:.*]] = vector.transfer_read {{.*}} vector<8x2x8xf32>
// CHECK-NOT: arith.mulf
// CHECK: vector.broadcast %{{.*}} : f32 to vector<8xf32>
// CHECK-COUNT-64: vector.fma %{{.*}} : vector<8xf32>
// CHECK-NOT: vector.fma
// CHECK: scf.yield %{{.*}} : vector<2x4x8xf32>
// CHECK: vector.transfer_write %{{.*}} : vector<2x4x8xf32>

// The two pixels that are left of each row are a tile of their own, with static shapes too.
// CHECK: scf.for {{.*}} -> (vector<2x2x8xf32>)
// CHECK: scf.for {{.*}} -> (vector<2x2x8xf32>)
// CHECK: scf.for {{.*}} -> (vector<2x2x8xf32>)
// CHECK-COUNT-32: vector.fma %{{.*}} : vector<8xf32>
// CHECK-NOT: vector.fma
// CHECK-NOT: linalg.
// CHECK: return
func.func @main(%x: tensor<1x16x8x12xf32>) -> tensor<1x16x6x10xf32> {
  %zero = arith.constant 0.0 : f32
  %w = arith.constant dense<2.0> : tensor<16x16x3x3xf32>
  %empty = tensor.empty() : tensor<1x16x6x10xf32>
  %init = linalg.fill ins(%zero : f32) outs(%empty : tensor<1x16x6x10xf32>) -> tensor<1x16x6x10xf32>
  %y = linalg.conv_2d_nchw_fchw {dlas.layer = "conv"} ins(%x, %w : tensor<1x16x8x12xf32>, tensor<16x16x3x3xf32>) outs(%init : tensor<1x16x6x10xf32>) -> tensor<1x16x6x10xf32>
  return %y : tensor<1x16x6x10xf32>
}

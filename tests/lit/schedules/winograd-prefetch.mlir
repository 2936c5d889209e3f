// winograd_conv with prefetch=1: each of the three register tiles of a point asks for two of the four lines of a step, those that
// lie 128 KB ahead, in the weights of all workgroups.
// RUN: %python %S/Inputs/schedule.py %s x86_64-v3 conv cores=1 | FileCheck %s

// CHECK: // conv: winograd_conv m=4 {{.*}} ow=6 k_w=16 staged=1 prefetch=1
// CHECK: %[[ALL:.*]] = bufferization.to_buffer {{.*}} tensor<2359296xf32> to memref<2359296xf32
// CHECK: scf.for %{{.*}} = %c0 to %c36 step %c1
// CHECK: scf.for %[[TURN:[a-z0-9]+]] = %c0 to %c2 step %c1
// CHECK: scf.for %{{.*}} = %c0 to %c64 step %c1
// CHECK: affine.min affine_map<{{.*}}2359295
// CHECK: memref.prefetch %[[ALL]][%{{.*}}], read, locality<2>, data
// CHECK: memref.prefetch %[[ALL]]
// CHECK-NOT: memref.prefetch
// CHECK: scf.yield %{{.*}} : vector<8xf32>,
func.func @main(%x: tensor<1x256x14x14xf32>) -> tensor<1x256x14x14xf32> {
  %zero = arith.constant 0.0 : f32
  %w = arith.constant dense<2.0> : tensor<256x256x3x3xf32>
  %empty = tensor.empty() : tensor<1x256x14x14xf32>
  %init = linalg.fill ins(%zero : f32) outs(%empty : tensor<1x256x14x14xf32>) -> tensor<1x256x14x14xf32>
  %pad = tensor.pad %x low[0, 0, 1, 1] high[0, 0, 1, 1] {
  ^bb0(%a0: index, %a1: index, %a2: index, %a3: index):
    tensor.yield %zero : f32
  } : tensor<1x256x14x14xf32> to tensor<1x256x16x16xf32>
  %conv = linalg.conv_2d_nchw_fchw {dlas.layer = "conv", dlas.knobs = {schedule = "winograd_conv", m = 4, rows = 4, k_w = 16, ow = 6, prefetch = 1}} ins(%pad, %w : tensor<1x256x16x16xf32>, tensor<256x256x3x3xf32>) outs(%init : tensor<1x256x14x14xf32>) -> tensor<1x256x14x14xf32>
  return %conv : tensor<1x256x14x14xf32>
}

// winograd_conv with online=1: weights are 9 taps in memory. For 32 channels at a time and a row of the 6 x 6 points, each step
// makes the weights of 2 channels in registers and multiplies them by 4 tiles: 24 accumulators.
// RUN: %python %S/Inputs/schedule.py %s x86_64-v4 conv cores=1 | FileCheck %s
// RUN: not %python %S/Inputs/schedule.py %s x86_64-v4 conv cores=1 winograd=2 2>&1 | FileCheck %s --check-prefix=LARGEST

// CHECK: // conv: winograd_conv m=4 rows=2 columns=2 depth=32 t_o=16 ow=4 k_w=16 staged=1 prefetch=1 online=1
// CHECK: %[[TAPS:.*]] = iree_tensor_ext.dispatch.tensor.load {{.*}} -> tensor<36864xf32>
// CHECK: bufferization.to_buffer %[[TAPS]]
// A row's accumulators are one read before the channels, and one write behind them.
// CHECK-COUNT-6: vector.transfer_read {{.*}} tensor<36x1x4x16xf32>, vector<6x1x4x16xf32>
// CHECK-NOT: vector.transfer_read
// CHECK: scf.for %{{.*}} = %c0 to %c2 step %c1
// CHECK-COUNT-24: vector.extract {{.*}} : vector<16xf32> from vector<6x1x4x16xf32>
// The first row of the transform takes 3 of the taps; 3 of the 18 lines of a step's taps, two times 32 channels on, are for it.
// CHECK: scf.for %{{.*}} = %c0 to %c16 step %c1 {{.*}} -> (vector<16xf32>,
// CHECK-COUNT-3: memref.prefetch
// CHECK-NOT: memref.prefetch
// CHECK-COUNT-3: vector.transfer_read %[[TAPS]]
// CHECK-COUNT-24: vector.fma %{{.*}} {{{.*}}dlas.role = "root"} : vector<16xf32>
// CHECK-COUNT-3: vector.transfer_read %[[TAPS]]
// CHECK-NOT: vector.transfer_read
// CHECK-COUNT-24: vector.fma %{{.*}} {{{.*}}dlas.role = "root"} : vector<16xf32>
// CHECK-NOT: vector.fma
// CHECK: scf.yield %{{.*}} : vector<16xf32>,
// The second row takes all of them, and none of the factors is a multiplication.
// CHECK: scf.for %{{.*}} = %c0 to %c16 step %c1 {{.*}} -> (vector<16xf32>,
// CHECK-COUNT-9: vector.transfer_read %[[TAPS]]
// CHECK-NOT: arith.mulf
// CHECK-COUNT-24: vector.fma %{{.*}} {{{.*}}dlas.role = "root"} : vector<16xf32>
// CHECK-NOT: vector.from_elements
// CHECK: vector.insert_strided_slice {{.*}}offsets = [5, 0, 3, 0]{{.*}} : vector<16xf32> into vector<6x1x4x16xf32>
// CHECK-COUNT-6: vector.transfer_write {{.*}} : vector<6x1x4x16xf32>, tensor<36x1x4x16xf32>
// CHECK-NOT: vector.transfer_write {{.*}} tensor<36x1x4x16xf32>

// LARGEST: conv: winograd_conv: m=4 does not fit beside depth=32, online=1, prefetch=1, staged=1: it may be 2
func.func @main(%x: tensor<1x64x8x8xf32>) -> tensor<1x64x8x8xf32> {
  %zero = arith.constant 0.0 : f32
  %w = arith.constant dense<2.0> : tensor<64x64x3x3xf32>
  %empty = tensor.empty() : tensor<1x64x8x8xf32>
  %init = linalg.fill ins(%zero : f32) outs(%empty : tensor<1x64x8x8xf32>) -> tensor<1x64x8x8xf32>
  %pad = tensor.pad %x low[0, 0, 1, 1] high[0, 0, 1, 1] {
  ^bb0(%a0: index, %a1: index, %a2: index, %a3: index):
    tensor.yield %zero : f32
  } : tensor<1x64x8x8xf32> to tensor<1x64x10x10xf32>
  %conv = linalg.conv_2d_nchw_fchw {dlas.layer = "conv", dlas.knobs = {schedule = "winograd_conv", m = 4, online = 1, staged = 1, prefetch = 1, depth = 32}} ins(%pad, %w : tensor<1x64x10x10xf32>, tensor<64x64x3x3xf32>) outs(%init : tensor<1x64x8x8xf32>) -> tensor<1x64x8x8xf32>
  return %conv : tensor<1x64x8x8xf32>
}

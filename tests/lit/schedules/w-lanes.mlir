// w_lanes: vectors along the output row in NCHW. The accumulators of a tile (T_O channels x OW pixels) are carried by
// the loops over the taps; the padding in front of it is stored a vector at a time.
// RUN: %python %S/Inputs/schedule.py %s x86_64-v3 grouped t_o=4 ow=16 | FileCheck %s
// RUN: %python %S/Inputs/schedule.py %s x86_64-v3 pad | FileCheck %s --check-prefix=PAD
// RUN: %python %S/Inputs/script.py w_lanes t_o=4 ow=16 lanes=8 -- w=32 y=3 x=3 epilogue=1 | FileCheck %s --check-prefix=SCRIPT
// RUN: not %python %S/Inputs/script.py w_lanes t_o=4 ow=12 lanes=8 2>&1 | FileCheck %s --check-prefix=LANES
// RUN: not %python %S/Inputs/script.py w_lanes t_o=0 ow=8 lanes=8 2>&1 | FileCheck %s --check-prefix=TO
// RUN: not %python %S/Inputs/script.py w_lanes t_o=4 ow=16 lanes=8 -- w=24 y=3 x=3 epilogue=0 2>&1 | FileCheck %s --check-prefix=ROW

// CHECK-LABEL: func.func @{{.*}} attributes {dlas.schedule = "w_lanes"}
// CHECK-NOT: linalg.
// CHECK: scf.for {{.*}} -> (vector<4x16xf32>)
// CHECK: scf.for {{.*}} -> (vector<4x16xf32>)
// 4 input channels x 4 output channels.
// CHECK-COUNT-16: vector.fma %{{.*}} : vector<16xf32>
// CHECK-NOT: vector.fma
// CHECK: scf.yield %{{.*}} : vector<4x16xf32>
// CHECK-NOT: linalg.
// CHECK: return

// PAD-LABEL: func.func @{{.*}} attributes {dlas.schedule = "pad"}
// PAD-NOT: linalg.
// PAD: vector.transfer_write %{{.*}} : vector<{{.*}}8xf32>
// PAD-NOT: linalg.
// PAD: return

// SCRIPT: transform.structured.fuse {{.*}} tile_sizes [0, 1, 16]
// SCRIPT: transform.structured.tile_using_for {{.*}} tile_sizes [0, 0, 0, 0, 1, 1]
// SCRIPT: transform.loop.hoist_loop_invariant_subsets

// LANES: error: w_lanes: ow=12 is not a multiple of lanes=8 (rows fill vectors)
// TO: error: w_lanes: t_o=0 is not positive
// ROW: error: w_lanes: ow=16 does not divide a row of 24
func.func @main(%x: tensor<1x16x6x16xf32>) -> tensor<1x16x6x16xf32> {
  %zero = arith.constant 0.0 : f32
  %w = arith.constant dense<2.0> : tensor<4x4x4x3x3xf32>
  %empty = tensor.empty() : tensor<1x4x4x6x16xf32>
  %init = linalg.fill ins(%zero : f32) outs(%empty : tensor<1x4x4x6x16xf32>) -> tensor<1x4x4x6x16xf32>
  %pad = tensor.pad %x low[0, 0, 1, 1] high[0, 0, 1, 1] {
  ^bb0(%a0: index, %a1: index, %a2: index, %a3: index):
    tensor.yield %zero : f32
  } : tensor<1x16x6x16xf32> to tensor<1x16x8x18xf32>
  %groups = tensor.expand_shape %pad [[0], [1, 2], [3], [4]] output_shape [1, 4, 4, 8, 18] : tensor<1x16x8x18xf32> into tensor<1x4x4x8x18xf32>
  %conv = linalg.conv_2d_ngchw_gfchw {dlas.layer = "alone"} ins(%groups, %w : tensor<1x4x4x8x18xf32>, tensor<4x4x4x3x3xf32>) outs(%init : tensor<1x4x4x6x16xf32>) -> tensor<1x4x4x6x16xf32>
  %y = tensor.collapse_shape %conv [[0], [1, 2], [3], [4]] : tensor<1x4x4x6x16xf32> into tensor<1x16x6x16xf32>
  return %y : tensor<1x16x6x16xf32>
}

// transpose: pack and unpack move 8x8 tiles through registers; a row of 12 ends in a tile of 4.
// RUN: %python %S/Inputs/schedule.py %s x86_64-v3 pack ow=8 | FileCheck %s --check-prefixes=CHECK,PACK
// RUN: %python %S/Inputs/schedule.py %s x86_64-v3 unpack ow=8 | FileCheck %s --check-prefixes=CHECK,UNPACK
// RUN: %python %S/Inputs/script.py transpose ow=8 block=8 -- h=6 w=12 | FileCheck %s --check-prefix=SCRIPT
// RUN: %python %S/Inputs/script.py transpose ow=8 block=8 -- h=6 w=8 unpack=1 | FileCheck %s --check-prefix=WHOLE
// RUN: not %python %S/Inputs/script.py transpose ow=0 block=8 2>&1 | FileCheck %s --check-prefix=OW

// CHECK-LABEL: func.func @{{.*}} attributes {dlas.schedule = "transpose"}
// CHECK-NOT: linalg.
// CHECK: vector.transfer_read %{{.*}} vector<8x8xf32>
// CHECK: vector.transfer_write %{{.*}} : vector<8x8xf32>
// PACK: vector.transfer_read %{{.*}} vector<8x4xf32>
// UNPACK: vector.transfer_read %{{.*}} vector<4x8xf32>
// CHECK-NOT: linalg.
// CHECK: return

// The loops of a pack follow its input, (o, h, w); those of an unpack the blocked tensor, (h, w, o).
// SCRIPT: transform.structured.tile_using_for {{.*}} tile_sizes [0, 0, 1, 8]
// SCRIPT: transform.loop.peel
// SCRIPT: transform.apply_patterns.vector.lower_transpose
// WHOLE: transform.structured.tile_using_for {{.*}} tile_sizes [0, 1, 0, 0]
// WHOLE-NOT: transform.loop.peel

// OW: error: plain: ow=0 is not positive
func.func @main(%x: tensor<1x16x6x12xf32>) -> tensor<1x16x6x12xf32> {
  %zero = arith.constant 0.0 : f32
  %w = arith.constant dense<2.0> : tensor<16x1x1xf32>
  %empty = tensor.empty() : tensor<1x16x6x12xf32>
  %init = linalg.fill ins(%zero : f32) outs(%empty : tensor<1x16x6x12xf32>) -> tensor<1x16x6x12xf32>
  %y = linalg.depthwise_conv_2d_nchw_chw {dlas.layer = "depthwise"} ins(%x, %w : tensor<1x16x6x12xf32>, tensor<16x1x1xf32>) outs(%init : tensor<1x16x6x12xf32>) -> tensor<1x16x6x12xf32>
  return %y : tensor<1x16x6x12xf32>
}

// polyphase_conv on a 7x7 kernel of stride 2: its input by phases from polyphase_input, then loops of vector code: the
// input's transform with lanes on tiles, products with lanes on output channels, the output's with the epilogue.
// RUN: %python %S/Inputs/schedule.py %s x86_64-v3 transform cores=1 | FileCheck %s --check-prefix=INPUT
// RUN: %python %S/Inputs/schedule.py %s x86_64-v3 conv cores=1 | FileCheck %s
// RUN: %python %S/Inputs/schedule.py %s x86_64-v3 conv cores=2 | FileCheck %s --check-prefix=BANDS
// RUN: %python %S/Inputs/schedule.py %s x86_64-v3 conv winograd=2 | FileCheck %s --check-prefix=F2
// RUN: not %python %S/Inputs/schedule.py %s x86_64-v3 conv tiles=9 2>&1 | FileCheck %s --check-prefix=TILES
// RUN: not %python %S/Inputs/schedule.py %s x86_64-v3 conv m=3 2>&1 | FileCheck %s --check-prefix=SIZE
// RUN: dlas-opt %s --pass-pipeline='dlas-blocked-layout{lanes=8 registers=16 winograd=0}' --notes --elide 8 | FileCheck %s --check-prefix=NONE

// INPUT: // transform: polyphase_input m=4 block=8
// INPUT-LABEL: func.func @{{.*}} attributes {dlas.schedule = "polyphase_input"}
// INPUT-NOT: linalg.
// A row between zeros, all of it zeros above and below the image; 57 columns are 7 vectors and one that overlaps.
// INPUT: scf.for %[[ROW:.*]] = %c0 to %c46 step %c1 {{.*}} -> (tensor<46x8x16xf32>, tensor<128xf32>)
// INPUT: arith.cmpi eq
// INPUT: scf.for %{{.*}} = %c0 to %c7 step %c1 {{.*}} -> (tensor<128xf32>)
// INPUT: vector.transfer_read {{.*}} tensor<35x57xf32>, vector<8xf32>
// INPUT: arith.select
// INPUT: vector.transfer_read %{{.*}}[%{{.*}}, %c49]
// Eight columns of eight tiles, transposed.
// INPUT-COUNT-24: vector.shuffle
// INPUT-NOT: vector.shuffle
// INPUT-COUNT-8: vector.transfer_write {{.*}} tensor<46x8x16xf32>

// CHECK: // conv: polyphase_conv m=4 tiles=8 t_o=16 ow=4 block=8
// CHECK-LABEL: func.func @{{.*}} attributes {dlas.schedule = "polyphase_conv"}
// CHECK-NOT: linalg.
// Four whole rows of tiles; for each, channels and parities of rows.
// CHECK: scf.for %{{.*}} = %c0 to %c4 step %c1 {{.*}} -> (tensor<2x18x29x8xf32>, {{.*}})
// CHECK: scf.for %{{.*}} = %c0 to %c3 step %c1
// CHECK: scf.for %{{.*}} = %c0 to %c2 step %c1
// The transform along columns: every other row of each column of a tile.
// CHECK: scf.for %{{.*}} = %c0 to %c8 step %c1 {{.*}} -> (tensor<7x8x16xf32>)
// CHECK-COUNT-7: vector.transfer_read {{.*}} tensor<3x46x8x16xf32>, vector<8xf32>
// CHECK-COUNT-7: vector.transfer_write {{.*}} tensor<7x8x16xf32>
// The transform along rows, for both parities of the columns.
// CHECK: scf.for %{{.*}} = %c0 to %c7 step %c1 {{.*}} -> (tensor<7x7x12x8xf32>)
// CHECK-COUNT-7: vector.transfer_read {{.*}} tensor<7x8x16xf32>, vector<8xf32>
// CHECK-COUNT-7: vector.transfer_write {{.*}} tensor<7x7x12x8xf32>
// CHECK-COUNT-7: vector.transfer_write {{.*}} tensor<7x7x12x8xf32>
// The products of a row of points: 2 x 4 accumulators over 12 phases of channels.
// CHECK: scf.for %{{.*}} = %c0 to %c7 step %c1 {{.*}} -> (tensor<7x2x8x8xf32>, tensor<2x7x32x8xf32>)
// CHECK: scf.for %{{.*}} = %c0 to %c7 step %c1 {{.*}} -> (tensor<7x2x8x8xf32>)
// CHECK: scf.for %{{.*}} = %c0 to %c2 step %c1 {{.*}} -> (tensor<7x2x8x8xf32>)
// CHECK-COUNT-8: arith.mulf
// CHECK-COUNT-88: vector.fma {{.*}} : vector<8xf32>
// CHECK-NOT: vector.fma
// CHECK: vector.transfer_write {{.*}} tensor<7x2x8x8xf32>
// The output's transform along rows, then along columns, with the epilogue: four rows, and two in the last.
// CHECK-COUNT-4: vector.transfer_write {{.*}} tensor<2x7x32x8xf32>
// CHECK: scf.for %{{.*}} = %c0 to %c29 step %c1 {{.*}} -> (tensor<2x18x29x8xf32>)
// CHECK-COUNT-4: arith.maximumf
// CHECK-NOT: arith.maximumf
// CHECK: scf.for %{{.*}} = %c0 to %c29 step %c1 {{.*}} -> (tensor<2x18x29x8xf32>)
// CHECK-COUNT-2: arith.maximumf
// CHECK-NOT: arith.maximumf
// CHECK: return

// Several cores: a workgroup has a band of the rows of tiles.
// BANDS: %[[ID:.*]] = hal.interface.workgroup.id[0]
// BANDS: affine.min affine_map<()[s0] -> (s0 mod 5 + 1, 5)>()[%[[ID]]]

// F2: // conv: polyphase_conv m=2
// F2: -> (tensor<5x4x{{.*}}xf32>

// TILES: error: polyphase_conv: tiles=9 are more than the 8 of a row
// SIZE: error: polyphase_conv: m=3 has no transforms (use 2 or 4)
// NONE: done: conv: conv: packed_conv{{.*}}, input read in NCHW (not polyphase_conv: Winograd's domain is not to be used)
func.func @main(%x: tensor<1x3x35x57xf32>) -> tensor<1x16x18x29xf32> {
  %zero = arith.constant 0.0 : f32
  %w = arith.constant dense<2.0> : tensor<16x3x7x7xf32>
  %empty = tensor.empty() : tensor<1x16x18x29xf32>
  %init = linalg.fill ins(%zero : f32) outs(%empty : tensor<1x16x18x29xf32>) -> tensor<1x16x18x29xf32>
  %pad = tensor.pad %x low[0, 0, 3, 3] high[0, 0, 3, 3] {
  ^bb0(%a0: index, %a1: index, %a2: index, %a3: index):
    tensor.yield %zero : f32
  } : tensor<1x3x35x57xf32> to tensor<1x3x41x63xf32>
  %conv = linalg.conv_2d_nchw_fchw {dlas.layer = "conv", strides = dense<2> : tensor<2xi64>} ins(%pad, %w : tensor<1x3x41x63xf32>, tensor<16x3x7x7xf32>) outs(%init : tensor<1x16x18x29xf32>) -> tensor<1x16x18x29xf32>
  %y = linalg.generic {indexing_maps = [affine_map<(n, c, h, w) -> (n, c, h, w)>, affine_map<(n, c, h, w) -> (n, c, h, w)>], iterator_types = ["parallel", "parallel", "parallel", "parallel"]} ins(%conv : tensor<1x16x18x29xf32>) outs(%empty : tensor<1x16x18x29xf32>) {
  ^bb0(%v: f32, %o: f32):
    %s = arith.maximumf %v, %zero : f32
    linalg.yield %s : f32
  } -> tensor<1x16x18x29xf32>
  return %y : tensor<1x16x18x29xf32>
}

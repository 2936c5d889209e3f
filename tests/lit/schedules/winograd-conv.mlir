// winograd_conv on a kernel: loops of vector code for the transforms, a matrix product per point with its accumulators
// carried as vectors, and the epilogue in the registers of the output's transform.
// RUN: %python %S/Inputs/schedule.py %s x86_64-v3 conv cores=1 | FileCheck %s
// RUN: %python %S/Inputs/schedule.py %s x86_64-v3 conv cores=2 | FileCheck %s --check-prefix=BANDS
// RUN: not %python %S/Inputs/schedule.py %s x86_64-v3 conv columns=2 2>&1 | FileCheck %s --check-prefix=DIVIDE
// RUN: %python %S/Inputs/schedule.py %s x86_64-v3 conv winograd=2 | FileCheck %s --check-prefix=F2
// RUN: %python %S/Inputs/schedule.py %s x86_64-v3 conv winograd=0 | FileCheck %s --check-prefix=NONE

// CHECK: // conv: winograd_conv m=4 rows=2 columns=5 depth=32 t_o=16 ow=5 k_w=32 staged=0
// CHECK-LABEL: func.func @{{.*}} attributes {dlas.schedule = "winograd_conv"}
// CHECK-NOT: linalg.

// Two rows of tiles at a time.
// CHECK: scf.for %{{.*}} = %c0 to %c2 step %c1 {{.*}} -> (tensor<4x16x18x8xf32>{{.*}})
// The input's transform, two channel blocks at a time: along columns into lines, then along rows to the 36 points.
// CHECK: scf.for %{{.*}} = %c0 to %c22 step %c1 {{.*}} -> (tensor<2x6x22x8xf32>)
// CHECK-COUNT-6: vector.transfer_read {{.*}} tensor<4x18x22x8xf32>, vector<8xf32>
// CHECK-COUNT-6: vector.transfer_write {{.*}} tensor<2x6x22x8xf32>
// CHECK: scf.for %{{.*}} = %c0 to %c5 step %c1 {{.*}} -> (tensor<36x10x32xf32>)
// CHECK: scf.for %{{.*}} = %c0 to %c6 step %c1 {{.*}} -> (tensor<36x10x32xf32>)
// CHECK: scf.for %{{.*}} = %c0 to %c2 step %c1 {{.*}} -> (tensor<36x10x32xf32>)
// CHECK-COUNT-6: vector.transfer_read {{.*}} tensor<2x6x22x8xf32>, vector<8xf32>
// CHECK-COUNT-6: vector.transfer_write {{.*}} tensor<36x10x32xf32>
// The product of each point: 2 x 5 accumulators, 4 channels at a time.
// CHECK: scf.for %{{.*}} = %c0 to %c36 step %c1 {{.*}} -> (tensor<36x2x10x8xf32>)
// CHECK: scf.for %{{.*}} = %c0 to %c2 step %c1 {{.*}} -> (tensor<36x2x10x8xf32>)
// CHECK: scf.for %{{.*}} = %c0 to %c8 step %c1 {{.*}} -> (vector<8xf32>, {{.*}}) {
// CHECK-NOT: memref.prefetch
// CHECK-COUNT-40: vector.fma %{{.*}} : vector<8xf32>
// CHECK-NOT: vector.fma
// CHECK: scf.yield %{{.*}} : vector<8xf32>,
// The output's transform along rows, then along the 18 columns that are there, with the epilogue.
// CHECK: scf.for %{{.*}} = %c0 to %c5 step %c1 {{.*}} -> (tensor<6x20x8xf32>)
// CHECK: scf.for %{{.*}} = %c0 to %c6 step %c1 {{.*}} -> (tensor<6x20x8xf32>)
// CHECK-COUNT-6: vector.transfer_read {{.*}} tensor<36x2x10x8xf32>, vector<8xf32>
// CHECK-COUNT-4: vector.transfer_write {{.*}} tensor<6x20x8xf32>
// CHECK: scf.for %{{.*}} = %c0 to %c18 step %c1 {{.*}} -> (tensor<4x16x18x8xf32>)
// CHECK-COUNT-4: arith.maximumf
// CHECK-NOT: arith.maximumf
// CHECK-NOT: linalg.
// CHECK: return

// Several cores: a workgroup has a band of the parts.
// BANDS: %[[ID:.*]] = hal.interface.workgroup.id[0]
// BANDS-DAG: %[[BAND:.*]] = affine.apply affine_map<()[s0] -> (s0 mod 2)>()[%[[ID]]]
// BANDS-DAG: %[[END:.*]] = affine.min affine_map<()[s0] -> (s0 mod 2 + 1, 2)>()[%[[ID]]]
// BANDS: scf.for %{{.*}} = %{{.*}} to %[[END]] step %c1 {{.*}} -> (tensor<4x16x18x8xf32>{{.*}})

// F2: // conv: winograd_conv m=2
// F2: -> (tensor<16x{{.*}}x32xf32>)

// NONE: // conv: packed_conv
// DIVIDE: error: winograd_conv: columns=2 does not divide the 5 columns of tiles
func.func @main(%x: tensor<1x32x16x18xf32>) -> tensor<1x32x16x18xf32> {
  %zero = arith.constant 0.0 : f32
  %w = arith.constant dense<2.0> : tensor<32x32x3x3xf32>
  %empty = tensor.empty() : tensor<1x32x16x18xf32>
  %init = linalg.fill ins(%zero : f32) outs(%empty : tensor<1x32x16x18xf32>) -> tensor<1x32x16x18xf32>
  %pad = tensor.pad %x low[0, 0, 1, 1] high[0, 0, 1, 1] {
  ^bb0(%a0: index, %a1: index, %a2: index, %a3: index):
    tensor.yield %zero : f32
  } : tensor<1x32x16x18xf32> to tensor<1x32x18x20xf32>
  %conv = linalg.conv_2d_nchw_fchw {dlas.layer = "conv"} ins(%pad, %w : tensor<1x32x18x20xf32>, tensor<32x32x3x3xf32>) outs(%init : tensor<1x32x16x18xf32>) -> tensor<1x32x16x18xf32>
  %y = linalg.generic {indexing_maps = [affine_map<(n, c, h, w) -> (n, c, h, w)>, affine_map<(n, c, h, w) -> (n, c, h, w)>], iterator_types = ["parallel", "parallel", "parallel", "parallel"]} ins(%conv : tensor<1x32x16x18xf32>) outs(%empty : tensor<1x32x16x18xf32>) {
  ^bb0(%v: f32, %o: f32):
    %s = arith.maximumf %v, %zero : f32
    linalg.yield %s : f32
  } -> tensor<1x32x16x18xf32>
  return %y : tensor<1x32x16x18xf32>
}

// Many channels at few pixels: the input is transformed by a kernel of its own, winograd_input, and winograd_conv has
// products and the output's transform left. The room for a 17th tile keeps the points of a tile apart in the cache.
// RUN: %python %S/Inputs/schedule.py %s x86_64-v3 transform cores=1 | FileCheck %s --check-prefix=INPUT
// RUN: %python %S/Inputs/schedule.py %s x86_64-v3 conv cores=1 | FileCheck %s

// INPUT: // transform: winograd_input m=4 block=8
// INPUT-LABEL: func.func @{{.*}} attributes {dlas.schedule = "winograd_input"}
// INPUT-NOT: linalg.
// INPUT: scf.for %{{.*}} = %c0 to %c4 step %c1 {{.*}} -> (tensor<36x16x16xf32>, tensor<2x6x18x8xf32>)
// INPUT: scf.for %{{.*}} = %c0 to %c18 step %c1 {{.*}} -> (tensor<2x6x18x8xf32>)
// INPUT: scf.for %{{.*}} = %c0 to %c6 step %c1 {{.*}} -> (tensor<36x16x16xf32>)
// INPUT-COUNT-6: vector.transfer_write {{.*}} tensor<36x16x16xf32>
// INPUT: iree_tensor_ext.dispatch.tensor.store {{.*}} sizes = [1, 36, 16, 16]
// INPUT-SAME: tensor<1x36x17x256xf32>

// CHECK: // conv: winograd_conv m=4 {{.*}} depth=256 {{.*}} staged=1
// CHECK-LABEL: func.func @{{.*}} attributes {dlas.schedule = "winograd_conv"}
// CHECK: iree_tensor_ext.dispatch.tensor.load {{.*}} sizes = [1, 36, 16, 256], {{.*}} -> tensor<36x16x256xf32>
// CHECK-NOT: vector.transfer_write {{.*}} tensor<36x16x256xf32>
// CHECK: scf.for %{{.*}} = %c0 to %c36 step %c1
// CHECK: scf.for %{{.*}} = %c0 to %c64 step %c1 {{.*}} -> (vector<8xf32>, {{.*}}) {
// CHECK-COUNT-48: vector.fma %{{.*}} : vector<8xf32>
func.func @main(%x: tensor<1x256x14x14xf32>) -> tensor<1x256x14x14xf32> {
  %zero = arith.constant 0.0 : f32
  %w = arith.constant dense<2.0> : tensor<256x256x3x3xf32>
  %empty = tensor.empty() : tensor<1x256x14x14xf32>
  %init = linalg.fill ins(%zero : f32) outs(%empty : tensor<1x256x14x14xf32>) -> tensor<1x256x14x14xf32>
  %pad = tensor.pad %x low[0, 0, 1, 1] high[0, 0, 1, 1] {
  ^bb0(%a0: index, %a1: index, %a2: index, %a3: index):
    tensor.yield %zero : f32
  } : tensor<1x256x14x14xf32> to tensor<1x256x16x16xf32>
  %conv = linalg.conv_2d_nchw_fchw {dlas.layer = "conv"} ins(%pad, %w : tensor<1x256x16x16xf32>, tensor<256x256x3x3xf32>) outs(%init : tensor<1x256x14x14xf32>) -> tensor<1x256x14x14xf32>
  return %conv : tensor<1x256x14x14xf32>
}

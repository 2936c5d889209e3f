// winograd_lane_conv: a row of tiles of a channel block is transformed along columns, then, row by row of each tile,
// along rows, multiplied lane by lane (a shuffle per further channel of the group) and transformed back; then along
// columns.
// RUN: %python %S/Inputs/schedule.py %s x86_64-v3 grouped | FileCheck %s
// RUN: %python %S/Inputs/schedule.py %s x86_64-v3 grouped winograd=0 | FileCheck %s --check-prefix=NONE

// CHECK: // grouped: winograd_lane_conv m=4 block=8
// CHECK-LABEL: func.func @{{.*}} attributes {dlas.schedule = "winograd_lane_conv"}
// CHECK: scf.for %{{.*}} = %c0 to %c4 step %c1 {{.*}} -> (tensor<1x16x16x8xf32>, tensor<1x6x18x8xf32>, tensor<6x16x8xf32>)
// CHECK: scf.for %{{.*}} = %c0 to %c18 step %c1 {{.*}} -> (tensor<1x6x18x8xf32>)
// CHECK: scf.for %{{.*}} = %c0 to %c4 step %c1 {{.*}} -> (tensor<6x16x8xf32>)
// CHECK: scf.for %{{.*}} = %c0 to %c6 step %c1 {{.*}} -> (tensor<6x16x8xf32>)
// CHECK-COUNT-6: vector.transfer_read {{.*}} tensor<1x6x18x8xf32>, vector<8xf32>
// Six points x 4 channels, the first of each without a sum, and where it is.
// CHECK: %[[NEXT:.*]] = vector.shuffle %[[X:[0-9]+]], %{{.*}} [1, 0, 3, 2, 5, 4, 7, 6]
// CHECK: %[[PAIR:.*]] = vector.shuffle %[[X]], %{{.*}} [2, 3, 0, 1, 6, 7, 4, 5]
// CHECK: %[[LAST:.*]] = vector.shuffle %[[X]], %{{.*}} [3, 2, 1, 0, 7, 6, 5, 4]
// CHECK: %[[S0:.*]] = arith.mulf %[[X]], %{{.*}}
// CHECK: %[[S1:.*]] = vector.fma %[[NEXT]], %{{.*}}, %[[S0]]
// CHECK: %[[S2:.*]] = vector.fma %[[PAIR]], %{{.*}}, %[[S1]]
// CHECK: vector.fma %[[LAST]], %{{.*}}, %[[S2]]
// CHECK-COUNT-4: vector.transfer_write {{.*}} tensor<6x16x8xf32>
// CHECK: scf.for %{{.*}} = %c0 to %c16 step %c1 {{.*}} -> (tensor<1x16x16x8xf32>)
// CHECK-COUNT-4: vector.transfer_write {{.*}} tensor<1x16x16x8xf32>
// CHECK-NOT: linalg.
// CHECK: return

// NONE: // grouped: lane_conv
// Its result is returned, too: otherwise both convolutions are one kernel (separable-conv-winograd.mlir).
func.func @main(%x: tensor<1x16x16x16xf32>) -> (tensor<1x16x16x16xf32>, tensor<1x16x16x16xf32>) {
  %zero = arith.constant 0.0 : f32
  %w = arith.constant dense<2.0> : tensor<4x4x4x3x3xf32>
  %w2 = arith.constant dense<2.0> : tensor<16x16x1x1xf32>
  %empty = tensor.empty() : tensor<1x4x4x16x16xf32>
  %init = linalg.fill ins(%zero : f32) outs(%empty : tensor<1x4x4x16x16xf32>) -> tensor<1x4x4x16x16xf32>
  %empty2 = tensor.empty() : tensor<1x16x16x16xf32>
  %init2 = linalg.fill ins(%zero : f32) outs(%empty2 : tensor<1x16x16x16xf32>) -> tensor<1x16x16x16xf32>
  %pad = tensor.pad %x low[0, 0, 1, 1] high[0, 0, 1, 1] {
  ^bb0(%a0: index, %a1: index, %a2: index, %a3: index):
    tensor.yield %zero : f32
  } : tensor<1x16x16x16xf32> to tensor<1x16x18x18xf32>
  %groups = tensor.expand_shape %pad [[0], [1, 2], [3], [4]] output_shape [1, 4, 4, 18, 18] : tensor<1x16x18x18xf32> into tensor<1x4x4x18x18xf32>
  %conv = linalg.conv_2d_ngchw_gfchw {dlas.layer = "conv"} ins(%groups, %w : tensor<1x4x4x18x18xf32>, tensor<4x4x4x3x3xf32>) outs(%init : tensor<1x4x4x16x16xf32>) -> tensor<1x4x4x16x16xf32>
  %y = tensor.collapse_shape %conv [[0], [1, 2], [3], [4]] : tensor<1x4x4x16x16xf32> into tensor<1x16x16x16xf32>
  %z = linalg.conv_2d_nchw_fchw {dlas.layer = "next"} ins(%y, %w2 : tensor<1x16x16x16xf32>, tensor<16x16x1x1xf32>) outs(%init2 : tensor<1x16x16x16xf32>) -> tensor<1x16x16x16xf32>
  return %y, %z : tensor<1x16x16x16xf32>, tensor<1x16x16x16xf32>
}

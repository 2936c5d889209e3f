// winograd_lane_conv where a group is a whole block: the input is shuffled among four lanes only, for two sums; one of
// them crosses to the other half.
// RUN: %python %S/Inputs/schedule.py %s x86_64-v3 grouped | FileCheck %s
// RUN: %python %S/Inputs/schedule.py %s x86_64-v3 grouped winograd=0 | FileCheck %s --check-prefix=NONE

// CHECK: // grouped: winograd_lane_conv m=4 block=8
// CHECK-LABEL: func.func @{{.*}} attributes {dlas.schedule = "winograd_lane_conv"}
// CHECK: scf.for %{{.*}} = %c0 to %c6 step %c1 {{.*}} -> (tensor<6x16x8xf32>)
// CHECK: %[[NEXT:.*]] = vector.shuffle %[[X:[0-9]+]], %{{.*}} [1, 0, 3, 2, 5, 4, 7, 6]
// CHECK: %[[PAIR:.*]] = vector.shuffle %[[X]], %{{.*}} [2, 3, 0, 1, 6, 7, 4, 5]
// CHECK: %[[LAST:.*]] = vector.shuffle %[[X]], %{{.*}} [3, 2, 1, 0, 7, 6, 5, 4]
// CHECK: %[[N0:.*]] = arith.mulf %[[X]], %{{.*}}
// CHECK: %[[N1:.*]] = vector.fma %[[NEXT]], %{{.*}}, %[[N0]]
// CHECK: %[[N2:.*]] = vector.fma %[[PAIR]], %{{.*}}, %[[N1]]
// CHECK: %[[NEAR:.*]] = vector.fma %[[LAST]], %{{.*}}, %[[N2]]
// CHECK: %[[F0:.*]] = arith.mulf %[[X]], %{{.*}}
// CHECK: %[[F1:.*]] = vector.fma %[[NEXT]], %{{.*}}, %[[F0]]
// CHECK: %[[F2:.*]] = vector.fma %[[PAIR]], %{{.*}}, %[[F1]]
// CHECK: %[[FAR:.*]] = vector.fma %[[LAST]], %{{.*}}, %[[F2]]
// CHECK: %[[CROSSED:.*]] = vector.shuffle %[[FAR]], %{{.*}} [4, 5, 6, 7, 0, 1, 2, 3]
// CHECK: arith.addf %[[NEAR]], %[[CROSSED]]
// CHECK-NOT: linalg.
// CHECK: return

// NONE: // grouped: lane_conv
func.func @main(%x: tensor<1x16x16x16xf32>) -> tensor<1x16x16x16xf32> {
  %zero = arith.constant 0.0 : f32
  %w = arith.constant dense<2.0> : tensor<2x8x8x3x3xf32>
  %empty = tensor.empty() : tensor<1x2x8x16x16xf32>
  %init = linalg.fill ins(%zero : f32) outs(%empty : tensor<1x2x8x16x16xf32>) -> tensor<1x2x8x16x16xf32>
  %pad = tensor.pad %x low[0, 0, 1, 1] high[0, 0, 1, 1] {
  ^bb0(%a0: index, %a1: index, %a2: index, %a3: index):
    tensor.yield %zero : f32
  } : tensor<1x16x16x16xf32> to tensor<1x16x18x18xf32>
  %groups = tensor.expand_shape %pad [[0], [1, 2], [3], [4]] output_shape [1, 2, 8, 18, 18] : tensor<1x16x18x18xf32> into tensor<1x2x8x18x18xf32>
  %conv = linalg.conv_2d_ngchw_gfchw {dlas.layer = "conv"} ins(%groups, %w : tensor<1x2x8x18x18xf32>, tensor<2x8x8x3x3xf32>) outs(%init : tensor<1x2x8x16x16xf32>) -> tensor<1x2x8x16x16xf32>
  %y = tensor.collapse_shape %conv [[0], [1, 2], [3], [4]] : tensor<1x2x8x16x16xf32> into tensor<1x16x16x16xf32>
  return %y : tensor<1x16x16x16xf32>
}

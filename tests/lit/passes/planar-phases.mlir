// What a pointwise convolution makes for a strided one alone is made in phases: its input is split by the strides, and it
// computes the phases as images of one row, each with a mask of its own that keeps the padding zero.
// RUN: dlas-opt %s --pass-pipeline='dlas-blocked-layout{lanes=8 registers=16}' --notes | FileCheck %s

// CHECK-DAG: done: expand: phases: row_copy{
// CHECK-DAG: done: expand: pointwise: planar_conv{
// CHECK-DAG: done: conv: grouped: planar_conv{

// Four phases of nine rows of nine, of the six channels; as many images, whose masks are four, too.
// CHECK-LABEL: func.func @main
// CHECK: flow.dispatch.workgroups{{.*}} : (tensor<1x6x256xf32>) -> tensor<1x4x6x112xf32>
// CHECK: %[[IMAGES:.*]] = tensor.collapse_shape %{{.*}} : tensor<1x4x6x112xf32> into tensor<4x6x112xf32>
// CHECK: %[[FLAT:.*]] = tensor.collapse_shape %[[IMAGES]] {{.*}} into tensor<4x672xf32>
// CHECK: flow.dispatch.workgroups{{.*}}(%[[FLAT]], %{{.*}}) : (tensor<4x672xf32>, tensor<108xf32>, tensor<4x112xi32>) -> tensor<4x18x112xf32>
// CHECK: vector.fma {{.*}}dlas.role = "root"
// CHECK: %[[BITS:.*]] = arith.bitcast %{{.*}} : vector<8xf32> to vector<8xi32>
// CHECK: arith.andi %[[BITS]], %{{.*}} : vector<8xi32>
// CHECK: flow.dispatch.workgroups{{.*}} : (tensor<1x8064xf32>, tensor<972xf32>) -> tensor<1x18x80xf32>
// CHECK-NOT: linalg.conv
func.func @main(%x: tensor<1x6x16x16xf32>) -> tensor<1x18x8x8xf32> {
  %zero = arith.constant 0.0 : f32
  %w1 = arith.constant dense<2.0> : tensor<18x6x1x1xf32>
  %w2 = arith.constant dense<2.0> : tensor<3x6x6x3x3xf32>
  %empty1 = tensor.empty() : tensor<1x18x16x16xf32>
  %init1 = linalg.fill ins(%zero : f32) outs(%empty1 : tensor<1x18x16x16xf32>) -> tensor<1x18x16x16xf32>
  %expand = linalg.conv_2d_nchw_fchw {dlas.layer = "expand"} ins(%x, %w1 : tensor<1x6x16x16xf32>, tensor<18x6x1x1xf32>) outs(%init1 : tensor<1x18x16x16xf32>) -> tensor<1x18x16x16xf32>
  %pad = tensor.pad %expand low[0, 0, 1, 1] high[0, 0, 1, 1] {
  ^bb0(%a0: index, %a1: index, %a2: index, %a3: index):
    tensor.yield %zero : f32
  } : tensor<1x18x16x16xf32> to tensor<1x18x18x18xf32>
  %groups = tensor.expand_shape %pad [[0], [1, 2], [3], [4]] output_shape [1, 3, 6, 18, 18] : tensor<1x18x18x18xf32> into tensor<1x3x6x18x18xf32>
  %empty2 = tensor.empty() : tensor<1x3x6x8x8xf32>
  %init2 = linalg.fill ins(%zero : f32) outs(%empty2 : tensor<1x3x6x8x8xf32>) -> tensor<1x3x6x8x8xf32>
  %conv = linalg.conv_2d_ngchw_gfchw {dlas.layer = "conv", strides = dense<2> : vector<2xi64>} ins(%groups, %w2 : tensor<1x3x6x18x18xf32>, tensor<3x6x6x3x3xf32>) outs(%init2 : tensor<1x3x6x8x8xf32>) -> tensor<1x3x6x8x8xf32>
  %y = tensor.collapse_shape %conv [[0], [1, 2], [3], [4]] : tensor<1x3x6x8x8xf32> into tensor<1x18x8x8xf32>
  return %y : tensor<1x18x8x8xf32>
}

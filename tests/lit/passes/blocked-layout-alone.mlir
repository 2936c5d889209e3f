// A convolution of small groups between NCHW tensors keeps NCHW: packing would cost more than it gains. It does not
// next to what is in channel blocks, nor where its rows do not fill vectors.
// RUN: dlas-opt %s --pass-pipeline='dlas-blocked-layout{lanes=8 registers=16}' --notes | FileCheck %s

// CHECK: // dlas-blocked-layout: done: alone: grouped: w_lanes{{.*}}: NCHW in and out
// CHECK: // dlas-blocked-layout: done: in_a_chain: grouped: lane_conv{
// CHECK: // dlas-blocked-layout: done: short_rows: grouped: lane_conv{

// CHECK-LABEL: func.func @alone
func.func @alone(%x: tensor<1x16x6x16xf32>) -> tensor<1x16x6x16xf32> {
  %zero = arith.constant 0.0 : f32
  %w = arith.constant dense<2.0> : tensor<4x4x4x3x3xf32>
  %empty = tensor.empty() : tensor<1x4x4x6x16xf32>
  %init = linalg.fill ins(%zero : f32) outs(%empty : tensor<1x4x4x6x16xf32>) -> tensor<1x4x4x6x16xf32>
  // The padding is a kernel of its own; a pack or an unpack is not.
  // CHECK: %[[PAD:.*]] = flow.dispatch.workgroups{{.*}}(%arg0) : (tensor<1x16x6x16xf32>) -> tensor<1x16x8x18xf32>
  // CHECK: %[[Y:.*]] = flow.dispatch.workgroups{{.*}}(%[[PAD]], %{{.*}}) : (tensor<1x16x8x18xf32>, {{.*}}) -> tensor<1x16x6x16xf32>
  // CHECK: linalg.generic {{.*}}dlas.role = "root"
  // CHECK-NOT: flow.dispatch.workgroups[
  // CHECK: return %[[Y]]
  %pad = tensor.pad %x low[0, 0, 1, 1] high[0, 0, 1, 1] {
  ^bb0(%a0: index, %a1: index, %a2: index, %a3: index):
    tensor.yield %zero : f32
  } : tensor<1x16x6x16xf32> to tensor<1x16x8x18xf32>
  %groups = tensor.expand_shape %pad [[0], [1, 2], [3], [4]] output_shape [1, 4, 4, 8, 18] : tensor<1x16x8x18xf32> into tensor<1x4x4x8x18xf32>
  %conv = linalg.conv_2d_ngchw_gfchw {dlas.layer = "alone"} ins(%groups, %w : tensor<1x4x4x8x18xf32>, tensor<4x4x4x3x3xf32>) outs(%init : tensor<1x4x4x6x16xf32>) -> tensor<1x4x4x6x16xf32>
  %y = tensor.collapse_shape %conv [[0], [1, 2], [3], [4]] : tensor<1x4x4x6x16xf32> into tensor<1x16x6x16xf32>
  return %y : tensor<1x16x6x16xf32>
}

// CHECK-LABEL: func.func @in_a_chain
// CHECK: flow.dispatch.workgroups{{.*}} : (tensor<1x2x8x6x16xf32>) -> tensor<1x2x6x16x8xf32>
// CHECK: flow.dispatch.workgroups{{.*}} -> tensor<1x2x6x16x8xf32>
// CHECK: flow.dispatch.workgroups{{.*}} -> tensor<1x2x6x16x8xf32>
// CHECK: flow.dispatch.workgroups{{.*}} -> tensor<1x2x6x16x8xf32>
// CHECK: flow.dispatch.workgroups{{.*}} -> tensor<1x2x8x6x16xf32>
func.func @in_a_chain(%x: tensor<1x16x6x16xf32>) -> tensor<1x16x6x16xf32> {
  %zero = arith.constant 0.0 : f32
  %w = arith.constant dense<2.0> : tensor<4x4x4x1x1xf32>
  %w2 = arith.constant dense<2.0> : tensor<16x1x1xf32>
  %empty = tensor.empty() : tensor<1x4x4x6x16xf32>
  %init = linalg.fill ins(%zero : f32) outs(%empty : tensor<1x4x4x6x16xf32>) -> tensor<1x4x4x6x16xf32>
  %empty2 = tensor.empty() : tensor<1x16x6x16xf32>
  %init2 = linalg.fill ins(%zero : f32) outs(%empty2 : tensor<1x16x6x16xf32>) -> tensor<1x16x6x16xf32>
  %before = linalg.depthwise_conv_2d_nchw_chw {dlas.layer = "before"} ins(%x, %w2 : tensor<1x16x6x16xf32>, tensor<16x1x1xf32>) outs(%init2 : tensor<1x16x6x16xf32>) -> tensor<1x16x6x16xf32>
  %groups = tensor.expand_shape %before [[0], [1, 2], [3], [4]] output_shape [1, 4, 4, 6, 16] : tensor<1x16x6x16xf32> into tensor<1x4x4x6x16xf32>
  %conv = linalg.conv_2d_ngchw_gfchw {dlas.layer = "in_a_chain"} ins(%groups, %w : tensor<1x4x4x6x16xf32>, tensor<4x4x4x1x1xf32>) outs(%init : tensor<1x4x4x6x16xf32>) -> tensor<1x4x4x6x16xf32>
  %y = tensor.collapse_shape %conv [[0], [1, 2], [3], [4]] : tensor<1x4x4x6x16xf32> into tensor<1x16x6x16xf32>
  %z = linalg.depthwise_conv_2d_nchw_chw {dlas.layer = "next"} ins(%y, %w2 : tensor<1x16x6x16xf32>, tensor<16x1x1xf32>) outs(%init2 : tensor<1x16x6x16xf32>) -> tensor<1x16x6x16xf32>
  return %z : tensor<1x16x6x16xf32>
}

// CHECK-LABEL: func.func @short_rows
// CHECK: -> tensor<1x2x6x12x8xf32>
func.func @short_rows(%x: tensor<1x16x6x12xf32>) -> tensor<1x16x6x12xf32> {
  %zero = arith.constant 0.0 : f32
  %w = arith.constant dense<2.0> : tensor<4x4x4x1x1xf32>
  %empty = tensor.empty() : tensor<1x4x4x6x12xf32>
  %init = linalg.fill ins(%zero : f32) outs(%empty : tensor<1x4x4x6x12xf32>) -> tensor<1x4x4x6x12xf32>
  %groups = tensor.expand_shape %x [[0], [1, 2], [3], [4]] output_shape [1, 4, 4, 6, 12] : tensor<1x16x6x12xf32> into tensor<1x4x4x6x12xf32>
  %conv = linalg.conv_2d_ngchw_gfchw {dlas.layer = "short_rows"} ins(%groups, %w : tensor<1x4x4x6x12xf32>, tensor<4x4x4x1x1xf32>) outs(%init : tensor<1x4x4x6x12xf32>) -> tensor<1x4x4x6x12xf32>
  %y = tensor.collapse_shape %conv [[0], [1, 2], [3], [4]] : tensor<1x4x4x6x12xf32> into tensor<1x16x6x12xf32>
  return %y : tensor<1x16x6x12xf32>
}

// Groups whose channels fill no block are padded where only convolutions and elementwise ops share their channels.
// RUN: dlas-opt %s --pass-pipeline='dlas-pad-groups{lanes=8 registers=16}' --notes | FileCheck %s

// CHECK: // dlas-pad-groups: done: bottleneck: 16 groups of 15 to 15 channels padded to 16 to 16
// CHECK: // dlas-pad-groups: refused: from_outside: the input comes from outside
// CHECK: // dlas-pad-groups: refused: returned: func.return reads the convolution's result
// CHECK: // dlas-pad-groups: refused: whole_blocks: the groups fill blocks

#id = affine_map<(d0, d1, d2, d3) -> (d0, d1, d2, d3)>
#channel = affine_map<(d0, d1, d2, d3) -> (d1)>

// CHECK-LABEL: func.func @bottleneck
// CHECK: linalg.conv_2d_nchw_fchw {dlas.layer = "expand", dlas.useful = 9.375000e-01 : f64} {{.*}}tensor<256x16x1x1xf32>{{.*}} -> tensor<1x256x14x14xf32>
// CHECK: linalg.generic {{.*}}tensor<256xf32>) outs(%{{.*}} : tensor<1x256x14x14xf32>)
// CHECK: tensor.pad {{.*}}
// CHECK: tensor.expand_shape {{.*}} output_shape [1, 16, 16, 16, 16] : tensor<1x256x16x16xf32> into tensor<1x16x16x16x16xf32>
// CHECK: linalg.conv_2d_ngchw_gfchw {dlas.layer = "bottleneck", dlas.useful = 0.87890625 : f64} {{.*}}tensor<16x16x16x3x3xf32>{{.*}} -> tensor<1x16x16x14x14xf32>
// CHECK: tensor.collapse_shape {{.*}} into tensor<1x256x14x14xf32>
// CHECK: linalg.conv_2d_nchw_fchw {dlas.layer = "project", dlas.useful = 9.375000e-01 : f64} {{.*}}tensor<32x256x1x1xf32>{{.*}} -> tensor<1x32x14x14xf32>
func.func @bottleneck(%x: tensor<1x16x14x14xf32>) -> tensor<1x32x14x14xf32> {
  %zero = arith.constant 0.0 : f32
  %w1 = arith.constant dense<2.0> : tensor<240x16x1x1xf32>
  %w2 = arith.constant dense<3.0> : tensor<16x15x15x3x3xf32>
  %w3 = arith.constant dense<4.0> : tensor<32x240x1x1xf32>
  %bias = arith.constant dense<5.0> : tensor<240xf32>
  %e1 = tensor.empty() : tensor<1x240x14x14xf32>
  %i1 = linalg.fill ins(%zero : f32) outs(%e1 : tensor<1x240x14x14xf32>) -> tensor<1x240x14x14xf32>
  %a = linalg.conv_2d_nchw_fchw {dlas.layer = "expand"} ins(%x, %w1 : tensor<1x16x14x14xf32>, tensor<240x16x1x1xf32>) outs(%i1 : tensor<1x240x14x14xf32>) -> tensor<1x240x14x14xf32>
  %b = linalg.generic {indexing_maps = [#id, #channel, #id], iterator_types = ["parallel", "parallel", "parallel", "parallel"]} ins(%a, %bias : tensor<1x240x14x14xf32>, tensor<240xf32>) outs(%e1 : tensor<1x240x14x14xf32>) {
  ^bb0(%l: f32, %r: f32, %out: f32):
    %s = arith.addf %l, %r : f32
    linalg.yield %s : f32
  } -> tensor<1x240x14x14xf32>
  %pad = tensor.pad %b low[0, 0, 1, 1] high[0, 0, 1, 1] {
  ^bb0(%a0: index, %a1: index, %a2: index, %a3: index):
    tensor.yield %zero : f32
  } : tensor<1x240x14x14xf32> to tensor<1x240x16x16xf32>
  %groups = tensor.expand_shape %pad [[0], [1, 2], [3], [4]] output_shape [1, 16, 15, 16, 16] : tensor<1x240x16x16xf32> into tensor<1x16x15x16x16xf32>
  %e2 = tensor.empty() : tensor<1x16x15x14x14xf32>
  %i2 = linalg.fill ins(%zero : f32) outs(%e2 : tensor<1x16x15x14x14xf32>) -> tensor<1x16x15x14x14xf32>
  %c = linalg.conv_2d_ngchw_gfchw {dlas.layer = "bottleneck"} ins(%groups, %w2 : tensor<1x16x15x16x16xf32>, tensor<16x15x15x3x3xf32>) outs(%i2 : tensor<1x16x15x14x14xf32>) -> tensor<1x16x15x14x14xf32>
  %d = tensor.collapse_shape %c [[0], [1, 2], [3], [4]] : tensor<1x16x15x14x14xf32> into tensor<1x240x14x14xf32>
  %e3 = tensor.empty() : tensor<1x32x14x14xf32>
  %i3 = linalg.fill ins(%zero : f32) outs(%e3 : tensor<1x32x14x14xf32>) -> tensor<1x32x14x14xf32>
  %e = linalg.conv_2d_nchw_fchw {dlas.layer = "project"} ins(%d, %w3 : tensor<1x240x14x14xf32>, tensor<32x240x1x1xf32>) outs(%i3 : tensor<1x32x14x14xf32>) -> tensor<1x32x14x14xf32>
  return %e : tensor<1x32x14x14xf32>
}

// CHECK-LABEL: func.func @from_outside
// CHECK-NOT: tensor<16x16x16x3x3xf32>
func.func @from_outside(%x: tensor<1x240x16x16xf32>) -> tensor<1x240x14x14xf32> {
  %zero = arith.constant 0.0 : f32
  %w = arith.constant dense<3.0> : tensor<16x15x15x3x3xf32>
  %groups = tensor.expand_shape %x [[0], [1, 2], [3], [4]] output_shape [1, 16, 15, 16, 16] : tensor<1x240x16x16xf32> into tensor<1x16x15x16x16xf32>
  %empty = tensor.empty() : tensor<1x16x15x14x14xf32>
  %init = linalg.fill ins(%zero : f32) outs(%empty : tensor<1x16x15x14x14xf32>) -> tensor<1x16x15x14x14xf32>
  %c = linalg.conv_2d_ngchw_gfchw {dlas.layer = "from_outside"} ins(%groups, %w : tensor<1x16x15x16x16xf32>, tensor<16x15x15x3x3xf32>) outs(%init : tensor<1x16x15x14x14xf32>) -> tensor<1x16x15x14x14xf32>
  %y = tensor.collapse_shape %c [[0], [1, 2], [3], [4]] : tensor<1x16x15x14x14xf32> into tensor<1x240x14x14xf32>
  return %y : tensor<1x240x14x14xf32>
}

// CHECK-LABEL: func.func @returned
// CHECK: -> tensor<1x16x15x14x14xf32>
func.func @returned(%x: tensor<1x16x16x16xf32>) -> tensor<1x240x14x14xf32> {
  %zero = arith.constant 0.0 : f32
  %w1 = arith.constant dense<2.0> : tensor<240x16x1x1xf32>
  %w = arith.constant dense<3.0> : tensor<16x15x15x3x3xf32>
  %e1 = tensor.empty() : tensor<1x240x16x16xf32>
  %i1 = linalg.fill ins(%zero : f32) outs(%e1 : tensor<1x240x16x16xf32>) -> tensor<1x240x16x16xf32>
  %a = linalg.conv_2d_nchw_fchw {dlas.layer = "first"} ins(%x, %w1 : tensor<1x16x16x16xf32>, tensor<240x16x1x1xf32>) outs(%i1 : tensor<1x240x16x16xf32>) -> tensor<1x240x16x16xf32>
  %groups = tensor.expand_shape %a [[0], [1, 2], [3], [4]] output_shape [1, 16, 15, 16, 16] : tensor<1x240x16x16xf32> into tensor<1x16x15x16x16xf32>
  %empty = tensor.empty() : tensor<1x16x15x14x14xf32>
  %init = linalg.fill ins(%zero : f32) outs(%empty : tensor<1x16x15x14x14xf32>) -> tensor<1x16x15x14x14xf32>
  %c = linalg.conv_2d_ngchw_gfchw {dlas.layer = "returned"} ins(%groups, %w : tensor<1x16x15x16x16xf32>, tensor<16x15x15x3x3xf32>) outs(%init : tensor<1x16x15x14x14xf32>) -> tensor<1x16x15x14x14xf32>
  %y = tensor.collapse_shape %c [[0], [1, 2], [3], [4]] : tensor<1x16x15x14x14xf32> into tensor<1x240x14x14xf32>
  return %y : tensor<1x240x14x14xf32>
}

// CHECK-LABEL: func.func @whole_blocks
func.func @whole_blocks(%x: tensor<1x32x16x16xf32>) -> tensor<1x32x14x14xf32> {
  %zero = arith.constant 0.0 : f32
  %w = arith.constant dense<3.0> : tensor<4x8x8x3x3xf32>
  %groups = tensor.expand_shape %x [[0], [1, 2], [3], [4]] output_shape [1, 4, 8, 16, 16] : tensor<1x32x16x16xf32> into tensor<1x4x8x16x16xf32>
  %empty = tensor.empty() : tensor<1x4x8x14x14xf32>
  %init = linalg.fill ins(%zero : f32) outs(%empty : tensor<1x4x8x14x14xf32>) -> tensor<1x4x8x14x14xf32>
  %c = linalg.conv_2d_ngchw_gfchw {dlas.layer = "whole_blocks"} ins(%groups, %w : tensor<1x4x8x16x16xf32>, tensor<4x8x8x3x3xf32>) outs(%init : tensor<1x4x8x14x14xf32>) -> tensor<1x4x8x14x14xf32>
  %y = tensor.collapse_shape %c [[0], [1, 2], [3], [4]] : tensor<1x4x8x14x14xf32> into tensor<1x32x14x14xf32>
  return %y : tensor<1x32x14x14xf32>
}

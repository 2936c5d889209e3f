// A chain of grouped convolutions with bias and ReLU between them stays in channel blocks from end to end: one pack,
// one unpack, and each padding is written as the halo of the tensor that its producer makes, so no tensor.pad is left.
// RUN: dlas-opt %s --pass-pipeline='dlas-blocked-layout{lanes=8 registers=16 winograd=0}' --notes | FileCheck %s

// CHECK: // dlas-blocked-layout: done: -: pack: transpose{
// CHECK-NEXT: // dlas-blocked-layout: done: first: grouped: packed_conv{
// CHECK-NEXT: // dlas-blocked-layout: done: second: grouped: packed_conv{
// CHECK-NEXT: // dlas-blocked-layout: done: -: unpack: transpose{
// CHECK-NOT: // dlas

// CHECK-LABEL: func.func @main
// CHECK-NOT: tensor.pad
func.func @main(%x: tensor<1x32x6x6xf32>) -> tensor<1x32x6x6xf32> {
  %zero = arith.constant 0.0 : f32
  %w1 = arith.constant dense<2.0> : tensor<2x16x16x3x3xf32>
  %w2 = arith.constant dense<3.0> : tensor<2x16x16x5x5xf32>
  %bias = arith.constant dense<[0., 1., 2., 3., 4., 5., 6., 7., 8., 9., 10., 11., 12., 13., 14., 15., 16., 17., 18., 19., 20., 21., 22., 23., 24., 25., 26., 27., 28., 29., 30., 31.]> : tensor<32xf32>
  %groups = tensor.empty() : tensor<1x2x16x6x6xf32>
  %init = linalg.fill ins(%zero : f32) outs(%groups : tensor<1x2x16x6x6xf32>) -> tensor<1x2x16x6x6xf32>
  %empty = tensor.empty() : tensor<1x32x6x6xf32>

  // The pack transposes 8 channels at a time and leaves a ring of one zero around the image.
  // CHECK: tensor.expand_shape %arg0 {{.*}} : tensor<1x32x6x6xf32> into tensor<1x4x8x6x6xf32>
  // CHECK: %[[X:.*]] = flow.dispatch.workgroups[%{{.*}}](%{{.*}}) : (tensor<1x4x8x6x6xf32>) -> tensor<1x4x8x8x8xf32>
  // CHECK: linalg.generic {{.*}}dlas.role = "epilogue"
  // CHECK: dispatch.tensor.store {{.*}} offsets = [0, %{{.*}}, 1, 1, 0], sizes = [1, 1, 6, 6, 8]
  // CHECK-COUNT-4: linalg.fill {{.*}}dlas.role = "border"
  %pad1 = tensor.pad %x low[0, 0, 1, 1] high[0, 0, 1, 1] {
  ^bb0(%a0: index, %a1: index, %a2: index, %a3: index):
    tensor.yield %zero : f32
  } : tensor<1x32x6x6xf32> to tensor<1x32x8x8xf32>
  %groups1 = tensor.expand_shape %pad1 [[0], [1, 2], [3], [4]] output_shape [1, 2, 16, 8, 8] : tensor<1x32x8x8xf32> into tensor<1x2x16x8x8xf32>

  // The kernel of the first convolution takes bias and ReLU in, and writes the halo of two that the second reads.
  // CHECK: %[[Y:.*]] = flow.dispatch.workgroups[%{{.*}}](%[[X]], %{{.*}}, %{{.*}}) : (tensor<1x4x8x8x8xf32>, {{.*}}, tensor<4x8xf32>) -> tensor<1x4x10x10x8xf32>
  // CHECK: linalg.fill {{.*}}dlas.role = "init"
  // CHECK: linalg.generic {{.*}}dlas.role = "root"
  // CHECK: linalg.generic {{.*}}dlas.role = "epilogue"
  // CHECK: arith.addf
  // CHECK: arith.maximumf
  // CHECK: dispatch.tensor.store {{.*}} offsets = [0, %{{.*}}, 2, 2, 0], sizes = [1, {{[12]}}, 6, 6, 8]
  // CHECK-COUNT-4: linalg.fill {{.*}}dlas.role = "border"
  %conv1 = linalg.conv_2d_ngchw_gfchw {dlas.layer = "first"} ins(%groups1, %w1 : tensor<1x2x16x8x8xf32>, tensor<2x16x16x3x3xf32>) outs(%init : tensor<1x2x16x6x6xf32>) -> tensor<1x2x16x6x6xf32>
  %y1 = tensor.collapse_shape %conv1 [[0], [1, 2], [3], [4]] : tensor<1x2x16x6x6xf32> into tensor<1x32x6x6xf32>
  %biased = linalg.generic {indexing_maps = [affine_map<(d0, d1, d2, d3) -> (d0, d1, d2, d3)>, affine_map<(d0, d1, d2, d3) -> (d1)>, affine_map<(d0, d1, d2, d3) -> (d0, d1, d2, d3)>], iterator_types = ["parallel", "parallel", "parallel", "parallel"]} ins(%y1, %bias : tensor<1x32x6x6xf32>, tensor<32xf32>) outs(%empty : tensor<1x32x6x6xf32>) attrs = {dlas.layer = "first"} {
  ^bb0(%a: f32, %b: f32, %out: f32):
    %sum = arith.addf %a, %b : f32
    linalg.yield %sum : f32
  } -> tensor<1x32x6x6xf32>
  %relu = linalg.generic {indexing_maps = [affine_map<(d0, d1, d2, d3) -> (d0, d1, d2, d3)>, affine_map<(d0, d1, d2, d3) -> (d0, d1, d2, d3)>], iterator_types = ["parallel", "parallel", "parallel", "parallel"]} ins(%biased : tensor<1x32x6x6xf32>) outs(%empty : tensor<1x32x6x6xf32>) attrs = {dlas.layer = "relu"} {
  ^bb0(%a: f32, %out: f32):
    %max = arith.maximumf %a, %zero : f32
    linalg.yield %max : f32
  } -> tensor<1x32x6x6xf32>
  %pad2 = tensor.pad %relu low[0, 0, 2, 2] high[0, 0, 2, 2] {
  ^bb0(%a0: index, %a1: index, %a2: index, %a3: index):
    tensor.yield %zero : f32
  } : tensor<1x32x6x6xf32> to tensor<1x32x10x10xf32>
  %groups2 = tensor.expand_shape %pad2 [[0], [1, 2], [3], [4]] output_shape [1, 2, 16, 10, 10] : tensor<1x32x10x10xf32> into tensor<1x2x16x10x10xf32>

  // Nothing pads the result: no border, and the unpack reads it whole.
  // CHECK: %[[Z:.*]] = flow.dispatch.workgroups[%{{.*}}](%[[Y]], %{{.*}}) : (tensor<1x4x10x10x8xf32>, {{.*}}) -> tensor<1x4x6x6x8xf32>
  // CHECK-NOT: dlas.role = "border"
  // CHECK: %[[U:.*]] = flow.dispatch.workgroups[%{{.*}}](%[[Z]]) : (tensor<1x4x6x6x8xf32>) -> tensor<1x4x8x6x6xf32>
  // CHECK-NOT: flow.dispatch.workgroups[
  // CHECK: %[[RESULT:.*]] = tensor.collapse_shape %[[U]]
  // CHECK: return %[[RESULT]]
  %conv2 = linalg.conv_2d_ngchw_gfchw {dlas.layer = "second"} ins(%groups2, %w2 : tensor<1x2x16x10x10xf32>, tensor<2x16x16x5x5xf32>) outs(%init : tensor<1x2x16x6x6xf32>) -> tensor<1x2x16x6x6xf32>
  %y2 = tensor.collapse_shape %conv2 [[0], [1, 2], [3], [4]] : tensor<1x2x16x6x6xf32> into tensor<1x32x6x6xf32>
  return %y2 : tensor<1x32x6x6xf32>
}

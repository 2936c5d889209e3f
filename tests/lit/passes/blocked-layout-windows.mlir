// Pooling and reductions of a blocked tensor stay blocked, and padding by another number than zero is a halo of it.
// RUN: dlas-opt %s --pass-pipeline='dlas-blocked-layout{lanes=8 registers=16}' --notes | FileCheck %s

// CHECK-DAG: done: max: pooling: lane_conv{
// CHECK-DAG: done: mean: reduce: reduce{
// CHECK-DAG: done: -: copy: elementwise{
// CHECK-DAG: #[[WINDOW:map[0-9]*]] = affine_map<(d0, d1, d2, d3, d4, d5) -> (d0, d1 * 2 + d4, d2 * 2 + d5, d3)>

// The convolution writes the -inf around its result that the maximum of the border windows needs.
// CHECK-LABEL: func.func @max_pool
func.func @max_pool(%x: tensor<1x16x6x6xf32>) -> tensor<1x16x3x3xf32> {
  %zero = arith.constant 0.0 : f32
  %lowest = arith.constant 0xFF800000 : f32
  %w = arith.constant dense<2.0> : tensor<16x1x1xf32>
  %empty = tensor.empty() : tensor<1x16x6x6xf32>
  %init = linalg.fill ins(%zero : f32) outs(%empty : tensor<1x16x6x6xf32>) -> tensor<1x16x6x6xf32>
  // CHECK: %[[Y:.*]] = flow.dispatch.workgroups{{.*}}, tensor<2x1x1x1x8xf32>) -> tensor<1x2x8x8x8xf32>
  // CHECK: dlas.role = "root"
  // CHECK: %[[LOWEST:.*]] = arith.constant 0xFF800000
  // CHECK-NEXT: linalg.fill {{.*}}dlas.role = "border"} ins(%[[LOWEST]]
  %y = linalg.depthwise_conv_2d_nchw_chw {dlas.layer = "conv"} ins(%x, %w : tensor<1x16x6x6xf32>, tensor<16x1x1xf32>) outs(%init : tensor<1x16x6x6xf32>) -> tensor<1x16x6x6xf32>
  %pad = tensor.pad %y low[0, 0, 1, 1] high[0, 0, 1, 1] {
  ^bb0(%a0: index, %a1: index, %a2: index, %a3: index):
    tensor.yield %lowest : f32
  } : tensor<1x16x6x6xf32> to tensor<1x16x8x8xf32>
  %window = tensor.empty() : tensor<3x3xf32>
  %pooled = tensor.empty() : tensor<1x16x3x3xf32>
  %start = linalg.fill ins(%lowest : f32) outs(%pooled : tensor<1x16x3x3xf32>) -> tensor<1x16x3x3xf32>
  // CHECK: flow.dispatch.workgroups{{.*}}(%[[Y]]) : (tensor<1x2x8x8x8xf32>) -> tensor<1x2x3x3x8xf32>
  // CHECK: %[[START:.*]] = arith.constant 0xFF800000
  // CHECK: linalg.fill {{.*}}dlas.role = "init"} ins(%[[START]]
  // CHECK: linalg.generic {indexing_maps = [#[[WINDOW]], {{.*}}dlas.lanes = array<i64: 2, 1, 0>
  // CHECK: arith.maximumf
  %max = linalg.pooling_nchw_max {dlas.layer = "max", strides = dense<2> : tensor<2xi64>, dilations = dense<1> : tensor<2xi64>} ins(%pad, %window : tensor<1x16x8x8xf32>, tensor<3x3xf32>) outs(%start : tensor<1x16x3x3xf32>) -> tensor<1x16x3x3xf32>
  return %max : tensor<1x16x3x3xf32>
}

// A value that is padded by two different numbers gets the first one from its producer; a copy brings the other.
// CHECK-LABEL: func.func @two_paddings
func.func @two_paddings(%x: tensor<1x16x6x6xf32>) -> (tensor<1x16x3x3xf32>, tensor<1x16x6x6xf32>) {
  %zero = arith.constant 0.0 : f32
  %lowest = arith.constant 0xFF800000 : f32
  %w = arith.constant dense<2.0> : tensor<16x1x1xf32>
  %w3 = arith.constant dense<3.0> : tensor<16x3x3xf32>
  %empty = tensor.empty() : tensor<1x16x6x6xf32>
  %init = linalg.fill ins(%zero : f32) outs(%empty : tensor<1x16x6x6xf32>) -> tensor<1x16x6x6xf32>
  // CHECK: %[[Y:.*]] = flow.dispatch.workgroups{{.*}}, tensor<2x1x1x1x8xf32>) -> tensor<1x2x8x8x8xf32>
  %y = linalg.depthwise_conv_2d_nchw_chw {dlas.layer = "conv"} ins(%x, %w : tensor<1x16x6x6xf32>, tensor<16x1x1xf32>) outs(%init : tensor<1x16x6x6xf32>) -> tensor<1x16x6x6xf32>
  %pad = tensor.pad %y low[0, 0, 1, 1] high[0, 0, 1, 1] {
  ^bb0(%a0: index, %a1: index, %a2: index, %a3: index):
    tensor.yield %lowest : f32
  } : tensor<1x16x6x6xf32> to tensor<1x16x8x8xf32>
  %zeros = tensor.pad %y low[0, 0, 1, 1] high[0, 0, 1, 1] {
  ^bb0(%a0: index, %a1: index, %a2: index, %a3: index):
    tensor.yield %zero : f32
  } : tensor<1x16x6x6xf32> to tensor<1x16x8x8xf32>
  %window = tensor.empty() : tensor<3x3xf32>
  %pooled = tensor.empty() : tensor<1x16x3x3xf32>
  %start = linalg.fill ins(%lowest : f32) outs(%pooled : tensor<1x16x3x3xf32>) -> tensor<1x16x3x3xf32>
  // CHECK: flow.dispatch.workgroups{{.*}}(%[[Y]]) : (tensor<1x2x8x8x8xf32>) -> tensor<1x2x3x3x8xf32>
  %max = linalg.pooling_nchw_max {dlas.layer = "max", strides = dense<2> : tensor<2xi64>, dilations = dense<1> : tensor<2xi64>} ins(%pad, %window : tensor<1x16x8x8xf32>, tensor<3x3xf32>) outs(%start : tensor<1x16x3x3xf32>) -> tensor<1x16x3x3xf32>
  // CHECK: %[[COPY:.*]] = flow.dispatch.workgroups{{.*}}(%[[Y]]) : (tensor<1x2x8x8x8xf32>) -> tensor<1x2x8x8x8xf32>
  // CHECK: flow.dispatch.workgroups{{.*}}(%[[COPY]], %{{.*}}) : (tensor<1x2x8x8x8xf32>, tensor<2x3x3x1x8xf32>)
  %z = linalg.depthwise_conv_2d_nchw_chw {dlas.layer = "next"} ins(%zeros, %w3 : tensor<1x16x8x8xf32>, tensor<16x3x3xf32>) outs(%init : tensor<1x16x6x6xf32>) -> tensor<1x16x6x6xf32>
  return %max, %z : tensor<1x16x3x3xf32>, tensor<1x16x6x6xf32>
}

// Global average pooling: the sum of each channel is a lane, and reshapes alone make [N, C, 1, 1] of it.
// CHECK-LABEL: func.func @global_average
func.func @global_average(%x: tensor<1x16x6x6xf32>) -> tensor<1x16x1x1xf32> {
  %zero = arith.constant 0.0 : f32
  %w = arith.constant dense<2.0> : tensor<16x1x1xf32>
  %empty = tensor.empty() : tensor<1x16x6x6xf32>
  %init = linalg.fill ins(%zero : f32) outs(%empty : tensor<1x16x6x6xf32>) -> tensor<1x16x6x6xf32>
  %y = linalg.depthwise_conv_2d_nchw_chw {dlas.layer = "conv"} ins(%x, %w : tensor<1x16x6x6xf32>, tensor<16x1x1xf32>) outs(%init : tensor<1x16x6x6xf32>) -> tensor<1x16x6x6xf32>
  %scalar = tensor.empty() : tensor<1x16x1x1xf32>
  %start = linalg.fill ins(%zero : f32) outs(%scalar : tensor<1x16x1x1xf32>) -> tensor<1x16x1x1xf32>
  // CHECK: %[[SUM:.*]] = flow.dispatch.workgroups{{.*}} : (tensor<1x2x6x6x8xf32>) -> tensor<1x2x8xf32>
  // CHECK: linalg.generic {{.*}}iterator_types = ["parallel", "parallel", "reduction", "reduction"]{{.*}}dlas.role = "root"
  // CHECK: %[[FLAT:.*]] = tensor.collapse_shape %[[SUM]] {{.*}} into tensor<1x16xf32>
  // CHECK: %[[RESULT:.*]] = tensor.expand_shape %[[FLAT]] {{.*}} into tensor<1x16x1x1xf32>
  // CHECK: return %[[RESULT]]
  %mean = linalg.generic {indexing_maps = [affine_map<(d0, d1, d2, d3) -> (d0, d1, d2, d3)>, affine_map<(d0, d1, d2, d3) -> (d0, d1, 0, 0)>], iterator_types = ["parallel", "parallel", "reduction", "reduction"]} ins(%y : tensor<1x16x6x6xf32>) outs(%start : tensor<1x16x1x1xf32>) attrs = {dlas.layer = "mean"} {
  ^bb0(%l: f32, %out: f32):
    %s = arith.addf %l, %out : f32
    linalg.yield %s : f32
  } -> tensor<1x16x1x1xf32>
  return %mean : tensor<1x16x1x1xf32>
}

// Pooling of a tensor that nothing has packed is not worth a pack.
// CHECK-LABEL: func.func @pooling_alone
// CHECK-NOT: flow.dispatch
// CHECK: linalg.pooling_nchw_max
func.func @pooling_alone(%x: tensor<1x16x6x6xf32>) -> tensor<1x16x4x4xf32> {
  %lowest = arith.constant 0xFF800000 : f32
  %window = tensor.empty() : tensor<3x3xf32>
  %pooled = tensor.empty() : tensor<1x16x4x4xf32>
  %start = linalg.fill ins(%lowest : f32) outs(%pooled : tensor<1x16x4x4xf32>) -> tensor<1x16x4x4xf32>
  %max = linalg.pooling_nchw_max {strides = dense<1> : tensor<2xi64>, dilations = dense<1> : tensor<2xi64>} ins(%x, %window : tensor<1x16x6x6xf32>, tensor<3x3xf32>) outs(%start : tensor<1x16x4x4xf32>) -> tensor<1x16x4x4xf32>
  return %max : tensor<1x16x4x4xf32>
}

// Which elementwise ops join the kernel of a convolution, and what they read there.
// RUN: dlas-opt %s --pass-pipeline='dlas-blocked-layout{lanes=8 registers=16}' --notes | FileCheck %s

// CHECK-NOT: refused
// CHECK-DAG: #[[ALL:map[0-9]*]] = affine_map<(d0, d1, d2, d3) -> (d0, d1, d2, d3)>
// CHECK-DAG: #[[LANES:map[0-9]*]] = affine_map<(d0, d1, d2, d3) -> (d0, d3)>

#id = affine_map<(d0, d1, d2, d3) -> (d0, d1, d2, d3)>
#plane = affine_map<(d0, d1, d2, d3) -> (d0, d1, 0, 0)>

// The shortcut of a residual is blocked already: the addition joins the last convolution and reads it through its halo.
// CHECK-LABEL: func.func @residual
func.func @residual(%x: tensor<1x16x6x6xf32>) -> tensor<1x16x6x6xf32> {
  %zero = arith.constant 0.0 : f32
  %w = arith.constant dense<2.0> : tensor<16x3x3xf32>
  %empty = tensor.empty() : tensor<1x16x6x6xf32>
  %init = linalg.fill ins(%zero : f32) outs(%empty : tensor<1x16x6x6xf32>) -> tensor<1x16x6x6xf32>
  %pad1 = tensor.pad %x low[0, 0, 1, 1] high[0, 0, 1, 1] {
  ^bb0(%a0: index, %a1: index, %a2: index, %a3: index):
    tensor.yield %zero : f32
  } : tensor<1x16x6x6xf32> to tensor<1x16x8x8xf32>
  // CHECK: %[[X:.*]] = flow.dispatch.workgroups{{.*}} -> tensor<1x2x8x8x8xf32>
  // CHECK: %[[A:.*]] = flow.dispatch.workgroups{{.*}}(%[[X]], %{{.*}}) : {{.*}} -> tensor<1x2x8x8x8xf32>
  %a = linalg.depthwise_conv_2d_nchw_chw {dlas.layer = "a"} ins(%pad1, %w : tensor<1x16x8x8xf32>, tensor<16x3x3xf32>) outs(%init : tensor<1x16x6x6xf32>) -> tensor<1x16x6x6xf32>
  %pad2 = tensor.pad %a low[0, 0, 1, 1] high[0, 0, 1, 1] {
  ^bb0(%a0: index, %a1: index, %a2: index, %a3: index):
    tensor.yield %zero : f32
  } : tensor<1x16x6x6xf32> to tensor<1x16x8x8xf32>
  %b = linalg.depthwise_conv_2d_nchw_chw {dlas.layer = "b"} ins(%pad2, %w : tensor<1x16x8x8xf32>, tensor<16x3x3xf32>) outs(%init : tensor<1x16x6x6xf32>) -> tensor<1x16x6x6xf32>
  // CHECK: %[[SUM:.*]] = flow.dispatch.workgroups{{.*}}(%[[A]], %{{.*}}, %[[A]]) : {{.*}} -> tensor<1x2x6x6x8xf32>
  // CHECK: dispatch.tensor.load %{{.*}}, offsets = [0, %{{.*}}, 1, 1, 0], sizes = [1, 1, 6, 6, 8]
  // CHECK: linalg.generic {{.*}}dlas.role = "root"
  // CHECK: linalg.generic {indexing_maps = [#[[ALL]], #[[ALL]], #[[ALL]]], {{.*}}dlas.role = "epilogue"
  // CHECK: arith.addf
  %sum = linalg.generic {indexing_maps = [#id, #id, #id], iterator_types = ["parallel", "parallel", "parallel", "parallel"]} ins(%a, %b : tensor<1x16x6x6xf32>, tensor<1x16x6x6xf32>) outs(%empty : tensor<1x16x6x6xf32>) {
  ^bb0(%l: f32, %r: f32, %out: f32):
    %s = arith.addf %l, %r : f32
    linalg.yield %s : f32
  } -> tensor<1x16x6x6xf32>
  // CHECK: flow.dispatch.workgroups{{.*}}(%[[SUM]]) : {{.*}} -> tensor<1x2x8x6x6xf32>
  return %sum : tensor<1x16x6x6xf32>
}

// A shortcut in NCHW is packed, and the addition fused: that costs less than a kernel of its own for the addition.
// CHECK-LABEL: func.func @plain_shortcut
func.func @plain_shortcut(%x: tensor<1x16x8x8xf32>, %shortcut: tensor<1x16x6x6xf32>) -> tensor<1x16x6x6xf32> {
  %zero = arith.constant 0.0 : f32
  %w = arith.constant dense<2.0> : tensor<16x3x3xf32>
  %empty = tensor.empty() : tensor<1x16x6x6xf32>
  %init = linalg.fill ins(%zero : f32) outs(%empty : tensor<1x16x6x6xf32>) -> tensor<1x16x6x6xf32>
  %a = linalg.depthwise_conv_2d_nchw_chw {dlas.layer = "a"} ins(%x, %w : tensor<1x16x8x8xf32>, tensor<16x3x3xf32>) outs(%init : tensor<1x16x6x6xf32>) -> tensor<1x16x6x6xf32>
  // CHECK: %[[SPLIT:.*]] = tensor.expand_shape %arg1
  // CHECK: %[[SHORTCUT:.*]] = flow.dispatch.workgroups{{.*}}(%[[SPLIT]]) : {{.*}} -> tensor<1x2x6x6x8xf32>
  // CHECK: flow.dispatch.workgroups{{.*}}(%{{.*}}, %{{.*}}, %[[SHORTCUT]]) : {{.*}} -> tensor<1x2x6x6x8xf32>
  // CHECK: linalg.generic {{.*}}dlas.role = "root"
  // CHECK: linalg.generic {{.*}}dlas.role = "epilogue"
  // CHECK: arith.addf
  %sum = linalg.generic {indexing_maps = [#id, #id, #id], iterator_types = ["parallel", "parallel", "parallel", "parallel"]} ins(%a, %shortcut : tensor<1x16x6x6xf32>, tensor<1x16x6x6xf32>) outs(%empty : tensor<1x16x6x6xf32>) {
  ^bb0(%l: f32, %r: f32, %out: f32):
    %s = arith.addf %l, %r : f32
    linalg.yield %s : f32
  } -> tensor<1x16x6x6xf32>
  return %sum : tensor<1x16x6x6xf32>
}

// Squeeze and excite: the factor per channel, [N, C, 1, 1], is read as one vector per block.
// CHECK-LABEL: func.func @excite
func.func @excite(%x: tensor<1x16x8x8xf32>, %factor: tensor<1x16x1x1xf32>) -> tensor<1x16x6x6xf32> {
  %zero = arith.constant 0.0 : f32
  %w = arith.constant dense<2.0> : tensor<16x3x3xf32>
  %empty = tensor.empty() : tensor<1x16x6x6xf32>
  %init = linalg.fill ins(%zero : f32) outs(%empty : tensor<1x16x6x6xf32>) -> tensor<1x16x6x6xf32>
  // CHECK: %[[FLAT:.*]] = tensor.collapse_shape %arg1
  // CHECK: %[[BLOCKS:.*]] = tensor.expand_shape %[[FLAT]] {{.*}} : tensor<1x16xf32> into tensor<1x2x8xf32>
  // CHECK: flow.dispatch.workgroups{{.*}}(%{{.*}}, %{{.*}}, %[[BLOCKS]]) : (tensor<1x2x8x8x8xf32>, tensor<2x3x3x1x8xf32>, tensor<1x2x8xf32>) -> tensor<1x2x6x6x8xf32>
  // CHECK: linalg.generic {indexing_maps = [#[[LANES]], #[[ALL]], #[[ALL]]], {{.*}}dlas.role = "epilogue"
  // CHECK: arith.mulf
  %a = linalg.depthwise_conv_2d_nchw_chw {dlas.layer = "a"} ins(%x, %w : tensor<1x16x8x8xf32>, tensor<16x3x3xf32>) outs(%init : tensor<1x16x6x6xf32>) -> tensor<1x16x6x6xf32>
  %y = linalg.generic {indexing_maps = [#id, #plane, #id], iterator_types = ["parallel", "parallel", "parallel", "parallel"]} ins(%a, %factor : tensor<1x16x6x6xf32>, tensor<1x16x1x1xf32>) outs(%empty : tensor<1x16x6x6xf32>) {
  ^bb0(%l: f32, %r: f32, %out: f32):
    %s = arith.mulf %l, %r : f32
    linalg.yield %s : f32
  } -> tensor<1x16x6x6xf32>
  return %y : tensor<1x16x6x6xf32>
}

// A value that is needed beside what is made of it is a second result of the same kernel.
// CHECK-LABEL: func.func @two_results
func.func @two_results(%x: tensor<1x16x8x8xf32>) -> (tensor<1x16x6x6xf32>, tensor<1x16x6x6xf32>) {
  %zero = arith.constant 0.0 : f32
  %w = arith.constant dense<2.0> : tensor<16x3x3xf32>
  %empty = tensor.empty() : tensor<1x16x6x6xf32>
  %init = linalg.fill ins(%zero : f32) outs(%empty : tensor<1x16x6x6xf32>) -> tensor<1x16x6x6xf32>
  %a = linalg.depthwise_conv_2d_nchw_chw {dlas.layer = "a"} ins(%x, %w : tensor<1x16x8x8xf32>, tensor<16x3x3xf32>) outs(%init : tensor<1x16x6x6xf32>) -> tensor<1x16x6x6xf32>
  // CHECK: flow.dispatch.workgroups{{.*}} -> (tensor<1x2x6x6x8xf32>, tensor<1x2x6x6x8xf32>)
  // CHECK: arith.maximumf
  // CHECK-NEXT: linalg.yield %{{.*}}, %{{.*}} : f32, f32
  %relu = linalg.generic {indexing_maps = [#id, #id], iterator_types = ["parallel", "parallel", "parallel", "parallel"]} ins(%a : tensor<1x16x6x6xf32>) outs(%empty : tensor<1x16x6x6xf32>) {
  ^bb0(%l: f32, %out: f32):
    %s = arith.maximumf %l, %zero : f32
    linalg.yield %s : f32
  } -> tensor<1x16x6x6xf32>
  return %a, %relu : tensor<1x16x6x6xf32>, tensor<1x16x6x6xf32>
}

// An op between two convolutions that this pass does not know (here a transpose of rows and columns) stands in NCHW.
// CHECK-LABEL: func.func @outside
func.func @outside(%x: tensor<1x16x6x6xf32>) -> tensor<1x16x6x6xf32> {
  %zero = arith.constant 0.0 : f32
  %w = arith.constant dense<2.0> : tensor<16x1x1xf32>
  %empty = tensor.empty() : tensor<1x16x6x6xf32>
  %init = linalg.fill ins(%zero : f32) outs(%empty : tensor<1x16x6x6xf32>) -> tensor<1x16x6x6xf32>
  // CHECK: flow.dispatch.workgroups{{.*}} : (tensor<1x2x8x6x6xf32>) -> tensor<1x2x6x6x8xf32>
  // CHECK: flow.dispatch.workgroups{{.*}} -> tensor<1x2x6x6x8xf32>
  // CHECK: flow.dispatch.workgroups{{.*}} : (tensor<1x2x6x6x8xf32>) -> tensor<1x2x8x6x6xf32>
  // CHECK: linalg.transpose
  // CHECK: flow.dispatch.workgroups{{.*}} : (tensor<1x2x8x6x6xf32>) -> tensor<1x2x6x6x8xf32>
  %a = linalg.depthwise_conv_2d_nchw_chw {dlas.layer = "a"} ins(%x, %w : tensor<1x16x6x6xf32>, tensor<16x1x1xf32>) outs(%init : tensor<1x16x6x6xf32>) -> tensor<1x16x6x6xf32>
  %turned = tensor.empty() : tensor<1x16x6x6xf32>
  %joined = linalg.transpose ins(%a : tensor<1x16x6x6xf32>) outs(%turned : tensor<1x16x6x6xf32>) permutation = [0, 1, 3, 2]
  %b = linalg.depthwise_conv_2d_nchw_chw {dlas.layer = "b"} ins(%joined, %w : tensor<1x16x6x6xf32>, tensor<16x1x1xf32>) outs(%init : tensor<1x16x6x6xf32>) -> tensor<1x16x6x6xf32>
  return %b : tensor<1x16x6x6xf32>
}

// 12 channels: an epilogue may make anything of the 4 lanes that stand for nothing, so they are set to zero after it.
// CHECK-LABEL: func.func @partial_block
func.func @partial_block(%x: tensor<1x12x6x6xf32>) -> tensor<1x12x6x6xf32> {
  %zero = arith.constant 0.0 : f32
  %one = arith.constant 1.0 : f32
  %w = arith.constant dense<2.0> : tensor<12x1x1xf32>
  %empty = tensor.empty() : tensor<1x12x6x6xf32>
  %init = linalg.fill ins(%zero : f32) outs(%empty : tensor<1x12x6x6xf32>) -> tensor<1x12x6x6xf32>
  // CHECK: %[[MASK:.*]] = arith.constant dense<{{\[\[}}1.000000e+00, {{.*}}, 0.000000e+00]]> : tensor<2x8xf32>
  // CHECK: flow.dispatch.workgroups{{.*}}%[[MASK]]
  // CHECK: linalg.generic {{.*}}dlas.role = "epilogue"
  // CHECK: %[[QUOTIENT:.*]] = arith.divf
  // CHECK: %[[RESULT:.*]] = arith.select %{{.*}}, %[[QUOTIENT]], %{{.*}} : f32
  // CHECK: linalg.yield %[[RESULT]]
  %a = linalg.depthwise_conv_2d_nchw_chw {dlas.layer = "a"} ins(%x, %w : tensor<1x12x6x6xf32>, tensor<12x1x1xf32>) outs(%init : tensor<1x12x6x6xf32>) -> tensor<1x12x6x6xf32>
  %y = linalg.generic {indexing_maps = [#id, #id], iterator_types = ["parallel", "parallel", "parallel", "parallel"]} ins(%a : tensor<1x12x6x6xf32>) outs(%empty : tensor<1x12x6x6xf32>) {
  ^bb0(%l: f32, %out: f32):
    %s = arith.divf %one, %l : f32
    linalg.yield %s : f32
  } -> tensor<1x12x6x6xf32>
  return %y : tensor<1x12x6x6xf32>
}

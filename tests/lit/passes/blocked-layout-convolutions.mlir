// What becomes of each kind of convolution: its schedule, the index map of its kernel, and its workgroups.
// RUN: dlas-opt %s --pass-pipeline='dlas-blocked-layout{lanes=8 registers=16 winograd=0}' --notes --elide 8 | FileCheck %s

// CHECK-DAG: done: depthwise: depthwise: lane_conv{{.*}}: depthwise: lanes on channels
// CHECK-DAG: done: groups_of_four: grouped: lane_conv{{.*}}: 4 channels per group: lanes on channels
// CHECK-DAG: done: groups_of_four_to_eight: grouped: packed_conv{{.*}}merge=2}: {{.*}}, 2 groups of 4 channels merged
// CHECK-DAG: done: pointwise: pointwise: packed_conv{
// CHECK-DAG: done: stride: conv: packed_conv{
// CHECK-DAG: done: dilation: conv: packed_conv{
// CHECK-DAG: done: batch: depthwise: lane_conv{
// CHECK-DAG: done: partial_block: pointwise: packed_conv{
// CHECK-DAG: done: stem: conv: packed_conv{{.*}}direct=1}: {{.*}}, input read in NCHW

// A lane reads its own lane, or the lanes of its group of four.
// CHECK-DAG: #[[OWN_LANE:map[0-9]*]] = affine_map<(d0, d1, d2, d3, d4, d5, d6) -> (d0, d1 + d4, d2 + d5, d3)>
// CHECK-DAG: #[[FOUR_LANES:map[0-9]*]] = affine_map<(d0, d1, d2, d3, d4, d5, d6) -> (d0, d1 + d4, d2 + d5, (d3 floordiv 4) * 4 + d6)>
// CHECK-DAG: #[[STRIDE:map[0-9]*]] = affine_map<(d0, d1, d2, d3, d4, d5, d6) -> (d1 * 2 + d4, d2 + d5, d6)>
// CHECK-DAG: #[[DILATION:map[0-9]*]] = affine_map<(d0, d1, d2, d3, d4, d5, d6) -> (d1 + d4 * 2, d2 + d5, d6)>
// CHECK-DAG: #[[POINT:map[0-9]*]] = affine_map<(d0, d1, d2, d3, d4, d5) -> (d4, d1, d2, d5)>
// CHECK-DAG: #[[STEM:map[0-9]*]] = affine_map<(d0, d1, d2, d3, d4, d5, d6) -> (d6, d1 + d4, d2 + d5)>
// CHECK-DAG: #[[IMAGE:map[0-9]*]] = affine_map<(d0) -> (d0 floordiv 2)>
// CHECK-DAG: #[[TILE:map[0-9]*]] = affine_map<(d0) -> (d0 mod 2)>

// CHECK-LABEL: func.func @depthwise
func.func @depthwise(%x: tensor<1x16x6x6xf32>) -> tensor<1x16x4x4xf32> {
  %zero = arith.constant 0.0 : f32
  %w = arith.constant dense<2.0> : tensor<16x3x3xf32>
  %empty = tensor.empty() : tensor<1x16x4x4xf32>
  %init = linalg.fill ins(%zero : f32) outs(%empty : tensor<1x16x4x4xf32>) -> tensor<1x16x4x4xf32>
  // CHECK: flow.dispatch.workgroups{{.*}} (tensor<1x2x6x6x8xf32>, tensor<2x3x3x1x8xf32>) -> tensor<1x2x4x4x8xf32>
  // CHECK: linalg.generic {indexing_maps = [#[[OWN_LANE]], {{.*}}dlas.lanes = array<i64: 1, 1, 1>
  %y = linalg.depthwise_conv_2d_nchw_chw {dlas.layer = "depthwise"} ins(%x, %w : tensor<1x16x6x6xf32>, tensor<16x3x3xf32>) outs(%init : tensor<1x16x4x4xf32>) -> tensor<1x16x4x4xf32>
  return %y : tensor<1x16x4x4xf32>
}

// CHECK-LABEL: func.func @groups_of_four
func.func @groups_of_four(%x: tensor<1x16x6x6xf32>) -> tensor<1x16x4x4xf32> {
  %zero = arith.constant 0.0 : f32
  %w = arith.constant dense<2.0> : tensor<4x4x4x3x3xf32>
  %empty = tensor.empty() : tensor<1x4x4x4x4xf32>
  %init = linalg.fill ins(%zero : f32) outs(%empty : tensor<1x4x4x4x4xf32>) -> tensor<1x4x4x4x4xf32>
  %groups = tensor.expand_shape %x [[0], [1, 2], [3], [4]] output_shape [1, 4, 4, 6, 6] : tensor<1x16x6x6xf32> into tensor<1x4x4x6x6xf32>
  // CHECK: flow.dispatch.workgroups{{.*}} (tensor<1x2x6x6x8xf32>, tensor<2x3x3x4x8xf32>) -> tensor<1x2x4x4x8xf32>
  // CHECK: linalg.generic {indexing_maps = [#[[FOUR_LANES]], {{.*}}dlas.lanes = array<i64: 1, 1, 4>
  %conv = linalg.conv_2d_ngchw_gfchw {dlas.layer = "groups_of_four"} ins(%groups, %w : tensor<1x4x4x6x6xf32>, tensor<4x4x4x3x3xf32>) outs(%init : tensor<1x4x4x4x4xf32>) -> tensor<1x4x4x4x4xf32>
  %y = tensor.collapse_shape %conv [[0], [1, 2], [3], [4]] : tensor<1x4x4x4x4xf32> into tensor<1x16x4x4xf32>
  return %y : tensor<1x16x4x4xf32>
}

// Groups whose channels in and out differ do not fit the lanes: two of them make one block, with zeros in between.
// CHECK-LABEL: func.func @groups_of_four_to_eight
func.func @groups_of_four_to_eight(%x: tensor<1x16x6x6xf32>) -> tensor<1x32x4x4xf32> {
  %zero = arith.constant 0.0 : f32
  %w = arith.constant dense<2.0> : tensor<4x8x4x3x3xf32>
  %empty = tensor.empty() : tensor<1x4x8x4x4xf32>
  %init = linalg.fill ins(%zero : f32) outs(%empty : tensor<1x4x8x4x4xf32>) -> tensor<1x4x8x4x4xf32>
  %groups = tensor.expand_shape %x [[0], [1, 2], [3], [4]] output_shape [1, 4, 4, 6, 6] : tensor<1x16x6x6xf32> into tensor<1x4x4x6x6xf32>
  // CHECK: arith.constant dense_resource<__elided__> : tensor<{{2x1x3x3x8x2x8|4x1x3x3x8x1x8}}xf32>
  // CHECK: flow.dispatch.workgroups{{.*}} (tensor<1x2x6x6x8xf32>, {{.*}}) -> tensor<1x4x4x4x8xf32>
  %conv = linalg.conv_2d_ngchw_gfchw {dlas.layer = "groups_of_four_to_eight"} ins(%groups, %w : tensor<1x4x4x6x6xf32>, tensor<4x8x4x3x3xf32>) outs(%init : tensor<1x4x8x4x4xf32>) -> tensor<1x4x8x4x4xf32>
  %y = tensor.collapse_shape %conv [[0], [1, 2], [3], [4]] : tensor<1x4x8x4x4xf32> into tensor<1x32x4x4xf32>
  return %y : tensor<1x32x4x4xf32>
}

// A kernel of 1x1 has no loops over rows and columns: channel blocks and the channels of a block are left.
// CHECK-LABEL: func.func @pointwise
func.func @pointwise(%x: tensor<1x16x6x6xf32>) -> tensor<1x32x6x6xf32> {
  %zero = arith.constant 0.0 : f32
  %w = arith.constant dense<2.0> : tensor<32x16x1x1xf32>
  %empty = tensor.empty() : tensor<1x32x6x6xf32>
  %init = linalg.fill ins(%zero : f32) outs(%empty : tensor<1x32x6x6xf32>) -> tensor<1x32x6x6xf32>
  // CHECK: linalg.generic {indexing_maps = [#[[POINT]], {{.*}}iterator_types = ["parallel", "parallel", "parallel", "parallel", "reduction", "reduction"]{{.*}}dlas.role = "root"
  %y = linalg.conv_2d_nchw_fchw {dlas.layer = "pointwise"} ins(%x, %w : tensor<1x16x6x6xf32>, tensor<32x16x1x1xf32>) outs(%init : tensor<1x32x6x6xf32>) -> tensor<1x32x6x6xf32>
  return %y : tensor<1x32x6x6xf32>
}

// CHECK-LABEL: func.func @stride
func.func @stride(%x: tensor<1x8x7x6xf32>) -> tensor<1x8x3x4xf32> {
  %zero = arith.constant 0.0 : f32
  %w = arith.constant dense<2.0> : tensor<8x8x3x3xf32>
  %empty = tensor.empty() : tensor<1x8x3x4xf32>
  %init = linalg.fill ins(%zero : f32) outs(%empty : tensor<1x8x3x4xf32>) -> tensor<1x8x3x4xf32>
  // CHECK: linalg.generic {indexing_maps = [#[[STRIDE]],
  %y = linalg.conv_2d_nchw_fchw {dlas.layer = "stride", strides = dense<[2, 1]> : tensor<2xi64>} ins(%x, %w : tensor<1x8x7x6xf32>, tensor<8x8x3x3xf32>) outs(%init : tensor<1x8x3x4xf32>) -> tensor<1x8x3x4xf32>
  return %y : tensor<1x8x3x4xf32>
}

// CHECK-LABEL: func.func @dilation
func.func @dilation(%x: tensor<1x8x7x6xf32>) -> tensor<1x8x3x4xf32> {
  %zero = arith.constant 0.0 : f32
  %w = arith.constant dense<2.0> : tensor<8x8x3x3xf32>
  %empty = tensor.empty() : tensor<1x8x3x4xf32>
  %init = linalg.fill ins(%zero : f32) outs(%empty : tensor<1x8x3x4xf32>) -> tensor<1x8x3x4xf32>
  // CHECK: linalg.generic {indexing_maps = [#[[DILATION]],
  %y = linalg.conv_2d_nchw_fchw {dlas.layer = "dilation", dilations = dense<[2, 1]> : tensor<2xi64>} ins(%x, %w : tensor<1x8x7x6xf32>, tensor<8x8x3x3xf32>) outs(%init : tensor<1x8x3x4xf32>) -> tensor<1x8x3x4xf32>
  return %y : tensor<1x8x3x4xf32>
}

// The tiles of two images follow one another: a tile's number gives the image and the tile within it. So little work is
// one workgroup's.
// CHECK-LABEL: func.func @batch
func.func @batch(%x: tensor<2x16x6x6xf32>) -> tensor<2x16x4x4xf32> {
  %zero = arith.constant 0.0 : f32
  %w = arith.constant dense<2.0> : tensor<16x3x3xf32>
  %empty = tensor.empty() : tensor<2x16x4x4xf32>
  %init = linalg.fill ins(%zero : f32) outs(%empty : tensor<2x16x4x4xf32>) -> tensor<2x16x4x4xf32>
  // CHECK: flow.dispatch.workgroups{{.*}} (tensor<2x2x6x6x8xf32>, tensor<2x3x3x1x8xf32>) -> tensor<2x2x4x4x8xf32>
  // CHECK: scf.for %[[NUMBER:.*]] = %c0 to %c4
  // CHECK: %[[GROUP:.*]] = affine.apply {{.*}}(%{{.*}}, %[[NUMBER]])
  // CHECK-DAG: %[[N:.*]] = affine.apply #[[IMAGE]](%[[GROUP]])
  // CHECK-DAG: %[[C:.*]] = affine.apply #[[TILE]](%[[GROUP]])
  // CHECK: dispatch.tensor.load {{.*}} offsets = [%[[N]],
  %y = linalg.depthwise_conv_2d_nchw_chw {dlas.layer = "batch"} ins(%x, %w : tensor<2x16x6x6xf32>, tensor<16x3x3xf32>) outs(%init : tensor<2x16x4x4xf32>) -> tensor<2x16x4x4xf32>
  return %y : tensor<2x16x4x4xf32>
}

// Channels that do not fill the last block are zeros in it on the way in, and are cut off on the way out.
// CHECK-LABEL: func.func @partial_block
func.func @partial_block(%x: tensor<1x12x6x6xf32>) -> tensor<1x20x6x6xf32> {
  %zero = arith.constant 0.0 : f32
  %w = arith.constant dense<2.0> : tensor<20x12x1x1xf32>
  %empty = tensor.empty() : tensor<1x20x6x6xf32>
  %init = linalg.fill ins(%zero : f32) outs(%empty : tensor<1x20x6x6xf32>) -> tensor<1x20x6x6xf32>
  // CHECK: tensor.pad %arg0 low[0, 0, 0, 0] high[0, 4, 0, 0]
  // CHECK: flow.dispatch.workgroups{{.*}} (tensor<1x2x6x6x8xf32>, {{.*}}) -> tensor<1x3x6x6x8xf32>
  // CHECK: tensor.extract_slice {{.*}}[0, 0, 0, 0] [1, 20, 6, 6] [1, 1, 1, 1] : tensor<1x24x6x6xf32> to tensor<1x20x6x6xf32>
  %y = linalg.conv_2d_nchw_fchw {dlas.layer = "partial_block"} ins(%x, %w : tensor<1x12x6x6xf32>, tensor<20x12x1x1xf32>) outs(%init : tensor<1x20x6x6xf32>) -> tensor<1x20x6x6xf32>
  return %y : tensor<1x20x6x6xf32>
}

// An image of three channels is broadcast from where it is: padded, but not packed.
// CHECK-LABEL: func.func @stem
func.func @stem(%x: tensor<1x3x6x6xf32>) -> tensor<1x8x6x6xf32> {
  %zero = arith.constant 0.0 : f32
  %w = arith.constant dense<2.0> : tensor<8x3x3x3xf32>
  %empty = tensor.empty() : tensor<1x8x6x6xf32>
  %init = linalg.fill ins(%zero : f32) outs(%empty : tensor<1x8x6x6xf32>) -> tensor<1x8x6x6xf32>
  %pad = tensor.pad %x low[0, 0, 1, 1] high[0, 0, 1, 1] {
  ^bb0(%a0: index, %a1: index, %a2: index, %a3: index):
    tensor.yield %zero : f32
  } : tensor<1x3x6x6xf32> to tensor<1x3x8x8xf32>
  // CHECK-NOT: tensor.pad
  // CHECK: %[[PAD:.*]] = flow.dispatch.workgroups[%{{.*}}](%arg0) : (tensor<1x3x6x6xf32>) -> tensor<1x3x8x8xf32>
  // CHECK: flow.dispatch.workgroups[%{{.*}}](%[[PAD]], %{{.*}}) : (tensor<1x3x8x8xf32>, tensor<1x1x3x3x3x1x8xf32>) -> tensor<1x1x6x6x8xf32>
  // CHECK: linalg.generic {indexing_maps = [#[[STEM]],
  %y = linalg.conv_2d_nchw_fchw {dlas.layer = "stem"} ins(%pad, %w : tensor<1x3x8x8xf32>, tensor<8x3x3x3xf32>) outs(%init : tensor<1x8x6x6xf32>) -> tensor<1x8x6x6xf32>
  return %y : tensor<1x8x6x6xf32>
}

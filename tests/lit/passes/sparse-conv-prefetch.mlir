// Rows of the CSR prefetch the lines of a later tile, each its share, into the level-2 cache: knob `prefetch` of variant
// `tile`. The tile is read as a buffer, which bufferisation finds to be the binding's own.
// RUN: dlas-opt %s --pass-pipeline='dlas-blocked-layout{lanes=8 registers=16}' --notes | FileCheck %s

// CHECK-DAG: done: one: sparse: sparse_conv{accumulators=4 channels=4 k_w=2 prefetch=1 tile=1}: asked for by the transform
// CHECK-DAG: done: two: sparse: sparse_conv{accumulators=4 channels=4 k_w=2 prefetch=3 tile=1}: asked for by the transform
// CHECK-DAG: done: none: sparse: sparse_conv{accumulators=4 channels=4 k_w=2 tile=1}: asked for by the transform

// 8 tiles of 32 pixels. A tile of 4 channels has 8 lines, and each of the 2 rows asks for 4 of them.
// CHECK-DAG: #[[NEXT:.*]] = affine_map<(d0) -> (d0 + 1, 7)>
// CHECK-DAG: #[[LINE0:.*]] = affine_map<(d0) -> (d0 * 64, 127)>
// CHECK-DAG: #[[LINE1:.*]] = affine_map<(d0) -> (d0 * 64 + 16, 127)>
// CHECK-DAG: #[[LINE2:.*]] = affine_map<(d0) -> (d0 * 64 + 32, 127)>
// CHECK-DAG: #[[LINE3:.*]] = affine_map<(d0) -> (d0 * 64 + 48, 127)>

// CHECK-LABEL: func.func @one_image
// CHECK: flow.dispatch.workgroups{{.*}} -> tensor<1x8x4x32xf32>
// CHECK: flow.dispatch.workgroups{{.*}} -> tensor<1x2x256xf32>
// CHECK: %[[TILE:.*]] = affine.min #[[NEXT]](
// CHECK: %[[LATER:.*]] = iree_tensor_ext.dispatch.tensor.load {{.*}}, offsets = [0, %[[TILE]], 0], sizes = [1, 1, 128]
// CHECK: %[[BUFFER:.*]] = bufferization.to_buffer %[[LATER]] read_only : tensor<128xf32> to memref<128xf32, strided<[1], offset: ?>>
// CHECK: scf.for
// CHECK: %[[ROW:.*]] = affine.apply
// CHECK: %[[P0:.*]] = affine.min #[[LINE0]](%[[ROW]])
// CHECK: memref.prefetch %[[BUFFER]][%[[P0]]], read, locality<2>, data
// CHECK: affine.min #[[LINE1]](%[[ROW]])
// CHECK: memref.prefetch
// CHECK: affine.min #[[LINE2]](%[[ROW]])
// CHECK: memref.prefetch
// CHECK: affine.min #[[LINE3]](%[[ROW]])
// CHECK: memref.prefetch
// CHECK-NOT: memref.prefetch
// CHECK: scf.for {{.*}} -> (vector<8xf32>
func.func @one_image(%x: tensor<1x4x16x16xf32>) -> tensor<1x2x16x16xf32> {
  %zero = arith.constant 0.0 : f32
  %w = arith.constant dense<[[[[2.0]], [[0.0]], [[0.0]], [[3.0]]], [[[0.0]], [[5.0]], [[0.0]], [[0.0]]]]> : tensor<2x4x1x1xf32>
  %empty = tensor.empty() : tensor<1x2x16x16xf32>
  %init = linalg.fill ins(%zero : f32) outs(%empty : tensor<1x2x16x16xf32>) -> tensor<1x2x16x16xf32>
  %y = linalg.conv_2d_nchw_fchw {dlas.layer = "one", dlas.sparse = "any", dlas.knobs = {schedule = "sparse_conv", variant = "tile", accumulators = 4, prefetch = 1}} ins(%x, %w : tensor<1x4x16x16xf32>, tensor<2x4x1x1xf32>) outs(%init : tensor<1x2x16x16xf32>) -> tensor<1x2x16x16xf32>
  return %y : tensor<1x2x16x16xf32>
}

// Behind the tiles of an image are those of the next. Without a variant, that is `tile`.
// CHECK-LABEL: func.func @two_images
// CHECK: flow.dispatch.workgroups{{.*}} -> tensor<2x2x256xf32>
// CHECK: %[[NUMBER:.*]] = affine.min
// CHECK: %[[IMAGE:.*]] = affine.apply {{.*}}(%[[NUMBER]])
// CHECK: %[[TILE:.*]] = affine.apply {{.*}}(%[[NUMBER]])
// CHECK: iree_tensor_ext.dispatch.tensor.load {{.*}}, offsets = [%[[IMAGE]], %[[TILE]], 0], sizes = [1, 1, 128]
// CHECK: memref.prefetch
func.func @two_images(%x: tensor<2x4x16x16xf32>) -> tensor<2x2x16x16xf32> {
  %zero = arith.constant 0.0 : f32
  %w = arith.constant dense<[[[[2.0]], [[0.0]], [[0.0]], [[3.0]]], [[[0.0]], [[5.0]], [[0.0]], [[0.0]]]]> : tensor<2x4x1x1xf32>
  %empty = tensor.empty() : tensor<2x2x16x16xf32>
  %init = linalg.fill ins(%zero : f32) outs(%empty : tensor<2x2x16x16xf32>) -> tensor<2x2x16x16xf32>
  %y = linalg.conv_2d_nchw_fchw {dlas.layer = "two", dlas.sparse = "any", dlas.knobs = {schedule = "sparse_conv", accumulators = 4, prefetch = 3}} ins(%x, %w : tensor<2x4x16x16xf32>, tensor<2x4x1x1xf32>) outs(%init : tensor<2x2x16x16xf32>) -> tensor<2x2x16x16xf32>
  return %y : tensor<2x2x16x16xf32>
}

// CHECK-LABEL: func.func @unasked
// CHECK-NOT: memref.prefetch
func.func @unasked(%x: tensor<1x4x16x16xf32>) -> tensor<1x2x16x16xf32> {
  %zero = arith.constant 0.0 : f32
  %w = arith.constant dense<[[[[2.0]], [[0.0]], [[0.0]], [[3.0]]], [[[0.0]], [[5.0]], [[0.0]], [[0.0]]]]> : tensor<2x4x1x1xf32>
  %empty = tensor.empty() : tensor<1x2x16x16xf32>
  %init = linalg.fill ins(%zero : f32) outs(%empty : tensor<1x2x16x16xf32>) -> tensor<1x2x16x16xf32>
  %y = linalg.conv_2d_nchw_fchw {dlas.layer = "none", dlas.sparse = "any", dlas.knobs = {schedule = "sparse_conv", variant = "tile", accumulators = 4, prefetch = 0}} ins(%x, %w : tensor<1x4x16x16xf32>, tensor<2x4x1x1xf32>) outs(%init : tensor<1x2x16x16xf32>) -> tensor<1x2x16x16xf32>
  return %y : tensor<1x2x16x16xf32>
}

// The tile of a lane kernel (one row of pixels, one row of the window) becomes one load per input pixel, a shuffle per
// channel of a group, and one FMA per pixel and tap. What the maps and dlas.lanes = [stride, dilation, channels per
// group] say is unrolled: no loop and no linalg op is left.
// RUN: dlas-opt %s --pass-pipeline='dlas-lower-lanes,canonicalize,cse' --notes | FileCheck %s

// CHECK: // dlas-lower-lanes: done: depthwise: 1 lane ops
// CHECK: // dlas-lower-lanes: done: strided: 1 lane ops
// CHECK: // dlas-lower-lanes: done: pairs: 1 lane ops
// CHECK: // dlas-lower-lanes: done: whole_block: 1 lane ops
// CHECK: // dlas-lower-lanes: done: maximum: 1 lane ops
// CHECK-NOT: // dlas

#x = affine_map<(k, h, w, o, y, x, i) -> (k, h + y, w + x, o)>
#strided = affine_map<(k, h, w, o, y, x, i) -> (k, h + y, w * 2 + x * 2, o)>
#pairs = affine_map<(k, h, w, o, y, x, i) -> (k, h + y, w + x, (o floordiv 2) * 2 + i)>
#whole = affine_map<(k, h, w, o, y, x, i) -> (k, h + y, w + x, (o floordiv 8) * 8 + i)>
#weights = affine_map<(k, h, w, o, y, x, i) -> (k, y, x, i, o)>
#out = affine_map<(k, h, w, o, y, x, i) -> (k, h, w, o)>
#pool_x = affine_map<(k, h, w, o, y, x) -> (k, h + y, w + x, o)>
#pool_window = affine_map<(k, h, w, o, y, x) -> (y, x)>
#pool_out = affine_map<(k, h, w, o, y, x) -> (k, h, w, o)>

// Two pixels and three taps read four columns; the two in the middle serve both pixels.
// CHECK-LABEL: func.func @depthwise
// CHECK-SAME: (%[[X:.*]]: tensor<1x1x4x8xf32>, %[[W:.*]]: tensor<1x1x3x1x8xf32>, %[[OUT:.*]]: tensor<1x1x2x8xf32>)
// CHECK-NOT: linalg
// CHECK: %[[ACC0:.*]] = vector.transfer_read %[[OUT]]
// CHECK-NEXT: %[[ACC1:.*]] = vector.transfer_read %[[OUT]]
// CHECK: %[[W0:.*]] = vector.transfer_read %[[W]]
// CHECK: %[[W1:.*]] = vector.transfer_read %[[W]]
// CHECK: %[[W2:.*]] = vector.transfer_read %[[W]]
// CHECK-NOT: vector.shuffle
// CHECK: %[[X0:.*]] = vector.transfer_read %[[X]]
// CHECK: %[[A:.*]] = vector.fma %[[X0]], %[[W0]], %[[ACC0]]
// CHECK: %[[X1:.*]] = vector.transfer_read %[[X]]
// CHECK: %[[B:.*]] = vector.fma %[[X1]], %[[W0]], %[[ACC1]]
// CHECK: %[[C:.*]] = vector.fma %[[X1]], %[[W1]], %[[A]]
// CHECK: %[[X2:.*]] = vector.transfer_read %[[X]]
// CHECK: %[[D:.*]] = vector.fma %[[X2]], %[[W1]], %[[B]]
// CHECK: %[[E:.*]] = vector.fma %[[X2]], %[[W2]], %[[C]]
// CHECK: %[[X3:.*]] = vector.transfer_read %[[X]]
// CHECK-NEXT: %[[F:.*]] = vector.fma %[[X3]], %[[W2]], %[[D]]
// CHECK-NOT: vector.transfer_read
// CHECK: vector.transfer_write %[[E]]
// CHECK: vector.transfer_write %[[F]]
func.func @depthwise(%x: tensor<1x1x4x8xf32>, %w: tensor<1x1x3x1x8xf32>, %out: tensor<1x1x2x8xf32>) -> tensor<1x1x2x8xf32> {
  %y = linalg.generic {indexing_maps = [#x, #weights, #out], iterator_types = ["parallel", "parallel", "parallel", "parallel", "reduction", "reduction", "reduction"]} ins(%x, %w : tensor<1x1x4x8xf32>, tensor<1x1x3x1x8xf32>) outs(%out : tensor<1x1x2x8xf32>) attrs = {dlas.layer = "depthwise", dlas.lanes = array<i64: 1, 1, 1>} {
  ^bb0(%a: f32, %b: f32, %c: f32):
    %p = arith.mulf %a, %b : f32
    %s = arith.addf %c, %p : f32
    linalg.yield %s : f32
  } -> tensor<1x1x2x8xf32>
  return %y : tensor<1x1x2x8xf32>
}

// With stride 2 and dilation 2 the second tap of a pixel is the first of the next: column 1 is never read.
// CHECK-LABEL: func.func @strided
// CHECK: vector.transfer_read %arg0[%c0, %c0, %c0, %c0]
// CHECK-NEXT: vector.fma
// CHECK-NEXT: vector.transfer_read %arg0[%c0, %c0, %c2, %c0]
// CHECK-NEXT: vector.fma
// CHECK-NEXT: vector.fma
// CHECK-NEXT: vector.transfer_read %arg0[%c0, %c0, %c4, %c0]
// CHECK-NEXT: vector.fma
// CHECK-NEXT: vector.transfer_write
func.func @strided(%x: tensor<1x1x5x8xf32>, %w: tensor<1x1x2x1x8xf32>, %out: tensor<1x1x2x8xf32>) -> tensor<1x1x2x8xf32> {
  %y = linalg.generic {indexing_maps = [#strided, #weights, #out], iterator_types = ["parallel", "parallel", "parallel", "parallel", "reduction", "reduction", "reduction"]} ins(%x, %w : tensor<1x1x5x8xf32>, tensor<1x1x2x1x8xf32>) outs(%out : tensor<1x1x2x8xf32>) attrs = {dlas.layer = "strided", dlas.lanes = array<i64: 2, 2, 1>} {
  ^bb0(%a: f32, %b: f32, %c: f32):
    %p = arith.mulf %a, %b : f32
    %s = arith.addf %c, %p : f32
    linalg.yield %s : f32
  } -> tensor<1x1x2x8xf32>
  return %y : tensor<1x1x2x8xf32>
}

// Two channels per group: each lane of a pair needs both, so each pixel is shuffled twice (and loaded once, after CSE).
// CHECK-LABEL: func.func @pairs
// CHECK: %[[PIXEL:.*]] = vector.transfer_read %arg0
// CHECK-NEXT: vector.shuffle %[[PIXEL]], %{{.*}} [0, 0, 2, 2, 4, 4, 6, 6]
// CHECK-NEXT: vector.fma
// CHECK: vector.shuffle %[[PIXEL]], %{{.*}} [1, 1, 3, 3, 5, 5, 7, 7]
// CHECK-NEXT: vector.fma
func.func @pairs(%x: tensor<1x1x1x8xf32>, %w: tensor<1x1x1x2x8xf32>, %out: tensor<1x1x1x8xf32>) -> tensor<1x1x1x8xf32> {
  %y = linalg.generic {indexing_maps = [#pairs, #weights, #out], iterator_types = ["parallel", "parallel", "parallel", "parallel", "reduction", "reduction", "reduction"]} ins(%x, %w : tensor<1x1x1x8xf32>, tensor<1x1x1x2x8xf32>) outs(%out : tensor<1x1x1x8xf32>) attrs = {dlas.layer = "pairs", dlas.lanes = array<i64: 1, 1, 2>} {
  ^bb0(%a: f32, %b: f32, %c: f32):
    %p = arith.mulf %a, %b : f32
    %s = arith.addf %c, %p : f32
    linalg.yield %s : f32
  } -> tensor<1x1x1x8xf32>
  return %y : tensor<1x1x1x8xf32>
}

// A group as wide as the block: every lane needs the same channel, which a broadcast of one element gives.
// CHECK-LABEL: func.func @whole_block
// CHECK-NOT: vector.shuffle
// CHECK-COUNT-8: vector.fma
// CHECK-NOT: vector.fma
// CHECK: return
func.func @whole_block(%x: tensor<1x1x1x8xf32>, %w: tensor<1x1x1x8x8xf32>, %out: tensor<1x1x1x8xf32>) -> tensor<1x1x1x8xf32> {
  %y = linalg.generic {indexing_maps = [#whole, #weights, #out], iterator_types = ["parallel", "parallel", "parallel", "parallel", "reduction", "reduction", "reduction"]} ins(%x, %w : tensor<1x1x1x8xf32>, tensor<1x1x1x8x8xf32>) outs(%out : tensor<1x1x1x8xf32>) attrs = {dlas.layer = "whole_block", dlas.lanes = array<i64: 1, 1, 8>} {
  ^bb0(%a: f32, %b: f32, %c: f32):
    %p = arith.mulf %a, %b : f32
    %s = arith.addf %c, %p : f32
    linalg.yield %s : f32
  } -> tensor<1x1x1x8xf32>
  return %y : tensor<1x1x1x8xf32>
}

// Pooling has no weights: the op of its body combines the pixels of a window.
// CHECK-LABEL: func.func @maximum
// CHECK-COUNT-4: arith.maximumf %{{.*}} : vector<8xf32>
// CHECK-NOT: arith.maximumf
// CHECK-NOT: vector.fma
// CHECK: return
func.func @maximum(%x: tensor<1x1x3x8xf32>, %window: tensor<1x2xf32>, %out: tensor<1x1x2x8xf32>) -> tensor<1x1x2x8xf32> {
  %y = linalg.generic {indexing_maps = [#pool_x, #pool_window, #pool_out], iterator_types = ["parallel", "parallel", "parallel", "parallel", "reduction", "reduction"]} ins(%x, %window : tensor<1x1x3x8xf32>, tensor<1x2xf32>) outs(%out : tensor<1x1x2x8xf32>) attrs = {dlas.layer = "maximum", dlas.lanes = array<i64: 1, 1, 0>} {
  ^bb0(%a: f32, %b: f32, %c: f32):
    %m = arith.maximumf %a, %c : f32
    linalg.yield %m : f32
  } -> tensor<1x1x2x8xf32>
  return %y : tensor<1x1x2x8xf32>
}

// Nothing but lane ops is touched.
// CHECK-LABEL: func.func @other
// CHECK: linalg.fill
func.func @other(%out: tensor<8xf32>) -> tensor<8xf32> {
  %zero = arith.constant 0.0 : f32
  %y = linalg.fill ins(%zero : f32) outs(%out : tensor<8xf32>) -> tensor<8xf32>
  return %y : tensor<8xf32>
}

// How tiles become workgroups for two cores: few tiles are split into bands of rows, which need not divide; more tiles
// than are claimed one by one share workgroups; and what is too small to share is one workgroup's.
// RUN: dlas-opt %s --pass-pipeline='dlas-blocked-layout{lanes=8 registers=16 winograd=0 strassen=0 cores=2}' --elide 8 | FileCheck %s

// CHECK-DAG: #[[BAND:map[0-9]*]] = affine_map<(d0) -> (d0 mod 10)>
// CHECK-DAG: #[[FIRST:map[0-9]*]] = affine_map<(d0) -> (d0 * 3)>
// CHECK-DAG: #[[COUNT:map[0-9]*]] = affine_map<(d0) -> (3, d0 * -3 + 29)>
// CHECK-DAG: #[[ABOVE:map[0-9]*]] = affine_map<(d0) -> (0, -d0 + 1)>
// CHECK-DAG: #[[BELOW:map[0-9]*]] = affine_map<(d0) -> (0, d0 - 8)>

// One tile of 29 rows: ten bands of three rows and fewer. The first and the last write the border above and below.
// CHECK-LABEL: func.func @bands
// CHECK: flow.dispatch.workgroups[{{%c10[_0-9]*}}]{{.*}} -> tensor<1x2x31x34x8xf32>
// CHECK: %[[ID:.*]] = flow.dispatch.workgroup.id[0]
// CHECK: %[[N:.*]] = affine.apply #[[BAND]](%[[ID]])
// CHECK: %[[ROW:.*]] = affine.apply #[[FIRST]](%[[N]])
// CHECK: %[[ROWS:.*]] = affine.min #[[COUNT]](%[[N]])
// CHECK: dispatch.tensor.load {{.*}} sizes = [1, 2, %[[ROWS]], 32, 8], {{.*}} -> tensor<2x?x32x8xf32>
// CHECK: dispatch.tensor.load {{.*}} offsets = [0, %{{.*}}, %[[ROW]], 0, 0], sizes = [1, 8, %[[ROWS]], 32, 8]
// CHECK: dispatch.tensor.store
// CHECK-DAG: %[[TOP:.*]] = affine.max #[[ABOVE]](%[[N]])
// CHECK-DAG: %[[BOTTOM:.*]] = affine.max #[[BELOW]](%[[N]])
// CHECK: dispatch.tensor.load {{.*}} sizes = [1, 2, %[[TOP]], 34, 8]
// CHECK: dispatch.tensor.load {{.*}} sizes = [1, 2, %[[BOTTOM]], 34, 8]
func.func @bands(%x: tensor<1x64x29x32xf32>) -> tensor<1x16x29x32xf32> {
  %zero = arith.constant 0.0 : f32
  %w = arith.constant dense<2.0> : tensor<16x64x1x1xf32>
  %w3 = arith.constant dense<2.0> : tensor<16x3x3xf32>
  %empty = tensor.empty() : tensor<1x16x29x32xf32>
  %init = linalg.fill ins(%zero : f32) outs(%empty : tensor<1x16x29x32xf32>) -> tensor<1x16x29x32xf32>
  %y = linalg.conv_2d_nchw_fchw {dlas.layer = "bands"} ins(%x, %w : tensor<1x64x29x32xf32>, tensor<16x64x1x1xf32>) outs(%init : tensor<1x16x29x32xf32>) -> tensor<1x16x29x32xf32>
  %pad = tensor.pad %y low[0, 0, 1, 1] high[0, 0, 1, 1] {
  ^bb0(%a0: index, %a1: index, %a2: index, %a3: index):
    tensor.yield %zero : f32
  } : tensor<1x16x29x32xf32> to tensor<1x16x31x34xf32>
  %z = linalg.depthwise_conv_2d_nchw_chw {dlas.layer = "next"} ins(%pad, %w3 : tensor<1x16x31x34xf32>, tensor<16x3x3xf32>) outs(%init : tensor<1x16x29x32xf32>) -> tensor<1x16x29x32xf32>
  return %z : tensor<1x16x29x32xf32>
}

// Thirty-two tiles of sixteen channels: four to a workgroup, one after the other.
// CHECK-LABEL: func.func @tiles
// CHECK: flow.dispatch.workgroups{{.*}} -> tensor<1x8x8x8x8xf32>
// CHECK: flow.dispatch.workgroups[{{%c8[_0-9]*}}]{{.*}} -> tensor<1x64x8x8x8xf32>
// CHECK: scf.for %{{.*}} = %c0 to %c4
func.func @tiles(%x: tensor<1x64x8x8xf32>) -> tensor<1x512x8x8xf32> {
  %zero = arith.constant 0.0 : f32
  %w = arith.constant dense<2.0> : tensor<512x64x1x1xf32>
  %empty = tensor.empty() : tensor<1x512x8x8xf32>
  %init = linalg.fill ins(%zero : f32) outs(%empty : tensor<1x512x8x8xf32>) -> tensor<1x512x8x8xf32>
  %y = linalg.conv_2d_nchw_fchw {dlas.layer = "tiles"} ins(%x, %w : tensor<1x64x8x8xf32>, tensor<512x64x1x1xf32>) outs(%init : tensor<1x512x8x8xf32>) -> tensor<1x512x8x8xf32>
  return %y : tensor<1x512x8x8xf32>
}

// Some hundred cycles: one workgroup for all four tiles.
// CHECK-LABEL: func.func @small
// CHECK: flow.dispatch.workgroups[{{%c1[_0-9]*}}]{{.*}} -> tensor<1x8x2x2x8xf32>
// CHECK: scf.for
func.func @small(%x: tensor<1x64x2x2xf32>) -> tensor<1x64x2x2xf32> {
  %zero = arith.constant 0.0 : f32
  %w = arith.constant dense<2.0> : tensor<64x64x1x1xf32>
  %empty = tensor.empty() : tensor<1x64x2x2xf32>
  %init = linalg.fill ins(%zero : f32) outs(%empty : tensor<1x64x2x2xf32>) -> tensor<1x64x2x2xf32>
  %y = linalg.conv_2d_nchw_fchw {dlas.layer = "small"} ins(%x, %w : tensor<1x64x2x2xf32>, tensor<64x64x1x1xf32>) outs(%init : tensor<1x64x2x2xf32>) -> tensor<1x64x2x2xf32>
  return %y : tensor<1x64x2x2xf32>
}

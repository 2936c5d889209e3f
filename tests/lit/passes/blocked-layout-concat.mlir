// Concatenations along channels stay blocked: their parts are put side by side. A chain, each of which appends to the
// one before, fills one tensor with room for the last; parts that are no whole blocks are refused, with a reason.
// RUN: dlas-opt %s --pass-pipeline='dlas-blocked-layout{lanes=8 registers=16}' --notes --elide 8 | FileCheck %s

// CHECK-DAG: refused: uneven: tensor.concat: 12 channels of a part are no whole blocks of 8
// CHECK-DAG: refused: rows: tensor.concat: not along the channels of an image
// CHECK-DAG: refused: batch: tensor.concat: 2 images: the parts of each lie apart
// CHECK-DAG: refused: twice: tensor.concat: a part comes twice

#id = affine_map<(d0, d1, d2, d3) -> (d0, d1, d2, d3)>

// CHECK-LABEL: func.func @chain
// CHECK-NOT: tensor.concat
func.func @chain(%x: tensor<1x16x6x6xf32>) -> tensor<1x16x6x6xf32> {
  %zero = arith.constant 0.0 : f32
  %w0 = arith.constant dense<0.5> : tensor<16x16x1x1xf32>
  %w1 = arith.constant dense<0.25> : tensor<8x16x1x1xf32>
  %w2 = arith.constant dense<0.125> : tensor<8x24x1x1xf32>
  %w3 = arith.constant dense<0.125> : tensor<16x32x1x1xf32>
  %e16 = tensor.empty() : tensor<1x16x6x6xf32>
  %e8 = tensor.empty() : tensor<1x8x6x6xf32>
  %i16 = linalg.fill ins(%zero : f32) outs(%e16 : tensor<1x16x6x6xf32>) -> tensor<1x16x6x6xf32>
  %i8 = linalg.fill ins(%zero : f32) outs(%e8 : tensor<1x8x6x6xf32>) -> tensor<1x8x6x6xf32>
  // The input is packed.
  // CHECK: %[[X:.*]] = flow.dispatch.workgroups{{.*}} -> tensor<1x2x6x6x8xf32>
  // CHECK: %[[A:.*]] = flow.dispatch.workgroups{{.*}} -> tensor<1x2x6x6x8xf32>
  %a = linalg.conv_2d_nchw_fchw {dlas.layer = "a"} ins(%x, %w0 : tensor<1x16x6x6xf32>, tensor<16x16x1x1xf32>) outs(%i16 : tensor<1x16x6x6xf32>) -> tensor<1x16x6x6xf32>
  // CHECK: %[[B:.*]] = flow.dispatch.workgroups{{.*}} -> tensor<1x1x6x6x8xf32>
  %b = linalg.conv_2d_nchw_fchw {dlas.layer = "b"} ins(%a, %w1 : tensor<1x16x6x6xf32>, tensor<8x16x1x1xf32>) outs(%i8 : tensor<1x8x6x6xf32>) -> tensor<1x8x6x6xf32>
  // Room for 4 blocks, of which 3 are filled.
  // CHECK: %[[E:.*]] = tensor.empty() : tensor<1x4x6x6x8xf32>
  // CHECK: %[[AB:.*]] = tensor.insert_slice %[[A]] into %[[E]][0, 0, 0, 0, 0] [1, 2, 6, 6, 8]
  // CHECK: %[[ABB:.*]] = tensor.insert_slice %[[B]] into %[[AB]][0, 2, 0, 0, 0] [1, 1, 6, 6, 8]
  %ab = tensor.concat dim(1) %a, %b : (tensor<1x16x6x6xf32>, tensor<1x8x6x6xf32>) -> tensor<1x24x6x6xf32>
  // CHECK: %[[C:.*]] = flow.dispatch.workgroups[%{{.*}}](%[[ABB]], {{.*}} -> tensor<1x1x6x6x8xf32>
  %c = linalg.conv_2d_nchw_fchw {dlas.layer = "c"} ins(%ab, %w2 : tensor<1x24x6x6xf32>, tensor<8x24x1x1xf32>) outs(%i8 : tensor<1x8x6x6xf32>) -> tensor<1x8x6x6xf32>
  // CHECK: %[[ABC:.*]] = tensor.insert_slice %[[C]] into %[[ABB]][0, 3, 0, 0, 0] [1, 1, 6, 6, 8]
  %abc = tensor.concat dim(1) %ab, %c : (tensor<1x24x6x6xf32>, tensor<1x8x6x6xf32>) -> tensor<1x32x6x6xf32>
  // CHECK: flow.dispatch.workgroups[%{{.*}}](%[[ABC]], {{.*}} -> tensor<1x2x6x6x8xf32>
  %y = linalg.conv_2d_nchw_fchw {dlas.layer = "y"} ins(%abc, %w3 : tensor<1x32x6x6xf32>, tensor<16x32x1x1xf32>) outs(%i16 : tensor<1x16x6x6xf32>) -> tensor<1x16x6x6xf32>
  return %y : tensor<1x16x6x6xf32>
}

// CHECK-LABEL: func.func @refused
func.func @refused(%a: tensor<1x12x6x6xf32>, %b: tensor<1x8x6x6xf32>, %c: tensor<2x8x6x6xf32>) -> (tensor<1x20x6x6xf32>, tensor<1x8x12x6xf32>, tensor<2x16x6x6xf32>, tensor<1x16x6x6xf32>) {
  // CHECK-COUNT-4: tensor.concat
  %x = tensor.concat dim(1) %a, %b {dlas.layer = "uneven"} : (tensor<1x12x6x6xf32>, tensor<1x8x6x6xf32>) -> tensor<1x20x6x6xf32>
  %y = tensor.concat dim(2) %b, %b {dlas.layer = "rows"} : (tensor<1x8x6x6xf32>, tensor<1x8x6x6xf32>) -> tensor<1x8x12x6xf32>
  %z = tensor.concat dim(1) %c, %c {dlas.layer = "batch"} : (tensor<2x8x6x6xf32>, tensor<2x8x6x6xf32>) -> tensor<2x16x6x6xf32>
  %w = tensor.concat dim(1) %b, %b {dlas.layer = "twice"} : (tensor<1x8x6x6xf32>, tensor<1x8x6x6xf32>) -> tensor<1x16x6x6xf32>
  return %x, %y, %z, %w : tensor<1x20x6x6xf32>, tensor<1x8x12x6xf32>, tensor<2x16x6x6xf32>, tensor<1x16x6x6xf32>
}

// Layers of one function may have channel blocks of 16 and of 8: what is read in the other one is repacked directly,
// vector by vector, with the halo that its readers need; not by way of NCHW. 24 channels leave half of a block of 16
// empty: those lanes are zero.
// RUN: dlas-opt %s --pass-pipeline='dlas-blocked-layout{lanes=16 registers=32 narrow=4}' --notes --elide 8 | FileCheck %s

// CHECK: done: narrow: pointwise: packed_conv{{.*}} block=8
// CHECK: done: -: repack: repack{ow=1 block=16}: blocks of 16 channels, vector by vector
// CHECK: done: wide: conv: packed_conv{{.*}} block=16
// CHECK: done: -: repack: repack{ow=1 block=8}: blocks of 8 channels, vector by vector
// CHECK: done: last: pointwise: packed_conv{{.*}} block=8

// CHECK-LABEL: func.func @main
func.func @main(%x: tensor<1x32x5x6xf32>) -> tensor<1x24x5x6xf32> {
  %zero = arith.constant 0.0 : f32
  %w0 = arith.constant dense<0.5> : tensor<24x32x1x1xf32>
  %w1 = arith.constant dense<0.25> : tensor<24x24x3x3xf32>
  %w2 = arith.constant dense<0.125> : tensor<24x24x1x1xf32>
  %e = tensor.empty() : tensor<1x24x5x6xf32>
  %i = linalg.fill ins(%zero : f32) outs(%e : tensor<1x24x5x6xf32>) -> tensor<1x24x5x6xf32>

  // CHECK: flow.dispatch.workgroups{{.*}} : (tensor<1x4x8x5x6xf32>) -> tensor<1x4x5x6x8xf32>
  // CHECK: %[[A:.*]] = flow.dispatch.workgroups{{.*}} -> tensor<1x3x7x8x8xf32>
  %a = linalg.conv_2d_nchw_fchw {dlas.layer = "narrow", dlas.knobs = {schedule = "packed_conv", block = 8}} ins(%x, %w0 : tensor<1x32x5x6xf32>, tensor<24x32x1x1xf32>) outs(%i : tensor<1x24x5x6xf32>) -> tensor<1x24x5x6xf32>

  // Three blocks of 8 become two of 16; the halo of one around them is written on the way.
  // CHECK: %[[B:.*]] = flow.dispatch.workgroups[%{{.*}}](%[[A]]) : (tensor<1x3x7x8x8xf32>) -> tensor<1x2x7x8x16xf32>
  // CHECK: dispatch.tensor.load {{.*}}sizes = [1, 1, 5, 6, 8]
  // CHECK: %[[THERE:.*]] = arith.cmpi sle
  // CHECK: arith.minsi
  // CHECK: vector.transfer_read {{.*}} vector<8xf32>
  // CHECK: vector.transfer_write {{.*}}%c0{{[_0-9]*}}] {{.*}} vector<8xf32>, tensor<1x5x6x16xf32>
  // CHECK: arith.select %[[THERE]], %{{.*}}, %{{.*}} : vector<8xf32>
  // CHECK: vector.transfer_write {{.*}}%c8{{[_0-9]*}}] {{.*}} vector<8xf32>, tensor<1x5x6x16xf32>
  // CHECK: dispatch.tensor.store {{.*}}sizes = [1, 1, 5, 6, 16]
  // CHECK-COUNT-4: linalg.fill {{.*}}dlas.role = "border"
  %p = tensor.pad %a low[0, 0, 1, 1] high[0, 0, 1, 1] {
  ^bb0(%a0: index, %a1: index, %a2: index, %a3: index):
    tensor.yield %zero : f32
  } : tensor<1x24x5x6xf32> to tensor<1x24x7x8xf32>

  // CHECK: %[[C:.*]] = flow.dispatch.workgroups[%{{.*}}](%[[B]], {{.*}} -> tensor<1x2x5x6x16xf32>
  %b = linalg.conv_2d_nchw_fchw {dlas.layer = "wide", dlas.knobs = {schedule = "packed_conv", block = 16}} ins(%p, %w1 : tensor<1x24x7x8xf32>, tensor<24x24x3x3xf32>) outs(%i : tensor<1x24x5x6xf32>) -> tensor<1x24x5x6xf32>

  // Back: a block of 8 is one half of a block of 16.
  // CHECK: %[[D:.*]] = flow.dispatch.workgroups[%{{.*}}](%[[C]]) : (tensor<1x2x5x6x16xf32>) -> tensor<1x3x5x6x8xf32>
  // CHECK: dispatch.tensor.load {{.*}}sizes = [1, 1, 5, 6, 8]
  // CHECK: vector.transfer_write {{.*}} vector<8xf32>, tensor<1x5x6x8xf32>
  // CHECK: flow.dispatch.workgroups[%{{.*}}](%[[D]], {{.*}} -> tensor<1x3x5x6x8xf32>
  %c = linalg.conv_2d_nchw_fchw {dlas.layer = "last", dlas.knobs = {schedule = "packed_conv", block = 8}} ins(%b, %w2 : tensor<1x24x5x6xf32>, tensor<24x24x1x1xf32>) outs(%i : tensor<1x24x5x6xf32>) -> tensor<1x24x5x6xf32>
  return %c : tensor<1x24x5x6xf32>
}

// Parts of 24 and 8 channels can be put side by side in blocks of 8 only: the layers that make them have those.
// CHECK-LABEL: func.func @chosen
// CHECK: tensor.empty() : tensor<1x4x30x30x8xf32>
// CHECK-COUNT-2: tensor.insert_slice {{.*}} into tensor<1x4x30x30x8xf32>
// CHECK-NOT: tensor.concat
func.func @chosen(%x: tensor<1x64x30x30xf32>) -> tensor<1x32x1x1xf32> {
  %zero = arith.constant 0.0 : f32
  %w0 = arith.constant dense<0.5> : tensor<24x64x1x1xf32>
  %w1 = arith.constant dense<0.25> : tensor<8x64x1x1xf32>
  %w2 = arith.constant dense<0.125> : tensor<32x32x30x30xf32>
  %e0 = tensor.empty() : tensor<1x24x30x30xf32>
  %i0 = linalg.fill ins(%zero : f32) outs(%e0 : tensor<1x24x30x30xf32>) -> tensor<1x24x30x30xf32>
  %e1 = tensor.empty() : tensor<1x8x30x30xf32>
  %i1 = linalg.fill ins(%zero : f32) outs(%e1 : tensor<1x8x30x30xf32>) -> tensor<1x8x30x30xf32>
  %e2 = tensor.empty() : tensor<1x32x1x1xf32>
  %i2 = linalg.fill ins(%zero : f32) outs(%e2 : tensor<1x32x1x1xf32>) -> tensor<1x32x1x1xf32>
  %a = linalg.conv_2d_nchw_fchw {dlas.layer = "a"} ins(%x, %w0 : tensor<1x64x30x30xf32>, tensor<24x64x1x1xf32>) outs(%i0 : tensor<1x24x30x30xf32>) -> tensor<1x24x30x30xf32>
  %b = linalg.conv_2d_nchw_fchw {dlas.layer = "b"} ins(%x, %w1 : tensor<1x64x30x30xf32>, tensor<8x64x1x1xf32>) outs(%i1 : tensor<1x8x30x30xf32>) -> tensor<1x8x30x30xf32>
  %c = tensor.concat dim(1) %a, %b : (tensor<1x24x30x30xf32>, tensor<1x8x30x30xf32>) -> tensor<1x32x30x30xf32>
  %d = linalg.conv_2d_nchw_fchw {dlas.layer = "d"} ins(%c, %w2 : tensor<1x32x30x30xf32>, tensor<32x32x30x30xf32>) outs(%i2 : tensor<1x32x1x1xf32>) -> tensor<1x32x1x1xf32>
  return %d : tensor<1x32x1x1xf32>
}

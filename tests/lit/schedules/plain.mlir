// elementwise and reduce work on whole vectors of channels.
// RUN: %python %S/Inputs/schedule.py %s x86_64-v3 elementwise ow=4 | FileCheck %s --check-prefix=ELEMENTWISE
// RUN: %python %S/Inputs/schedule.py %s x86_64-v3 reduce | FileCheck %s --check-prefix=REDUCE

#id = affine_map<(d0, d1, d2, d3) -> (d0, d1, d2, d3)>

// ELEMENTWISE-LABEL: func.func @{{.*}} attributes {dlas.schedule = "elementwise"}
// ELEMENTWISE-NOT: linalg.
// ELEMENTWISE: %[[L:.*]] = vector.transfer_read %{{.*}} vector<{{.*}}4x8xf32>
// ELEMENTWISE: %[[R:.*]] = vector.transfer_read %{{.*}} vector<{{.*}}4x8xf32>
// ELEMENTWISE: arith.addf %[[L]], %[[R]] : vector<{{.*}}4x8xf32>
// ELEMENTWISE-NOT: linalg.
// ELEMENTWISE: return

// REDUCE-LABEL: func.func @{{.*}} attributes {dlas.schedule = "reduce"}
// REDUCE-NOT: linalg.
// REDUCE: scf.for %{{.*}} = %c0 to %c6 step %c1
// REDUCE: scf.for %{{.*}} = %c0 to %c8 step %c1
// REDUCE: %[[X:.*]] = vector.transfer_read %{{.*}} vector<8xf32>
// REDUCE: arith.addf %[[X]], %{{.*}} : vector<8xf32>
// REDUCE-NOT: linalg.
// REDUCE: return
func.func @main(%x: tensor<1x16x6x8xf32>) -> (tensor<1x16x1x1xf32>, tensor<1x16x6x8xf32>) {
  %zero = arith.constant 0.0 : f32
  %w = arith.constant dense<2.0> : tensor<16x1x1xf32>
  %empty = tensor.empty() : tensor<1x16x6x8xf32>
  %init = linalg.fill ins(%zero : f32) outs(%empty : tensor<1x16x6x8xf32>) -> tensor<1x16x6x8xf32>
  %a = linalg.depthwise_conv_2d_nchw_chw {dlas.layer = "a"} ins(%x, %w : tensor<1x16x6x8xf32>, tensor<16x1x1xf32>) outs(%init : tensor<1x16x6x8xf32>) -> tensor<1x16x6x8xf32>
  // Each pooling is the first user of what the addition needs: the addition joins neither, it is a kernel of its own.
  %lowest = arith.constant 0xFF800000 : f32
  %pad = tensor.pad %a low[0, 0, 1, 1] high[0, 0, 1, 1] {
  ^bb0(%a0: index, %a1: index, %a2: index, %a3: index):
    tensor.yield %lowest : f32
  } : tensor<1x16x6x8xf32> to tensor<1x16x8x10xf32>
  %window = tensor.empty() : tensor<3x3xf32>
  %start = linalg.fill ins(%lowest : f32) outs(%empty : tensor<1x16x6x8xf32>) -> tensor<1x16x6x8xf32>
  %b = linalg.pooling_nchw_max {dlas.layer = "b", strides = dense<1> : tensor<2xi64>, dilations = dense<1> : tensor<2xi64>} ins(%pad, %window : tensor<1x16x8x10xf32>, tensor<3x3xf32>) outs(%start : tensor<1x16x6x8xf32>) -> tensor<1x16x6x8xf32>
  %window1 = tensor.empty() : tensor<1x1xf32>
  %c = linalg.pooling_nchw_max {dlas.layer = "c", strides = dense<1> : tensor<2xi64>, dilations = dense<1> : tensor<2xi64>} ins(%b, %window1 : tensor<1x16x6x8xf32>, tensor<1x1xf32>) outs(%start : tensor<1x16x6x8xf32>) -> tensor<1x16x6x8xf32>
  %sum = linalg.generic {indexing_maps = [#id, #id, #id], iterator_types = ["parallel", "parallel", "parallel", "parallel"]} ins(%a, %b : tensor<1x16x6x8xf32>, tensor<1x16x6x8xf32>) outs(%empty : tensor<1x16x6x8xf32>) {
  ^bb0(%l: f32, %r: f32, %out: f32):
    %s = arith.addf %l, %r : f32
    linalg.yield %s : f32
  } -> tensor<1x16x6x8xf32>
  %scalar = tensor.empty() : tensor<1x16x1x1xf32>
  %zeros = linalg.fill ins(%zero : f32) outs(%scalar : tensor<1x16x1x1xf32>) -> tensor<1x16x1x1xf32>
  %mean = linalg.generic {indexing_maps = [#id, affine_map<(d0, d1, d2, d3) -> (d0, d1, 0, 0)>], iterator_types = ["parallel", "parallel", "reduction", "reduction"]} ins(%sum : tensor<1x16x6x8xf32>) outs(%zeros : tensor<1x16x1x1xf32>) {
  ^bb0(%l: f32, %out: f32):
    %s = arith.addf %l, %out : f32
    linalg.yield %s : f32
  } -> tensor<1x16x1x1xf32>
  return %mean, %c : tensor<1x16x1x1xf32>, tensor<1x16x6x8xf32>
}

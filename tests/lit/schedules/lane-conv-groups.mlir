// lane_conv on groups of two channels: a lane gets both channels of its pair by shuffles of one loaded vector. The halo
// that the next layer needs is written beside the tile, a vector per pixel.
// RUN: %python %S/Inputs/schedule.py %s x86_64-v3 grouped ow=3 | FileCheck %s

// CHECK-LABEL: func.func @{{.*}} attributes {dlas.schedule = "lane_conv"}
// CHECK-NOT: linalg.
// CHECK: scf.for %{{.*}} iter_args({{.*}}) -> (vector<8xf32>, vector<8xf32>, vector<8xf32>)
// CHECK: vector.shuffle %{{.*}} [0, 0, 2, 2, 4, 4, 6, 6]
// CHECK: vector.fma
// CHECK: vector.shuffle %{{.*}} [1, 1, 3, 3, 5, 5, 7, 7]
// CHECK: vector.fma
// CHECK: scf.yield %{{.*}}, %{{.*}}, %{{.*}} : vector<8xf32>, vector<8xf32>, vector<8xf32>
// CHECK: vector.transfer_write %{{.*}} : vector<8xf32>, tensor<{{.*}}8xf32>
// CHECK-NOT: linalg.
// CHECK: return
func.func @main(%x: tensor<1x16x6x6xf32>) -> tensor<1x16x6x6xf32> {
  %zero = arith.constant 0.0 : f32
  %w = arith.constant dense<2.0> : tensor<8x2x2x3x3xf32>
  %w2 = arith.constant dense<2.0> : tensor<16x3x3xf32>
  %empty = tensor.empty() : tensor<1x8x2x6x6xf32>
  %init = linalg.fill ins(%zero : f32) outs(%empty : tensor<1x8x2x6x6xf32>) -> tensor<1x8x2x6x6xf32>
  %empty2 = tensor.empty() : tensor<1x16x6x6xf32>
  %init2 = linalg.fill ins(%zero : f32) outs(%empty2 : tensor<1x16x6x6xf32>) -> tensor<1x16x6x6xf32>
  %pad = tensor.pad %x low[0, 0, 1, 1] high[0, 0, 1, 1] {
  ^bb0(%a0: index, %a1: index, %a2: index, %a3: index):
    tensor.yield %zero : f32
  } : tensor<1x16x6x6xf32> to tensor<1x16x8x8xf32>
  %groups = tensor.expand_shape %pad [[0], [1, 2], [3], [4]] output_shape [1, 8, 2, 8, 8] : tensor<1x16x8x8xf32> into tensor<1x8x2x8x8xf32>
  %conv = linalg.conv_2d_ngchw_gfchw {dlas.layer = "pairs"} ins(%groups, %w : tensor<1x8x2x8x8xf32>, tensor<8x2x2x3x3xf32>) outs(%init : tensor<1x8x2x6x6xf32>) -> tensor<1x8x2x6x6xf32>
  %y = tensor.collapse_shape %conv [[0], [1, 2], [3], [4]] : tensor<1x8x2x6x6xf32> into tensor<1x16x6x6xf32>
  %pad2 = tensor.pad %y low[0, 0, 1, 1] high[0, 0, 1, 1] {
  ^bb0(%a0: index, %a1: index, %a2: index, %a3: index):
    tensor.yield %zero : f32
  } : tensor<1x16x6x6xf32> to tensor<1x16x8x8xf32>
  %z = linalg.depthwise_conv_2d_nchw_chw {dlas.layer = "next"} ins(%pad2, %w2 : tensor<1x16x8x8xf32>, tensor<16x3x3xf32>) outs(%init2 : tensor<1x16x6x6xf32>) -> tensor<1x16x6x6xf32>
  return %z : tensor<1x16x6x6xf32>
}

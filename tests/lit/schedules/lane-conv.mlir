// lane_conv on a depthwise kernel: per tile of two pixels, two accumulators are carried over the kernel's rows; in a row
// each input vector is loaded once and serves every column.
// RUN: %python %S/Inputs/schedule.py %s x86_64-v3 depthwise ow=2 | FileCheck %s

// CHECK: // depthwise: lane_conv ow=2
// CHECK-LABEL: func.func @{{.*}} attributes {dlas.schedule = "lane_conv"}
// CHECK-NOT: linalg.
// CHECK: scf.for %{{.*}} = %c0 to %c6 step %c1
// CHECK: scf.for %{{.*}} = %c0 to %c10 step %c2
// CHECK: scf.for %{{.*}} = %c0 to %c3 step %c1 iter_args({{.*}}) -> (vector<8xf32>, vector<8xf32>)
// Three vectors of weights and four columns; 2 pixels x 3 taps.
// CHECK-COUNT-6: vector.fma %{{.*}} : vector<8xf32>
// CHECK-NOT: vector.fma
// CHECK: scf.yield %{{.*}}, %{{.*}} : vector<8xf32>, vector<8xf32>
// CHECK-NOT: linalg.
// CHECK: return
func.func @main(%x: tensor<1x16x8x12xf32>) -> tensor<1x16x6x10xf32> {
  %zero = arith.constant 0.0 : f32
  %w = arith.constant dense<2.0> : tensor<16x3x3xf32>
  %empty = tensor.empty() : tensor<1x16x6x10xf32>
  %init = linalg.fill ins(%zero : f32) outs(%empty : tensor<1x16x6x10xf32>) -> tensor<1x16x6x10xf32>
  %y = linalg.depthwise_conv_2d_nchw_chw {dlas.layer = "depthwise"} ins(%x, %w : tensor<1x16x8x12xf32>, tensor<16x3x3xf32>) outs(%init : tensor<1x16x6x10xf32>) -> tensor<1x16x6x10xf32>
  return %y : tensor<1x16x6x10xf32>
}

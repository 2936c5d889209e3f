// A row of stride 2 does not vectorise over its pixels: packed_conv takes them one at a time, unrolled, and still
// carries all accumulators through the reduction as vectors.
// RUN: %python %S/Inputs/schedule.py %s x86_64-v3 conv t_o=8 ow=2 | FileCheck %s

// CHECK-LABEL: func.func @{{.*}} attributes {dlas.schedule = "packed_conv"}
// CHECK-NOT: linalg.
// CHECK: scf.for %{{.*}} iter_args({{.*}}) -> (vector<8xf32>, vector<8xf32>)
// CHECK: scf.for %{{.*}} iter_args({{.*}}) -> (vector<8xf32>, vector<8xf32>)
// 8 channels of the first pixel, then of the second.
// CHECK-COUNT-16: vector.fma %{{.*}} : vector<8xf32>
// CHECK-NOT: vector.fma
// CHECK: scf.yield %{{.*}}, %{{.*}} : vector<8xf32>, vector<8xf32>
// CHECK-NOT: linalg.
// CHECK: return
func.func @main(%x: tensor<1x8x5x9xf32>) -> tensor<1x8x2x4xf32> {
  %zero = arith.constant 0.0 : f32
  %w = arith.constant dense<2.0> : tensor<8x8x3x3xf32>
  %empty = tensor.empty() : tensor<1x8x2x4xf32>
  %init = linalg.fill ins(%zero : f32) outs(%empty : tensor<1x8x2x4xf32>) -> tensor<1x8x2x4xf32>
  %y = linalg.conv_2d_nchw_fchw {dlas.layer = "conv", strides = dense<2> : tensor<2xi64>} ins(%x, %w : tensor<1x8x5x9xf32>, tensor<8x8x3x3xf32>) outs(%init : tensor<1x8x2x4xf32>) -> tensor<1x8x2x4xf32>
  return %y : tensor<1x8x2x4xf32>
}

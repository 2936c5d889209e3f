// What `dlas.knobs` asks for is what a convolution or linear layer gets; the rest is completed.
// RUN: dlas-opt %s --pass-pipeline='dlas-blocked-layout{lanes=8 registers=16}' --notes | FileCheck %s

// CHECK-DAG: done: conv: conv: packed_conv{t_o=8 ow=5 block=8 merge=1}: asked for by the transform script: T_O=8
// CHECK-DAG: done: plain: conv: winograd_conv
// CHECK-DAG: done: sparse: sparse: sparse_conv{accumulators=4 channels=8 k_w=8 pack=1}: asked for by the transform script
// CHECK-DAG: done: linear: matmul: matmul{t_o=8 rows=2 depth=3}: asked for by the transform script

// CHECK-LABEL: func.func @main
func.func @main(%x: tensor<1x16x16x16xf32>, %m: tensor<4x24xf32>) -> (tensor<1x16x14x14xf32>, tensor<1x16x14x14xf32>, tensor<1x8x16x16xf32>, tensor<4x16xf32>) {
  %zero = arith.constant 0.0 : f32
  %w = arith.constant dense<1.0> : tensor<16x16x3x3xf32>
  %p = arith.constant dense<[[[[1.0]], [[0.0]], [[0.0]], [[0.0]], [[0.0]], [[0.0]], [[0.0]], [[0.0]], [[0.0]], [[0.0]], [[0.0]], [[0.0]], [[0.0]], [[0.0]], [[0.0]], [[0.0]]], [[[0.0]], [[1.0]], [[0.0]], [[0.0]], [[0.0]], [[0.0]], [[0.0]], [[0.0]], [[0.0]], [[0.0]], [[0.0]], [[0.0]], [[0.0]], [[0.0]], [[0.0]], [[0.0]]], [[[0.0]], [[0.0]], [[1.0]], [[0.0]], [[0.0]], [[0.0]], [[0.0]], [[0.0]], [[0.0]], [[0.0]], [[0.0]], [[0.0]], [[0.0]], [[0.0]], [[0.0]], [[0.0]]], [[[0.0]], [[0.0]], [[0.0]], [[1.0]], [[0.0]], [[0.0]], [[0.0]], [[0.0]], [[0.0]], [[0.0]], [[0.0]], [[0.0]], [[0.0]], [[0.0]], [[0.0]], [[0.0]]], [[[0.0]], [[0.0]], [[0.0]], [[0.0]], [[1.0]], [[0.0]], [[0.0]], [[0.0]], [[0.0]], [[0.0]], [[0.0]], [[0.0]], [[0.0]], [[0.0]], [[0.0]], [[0.0]]], [[[0.0]], [[0.0]], [[0.0]], [[0.0]], [[0.0]], [[1.0]], [[0.0]], [[0.0]], [[0.0]], [[0.0]], [[0.0]], [[0.0]], [[0.0]], [[0.0]], [[0.0]], [[0.0]]], [[[0.0]], [[0.0]], [[0.0]], [[0.0]], [[0.0]], [[0.0]], [[1.0]], [[0.0]], [[0.0]], [[0.0]], [[0.0]], [[0.0]], [[0.0]], [[0.0]], [[0.0]], [[0.0]]], [[[0.0]], [[0.0]], [[0.0]], [[0.0]], [[0.0]], [[0.0]], [[0.0]], [[1.0]], [[0.0]], [[0.0]], [[0.0]], [[0.0]], [[0.0]], [[0.0]], [[0.0]], [[0.0]]]]> : tensor<8x16x1x1xf32>
  %l = arith.constant dense<2.0> : tensor<24x16xf32>
  %e = tensor.empty() : tensor<1x16x14x14xf32>
  %f = linalg.fill ins(%zero : f32) outs(%e : tensor<1x16x14x14xf32>) -> tensor<1x16x14x14xf32>
  %y = linalg.conv_2d_nchw_fchw {dlas.layer = "conv", dlas.knobs = {schedule = "packed_conv", t_o = 8, ow = 5}} ins(%x, %w : tensor<1x16x16x16xf32>, tensor<16x16x3x3xf32>) outs(%f : tensor<1x16x14x14xf32>) -> tensor<1x16x14x14xf32>
  %z = linalg.conv_2d_nchw_fchw {dlas.layer = "plain"} ins(%x, %w : tensor<1x16x16x16xf32>, tensor<16x16x3x3xf32>) outs(%f : tensor<1x16x14x14xf32>) -> tensor<1x16x14x14xf32>
  %e2 = tensor.empty() : tensor<1x8x16x16xf32>
  %f2 = linalg.fill ins(%zero : f32) outs(%e2 : tensor<1x8x16x16xf32>) -> tensor<1x8x16x16xf32>
  %s = linalg.conv_2d_nchw_fchw {dlas.layer = "sparse", dlas.sparse = "any", dlas.knobs = {schedule = "sparse_conv", variant = "pack", accumulators = 4, channels = 8}} ins(%x, %p : tensor<1x16x16x16xf32>, tensor<8x16x1x1xf32>) outs(%f2 : tensor<1x8x16x16xf32>) -> tensor<1x8x16x16xf32>
  %e3 = tensor.empty() : tensor<4x16xf32>
  %f3 = linalg.fill ins(%zero : f32) outs(%e3 : tensor<4x16xf32>) -> tensor<4x16xf32>
  %n = linalg.matmul {dlas.layer = "linear", dlas.knobs = {schedule = "matmul", t_o = 8, rows = 2, depth = 3}} ins(%m, %l : tensor<4x24xf32>, tensor<24x16xf32>) outs(%f3 : tensor<4x16xf32>) -> tensor<4x16xf32>
  return %y, %z, %s, %n : tensor<1x16x14x14xf32>, tensor<1x16x14x14xf32>, tensor<1x8x16x16xf32>, tensor<4x16xf32>
}

// What `dlas.knobs` asks for is refused, with what may be, where it cannot be.
// RUN: not dlas-opt %s --pass-pipeline='dlas-blocked-layout{lanes=8 registers=16}' 2>&1 | FileCheck %s

// CHECK: error: layer conv: packed_conv: 2x9 accumulators and their operands do not fit 16 registers (a transform script asks for it)
func.func @main(%x: tensor<1x16x16x16xf32>) -> tensor<1x16x14x14xf32> {
  %zero = arith.constant 0.0 : f32
  %w = arith.constant dense<1.0> : tensor<16x16x3x3xf32>
  %e = tensor.empty() : tensor<1x16x14x14xf32>
  %f = linalg.fill ins(%zero : f32) outs(%e : tensor<1x16x14x14xf32>) -> tensor<1x16x14x14xf32>
  %y = linalg.conv_2d_nchw_fchw {dlas.layer = "conv", dlas.knobs = {schedule = "packed_conv", t_o = 16, ow = 9}} ins(%x, %w : tensor<1x16x16x16xf32>, tensor<16x16x3x3xf32>) outs(%f : tensor<1x16x14x14xf32>) -> tensor<1x16x14x14xf32>
  return %y : tensor<1x16x14x14xf32>
}

// What the layout leaves to IREE, and the reason it gives for each: every op comes out as it went in.
// RUN: dlas-opt %s --pass-pipeline='dlas-blocked-layout{lanes=8 registers=16}' --notes | FileCheck %s
// RUN: not dlas-opt %s --pass-pipeline='dlas-blocked-layout{lanes=6}' 2>&1 | FileCheck %s --check-prefix=LANES
// RUN: not dlas-opt %s --pass-pipeline='dlas-blocked-layout{registers=2}' 2>&1 | FileCheck %s --check-prefix=REGISTERS

// LANES: error: pass dlas-blocked-layout: lanes=6 is not a power of two
// REGISTERS: error: pass dlas-blocked-layout: registers=2: an accumulator, a weight and an input need 3

// CHECK-NOT: done
// CHECK: // dlas-blocked-layout: refused: dynamic: linalg.conv_2d_nchw_fchw: dynamic shape
// CHECK-NEXT: // dlas-blocked-layout: refused: computed_weights: linalg.conv_2d_nchw_fchw: weights are not a constant
// CHECK-NEXT: // dlas-blocked-layout: refused: accumulate: linalg.conv_2d_nchw_fchw: the accumulator does not start from zero
// CHECK-NEXT: // dlas-blocked-layout: refused: double: linalg.conv_2d_nchw_fchw: f64 convolutions have no schedule (f32 has)
// CHECK-NEXT: // dlas-blocked-layout: refused: grouped: linalg.conv_2d_ngchw_gfchw: grouped convolution without the canonical reshapes
// CHECK-NEXT: // dlas-blocked-layout: refused: nine_groups: linalg.conv_2d_ngchw_gfchw: 9 groups of 10 to 10 channels do not fill blocks of 8 by merging groups; a kernel of 36 elements, of which planar_conv unrolls 25
// CHECK-NEXT: // dlas-blocked-layout: refused: running_sum: linalg.pooling_nchw_sum: unknown initial value
// CHECK-NEXT: // dlas-blocked-layout: refused: attention: linalg.matmul: the right operand is not a constant
// CHECK-NEXT: // dlas-blocked-layout: refused: rows: linalg.matmul: dynamic shape
// CHECK-NOT: // dlas
// CHECK-NOT: flow.dispatch

// CHECK-LABEL: func.func @dynamic
// CHECK: linalg.conv_2d_nchw_fchw
func.func @dynamic(%x: tensor<?x8x6x6xf32>, %init: tensor<?x8x6x6xf32>) -> tensor<?x8x6x6xf32> {
  %w = arith.constant dense<2.0> : tensor<8x8x1x1xf32>
  %y = linalg.conv_2d_nchw_fchw {dlas.layer = "dynamic"} ins(%x, %w : tensor<?x8x6x6xf32>, tensor<8x8x1x1xf32>) outs(%init : tensor<?x8x6x6xf32>) -> tensor<?x8x6x6xf32>
  return %y : tensor<?x8x6x6xf32>
}

// CHECK-LABEL: func.func @computed_weights
// CHECK: linalg.conv_2d_nchw_fchw
func.func @computed_weights(%x: tensor<1x8x6x6xf32>, %w: tensor<8x8x1x1xf32>) -> tensor<1x8x6x6xf32> {
  %zero = arith.constant 0.0 : f32
  %empty = tensor.empty() : tensor<1x8x6x6xf32>
  %init = linalg.fill ins(%zero : f32) outs(%empty : tensor<1x8x6x6xf32>) -> tensor<1x8x6x6xf32>
  %y = linalg.conv_2d_nchw_fchw {dlas.layer = "computed_weights"} ins(%x, %w : tensor<1x8x6x6xf32>, tensor<8x8x1x1xf32>) outs(%init : tensor<1x8x6x6xf32>) -> tensor<1x8x6x6xf32>
  return %y : tensor<1x8x6x6xf32>
}

// CHECK-LABEL: func.func @accumulate
// CHECK: linalg.conv_2d_nchw_fchw
func.func @accumulate(%x: tensor<1x8x6x6xf32>, %init: tensor<1x8x6x6xf32>) -> tensor<1x8x6x6xf32> {
  %w = arith.constant dense<2.0> : tensor<8x8x1x1xf32>
  %y = linalg.conv_2d_nchw_fchw {dlas.layer = "accumulate"} ins(%x, %w : tensor<1x8x6x6xf32>, tensor<8x8x1x1xf32>) outs(%init : tensor<1x8x6x6xf32>) -> tensor<1x8x6x6xf32>
  return %y : tensor<1x8x6x6xf32>
}

// CHECK-LABEL: func.func @double
// CHECK: linalg.conv_2d_nchw_fchw
func.func @double(%x: tensor<1x8x6x6xf64>) -> tensor<1x8x6x6xf64> {
  %zero = arith.constant 0.0 : f64
  %w = arith.constant dense<2.0> : tensor<8x8x1x1xf64>
  %empty = tensor.empty() : tensor<1x8x6x6xf64>
  %init = linalg.fill ins(%zero : f64) outs(%empty : tensor<1x8x6x6xf64>) -> tensor<1x8x6x6xf64>
  %y = linalg.conv_2d_nchw_fchw {dlas.layer = "double"} ins(%x, %w : tensor<1x8x6x6xf64>, tensor<8x8x1x1xf64>) outs(%init : tensor<1x8x6x6xf64>) -> tensor<1x8x6x6xf64>
  return %y : tensor<1x8x6x6xf64>
}

// CHECK-LABEL: func.func @grouped
// CHECK: linalg.conv_2d_ngchw_gfchw
func.func @grouped(%x: tensor<1x2x8x6x6xf32>) -> tensor<1x2x8x6x6xf32> {
  %zero = arith.constant 0.0 : f32
  %w = arith.constant dense<2.0> : tensor<2x8x8x1x1xf32>
  %empty = tensor.empty() : tensor<1x2x8x6x6xf32>
  %init = linalg.fill ins(%zero : f32) outs(%empty : tensor<1x2x8x6x6xf32>) -> tensor<1x2x8x6x6xf32>
  %y = linalg.conv_2d_ngchw_gfchw {dlas.layer = "grouped"} ins(%x, %w : tensor<1x2x8x6x6xf32>, tensor<2x8x8x1x1xf32>) outs(%init : tensor<1x2x8x6x6xf32>) -> tensor<1x2x8x6x6xf32>
  return %y : tensor<1x2x8x6x6xf32>
}

// CHECK-LABEL: func.func @nine_groups
// CHECK: linalg.conv_2d_ngchw_gfchw
func.func @nine_groups(%x: tensor<1x90x6x6xf32>) -> tensor<1x90x1x1xf32> {
  %zero = arith.constant 0.0 : f32
  %w = arith.constant dense<2.0> : tensor<9x10x10x6x6xf32>
  %empty = tensor.empty() : tensor<1x9x10x1x1xf32>
  %init = linalg.fill ins(%zero : f32) outs(%empty : tensor<1x9x10x1x1xf32>) -> tensor<1x9x10x1x1xf32>
  %groups = tensor.expand_shape %x [[0], [1, 2], [3], [4]] output_shape [1, 9, 10, 6, 6] : tensor<1x90x6x6xf32> into tensor<1x9x10x6x6xf32>
  %conv = linalg.conv_2d_ngchw_gfchw {dlas.layer = "nine_groups"} ins(%groups, %w : tensor<1x9x10x6x6xf32>, tensor<9x10x10x6x6xf32>) outs(%init : tensor<1x9x10x1x1xf32>) -> tensor<1x9x10x1x1xf32>
  %y = tensor.collapse_shape %conv [[0], [1, 2], [3], [4]] : tensor<1x9x10x1x1xf32> into tensor<1x90x1x1xf32>
  return %y : tensor<1x90x1x1xf32>
}

// CHECK-LABEL: func.func @running_sum
// CHECK: linalg.pooling_nchw_sum
func.func @running_sum(%x: tensor<1x8x6x6xf32>, %init: tensor<1x8x4x4xf32>) -> tensor<1x8x4x4xf32> {
  %window = tensor.empty() : tensor<3x3xf32>
  %y = linalg.pooling_nchw_sum {dlas.layer = "running_sum", strides = dense<1> : tensor<2xi64>, dilations = dense<1> : tensor<2xi64>} ins(%x, %window : tensor<1x8x6x6xf32>, tensor<3x3xf32>) outs(%init : tensor<1x8x4x4xf32>) -> tensor<1x8x4x4xf32>
  return %y : tensor<1x8x4x4xf32>
}

// CHECK-LABEL: func.func @attention
// CHECK: linalg.matmul
func.func @attention(%x: tensor<4x8xf32>, %w: tensor<8x4xf32>) -> tensor<4x4xf32> {
  %zero = arith.constant 0.0 : f32
  %empty = tensor.empty() : tensor<4x4xf32>
  %init = linalg.fill ins(%zero : f32) outs(%empty : tensor<4x4xf32>) -> tensor<4x4xf32>
  %y = linalg.matmul {dlas.layer = "attention"} ins(%x, %w : tensor<4x8xf32>, tensor<8x4xf32>) outs(%init : tensor<4x4xf32>) -> tensor<4x4xf32>
  return %y : tensor<4x4xf32>
}

// CHECK-LABEL: func.func @rows
// CHECK: linalg.matmul
func.func @rows(%x: tensor<?x8xf32>, %init: tensor<?x4xf32>) -> tensor<?x4xf32> {
  %w = arith.constant dense<2.0> : tensor<8x4xf32>
  %y = linalg.matmul {dlas.layer = "rows"} ins(%x, %w : tensor<?x8xf32>, tensor<8x4xf32>) outs(%init : tensor<?x4xf32>) -> tensor<?x4xf32>
  return %y : tensor<?x4xf32>
}

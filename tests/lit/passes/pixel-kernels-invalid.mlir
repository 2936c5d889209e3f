// What the GPU pass leaves to IREE, and the reason it gives for each: every op comes out as it went in.
// RUN: dlas-opt %s --pass-pipeline='dlas-pixel-kernels{share=0.3 workgroups=3}' --notes | FileCheck %s
// RUN: not dlas-opt %s --pass-pipeline='dlas-pixel-kernels{subgroup=12}' 2>&1 | FileCheck %s --check-prefix=SUBGROUP
// RUN: not dlas-opt %s --pass-pipeline='dlas-pixel-kernels{subgroup=32 threads=16}' 2>&1 | FileCheck %s --check-prefix=THREADS

// SUBGROUP: error: pass dlas-pixel-kernels: subgroup=12 is not a power of two
// THREADS: error: pass dlas-pixel-kernels: threads=16 are less than a subgroup of 32

// CHECK-NOT: done
// CHECK: // dlas-pixel-kernels: refused: dense: linalg.conv_2d_nchw_fchw: no zeros among the weights: GPUs have schedules for pruned convolutions only
// CHECK-NEXT: // dlas-pixel-kernels: refused: gemm: linalg.conv_2d_nchw_fchw: sparse algorithm 'gemm' has no kernel (direct has)
// CHECK-NEXT: // dlas-pixel-kernels: refused: many: linalg.conv_2d_nchw_fchw: 50.0% of the weights are not zero, more than the target's 30% for pointwise convolutions
// CHECK-NEXT: // dlas-pixel-kernels: refused: large: linalg.conv_2d_nchw_fchw: 4 workgroups for one channel alone, and the device has 3
// CHECK-NEXT: // dlas-pixel-kernels: refused: half: linalg.conv_2d_nchw_fchw: f16 convolutions have no schedule (f32 has)
// CHECK-NEXT: // dlas-pixel-kernels: refused: linear: linalg.matmul: only convolutions have a sparse kernel on GPUs
// CHECK-NOT: // dlas
// CHECK-NOT: flow.dispatch

// CHECK-LABEL: func.func @convolutions
// CHECK-COUNT-5: linalg.conv_2d_nchw_fchw
func.func @convolutions(%x: tensor<1x2x9x9xf32>, %big: tensor<1x2x15x15xf32>, %h: tensor<1x2x9x9xf16>)
    -> (tensor<1x2x9x9xf32>, tensor<1x2x9x9xf32>, tensor<1x2x9x9xf32>, tensor<1x2x15x15xf32>, tensor<1x2x9x9xf16>) {
  %zero = arith.constant 0.0 : f32
  %zero16 = arith.constant 0.0 : f16
  %dense = arith.constant dense<1.5> : tensor<2x2x1x1xf32>
  %half = arith.constant dense<[[[[1.0]], [[0.0]]], [[[0.0]], [[2.0]]]]> : tensor<2x2x1x1xf32>
  %quarter = arith.constant dense<[[[[1.0]], [[0.0]]], [[[0.0]], [[0.0]]]]> : tensor<2x2x1x1xf32>
  %w16 = arith.constant dense<[[[[1.0]], [[0.0]]], [[[0.0]], [[0.0]]]]> : tensor<2x2x1x1xf16>
  %e = tensor.empty() : tensor<1x2x9x9xf32>
  %i = linalg.fill ins(%zero : f32) outs(%e : tensor<1x2x9x9xf32>) -> tensor<1x2x9x9xf32>
  %eb = tensor.empty() : tensor<1x2x15x15xf32>
  %ib = linalg.fill ins(%zero : f32) outs(%eb : tensor<1x2x15x15xf32>) -> tensor<1x2x15x15xf32>
  %eh = tensor.empty() : tensor<1x2x9x9xf16>
  %ih = linalg.fill ins(%zero16 : f16) outs(%eh : tensor<1x2x9x9xf16>) -> tensor<1x2x9x9xf16>
  %0 = linalg.conv_2d_nchw_fchw {dlas.layer = "dense"} ins(%x, %dense : tensor<1x2x9x9xf32>, tensor<2x2x1x1xf32>) outs(%i : tensor<1x2x9x9xf32>) -> tensor<1x2x9x9xf32>
  %1 = linalg.conv_2d_nchw_fchw {dlas.layer = "gemm", dlas.sparse = "gemm"} ins(%x, %quarter : tensor<1x2x9x9xf32>, tensor<2x2x1x1xf32>) outs(%i : tensor<1x2x9x9xf32>) -> tensor<1x2x9x9xf32>
  %2 = linalg.conv_2d_nchw_fchw {dlas.layer = "many", dlas.sparse = "direct"} ins(%x, %half : tensor<1x2x9x9xf32>, tensor<2x2x1x1xf32>) outs(%i : tensor<1x2x9x9xf32>) -> tensor<1x2x9x9xf32>
  %3 = linalg.conv_2d_nchw_fchw {dlas.layer = "large", dlas.sparse = "direct"} ins(%big, %quarter : tensor<1x2x15x15xf32>, tensor<2x2x1x1xf32>) outs(%ib : tensor<1x2x15x15xf32>) -> tensor<1x2x15x15xf32>
  %4 = linalg.conv_2d_nchw_fchw {dlas.layer = "half", dlas.sparse = "direct"} ins(%h, %w16 : tensor<1x2x9x9xf16>, tensor<2x2x1x1xf16>) outs(%ih : tensor<1x2x9x9xf16>) -> tensor<1x2x9x9xf16>
  return %0, %1, %2, %3, %4 : tensor<1x2x9x9xf32>, tensor<1x2x9x9xf32>, tensor<1x2x9x9xf32>, tensor<1x2x15x15xf32>, tensor<1x2x9x9xf16>
}

// CHECK-LABEL: func.func @linear
// CHECK: linalg.matmul
func.func @linear(%x: tensor<1x2xf32>) -> tensor<1x2xf32> {
  %zero = arith.constant 0.0 : f32
  %w = arith.constant dense<[[0.0, 1.0], [0.0, 0.0]]> : tensor<2x2xf32>
  %e = tensor.empty() : tensor<1x2xf32>
  %i = linalg.fill ins(%zero : f32) outs(%e : tensor<1x2xf32>) -> tensor<1x2xf32>
  %y = linalg.matmul {dlas.layer = "linear", dlas.sparse = "direct"} ins(%x, %w : tensor<1x2xf32>, tensor<2x2xf32>) outs(%i : tensor<1x2xf32>) -> tensor<1x2xf32>
  return %y : tensor<1x2xf32>
}

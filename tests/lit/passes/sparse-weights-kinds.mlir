// Weights of 3-D convolutions, grouped ones (a linalg.generic) too, and of f16 and f64 are typed; one matrix per batch is not.
// RUN: dlas-opt %s --pass-pipeline='dlas-type-sparse-weights' --notes | FileCheck %s
// RUN: dlas-opt %s --pass-pipeline='dlas-type-sparse-weights,dlas-densify-sparse-weights' | FileCheck %s --check-prefix=DENSE

// CHECK: done: volume: CSR [2, 4], 3 of 8 stored, any
// CHECK: done: grouped: CSR [2, 2], 1 of 4 stored, any
// CHECK: refused: experts: a matrix per batch
// CHECK-NOT: plain

// CHECK-LABEL: func.func @volume
// CHECK: %[[D:.*]] = sparse_tensor.convert {{.*}} to tensor<2x4xf64>
// CHECK: %[[W:.*]] = tensor.expand_shape %[[D]] {{\[\[0\], \[1, 2, 3, 4\]\]}}
// CHECK: linalg.conv_3d_ncdhw_fcdhw {dlas.layer = "volume", dlas.sparse = "any"} ins(%{{.*}}, %[[W]] :
// DENSE-LABEL: func.func @volume
// DENSE-NOT: sparse_tensor
// DENSE: linalg.conv_3d_ncdhw_fcdhw {dlas.layer = "volume", dlas.sparse = "any"}
func.func @volume(%x: tensor<1x1x2x3x3xf64>, %init: tensor<1x2x1x2x3xf64>) -> tensor<1x2x1x2x3xf64> {
  %w = arith.constant dense<[[[[[1.0], [0.0]], [[2.0], [0.0]]]], [[[[0.0], [0.0]], [[0.0], [3.0]]]]]> : tensor<2x1x2x2x1xf64>
  %y = linalg.conv_3d_ncdhw_fcdhw {dlas.layer = "volume"} ins(%x, %w : tensor<1x1x2x3x3xf64>, tensor<2x1x2x2x1xf64>) outs(%init : tensor<1x2x1x2x3xf64>) -> tensor<1x2x1x2x3xf64>
  return %y : tensor<1x2x1x2x3xf64>
}

// CHECK-LABEL: func.func @grouped
// CHECK: %[[W:.*]] = tensor.expand_shape %{{.*}} {{\[\[0, 1\], \[2, 3, 4, 5\]\]}} {{.*}} tensor<2x2xf16> into tensor<2x1x1x1x1x2xf16>
// CHECK: linalg.generic {{.*}} ins(%{{.*}}, %[[W]] : {{.*}}dlas.sparse = "any"
// DENSE-LABEL: func.func @grouped
// DENSE: linalg.generic {{.*}}dlas.sparse = "any"
func.func @grouped(%x: tensor<1x2x1x2x2x4xf16>, %init: tensor<1x2x1x2x2x2xf32>) -> tensor<1x2x1x2x2x2xf32> {
  %w = arith.constant dense<[[[[[[1.0, 0.0]]]]], [[[[[0.0, 0.0]]]]]]> : tensor<2x1x1x1x1x2xf16>
  %y = linalg.generic {
    indexing_maps = [affine_map<(n, g, k, o, p, q, c, z, y, x) -> (n, g, c, o + z, p + y, q + x * 2)>,
                     affine_map<(n, g, k, o, p, q, c, z, y, x) -> (g, k, c, z, y, x)>,
                     affine_map<(n, g, k, o, p, q, c, z, y, x) -> (n, g, k, o, p, q)>],
    iterator_types = ["parallel", "parallel", "parallel", "parallel", "parallel", "parallel", "reduction", "reduction", "reduction", "reduction"]
  } ins(%x, %w : tensor<1x2x1x2x2x4xf16>, tensor<2x1x1x1x1x2xf16>) outs(%init : tensor<1x2x1x2x2x2xf32>) attrs = {dlas.layer = "grouped"} {
  ^bb0(%a: f16, %b: f16, %out: f32):
    %e = arith.extf %a : f16 to f32
    %f = arith.extf %b : f16 to f32
    %m = arith.mulf %e, %f : f32
    %s = arith.addf %m, %out : f32
    linalg.yield %s : f32
  } -> tensor<1x2x1x2x2x2xf32>
  return %y : tensor<1x2x1x2x2x2xf32>
}

func.func @experts(%x: tensor<2x3x2xf32>, %init: tensor<2x3x1xf32>) -> tensor<2x3x1xf32> {
  %w = arith.constant dense<[[[1.0], [0.0]], [[0.0], [2.0]]]> : tensor<2x2x1xf32>
  %y = linalg.batch_matmul {dlas.layer = "experts"} ins(%x, %w : tensor<2x3x2xf32>, tensor<2x2x1xf32>) outs(%init : tensor<2x3x1xf32>) -> tensor<2x3x1xf32>
  return %y : tensor<2x3x1xf32>
}

// Zeros in what is no convolution mean nothing.
func.func @plain(%x: tensor<2xf32>, %init: tensor<2xf32>) -> tensor<2xf32> {
  %w = arith.constant dense<[0.0, 1.0]> : tensor<2xf32>
  %y = linalg.generic {indexing_maps = [affine_map<(i) -> (i)>, affine_map<(i) -> (i)>, affine_map<(i) -> (i)>], iterator_types = ["parallel"]}
    ins(%x, %w : tensor<2xf32>, tensor<2xf32>) outs(%init : tensor<2xf32>) attrs = {dlas.layer = "plain"} {
  ^bb0(%a: f32, %b: f32, %out: f32):
    %m = arith.mulf %a, %b : f32
    linalg.yield %m : f32
  } -> tensor<2xf32>
  return %y : tensor<2xf32>
}

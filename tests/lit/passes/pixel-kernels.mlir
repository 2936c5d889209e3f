// Pruned convolutions on a GPU: CSR arrays whose columns are positions in the padded input, and a thread per output pixel
// and channel that walks a row of them. Stride, dilation and groups are in the positions.
// RUN: dlas-opt %s --pass-pipeline='dlas-pixel-kernels{subgroup=8}' --notes | FileCheck %s
// RUN: dlas-opt %s --pass-pipeline='dlas-pixel-kernels{subgroup=8 workgroups=2}' --notes | FileCheck %s --check-prefix=FEW

// CHECK-DAG: done: strided: sparse: sparse_pixel_conv{threads=64 k_w=1}: 8.3% of the weights are not zero: 64 threads of a pixel each
// CHECK-DAG: done: grouped: sparse: sparse_pixel_conv{threads=64 k_w=1}: 22.2% of the weights are not zero
// CHECK-DAG: done: pointwise: sparse: sparse_pixel_conv{threads=64 k_w=1}: 50.0% of the weights are not zero

// A padded row has 15 columns and a padded channel 105 pixels: channel 0 has the tap in the middle (15 + 1), and of input
// channel 1 the last one (105 + 2 * 15 + 2); channel 1 the first of input channel 0. Bias, residual and ReLU join.
// CHECK-LABEL: func.func @strided
// CHECK-SAME: %[[X:.*]]: tensor<1x2x5x13xf32>, %[[R:.*]]: tensor<1x2x3x7xf32>
// CHECK-DAG: arith.constant dense<[0, 2, 3]> : tensor<3xi32>
// CHECK-DAG: arith.constant dense<[16, 137, 0]> : tensor<3xi32>
// CHECK-DAG: arith.constant dense<[2.000000e+00, 3.000000e+00, 5.000000e+00]> : tensor<3xf32>
// CHECK: flow.dispatch.workgroups[%c2]{{.*}} -> tensor<1x2x21xf32>
// CHECK: scf.forall (%[[T:.*]]) in (21)
// CHECK: affine.apply #[[CORNER:.*]](
// CHECK: scf.for {{.*}} -> (f32)
// CHECK: tensor.extract {{.*}} : tensor<3xf32>
// CHECK: tensor.extract {{.*}} : tensor<3xi32>
// CHECK: tensor.extract {{.*}} : tensor<210xf32>
// CHECK: math.fma {{.*}}dlas.role = "root"
// CHECK: arith.addf
// CHECK: arith.addf
// CHECK: arith.maximumf
// CHECK: tensor.insert
// CHECK: tensor.parallel_insert_slice
// CHECK: mapping = [#gpu.thread<linear_dim_0>]
// CHECK-NOT: linalg.generic
// CHECK: return
func.func @strided(%x: tensor<1x2x5x13xf32>, %r: tensor<1x2x3x7xf32>) -> tensor<1x2x3x7xf32> {
  %zero = arith.constant 0.0 : f32
  %w = arith.constant dense<[[[[0.0, 0.0, 0.0], [0.0, 2.0, 0.0], [0.0, 0.0, 0.0]], [[0.0, 0.0, 0.0], [0.0, 0.0, 0.0], [0.0, 0.0, 3.0]]],
                             [[[5.0, 0.0, 0.0], [0.0, 0.0, 0.0], [0.0, 0.0, 0.0]], [[0.0, 0.0, 0.0], [0.0, 0.0, 0.0], [0.0, 0.0, 0.0]]]]> : tensor<2x2x3x3xf32>
  %bias = arith.constant dense<[1.0, 2.0]> : tensor<2xf32>
  %pad = tensor.pad %x low[0, 0, 1, 1] high[0, 0, 1, 1] {
  ^bb0(%a0: index, %a1: index, %a2: index, %a3: index):
    tensor.yield %zero : f32
  } : tensor<1x2x5x13xf32> to tensor<1x2x7x15xf32>
  %empty = tensor.empty() : tensor<1x2x3x7xf32>
  %init = linalg.fill ins(%zero : f32) outs(%empty : tensor<1x2x3x7xf32>) -> tensor<1x2x3x7xf32>
  %y = linalg.conv_2d_nchw_fchw {strides = dense<2> : tensor<2xi64>, dlas.layer = "strided", dlas.sparse = "direct"} ins(%pad, %w : tensor<1x2x7x15xf32>, tensor<2x2x3x3xf32>) outs(%init : tensor<1x2x3x7xf32>) -> tensor<1x2x3x7xf32>
  %z = linalg.generic {indexing_maps = [affine_map<(n, c, h, w) -> (n, c, h, w)>, affine_map<(n, c, h, w) -> (c)>, affine_map<(n, c, h, w) -> (n, c, h, w)>, affine_map<(n, c, h, w) -> (n, c, h, w)>], iterator_types = ["parallel", "parallel", "parallel", "parallel"]}
    ins(%y, %bias, %r : tensor<1x2x3x7xf32>, tensor<2xf32>, tensor<1x2x3x7xf32>) outs(%empty : tensor<1x2x3x7xf32>) {
  ^bb0(%a: f32, %b: f32, %c: f32, %o: f32):
    %0 = arith.addf %a, %b : f32
    %1 = arith.addf %0, %c : f32
    %2 = arith.maximumf %1, %zero : f32
    linalg.yield %2 : f32
  } -> tensor<1x2x3x7xf32>
  return %z : tensor<1x2x3x7xf32>
}

// Two groups of 2 to 1 channels, 12 rows of 9 columns dilated by 2: the second group begins behind 2 channels of 108
// pixels; 8 by 5 results are one tile.
// CHECK-LABEL: func.func @grouped
// CHECK-DAG: arith.constant dense<[0, 4, 8]> : tensor<3xi32>
// CHECK-DAG: arith.constant dense<[0, 4, 36, 40, 216, 220, 252, 256]> : tensor<8xi32>
// CHECK: scf.forall {{.*}} in (40)
func.func @grouped(%x: tensor<1x4x12x9xf32>) -> tensor<1x2x8x5xf32> {
  %zero = arith.constant 0.0 : f32
  %w = arith.constant dense<[[[[[1.0, 0.0, 1.0], [0.0, 0.0, 0.0], [1.0, 0.0, 1.0]], [[0.0, 0.0, 0.0], [0.0, 0.0, 0.0], [0.0, 0.0, 0.0]]]],
                             [[[[1.0, 0.0, 2.0], [0.0, 0.0, 0.0], [1.0, 0.0, 2.0]], [[0.0, 0.0, 0.0], [0.0, 0.0, 0.0], [0.0, 0.0, 0.0]]]]]> : tensor<2x1x2x3x3xf32>
  %in = tensor.expand_shape %x [[0], [1, 2], [3], [4]] output_shape [1, 2, 2, 12, 9] : tensor<1x4x12x9xf32> into tensor<1x2x2x12x9xf32>
  %empty = tensor.empty() : tensor<1x2x1x8x5xf32>
  %init = linalg.fill ins(%zero : f32) outs(%empty : tensor<1x2x1x8x5xf32>) -> tensor<1x2x1x8x5xf32>
  %y = linalg.conv_2d_ngchw_gfchw {dilations = dense<2> : tensor<2xi64>, dlas.layer = "grouped", dlas.sparse = "direct"} ins(%in, %w : tensor<1x2x2x12x9xf32>, tensor<2x1x2x3x3xf32>) outs(%init : tensor<1x2x1x8x5xf32>) -> tensor<1x2x1x8x5xf32>
  %out = tensor.collapse_shape %y [[0], [1, 2], [3], [4]] : tensor<1x2x1x8x5xf32> into tensor<1x2x8x5xf32>
  return %out : tensor<1x2x8x5xf32>
}

// 9 by 9 pixels are two tiles, of which the second has fewer pixels than threads. With two workgroups at most, each has
// both channels.
// CHECK-LABEL: func.func @pointwise
// CHECK: flow.dispatch.workgroups[%c4]
// CHECK: %[[COUNT:.*]] = affine.min
// CHECK: scf.forall {{.*}} in (%[[COUNT]])
// FEW: done: pointwise: sparse: sparse_pixel_conv{threads=64 k_w=2}: 50.0% of the weights are not zero: 64 threads of a pixel each, 2 channels one after the other
// FEW-LABEL: func.func @pointwise
// FEW: flow.dispatch.workgroups[%c2]
// FEW: scf.forall
// FEW: scf.for {{.*}} -> (tensor<2x1xf32>)
func.func @pointwise(%x: tensor<1x2x9x9xf32>) -> tensor<1x2x9x9xf32> {
  %zero = arith.constant 0.0 : f32
  %w = arith.constant dense<[[[[1.0]], [[0.0]]], [[[0.0]], [[2.0]]]]> : tensor<2x2x1x1xf32>
  %empty = tensor.empty() : tensor<1x2x9x9xf32>
  %init = linalg.fill ins(%zero : f32) outs(%empty : tensor<1x2x9x9xf32>) -> tensor<1x2x9x9xf32>
  %y = linalg.conv_2d_nchw_fchw {dlas.layer = "pointwise", dlas.sparse = "direct"} ins(%x, %w : tensor<1x2x9x9xf32>, tensor<2x2x1x1xf32>) outs(%init : tensor<1x2x9x9xf32>) -> tensor<1x2x9x9xf32>
  return %y : tensor<1x2x9x9xf32>
}

// separable_conv: the depthwise convolution as vector code into scratch, then the pointwise one as a contraction whose
// accumulators are carried as vectors, some rows after the other.
// RUN: %python %S/Inputs/schedule.py %s x86_64-v3 separable cores=1 | FileCheck %s
// RUN: %python %S/Inputs/schedule.py %s x86_64-v3 separable cores=2 | FileCheck %s --check-prefix=BANDS
// RUN: not %python %S/Inputs/schedule.py %s x86_64-v3 separable t_o=12 2>&1 | FileCheck %s --check-prefix=WRONG

// CHECK: // separable: separable_conv rows=8 pixels=10 m=0 t_o=16 ow=5 block=8
// CHECK-LABEL: func.func @{{.*}} attributes {dlas.schedule = "separable_conv"}
// CHECK-NOT: linalg.
// Channel blocks and rows of the depthwise result, 10 pixels at a time: the sums of 3 kernel rows stay in registers.
// CHECK: scf.for %{{.*}} = %c0 to %c2 step %c1 {{.*}} -> (tensor<2x8x{{[0-9]+}}x8xf32>)
// CHECK: scf.for %{{.*}} = %c0 to %c8 step %c1 {{.*}} -> (tensor<2x8x{{[0-9]+}}x8xf32>)
// CHECK: scf.for %{{.*}} = %c0 to %c3 step %c1 {{.*}} -> (vector<8xf32>, vector<8xf32>,
// CHECK-COUNT-30: vector.fma
// CHECK-NOT: vector.fma
// CHECK: scf.yield
// CHECK-COUNT-10: arith.maximumf
// CHECK-NOT: arith.maximumf
// CHECK-COUNT-10: vector.transfer_write {{.*}} tensor<2x8x{{[0-9]+}}x8xf32>
// The pointwise convolution: rows, 5 pixels at a time, a channel block of the scratch at a time.
// CHECK: scf.for %{{.*}} = %c0 to %c2 step %c1 {{.*}} -> (vector<2x5x8xf32>)
// CHECK-COUNT-80: vector.fma %{{.*}} : vector<8xf32>
// CHECK-NOT: vector.fma
// CHECK: scf.yield %{{.*}} : vector<2x5x8xf32>
// CHECK: arith.addf %{{.*}} : vector<2x5x8xf32>
// CHECK-NOT: linalg.
// CHECK: return

// BANDS: // separable: separable_conv rows=2
// BANDS: -> (tensor<2x2x{{[0-9]+}}x8xf32>)

// WRONG: error: separable_conv: t_o=12 is not a multiple of block=8
func.func @main(%x: tensor<1x16x8x10xf32>) -> tensor<1x16x8x10xf32> {
  %zero = arith.constant 0.0 : f32
  %taps = arith.constant dense<2.0> : tensor<16x3x3xf32>
  %w = arith.constant dense<3.0> : tensor<16x16x1x1xf32>
  %bias = arith.constant dense<1.0> : tensor<16xf32>
  %empty = tensor.empty() : tensor<1x16x8x10xf32>
  %init = linalg.fill ins(%zero : f32) outs(%empty : tensor<1x16x8x10xf32>) -> tensor<1x16x8x10xf32>
  %pad = tensor.pad %x low[0, 0, 1, 1] high[0, 0, 1, 1] {
  ^bb0(%a0: index, %a1: index, %a2: index, %a3: index):
    tensor.yield %zero : f32
  } : tensor<1x16x8x10xf32> to tensor<1x16x10x12xf32>
  %dw = linalg.depthwise_conv_2d_nchw_chw {dlas.layer = "depthwise"}
    ins(%pad, %taps : tensor<1x16x10x12xf32>, tensor<16x3x3xf32>) outs(%init : tensor<1x16x8x10xf32>)
    -> tensor<1x16x8x10xf32>
  %relu = linalg.generic {indexing_maps = [affine_map<(n, c, h, w) -> (n, c, h, w)>, affine_map<(n, c, h, w) -> (n, c, h, w)>],
                          iterator_types = ["parallel", "parallel", "parallel", "parallel"]}
    ins(%dw : tensor<1x16x8x10xf32>) outs(%empty : tensor<1x16x8x10xf32>) {
  ^bb0(%in: f32, %out: f32):
    %0 = arith.maximumf %in, %zero : f32
    linalg.yield %0 : f32
  } -> tensor<1x16x8x10xf32>
  %pw = linalg.conv_2d_nchw_fchw {dlas.layer = "pointwise"}
    ins(%relu, %w : tensor<1x16x8x10xf32>, tensor<16x16x1x1xf32>) outs(%init : tensor<1x16x8x10xf32>)
    -> tensor<1x16x8x10xf32>
  %sum = linalg.generic {indexing_maps = [affine_map<(n, c, h, w) -> (n, c, h, w)>, affine_map<(n, c, h, w) -> (c)>, affine_map<(n, c, h, w) -> (n, c, h, w)>],
                         iterator_types = ["parallel", "parallel", "parallel", "parallel"]}
    ins(%pw, %bias : tensor<1x16x8x10xf32>, tensor<16xf32>) outs(%empty : tensor<1x16x8x10xf32>) {
  ^bb0(%in: f32, %b: f32, %out: f32):
    %0 = arith.addf %in, %b : f32
    linalg.yield %0 : f32
  } -> tensor<1x16x8x10xf32>
  return %sum : tensor<1x16x8x10xf32>
}

// separable_conv on groups of two channels: the sums of the first convolution by lane shuffles, into scratch.
// RUN: %python %S/Inputs/schedule.py %s x86_64-v3 separable winograd=0 cores=1 | FileCheck %s
// RUN: not %python %S/Inputs/schedule.py %s x86_64-v3 separable winograd=0 m=3 2>&1 | FileCheck %s --check-prefix=SIZE
// RUN: not %python %S/Inputs/schedule.py %s x86_64-v3 separable winograd=0 m=4 rows=6 2>&1 | FileCheck %s --check-prefix=PART

// CHECK: // separable: separable_conv rows=8 pixels=10 m=0 t_o=16 ow=5 block=8
// CHECK-LABEL: func.func @{{.*}} attributes {dlas.schedule = "separable_conv"}
// CHECK-NOT: linalg.
// CHECK: scf.for %{{.*}} = %c0 to %c2 step %c1 {{.*}} -> (tensor<2x8x[[ROOM:[0-9]+]]x8xf32>)
// CHECK: scf.for %{{.*}} = %c0 to %c8 step %c1 {{.*}} -> (tensor<2x8x[[ROOM]]x8xf32>)
// A row of the kernel: 12 columns, once for each channel of a pair.
// CHECK: scf.for %{{.*}} = %c0 to %c3 step %c1 {{.*}} -> (vector<8xf32>, vector<8xf32>,
// CHECK-COUNT-12: vector.shuffle %{{.*}} [0, 0, 2, 2, 4, 4, 6, 6]
// CHECK-COUNT-12: vector.shuffle %{{.*}} [1, 1, 3, 3, 5, 5, 7, 7]
// CHECK-NOT: vector.shuffle
// CHECK: scf.yield
// CHECK-COUNT-10: arith.maximumf
// CHECK-COUNT-10: vector.transfer_write {{.*}} tensor<2x8x[[ROOM]]x8xf32>
// The pointwise convolution.
// CHECK: scf.for %{{.*}} = %c0 to %c2 step %c1 {{.*}} -> (vector<2x5x8xf32>)
// CHECK-COUNT-80: vector.fma %{{.*}} : vector<8xf32>
// CHECK-NOT: linalg.
// CHECK: return

// SIZE: error: separable_conv: m=3 has no transforms (use 2 or 4, or 0: sums)
// PART: error: separable_conv: rows=6, pixels=10: not multiples of m=4
func.func @main(%x: tensor<1x16x8x10xf32>) -> tensor<1x16x8x10xf32> {
  %zero = arith.constant 0.0 : f32
  %taps = arith.constant dense<2.0> : tensor<8x2x2x3x3xf32>
  %w = arith.constant dense<3.0> : tensor<16x16x1x1xf32>
  %grouped = tensor.empty() : tensor<1x8x2x8x10xf32>
  %init = linalg.fill ins(%zero : f32) outs(%grouped : tensor<1x8x2x8x10xf32>) -> tensor<1x8x2x8x10xf32>
  %empty = tensor.empty() : tensor<1x16x8x10xf32>
  %init2 = linalg.fill ins(%zero : f32) outs(%empty : tensor<1x16x8x10xf32>) -> tensor<1x16x8x10xf32>
  %pad = tensor.pad %x low[0, 0, 1, 1] high[0, 0, 1, 1] {
  ^bb0(%a0: index, %a1: index, %a2: index, %a3: index):
    tensor.yield %zero : f32
  } : tensor<1x16x8x10xf32> to tensor<1x16x10x12xf32>
  %groups = tensor.expand_shape %pad [[0], [1, 2], [3], [4]] output_shape [1, 8, 2, 10, 12] : tensor<1x16x10x12xf32> into tensor<1x8x2x10x12xf32>
  %conv = linalg.conv_2d_ngchw_gfchw {dlas.layer = "grouped"} ins(%groups, %taps : tensor<1x8x2x10x12xf32>, tensor<8x2x2x3x3xf32>) outs(%init : tensor<1x8x2x8x10xf32>) -> tensor<1x8x2x8x10xf32>
  %y = tensor.collapse_shape %conv [[0], [1, 2], [3], [4]] : tensor<1x8x2x8x10xf32> into tensor<1x16x8x10xf32>
  %relu = linalg.generic {indexing_maps = [affine_map<(n, c, h, w) -> (n, c, h, w)>, affine_map<(n, c, h, w) -> (n, c, h, w)>],
                          iterator_types = ["parallel", "parallel", "parallel", "parallel"]}
    ins(%y : tensor<1x16x8x10xf32>) outs(%empty : tensor<1x16x8x10xf32>) {
  ^bb0(%in: f32, %out: f32):
    %0 = arith.maximumf %in, %zero : f32
    linalg.yield %0 : f32
  } -> tensor<1x16x8x10xf32>
  %pw = linalg.conv_2d_nchw_fchw {dlas.layer = "pointwise"} ins(%relu, %w : tensor<1x16x8x10xf32>, tensor<16x16x1x1xf32>) outs(%init2 : tensor<1x16x8x10xf32>) -> tensor<1x16x8x10xf32>
  return %pw : tensor<1x16x8x10xf32>
}

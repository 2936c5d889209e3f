// separable_conv in Winograd's domain: rows of tiles of all channel blocks, through the first convolution's elementwise
// ops into scratch; then the pointwise convolution on the rows that there are, of which the last part has fewer.
// RUN: %python %S/Inputs/schedule.py %s x86_64-v3 separable cores=1 | FileCheck %s
// RUN: %python %S/Inputs/schedule.py %s x86_64-v3 separable cores=2 | FileCheck %s --check-prefix=BANDS

// CHECK: // separable: separable_conv rows=16 pixels=16 m=4 t_o=16 ow=6 block=8
// CHECK-LABEL: func.func @{{.*}} attributes {dlas.schedule = "separable_conv"}
// CHECK-NOT: linalg.
// Channel blocks, and their rows of tiles: along columns; point by point along rows, multiplied; along columns again.
// CHECK: scf.for %{{.*}} = %c0 to %c2 step %c1 {{.*}} -> (tensor<2x16x[[ROOM:[0-9]+]]x8xf32>, tensor<1x6x18x8xf32>, tensor<6x16x8xf32>)
// CHECK: scf.for %{{.*}} = %c0 to %c4 step %c1 {{.*}} -> (tensor<2x16x[[ROOM]]x8xf32>, tensor<1x6x18x8xf32>, tensor<6x16x8xf32>)
// CHECK: scf.for %{{.*}} = %c0 to %c18 step %c1 {{.*}} -> (tensor<1x6x18x8xf32>)
// CHECK: scf.for %{{.*}} = %c0 to %c4 step %c1 {{.*}} -> (tensor<6x16x8xf32>)
// CHECK: scf.for %{{.*}} = %c0 to %c6 step %c1 {{.*}} -> (tensor<6x16x8xf32>)
// CHECK-COUNT-18: vector.shuffle
// CHECK: scf.for %{{.*}} = %c0 to %c16 step %c1 {{.*}} -> (tensor<2x16x[[ROOM]]x8xf32>)
// CHECK-COUNT-4: arith.maximumf
// CHECK-NOT: arith.maximumf
// The pointwise convolution reads 14 of the 16 rows.
// CHECK: scf.for %{{.*}} = %c0 to %c14 step %c1 {{.*}} -> (tensor<2x14x16x8xf32>)
// CHECK: scf.for %{{.*}} = %c0 to %c2 step %c1 {{.*}} -> (vector<2x6x8xf32>)
// CHECK-COUNT-96: vector.fma %{{.*}} : vector<8xf32>
// CHECK-NOT: linalg.
// CHECK: return

// BANDS: // separable: separable_conv rows=4
// BANDS: scf.for %[[PART:[a-z0-9]+]] = %{{.*}} to %{{.*}} step %c1 {{.*}} -> (tensor<2x14x16x8xf32>, tensor<2x4x{{[0-9]+}}x8xf32>,
// BANDS: %[[ROWS:[0-9]+]] = affine.min affine_map<(d0) -> (d0 * -4 + 14, 4)>(%[[PART]])
// BANDS: scf.for %{{.*}} = %c0 to %[[ROWS]] step %c1 {{.*}} -> (tensor<2x?x16x8xf32>)
func.func @main(%x: tensor<1x16x14x16xf32>) -> tensor<1x16x14x16xf32> {
  %zero = arith.constant 0.0 : f32
  %taps = arith.constant dense<2.0> : tensor<4x4x4x3x3xf32>
  %w = arith.constant dense<3.0> : tensor<16x16x1x1xf32>
  %grouped = tensor.empty() : tensor<1x4x4x14x16xf32>
  %init = linalg.fill ins(%zero : f32) outs(%grouped : tensor<1x4x4x14x16xf32>) -> tensor<1x4x4x14x16xf32>
  %empty = tensor.empty() : tensor<1x16x14x16xf32>
  %init2 = linalg.fill ins(%zero : f32) outs(%empty : tensor<1x16x14x16xf32>) -> tensor<1x16x14x16xf32>
  %pad = tensor.pad %x low[0, 0, 1, 1] high[0, 0, 1, 1] {
  ^bb0(%a0: index, %a1: index, %a2: index, %a3: index):
    tensor.yield %zero : f32
  } : tensor<1x16x14x16xf32> to tensor<1x16x16x18xf32>
  %groups = tensor.expand_shape %pad [[0], [1, 2], [3], [4]] output_shape [1, 4, 4, 16, 18] : tensor<1x16x16x18xf32> into tensor<1x4x4x16x18xf32>
  %conv = linalg.conv_2d_ngchw_gfchw {dlas.layer = "grouped"} ins(%groups, %taps : tensor<1x4x4x16x18xf32>, tensor<4x4x4x3x3xf32>) outs(%init : tensor<1x4x4x14x16xf32>) -> tensor<1x4x4x14x16xf32>
  %y = tensor.collapse_shape %conv [[0], [1, 2], [3], [4]] : tensor<1x4x4x14x16xf32> into tensor<1x16x14x16xf32>
  %relu = linalg.generic {indexing_maps = [affine_map<(n, c, h, w) -> (n, c, h, w)>, affine_map<(n, c, h, w) -> (n, c, h, w)>],
                          iterator_types = ["parallel", "parallel", "parallel", "parallel"]}
    ins(%y : tensor<1x16x14x16xf32>) outs(%empty : tensor<1x16x14x16xf32>) {
  ^bb0(%in: f32, %out: f32):
    %0 = arith.maximumf %in, %zero : f32
    linalg.yield %0 : f32
  } -> tensor<1x16x14x16xf32>
  %pw = linalg.conv_2d_nchw_fchw {dlas.layer = "pointwise"} ins(%relu, %w : tensor<1x16x14x16xf32>, tensor<16x16x1x1xf32>) outs(%init2 : tensor<1x16x14x16xf32>) -> tensor<1x16x14x16xf32>
  return %pw : tensor<1x16x14x16xf32>
}

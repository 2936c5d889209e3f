// strassen_conv: sums of quadrants of two register tiles of pixels, once for all output channels; then seven products for
// each two register tiles of channels, most of them into the accumulators of an earlier one. Quadrants themselves are
// read where they are.
// RUN: %python %S/Inputs/schedule.py %s x86_64-v3 pointwise cores=1 | FileCheck %s

// CHECK: // pointwise: strassen_conv pixels=4 t_o=8 k_w=32 rows=1 block=8
// CHECK-LABEL: func.func @{{.*}} attributes {dlas.schedule = "strassen_conv"}
// CHECK-NOT: linalg.
// Eight pairs of tiles of four pixels; S1 to S4 of three channel blocks and three more.
// CHECK: scf.for %{{.*}} = %c0 to %c8 step %c1 {{.*}} -> (tensor<4x4x16x8xf32>, tensor<4x3x4x8xf32>, tensor<3x1x4x8xf32>)
// CHECK: scf.for %{{.*}} = %c0 to %c4 step %c1 {{.*}} -> (tensor<4x3x4x8xf32>)
// CHECK: scf.for %{{.*}} = %c0 to %c3 step %c1 {{.*}} -> (tensor<4x3x4x8xf32>)
// CHECK: %[[A11:.*]] = vector.transfer_read {{.*}} tensor<6x4x16x8xf32>, vector<8xf32>
// CHECK: %[[A12:.*]] = vector.transfer_read
// CHECK: %[[A21:.*]] = vector.transfer_read
// CHECK: %[[A22:.*]] = vector.transfer_read
// CHECK: %[[S1:.*]] = arith.addf %[[A21]], %[[A22]]
// CHECK: %[[S2:.*]] = arith.subf %[[S1]], %[[A11]]
// CHECK: %[[S3:.*]] = arith.subf %[[A11]], %[[A21]]
// CHECK: %[[S4:.*]] = arith.subf %[[A12]], %[[S2]]
// CHECK: vector.transfer_write %[[S2]],
// CHECK-NEXT: vector.transfer_write %[[S3]],
// CHECK-NEXT: vector.transfer_write %[[S1]],
// CHECK-NEXT: %[[SUMS:.*]] = vector.transfer_write %[[S4]],
// CHECK: scf.for %{{.*}} = %c0 to %c2 step %c1 {{.*}} -> (tensor<4x4x16x8xf32>, tensor<3x1x4x8xf32>)
// P1 = A11 B11; U2 and U3 go on from there, and so does C21; what is kept on the way are stores.
// CHECK: %[[P1:.*]]:4 = scf.for {{.*}} iter_args({{.*}} = %cst, {{.*}} = %cst, {{.*}} = %cst, {{.*}} = %cst)
// CHECK: tensor.extract %{{.*}} : tensor<6x4x16x8xf32>
// CHECK: %[[U2:.*]]:4 = scf.for {{.*}} iter_args({{.*}} = %[[P1]]#0, {{.*}} = %[[P1]]#1,
// CHECK: tensor.extract %{{.*}} : tensor<4x3x4x8xf32>
// CHECK: %[[U3:.*]]:4 = scf.for {{.*}} iter_args({{.*}} = %[[U2]]#0, {{.*}} = %[[U2]]#1,
// CHECK: %[[C21:.*]]:4 = scf.for {{.*}} iter_args({{.*}} = %[[U3]]#0, {{.*}} = %[[U3]]#1,
// CHECK: tensor.extract %{{.*}} : tensor<6x4x16x8xf32>
// CHECK: vector.transfer_write %[[C21]]#0, {{.*}} tensor<4x4x16x8xf32>
// CHECK: %[[C11:.*]]:4 = scf.for {{.*}} iter_args({{.*}} = %[[P1]]#0, {{.*}} = %[[P1]]#1,
// CHECK: vector.transfer_write %[[C11]]#0, {{.*}} tensor<4x4x16x8xf32>
// CHECK: %[[P5:.*]]:4 = scf.for {{.*}} iter_args({{.*}} = %cst, {{.*}} = %cst, {{.*}} = %cst, {{.*}} = %cst)
// CHECK: arith.addf %[[P5]]#0,
// CHECK: arith.addf %[[P5]]#0, %[[U3]]#0
// CHECK: scf.for {{.*}} -> (vector<8xf32>, vector<8xf32>, vector<8xf32>, vector<8xf32>)
// CHECK-NOT: linalg.
// CHECK: return
func.func @main(%x: tensor<1x48x4x16xf32>) -> tensor<1x32x4x16xf32> {
  %zero = arith.constant 0.0 : f32
  %w = arith.constant dense<2.0> : tensor<32x48x1x1xf32>
  %empty = tensor.empty() : tensor<1x32x4x16xf32>
  %init = linalg.fill ins(%zero : f32) outs(%empty : tensor<1x32x4x16xf32>) -> tensor<1x32x4x16xf32>
  %conv = linalg.conv_2d_nchw_fchw {dlas.layer = "conv", dlas.knobs = {schedule = "strassen_conv", pixels = 4, t_o = 8, k_w = 32}} ins(%x, %w : tensor<1x48x4x16xf32>, tensor<32x48x1x1xf32>) outs(%init : tensor<1x32x4x16xf32>) -> tensor<1x32x4x16xf32>
  return %conv : tensor<1x32x4x16xf32>
}

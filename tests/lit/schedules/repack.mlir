// The kernel between blocks of 8 and of 16 channels copies whole vectors of 8; nothing is transposed or shuffled.
// RUN: %python %S/Inputs/schedule.py %s x86_64-v4 repack | FileCheck %s

// CHECK: // repack: repack ow=1 block=16
// CHECK-LABEL: func.func @{{.*}} attributes {dlas.schedule = "repack"}
// CHECK-NOT: linalg.
// CHECK-COUNT-2: vector.transfer_read {{.*}} vector<8xf32>
// CHECK-NOT: vector.transpose
// CHECK-NOT: vector.shuffle
// CHECK: return
func.func @main(%x: tensor<1x32x5x6xf32>) -> tensor<1x32x5x6xf32> {
  %zero = arith.constant 0.0 : f32
  %w = arith.constant dense<0.5> : tensor<32x32x1x1xf32>
  %e = tensor.empty() : tensor<1x32x5x6xf32>
  %i = linalg.fill ins(%zero : f32) outs(%e : tensor<1x32x5x6xf32>) -> tensor<1x32x5x6xf32>
  %a = linalg.conv_2d_nchw_fchw {dlas.layer = "a", dlas.knobs = {schedule = "packed_conv", block = 8}} ins(%x, %w : tensor<1x32x5x6xf32>, tensor<32x32x1x1xf32>) outs(%i : tensor<1x32x5x6xf32>) -> tensor<1x32x5x6xf32>
  %b = linalg.conv_2d_nchw_fchw {dlas.layer = "b", dlas.knobs = {schedule = "packed_conv", block = 16}} ins(%a, %w : tensor<1x32x5x6xf32>, tensor<32x32x1x1xf32>) outs(%i : tensor<1x32x5x6xf32>) -> tensor<1x32x5x6xf32>
  return %b : tensor<1x32x5x6xf32>
}

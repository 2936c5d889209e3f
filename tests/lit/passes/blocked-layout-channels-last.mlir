// A transpose to channels-last reads channel blocks as they are, and one from there writes them, with the halo that the
// next convolution reads and the elementwise ops behind it.
// RUN: dlas-opt %s --pass-pipeline='dlas-blocked-layout{lanes=8 registers=16}' --elide 8 | FileCheck %s

// CHECK-LABEL: func.func @main
func.func @main(%x: tensor<1x16x6x7xf32>, %back: tensor<1x6x7x20xf32>) -> (tensor<1x6x7x20xf32>, tensor<1x16x6x7xf32>) {
  %zero = arith.constant 0.0 : f32
  %w0 = arith.constant dense<0.5> : tensor<20x16x1x1xf32>
  %w1 = arith.constant dense<0.25> : tensor<16x20x3x3xf32>
  %e = tensor.empty() : tensor<1x20x6x7xf32>
  %i = linalg.fill ins(%zero : f32) outs(%e : tensor<1x20x6x7xf32>) -> tensor<1x20x6x7xf32>
  %a = linalg.conv_2d_nchw_fchw {dlas.layer = "a"} ins(%x, %w0 : tensor<1x16x6x7xf32>, tensor<20x16x1x1xf32>) outs(%i : tensor<1x20x6x7xf32>) -> tensor<1x20x6x7xf32>
  // Two whole blocks of a pixel, and half of the third.
  // CHECK: %[[A:.*]] = flow.dispatch.workgroups{{.*}} -> tensor<1x3x6x7x8xf32>
  // CHECK: %[[LAST:.*]] = flow.dispatch.workgroups[%{{.*}}](%[[A]]) {{.*}} -> tensor<1x6x7x20xf32>
  // CHECK: scf.for %[[K:.*]] = %c0{{.*}} to %c2{{.*}} step
  // CHECK: vector.transfer_read {{.*}} tensor<3x6x7x8xf32>, vector<8xf32>
  // CHECK: vector.transfer_write {{.*}} vector<8xf32>, tensor<6x7x20xf32>
  // CHECK: vector.transfer_read {{.*}} tensor<3x6x7x8xf32>, vector<4xf32>
  // CHECK: vector.transfer_write {{.*}} vector<4xf32>, tensor<6x7x20xf32>
  %e1 = tensor.empty() : tensor<1x6x7x20xf32>
  %last = linalg.transpose ins(%a : tensor<1x20x6x7xf32>) outs(%e1 : tensor<1x6x7x20xf32>) permutation = [0, 2, 3, 1]
  // CHECK: %[[B:.*]] = flow.dispatch.workgroups{{.*}} -> tensor<1x3x8x9x8xf32>
  // CHECK: vector.transfer_read {{.*}} tensor<6x7x20xf32>, vector<8xf32>
  // CHECK: arith.addf
  // CHECK: vector.transfer_read {{.*}} tensor<6x7x20xf32>, vector<4xf32>
  // CHECK: vector.shuffle %{{.*}}, %{{.*}} [0, 1, 2, 3, 4, 4, 4, 4] {{.*}} : vector<4xf32>, vector<4xf32>
  // CHECK: arith.addf
  // CHECK-NOT: linalg.transpose
  %first = linalg.transpose ins(%back : tensor<1x6x7x20xf32>) outs(%e : tensor<1x20x6x7xf32>) permutation = [0, 3, 1, 2]
  %sum = linalg.generic {indexing_maps = [affine_map<(n, c, h, w) -> (n, c, h, w)>, affine_map<(n, c, h, w) -> (n, c, h, w)>, affine_map<(n, c, h, w) -> (n, c, h, w)>],
                         iterator_types = ["parallel", "parallel", "parallel", "parallel"]}
    ins(%first, %a : tensor<1x20x6x7xf32>, tensor<1x20x6x7xf32>) outs(%e : tensor<1x20x6x7xf32>) {
  ^bb0(%p: f32, %q: f32, %out: f32):
    %0 = arith.addf %p, %q : f32
    linalg.yield %0 : f32
  } -> tensor<1x20x6x7xf32>
  %pad = tensor.pad %sum low[0, 0, 1, 1] high[0, 0, 1, 1] {
  ^bb0(%a0: index, %a1: index, %a2: index, %a3: index):
    tensor.yield %zero : f32
  } : tensor<1x20x6x7xf32> to tensor<1x20x8x9xf32>
  %e2 = tensor.empty() : tensor<1x16x6x7xf32>
  %i2 = linalg.fill ins(%zero : f32) outs(%e2 : tensor<1x16x6x7xf32>) -> tensor<1x16x6x7xf32>
  %y = linalg.conv_2d_nchw_fchw {dlas.layer = "y"} ins(%pad, %w1 : tensor<1x20x8x9xf32>, tensor<16x20x3x3xf32>) outs(%i2 : tensor<1x16x6x7xf32>) -> tensor<1x16x6x7xf32>
  return %last, %y : tensor<1x6x7x20xf32>, tensor<1x16x6x7xf32>
}

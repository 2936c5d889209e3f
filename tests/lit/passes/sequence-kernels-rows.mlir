// Softmax is one kernel: three passes over a row, with the exponentials kept in the row of the result between them.
// A mask is read at the rows that it has; leading dimensions may be reshaped in between.
// RUN: dlas-opt %s --pass-pipeline='dlas-sequence-kernels{lanes=8 registers=16}' --notes | FileCheck %s

// CHECK: done: scale: rows: rows{width=16 rows=30}: 30 rows at a time, steps of 16 columns
// CHECK: affine_map<(d0) -> ((d0 floordiv 15) mod 2)>
// CHECK-LABEL: func.func @main
func.func @main(%x: tensor<6x5x20xf32>, %mask: tensor<2x1x1x20xf32>) -> tensor<6x5x20xf32> {
  %low = arith.constant 0xFF800000 : f32
  %zero = arith.constant 0.0 : f32
  %scale = arith.constant 0.125 : f32
  %empty = tensor.empty() : tensor<2x3x5x20xf32>
  %x4 = tensor.expand_shape %x [[0, 1], [2], [3]] output_shape [2, 3, 5, 20] : tensor<6x5x20xf32> into tensor<2x3x5x20xf32>
  // CHECK: flow.dispatch.workgroups
  // CHECK: scf.for %[[R:.*]] = %{{.*}} to %c30
  // The maximum: 16 columns, then 4.
  // CHECK: arith.mulf {{.*}} : vector<16xf32>
  // CHECK: arith.addf {{.*}} : vector<16xf32>
  // CHECK: arith.maximumf {{.*}} : vector<16xf32>
  // CHECK: arith.maximumf {{.*}} : vector<4xf32>
  // The sum of the exponentials, which are written.
  // CHECK: math.exp {{.*}} : vector<16xf32>
  // CHECK: arith.addf {{.*}} : vector<16xf32>
  // CHECK: vector.transfer_write {{.*}}dlas.role = "rows"
  // CHECK: math.exp {{.*}} : vector<4xf32>
  // The division reads them again.
  // CHECK-NOT: math.exp
  // CHECK: arith.divf {{.*}} : vector<16xf32>
  // CHECK: vector.transfer_write
  // CHECK: arith.divf {{.*}} : vector<4xf32>
  // CHECK: flow.return
  // CHECK-NOT: linalg.generic
  %s = linalg.generic {indexing_maps = [affine_map<(a, b, c, d) -> (a, b, c, d)>, affine_map<(a, b, c, d) -> (a, b, c, d)>], iterator_types = ["parallel", "parallel", "parallel", "parallel"]} ins(%x4 : tensor<2x3x5x20xf32>) outs(%empty : tensor<2x3x5x20xf32>) attrs = {dlas.layer = "scale"} {
  ^bb0(%l: f32, %o: f32):
    %r = arith.mulf %l, %scale : f32
    linalg.yield %r : f32
  } -> tensor<2x3x5x20xf32>
  %m = linalg.generic {indexing_maps = [affine_map<(a, b, c, d) -> (a, b, c, d)>, affine_map<(a, b, c, d) -> (a, 0, 0, d)>, affine_map<(a, b, c, d) -> (a, b, c, d)>], iterator_types = ["parallel", "parallel", "parallel", "parallel"]} ins(%s, %mask : tensor<2x3x5x20xf32>, tensor<2x1x1x20xf32>) outs(%empty : tensor<2x3x5x20xf32>) attrs = {dlas.layer = "mask"} {
  ^bb0(%l: f32, %k: f32, %o: f32):
    %r = arith.addf %l, %k : f32
    linalg.yield %r : f32
  } -> tensor<2x3x5x20xf32>
  %rows = tensor.empty() : tensor<2x3x5xf32>
  %lows = linalg.fill ins(%low : f32) outs(%rows : tensor<2x3x5xf32>) -> tensor<2x3x5xf32>
  %max = linalg.generic {indexing_maps = [affine_map<(a, b, c, d) -> (a, b, c, d)>, affine_map<(a, b, c, d) -> (a, b, c)>], iterator_types = ["parallel", "parallel", "parallel", "reduction"]} ins(%m : tensor<2x3x5x20xf32>) outs(%lows : tensor<2x3x5xf32>) {
  ^bb0(%l: f32, %o: f32):
    %r = arith.maximumf %l, %o : f32
    linalg.yield %r : f32
  } -> tensor<2x3x5xf32>
  %e = linalg.generic {indexing_maps = [affine_map<(a, b, c, d) -> (a, b, c, d)>, affine_map<(a, b, c, d) -> (a, b, c)>, affine_map<(a, b, c, d) -> (a, b, c, d)>], iterator_types = ["parallel", "parallel", "parallel", "parallel"]} ins(%m, %max : tensor<2x3x5x20xf32>, tensor<2x3x5xf32>) outs(%empty : tensor<2x3x5x20xf32>) {
  ^bb0(%l: f32, %k: f32, %o: f32):
    %d = arith.subf %l, %k : f32
    %r = math.exp %d : f32
    linalg.yield %r : f32
  } -> tensor<2x3x5x20xf32>
  %zeros = linalg.fill ins(%zero : f32) outs(%rows : tensor<2x3x5xf32>) -> tensor<2x3x5xf32>
  %sum = linalg.generic {indexing_maps = [affine_map<(a, b, c, d) -> (a, b, c, d)>, affine_map<(a, b, c, d) -> (a, b, c)>], iterator_types = ["parallel", "parallel", "parallel", "reduction"]} ins(%e : tensor<2x3x5x20xf32>) outs(%zeros : tensor<2x3x5xf32>) {
  ^bb0(%l: f32, %o: f32):
    %r = arith.addf %l, %o : f32
    linalg.yield %r : f32
  } -> tensor<2x3x5xf32>
  %y = linalg.generic {indexing_maps = [affine_map<(a, b, c, d) -> (a, b, c, d)>, affine_map<(a, b, c, d) -> (a, b, c)>, affine_map<(a, b, c, d) -> (a, b, c, d)>], iterator_types = ["parallel", "parallel", "parallel", "parallel"]} ins(%e, %sum : tensor<2x3x5x20xf32>, tensor<2x3x5xf32>) outs(%empty : tensor<2x3x5x20xf32>) {
  ^bb0(%l: f32, %k: f32, %o: f32):
    %r = arith.divf %l, %k : f32
    linalg.yield %r : f32
  } -> tensor<2x3x5x20xf32>
  %y3 = tensor.collapse_shape %y [[0, 1], [2], [3]] : tensor<2x3x5x20xf32> into tensor<6x5x20xf32>
  return %y3 : tensor<6x5x20xf32>
}

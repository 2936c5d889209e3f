// A result that nobody reads is not computed, unless another needs its accumulator.
// RUN: dlas-opt %s --pass-pipeline=dlas-trim-results --notes | FileCheck %s

// CHECK: // dlas-trim-results: done: softmax: kept 1 of 2 results
// CHECK-NOT: dlas-trim-results

// CHECK-LABEL: func.func @max
func.func @max(%x: tensor<4x8xf32>, %low: tensor<4xf32>, %zero: tensor<4xi64>) -> tensor<4xf32> {
  // CHECK: %[[M:.*]] = linalg.generic {{.*}}iterator_types = ["parallel", "reduction"]} ins(%arg0 : tensor<4x8xf32>) outs(%arg1 : tensor<4xf32>)
  // CHECK-NEXT: ^bb0
  // CHECK-NEXT: arith.maximumf
  // CHECK-NEXT: linalg.yield
  // CHECK: return %[[M]]
  %m:2 = linalg.generic {indexing_maps = [affine_map<(a, b) -> (a, b)>, affine_map<(a, b) -> (a)>, affine_map<(a, b) -> (a)>], iterator_types = ["parallel", "reduction"]} ins(%x : tensor<4x8xf32>) outs(%low, %zero : tensor<4xf32>, tensor<4xi64>) attrs = {dlas.layer = "softmax"} {
  ^bb0(%l: f32, %o: f32, %p: i64):
    %i = linalg.index 1 : index
    %j = arith.index_cast %i : index to i64
    %r = arith.maximumf %l, %o : f32
    %c = arith.cmpf ogt, %l, %o : f32
    %s = arith.select %c, %j, %p : i64
    linalg.yield %r, %s : f32, i64
  } -> (tensor<4xf32>, tensor<4xi64>)
  return %m#0 : tensor<4xf32>
}

// The index needs the maximum.
// CHECK-LABEL: func.func @argmax
func.func @argmax(%x: tensor<4x8xf32>, %low: tensor<4xf32>, %zero: tensor<4xi64>) -> tensor<4xi64> {
  // CHECK: linalg.generic {{.*}} outs(%arg1, %arg2 :
  %m:2 = linalg.generic {indexing_maps = [affine_map<(a, b) -> (a, b)>, affine_map<(a, b) -> (a)>, affine_map<(a, b) -> (a)>], iterator_types = ["parallel", "reduction"]} ins(%x : tensor<4x8xf32>) outs(%low, %zero : tensor<4xf32>, tensor<4xi64>) attrs = {dlas.layer = "argmax"} {
  ^bb0(%l: f32, %o: f32, %p: i64):
    %i = linalg.index 1 : index
    %j = arith.index_cast %i : index to i64
    %r = arith.maximumf %l, %o : f32
    %c = arith.cmpf ogt, %l, %o : f32
    %s = arith.select %c, %j, %p : i64
    linalg.yield %r, %s : f32, i64
  } -> (tensor<4xf32>, tensor<4xi64>)
  return %m#1 : tensor<4xi64>
}

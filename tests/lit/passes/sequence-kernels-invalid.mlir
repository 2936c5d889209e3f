// What stays with IREE, and why.
// RUN: dlas-opt %s --pass-pipeline='dlas-sequence-kernels{lanes=8 registers=16}' --notes | FileCheck %s

// CHECK: refused: double: linalg.batch_matmul: batched matrix product of f64 (f32 has a schedule)
// CHECK: refused: sums: linalg.batch_matmul: the accumulator does not start from zero
// CHECK: refused: dynamic: linalg.generic: dynamic shape
// CHECK: refused: index: linalg.generic: the body is not elementwise
// CHECK: refused: whole: linalg.generic: result of type tensor<4xi32> (f32 has a schedule)
// CHECK: refused: unknown: linalg.generic: unknown initial value
// CHECK: refused: twice: linalg.generic: the reduction does more to its accumulator than combine it

// CHECK-LABEL: func.func @double
// CHECK-NOT: flow.dispatch
func.func @double(%a: tensor<2x3x4xf64>, %b: tensor<2x4x5xf64>) -> tensor<2x3x5xf64> {
  %zero = arith.constant 0.0 : f64
  %empty = tensor.empty() : tensor<2x3x5xf64>
  %init = linalg.fill ins(%zero : f64) outs(%empty : tensor<2x3x5xf64>) -> tensor<2x3x5xf64>
  %y = linalg.batch_matmul {dlas.layer = "double"} ins(%a, %b : tensor<2x3x4xf64>, tensor<2x4x5xf64>) outs(%init : tensor<2x3x5xf64>) -> tensor<2x3x5xf64>
  return %y : tensor<2x3x5xf64>
}

func.func @sums(%a: tensor<2x3x4xf32>, %b: tensor<2x4x5xf32>, %c: tensor<2x3x5xf32>) -> tensor<2x3x5xf32> {
  %y = linalg.batch_matmul {dlas.layer = "sums"} ins(%a, %b : tensor<2x3x4xf32>, tensor<2x4x5xf32>) outs(%c : tensor<2x3x5xf32>) -> tensor<2x3x5xf32>
  return %y : tensor<2x3x5xf32>
}

func.func @dynamic(%x: tensor<?x8xf32>, %c: tensor<?xf32>) -> tensor<?xf32> {
  %y = linalg.generic {indexing_maps = [affine_map<(a, b) -> (a, b)>, affine_map<(a, b) -> (a)>], iterator_types = ["parallel", "reduction"]} ins(%x : tensor<?x8xf32>) outs(%c : tensor<?xf32>) attrs = {dlas.layer = "dynamic"} {
  ^bb0(%l: f32, %o: f32):
    %r = arith.addf %l, %o : f32
    linalg.yield %r : f32
  } -> tensor<?xf32>
  return %y : tensor<?xf32>
}

func.func @index(%x: tensor<4x8xf32>, %c: tensor<4xf32>) -> tensor<4xf32> {
  %y = linalg.generic {indexing_maps = [affine_map<(a, b) -> (a, b)>, affine_map<(a, b) -> (a)>], iterator_types = ["parallel", "reduction"]} ins(%x : tensor<4x8xf32>) outs(%c : tensor<4xf32>) attrs = {dlas.layer = "index"} {
  ^bb0(%l: f32, %o: f32):
    %i = linalg.index 1 : index
    %j = arith.index_cast %i : index to i32
    %f = arith.sitofp %j : i32 to f32
    %r = arith.addf %f, %o : f32
    linalg.yield %r : f32
  } -> tensor<4xf32>
  return %y : tensor<4xf32>
}

func.func @whole(%x: tensor<4x8xi32>, %c: tensor<4xi32>) -> tensor<4xi32> {
  %y = linalg.generic {indexing_maps = [affine_map<(a, b) -> (a, b)>, affine_map<(a, b) -> (a)>], iterator_types = ["parallel", "reduction"]} ins(%x : tensor<4x8xi32>) outs(%c : tensor<4xi32>) attrs = {dlas.layer = "whole"} {
  ^bb0(%l: i32, %o: i32):
    %r = arith.addi %l, %o : i32
    linalg.yield %r : i32
  } -> tensor<4xi32>
  return %y : tensor<4xi32>
}

func.func @unknown(%x: tensor<4x8xf32>, %c: tensor<4xf32>) -> tensor<4xf32> {
  %y = linalg.generic {indexing_maps = [affine_map<(a, b) -> (a, b)>, affine_map<(a, b) -> (a)>], iterator_types = ["parallel", "reduction"]} ins(%x : tensor<4x8xf32>) outs(%c : tensor<4xf32>) attrs = {dlas.layer = "unknown"} {
  ^bb0(%l: f32, %o: f32):
    %r = arith.addf %l, %o : f32
    linalg.yield %r : f32
  } -> tensor<4xf32>
  return %y : tensor<4xf32>
}

func.func @twice(%x: tensor<4x8xf32>, %c: tensor<4xf32>) -> tensor<4xf32> {
  %y = linalg.generic {indexing_maps = [affine_map<(a, b) -> (a, b)>, affine_map<(a, b) -> (a)>], iterator_types = ["parallel", "reduction"]} ins(%x : tensor<4x8xf32>) outs(%c : tensor<4xf32>) attrs = {dlas.layer = "twice"} {
  ^bb0(%l: f32, %o: f32):
    %s = arith.mulf %l, %o : f32
    %r = arith.addf %s, %l : f32
    linalg.yield %r : f32
  } -> tensor<4xf32>
  return %y : tensor<4xf32>
}

// A computed value in front of an op that writes it to a part of a tensor is put behind a barrier; arguments, constants
// and kernels of ours are not.
// RUN: dlas-opt %s --pass-pipeline=dlas-isolate-part-writes | FileCheck %s

// CHECK-LABEL: func.func @pad
// CHECK: %[[Y:.*]] = linalg.generic
// CHECK: %[[B:.*]] = util.optimization_barrier %[[Y]] : tensor<4x6xf32>
// CHECK: tensor.pad %[[B]]
// CHECK: tensor.pad %arg0
// CHECK-NOT: util.optimization_barrier
func.func @pad(%x: tensor<4x6xf32>) -> (tensor<6x8xf32>, tensor<6x8xf32>) {
  %zero = arith.constant 0.0 : f32
  %empty = tensor.empty() : tensor<4x6xf32>
  %y = linalg.generic {indexing_maps = [affine_map<(i, j) -> (i, j)>, affine_map<(i, j) -> (i, j)>], iterator_types = ["parallel", "parallel"]}
    ins(%x : tensor<4x6xf32>) outs(%empty : tensor<4x6xf32>) {
  ^bb0(%a: f32, %o: f32):
    %0 = arith.maximumf %a, %zero : f32
    linalg.yield %0 : f32
  } -> tensor<4x6xf32>
  %p = tensor.pad %y low[1, 1] high[1, 1] {
  ^bb0(%i: index, %j: index):
    tensor.yield %zero : f32
  } : tensor<4x6xf32> to tensor<6x8xf32>
  %q = tensor.pad %x low[1, 1] high[1, 1] {
  ^bb0(%i: index, %j: index):
    tensor.yield %zero : f32
  } : tensor<4x6xf32> to tensor<6x8xf32>
  return %p, %q : tensor<6x8xf32>, tensor<6x8xf32>
}

// CHECK-LABEL: func.func @concat
// CHECK: %[[Y:.*]] = linalg.softmax
// CHECK: %[[V:.*]] = tensor.expand_shape %[[Y]]
// CHECK: %[[B:.*]] = util.optimization_barrier %[[V]] : tensor<1x4x6xf32>
// CHECK: tensor.concat dim(2) %arg0, %[[B]]
func.func @concat(%x: tensor<1x4x3xf32>, %z: tensor<4x6xf32>) -> tensor<1x4x9xf32> {
  %empty = tensor.empty() : tensor<4x6xf32>
  %y = linalg.softmax dimension(1) ins(%z : tensor<4x6xf32>) outs(%empty : tensor<4x6xf32>) -> tensor<4x6xf32>
  %v = tensor.expand_shape %y [[0, 1], [2]] output_shape [1, 4, 6] : tensor<4x6xf32> into tensor<1x4x6xf32>
  %c = tensor.concat dim(2) %x, %v : (tensor<1x4x3xf32>, tensor<1x4x6xf32>) -> tensor<1x4x9xf32>
  return %c : tensor<1x4x9xf32>
}

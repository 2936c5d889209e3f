// What only depends on constants is computed; operands that are one number become scalars.
// RUN: dlas-opt %s --pass-pipeline=dlas-fold-constants | FileCheck %s

#id2 = affine_map<(m, n) -> (m, n)>
#scalar = affine_map<(m, n) -> ()>
#id1 = affine_map<(c) -> (c)>

// CHECK-LABEL: func.func @linear_weights
func.func @linear_weights(%x: tensor<1x2xf32>, %init: tensor<1x3xf32>) -> tensor<1x3xf32> {
  // CHECK: %[[W:.*]] = arith.constant dense<{{\[}}[1.000000e+00, 3.000000e+00, 5.000000e+00], [2.000000e+00, 4.000000e+00, 6.000000e+00]]> : tensor<2x3xf32>
  %w = arith.constant dense<[[1.0, 2.0], [3.0, 4.0], [5.0, 6.0]]> : tensor<3x2xf32>
  %empty = tensor.empty() : tensor<2x3xf32>
  // CHECK-NOT: linalg.transpose
  %t = linalg.transpose ins(%w : tensor<3x2xf32>) outs(%empty : tensor<2x3xf32>) permutation = [1, 0]
  // CHECK: linalg.matmul ins(%{{.*}}, %[[W]] :
  %y = linalg.matmul ins(%x, %t : tensor<1x2xf32>, tensor<2x3xf32>) outs(%init : tensor<1x3xf32>) -> tensor<1x3xf32>
  return %y : tensor<1x3xf32>
}

// The variance's square root, its reciprocal and the assertion that guards it.
// CHECK-LABEL: func.func @reciprocal_root
func.func @reciprocal_root() -> tensor<2x1x1xf32> {
  // CHECK: %[[R:.*]] = arith.constant dense<{{\[\[\[}}5.000000e-01]], {{\[\[}}2.500000e-01]]]> : tensor<2x1x1xf32>
  // CHECK-NEXT: return %[[R]]
  %one = arith.constant 1.0 : f32
  %zero = arith.constant 0.0 : f32
  %var = arith.constant dense<[4.0, 16.0]> : tensor<2xf32>
  %empty = tensor.empty() : tensor<2xf32>
  %root = linalg.generic {indexing_maps = [#id1, #id1], iterator_types = ["parallel"]} ins(%var : tensor<2xf32>) outs(%empty : tensor<2xf32>) {
  ^bb0(%in: f32, %out: f32):
    %0 = math.sqrt %in : f32
    linalg.yield %0 : f32
  } -> tensor<2xf32>
  %inverse = linalg.generic {indexing_maps = [#id1, #id1], iterator_types = ["parallel"]} ins(%root : tensor<2xf32>) outs(%empty : tensor<2xf32>) {
  ^bb0(%in: f32, %out: f32):
    %0 = arith.cmpf one, %in, %zero : f32
    cf.assert %0, "zero element"
    %1 = arith.divf %one, %in : f32
    linalg.yield %1 : f32
  } -> tensor<2xf32>
  %wide = tensor.expand_shape %inverse [[0, 1, 2]] output_shape [2, 1, 1] : tensor<2xf32> into tensor<2x1x1xf32>
  return %wide : tensor<2x1x1xf32>
}

// Reductions and reads by index (weight norm, the flipped weights of a transposed convolution).
// CHECK-LABEL: func.func @reduced_and_flipped
func.func @reduced_and_flipped() -> (tensor<2xf32>, tensor<3xf32>) {
  // CHECK-DAG: %[[S:.*]] = arith.constant dense<[6.000000e+00, 1.500000e+01]> : tensor<2xf32>
  // CHECK-DAG: %[[F:.*]] = arith.constant dense<[3.000000e+00, 2.000000e+00, 1.000000e+00]> : tensor<3xf32>
  // CHECK: return %[[S]], %[[F]]
  %w = arith.constant dense<[[1.0, 2.0, 3.0], [4.0, 5.0, 6.0]]> : tensor<2x3xf32>
  %v = arith.constant dense<[1.0, 2.0, 3.0]> : tensor<3xf32>
  %zero = arith.constant 0.0 : f32
  %two = arith.constant 2 : index
  %e2 = tensor.empty() : tensor<2xf32>
  %e3 = tensor.empty() : tensor<3xf32>
  %init = linalg.fill ins(%zero : f32) outs(%e2 : tensor<2xf32>) -> tensor<2xf32>
  %sum = linalg.generic {indexing_maps = [#id2, affine_map<(m, n) -> (m)>], iterator_types = ["parallel", "reduction"]} ins(%w : tensor<2x3xf32>) outs(%init : tensor<2xf32>) {
  ^bb0(%in: f32, %out: f32):
    %0 = arith.addf %in, %out : f32
    linalg.yield %0 : f32
  } -> tensor<2xf32>
  %flip = linalg.generic {indexing_maps = [#id1], iterator_types = ["parallel"]} outs(%e3 : tensor<3xf32>) {
  ^bb0(%out: f32):
    %i = linalg.index 0 : index
    %j = arith.subi %two, %i : index
    %0 = tensor.extract %v[%j] : tensor<3xf32>
    linalg.yield %0 : f32
  } -> tensor<3xf32>
  return %sum, %flip : tensor<2xf32>, tensor<3xf32>
}

// CHECK-LABEL: func.func @scalar_operand
func.func @scalar_operand(%x: tensor<2x3xf32>) -> tensor<2x3xf32> {
  // CHECK: %[[SIX:.*]] = arith.constant 6.000000e+00 : f32
  // CHECK: linalg.generic {{.*}} ins(%arg0 : tensor<2x3xf32>)
  // CHECK: arith.minimumf %{{.*}}, %[[SIX]] : f32
  %six = arith.constant dense<6.0> : tensor<f32>
  %empty = tensor.empty() : tensor<2x3xf32>
  %y = linalg.generic {indexing_maps = [#id2, #scalar, #id2], iterator_types = ["parallel", "parallel"]} ins(%x, %six : tensor<2x3xf32>, tensor<f32>) outs(%empty : tensor<2x3xf32>) {
  ^bb0(%in: f32, %limit: f32, %out: f32):
    %0 = arith.minimumf %in, %limit : f32
    linalg.yield %0 : f32
  } -> tensor<2x3xf32>
  return %y : tensor<2x3xf32>
}

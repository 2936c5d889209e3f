// What stays: broadcasts to an activation's size, results that are not finite, and what is not constant.
// RUN: dlas-opt %s --pass-pipeline=dlas-fold-constants --notes | FileCheck %s
// RUN: not dlas-opt %s --pass-pipeline='dlas-fold-constants{max-growth=big}' 2>&1 | FileCheck %s --check-prefix=OPTION
// RUN: not dlas-opt %s --pass-pipeline='dlas-fold-constants{limit=1}' 2>&1 | FileCheck %s --check-prefix=UNKNOWN

// OPTION: pass dlas-fold-constants: option max-growth='big' is not an integer
// UNKNOWN: pass dlas-fold-constants: unknown option 'limit' (options: max_growth)

// CHECK: // dlas-fold-constants: refused: bn: linalg.generic of constants is not finite

// CHECK-LABEL: func.func @broadcast
func.func @broadcast() -> tensor<8x4x16x16xf32> {
  %b = arith.constant dense<[1.0, 2.0, 3.0, 4.0]> : tensor<4xf32>
  %empty = tensor.empty() : tensor<8x4x16x16xf32>
  // CHECK: linalg.generic
  %y = linalg.generic {indexing_maps = [affine_map<(n, c, h, w) -> (c)>, affine_map<(n, c, h, w) -> (n, c, h, w)>], iterator_types = ["parallel", "parallel", "parallel", "parallel"]} ins(%b : tensor<4xf32>) outs(%empty : tensor<8x4x16x16xf32>) {
  ^bb0(%in: f32, %out: f32):
    linalg.yield %in : f32
  } -> tensor<8x4x16x16xf32>
  return %y : tensor<8x4x16x16xf32>
}

// CHECK-LABEL: func.func @negative_variance
func.func @negative_variance() -> tensor<2xf32> {
  %var = arith.constant dense<[-1.0, 2.0]> : tensor<2xf32>
  %empty = tensor.empty() : tensor<2xf32>
  // CHECK: math.rsqrt
  %y = linalg.generic {indexing_maps = [affine_map<(c) -> (c)>, affine_map<(c) -> (c)>], iterator_types = ["parallel"]} ins(%var : tensor<2xf32>) outs(%empty : tensor<2xf32>) attrs = {dlas.layer = "bn"} {
  ^bb0(%in: f32, %out: f32):
    %0 = math.rsqrt %in : f32
    linalg.yield %0 : f32
  } -> tensor<2xf32>
  return %y : tensor<2xf32>
}

// CHECK-LABEL: func.func @activation
func.func @activation(%x: tensor<2x3xf32>) -> tensor<3x2xf32> {
  %empty = tensor.empty() : tensor<3x2xf32>
  // CHECK: linalg.transpose
  %y = linalg.transpose ins(%x : tensor<2x3xf32>) outs(%empty : tensor<3x2xf32>) permutation = [1, 0]
  return %y : tensor<3x2xf32>
}

// Channels whose weights are all zero, and which stay zero up to the layers that read them, are taken out of both.
// RUN: dlas-opt %s --pass-pipeline='dlas-shrink-channels' --notes | FileCheck %s

// CHECK-DAG: done: a: 3 to 2 channels
// CHECK-DAG: refused: held: 1 channels are held at another number than zero
// CHECK-DAG: refused: returned: func.return (func.return) reads them
// CHECK-DAG: refused: squashed: not all makers agree
// CHECK-DAG: refused: padded: not all makers agree
// CHECK-DAG: refused: started: started starts from a tensor of the model
// CHECK-DAG: done: groups: 6 to 4 channels
// CHECK-DAG: refused: unequal: groups of 2 channels, 1, 0 of them zeros, have to stay equal, and multiples of 2

#id = affine_map<(d0, d1, d2, d3) -> (d0, d1, d2, d3)>
#channel = affine_map<(d0, d1, d2, d3) -> (d1)>

// CHECK-LABEL: func.func @shrunk
func.func @shrunk(%x: tensor<1x1x4x4xf32>) -> tensor<1x1x4x4xf32> {
  %zero = arith.constant 0.0 : f32
  // CHECK-DAG: arith.constant dense<{{\[\[\[\[}}1.000000e+00]]], {{\[\[\[}}3.000000e+00]]]]> : tensor<2x1x1x1xf32>
  %w0 = arith.constant dense<[[[[1.0]]], [[[0.0]]], [[[3.0]]]]> : tensor<3x1x1x1xf32>
  %w1 = arith.constant dense<[[[[4.0]], [[5.0]], [[6.0]]]]> : tensor<1x3x1x1xf32>
  %bias = arith.constant dense<[0.1, -0.2, 0.3]> : tensor<3xf32>
  %e = tensor.empty() : tensor<1x3x4x4xf32>
  %i = linalg.fill ins(%zero : f32) outs(%e : tensor<1x3x4x4xf32>) -> tensor<1x3x4x4xf32>
  // CHECK: linalg.conv_2d_nchw_fchw {dlas.layer = "a"} {{.*}} -> tensor<1x2x4x4xf32>
  %a = linalg.conv_2d_nchw_fchw {dlas.layer = "a"} ins(%x, %w0 : tensor<1x1x4x4xf32>, tensor<3x1x1x1xf32>) outs(%i : tensor<1x3x4x4xf32>) -> tensor<1x3x4x4xf32>
  // CHECK: arith.constant dense<[1.000000e-01, 3.000000e-01]> : tensor<2xf32>
  // CHECK: linalg.generic {{.*}} tensor<1x2x4x4xf32>, tensor<2xf32>)
  // CHECK: -> tensor<1x2x4x4xf32>
  %b = linalg.generic {indexing_maps = [#id, #channel, #id], iterator_types = ["parallel", "parallel", "parallel", "parallel"]} ins(%a, %bias : tensor<1x3x4x4xf32>, tensor<3xf32>) outs(%e : tensor<1x3x4x4xf32>) {
  ^bb0(%v: f32, %w: f32, %o: f32):
    %s = arith.addf %v, %w : f32
    %r = arith.maximumf %s, %zero : f32
    linalg.yield %r : f32
  } -> tensor<1x3x4x4xf32>
  %e1 = tensor.empty() : tensor<1x1x4x4xf32>
  %i1 = linalg.fill ins(%zero : f32) outs(%e1 : tensor<1x1x4x4xf32>) -> tensor<1x1x4x4xf32>
  // CHECK: arith.constant dense<{{\[\[\[\[}}4.000000e+00]], {{\[\[}}6.000000e+00]]]]> : tensor<1x2x1x1xf32>
  // CHECK: linalg.conv_2d_nchw_fchw {dlas.layer = "c"} {{.*}} tensor<1x2x4x4xf32>, tensor<1x2x1x1xf32>
  %c = linalg.conv_2d_nchw_fchw {dlas.layer = "c"} ins(%b, %w1 : tensor<1x3x4x4xf32>, tensor<1x3x1x1xf32>) outs(%i1 : tensor<1x1x4x4xf32>) -> tensor<1x1x4x4xf32>
  return %c : tensor<1x1x4x4xf32>
}

// CHECK-LABEL: func.func @refused
func.func @refused(%x: tensor<1x1x4x4xf32>) -> (tensor<1x2x4x4xf32>, tensor<1x2x4x4xf32>) {
  %zero = arith.constant 0.0 : f32
  %half = arith.constant 0.5 : f32
  %w0 = arith.constant dense<[[[[1.0]]], [[[0.0]]]]> : tensor<2x1x1x1xf32>
  %w1 = arith.constant dense<1.0> : tensor<2x2x1x1xf32>
  %e = tensor.empty() : tensor<1x2x4x4xf32>
  %i = linalg.fill ins(%zero : f32) outs(%e : tensor<1x2x4x4xf32>) -> tensor<1x2x4x4xf32>
  %a = linalg.conv_2d_nchw_fchw {dlas.layer = "held"} ins(%x, %w0 : tensor<1x1x4x4xf32>, tensor<2x1x1x1xf32>) outs(%i : tensor<1x2x4x4xf32>) -> tensor<1x2x4x4xf32>
  %b = linalg.generic {indexing_maps = [#id, #id], iterator_types = ["parallel", "parallel", "parallel", "parallel"]} ins(%a : tensor<1x2x4x4xf32>) outs(%e : tensor<1x2x4x4xf32>) {
  ^bb0(%v: f32, %o: f32):
    %s = arith.addf %v, %half : f32
    linalg.yield %s : f32
  } -> tensor<1x2x4x4xf32>
  // CHECK: tensor<1x2x4x4xf32>, tensor<2x2x1x1xf32>
  %c = linalg.conv_2d_nchw_fchw {dlas.layer = "c"} ins(%b, %w1 : tensor<1x2x4x4xf32>, tensor<2x2x1x1xf32>) outs(%i : tensor<1x2x4x4xf32>) -> tensor<1x2x4x4xf32>
  %d = linalg.conv_2d_nchw_fchw {dlas.layer = "returned"} ins(%x, %w0 : tensor<1x1x4x4xf32>, tensor<2x1x1x1xf32>) outs(%i : tensor<1x2x4x4xf32>) -> tensor<1x2x4x4xf32>
  return %c, %d : tensor<1x2x4x4xf32>, tensor<1x2x4x4xf32>
}

// Zeros that do not stay zeros: a sum of exponentials, and a maximum that starts at one. An init that is the model's is refused.
// CHECK-LABEL: func.func @not_kept
func.func @not_kept(%x: tensor<1x1x4x4xf32>, %y: tensor<1x2x4x4xf32>) -> (tensor<1x2x1x1xf32>, tensor<1x2x5x5xf32>, tensor<1x2x4x4xf32>) {
  %zero = arith.constant 0.0 : f32
  %one = arith.constant 1.0 : f32
  %w0 = arith.constant dense<[[[[1.0]]], [[[0.0]]]]> : tensor<2x1x1x1xf32>
  %w1 = arith.constant dense<1.0> : tensor<2x2x1x1xf32>
  %e = tensor.empty() : tensor<1x2x4x4xf32>
  %i = linalg.fill ins(%zero : f32) outs(%e : tensor<1x2x4x4xf32>) -> tensor<1x2x4x4xf32>
  %e1 = tensor.empty() : tensor<1x2x1x1xf32>
  %i1 = linalg.fill ins(%zero : f32) outs(%e1 : tensor<1x2x1x1xf32>) -> tensor<1x2x1x1xf32>
  %a = linalg.conv_2d_nchw_fchw {dlas.layer = "squashed"} ins(%x, %w0 : tensor<1x1x4x4xf32>, tensor<2x1x1x1xf32>) outs(%i : tensor<1x2x4x4xf32>) -> tensor<1x2x4x4xf32>
  %b = linalg.generic {indexing_maps = [#id, affine_map<(d0, d1, d2, d3) -> (d0, d1, 0, 0)>], iterator_types = ["parallel", "parallel", "reduction", "reduction"]} ins(%a : tensor<1x2x4x4xf32>) outs(%i1 : tensor<1x2x1x1xf32>) {
  ^bb0(%v: f32, %o: f32):
    %s = math.exp %v : f32
    %t = arith.addf %o, %s : f32
    linalg.yield %t : f32
  } -> tensor<1x2x1x1xf32>
  // CHECK: tensor<1x2x1x1xf32>, tensor<2x2x1x1xf32>
  %c = linalg.conv_2d_nchw_fchw {dlas.layer = "c"} ins(%b, %w1 : tensor<1x2x1x1xf32>, tensor<2x2x1x1xf32>) outs(%i1 : tensor<1x2x1x1xf32>) -> tensor<1x2x1x1xf32>
  %d = linalg.conv_2d_nchw_fchw {dlas.layer = "padded"} ins(%x, %w0 : tensor<1x1x4x4xf32>, tensor<2x1x1x1xf32>) outs(%i : tensor<1x2x4x4xf32>) -> tensor<1x2x4x4xf32>
  %window = tensor.empty() : tensor<2x2xf32>
  %e2 = tensor.empty() : tensor<1x2x3x3xf32>
  %i2 = linalg.fill ins(%one : f32) outs(%e2 : tensor<1x2x3x3xf32>) -> tensor<1x2x3x3xf32>
  %p = linalg.pooling_nchw_max {dlas.layer = "pool"} ins(%d, %window : tensor<1x2x4x4xf32>, tensor<2x2xf32>) outs(%i2 : tensor<1x2x3x3xf32>) -> tensor<1x2x3x3xf32>
  %q = tensor.pad %p low[0, 0, 1, 1] high[0, 0, 1, 1] {
  ^bb0(%a0: index, %a1: index, %a2: index, %a3: index):
    tensor.yield %zero : f32
  } : tensor<1x2x3x3xf32> to tensor<1x2x5x5xf32>
  %e3 = tensor.empty() : tensor<1x2x5x5xf32>
  %i3 = linalg.fill ins(%zero : f32) outs(%e3 : tensor<1x2x5x5xf32>) -> tensor<1x2x5x5xf32>
  // CHECK: tensor<1x2x5x5xf32>, tensor<2x2x1x1xf32>
  %r = linalg.conv_2d_nchw_fchw {dlas.layer = "r"} ins(%q, %w1 : tensor<1x2x5x5xf32>, tensor<2x2x1x1xf32>) outs(%i3 : tensor<1x2x5x5xf32>) -> tensor<1x2x5x5xf32>
  %f = linalg.conv_2d_nchw_fchw {dlas.layer = "started"} ins(%x, %w0 : tensor<1x1x4x4xf32>, tensor<2x1x1x1xf32>) outs(%y : tensor<1x2x4x4xf32>) -> tensor<1x2x4x4xf32>
  // CHECK: tensor<1x2x4x4xf32>, tensor<2x2x1x1xf32>
  %g = linalg.conv_2d_nchw_fchw {dlas.layer = "g"} ins(%f, %w1 : tensor<1x2x4x4xf32>, tensor<2x2x1x1xf32>) outs(%i : tensor<1x2x4x4xf32>) -> tensor<1x2x4x4xf32>
  return %c, %r, %g : tensor<1x2x1x1xf32>, tensor<1x2x5x5xf32>, tensor<1x2x4x4xf32>
}

// Each group of three channels loses one: the third stays though it is zero, since the other group has only one.
// CHECK-LABEL: func.func @grouped
func.func @grouped(%x: tensor<1x2x4x4xf32>) -> (tensor<1x2x4x4xf32>, tensor<1x2x4x4xf32>) {
  %zero = arith.constant 0.0 : f32
  // CHECK-DAG: arith.constant dense<{{\[\[\[\[\[}}1.000000e+00]]], {{\[\[\[}}0.000000e+00]]]], {{\[\[\[\[}}3.000000e+00]]], {{\[\[\[}}4.000000e+00]]]]]> : tensor<2x2x1x1x1xf32>
  %w0 = arith.constant dense<[[[[[1.0]]], [[[0.0]]], [[[0.0]]]], [[[[0.0]]], [[[3.0]]], [[[4.0]]]]]> : tensor<2x3x1x1x1xf32>
  %w1 = arith.constant dense<[[[[[5.0]], [[6.0]], [[7.0]]]], [[[[8.0]], [[9.0]], [[10.0]]]]]> : tensor<2x1x3x1x1xf32>
  %g = tensor.expand_shape %x [[0], [1, 2], [3], [4]] output_shape [1, 2, 1, 4, 4] : tensor<1x2x4x4xf32> into tensor<1x2x1x4x4xf32>
  %e = tensor.empty() : tensor<1x2x3x4x4xf32>
  %i = linalg.fill ins(%zero : f32) outs(%e : tensor<1x2x3x4x4xf32>) -> tensor<1x2x3x4x4xf32>
  // CHECK: %[[A:.+]] = linalg.conv_2d_ngchw_gfchw {dlas.layer = "groups"} {{.*}} -> tensor<1x2x2x4x4xf32>
  %a = linalg.conv_2d_ngchw_gfchw {dlas.layer = "groups"} ins(%g, %w0 : tensor<1x2x1x4x4xf32>, tensor<2x3x1x1x1xf32>) outs(%i : tensor<1x2x3x4x4xf32>) -> tensor<1x2x3x4x4xf32>
  // CHECK: %[[M:.+]] = tensor.collapse_shape %[[A]] {{.*}} into tensor<1x4x4x4xf32>
  %m = tensor.collapse_shape %a [[0], [1, 2], [3], [4]] : tensor<1x2x3x4x4xf32> into tensor<1x6x4x4xf32>
  // CHECK: tensor.expand_shape %[[M]] {{.*}} output_shape [1, 2, 2, 4, 4] : tensor<1x4x4x4xf32> into tensor<1x2x2x4x4xf32>
  %s = tensor.expand_shape %m [[0], [1, 2], [3], [4]] output_shape [1, 2, 3, 4, 4] : tensor<1x6x4x4xf32> into tensor<1x2x3x4x4xf32>
  %e1 = tensor.empty() : tensor<1x2x1x4x4xf32>
  %i1 = linalg.fill ins(%zero : f32) outs(%e1 : tensor<1x2x1x4x4xf32>) -> tensor<1x2x1x4x4xf32>
  // CHECK: arith.constant dense<{{\[\[\[\[\[}}5.000000e+00]], {{\[\[}}6.000000e+00]]]], {{\[\[\[\[}}9.000000e+00]], {{\[\[}}1.000000e+01]]]]]> : tensor<2x1x2x1x1xf32>
  // CHECK: linalg.conv_2d_ngchw_gfchw {{.*}} tensor<1x2x2x4x4xf32>, tensor<2x1x2x1x1xf32>
  %b = linalg.conv_2d_ngchw_gfchw {dlas.layer = "read"} ins(%s, %w1 : tensor<1x2x3x4x4xf32>, tensor<2x1x3x1x1xf32>) outs(%i1 : tensor<1x2x1x4x4xf32>) -> tensor<1x2x1x4x4xf32>
  %r = tensor.collapse_shape %b [[0], [1, 2], [3], [4]] : tensor<1x2x1x4x4xf32> into tensor<1x2x4x4xf32>
  %w2 = arith.constant dense<[[[[[0.0]]], [[[2.0]]]], [[[[3.0]]], [[[4.0]]]]]> : tensor<2x2x1x1x1xf32>
  %w3 = arith.constant dense<[[[[[5.0]], [[6.0]]]], [[[[8.0]], [[9.0]]]]]> : tensor<2x1x2x1x1xf32>
  %e2 = tensor.empty() : tensor<1x2x2x4x4xf32>
  %i2 = linalg.fill ins(%zero : f32) outs(%e2 : tensor<1x2x2x4x4xf32>) -> tensor<1x2x2x4x4xf32>
  %c = linalg.conv_2d_ngchw_gfchw {dlas.layer = "unequal"} ins(%g, %w2 : tensor<1x2x1x4x4xf32>, tensor<2x2x1x1x1xf32>) outs(%i2 : tensor<1x2x2x4x4xf32>) -> tensor<1x2x2x4x4xf32>
  %n = tensor.collapse_shape %c [[0], [1, 2], [3], [4]] : tensor<1x2x2x4x4xf32> into tensor<1x4x4x4xf32>
  %t = tensor.expand_shape %n [[0], [1, 2], [3], [4]] output_shape [1, 2, 2, 4, 4] : tensor<1x4x4x4xf32> into tensor<1x2x2x4x4xf32>
  %d = linalg.conv_2d_ngchw_gfchw {dlas.layer = "read"} ins(%t, %w3 : tensor<1x2x2x4x4xf32>, tensor<2x1x2x1x1xf32>) outs(%i1 : tensor<1x2x1x4x4xf32>) -> tensor<1x2x1x4x4xf32>
  %q = tensor.collapse_shape %d [[0], [1, 2], [3], [4]] : tensor<1x2x1x4x4xf32> into tensor<1x2x4x4xf32>
  return %r, %q : tensor<1x2x4x4xf32>, tensor<1x2x4x4xf32>
}

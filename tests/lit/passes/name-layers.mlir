// The source layer travels in the location; the pass makes it an attribute of every linalg operation.
// RUN: dlas-opt %s --pass-pipeline=dlas-name-layers --notes | FileCheck %s

// An operation that no location names is reported, and still gets a name.
// CHECK: // dlas-name-layers: refused: nameless.linalg.fill.0: no source location names this operation's layer

// CHECK-LABEL: func.func @named
func.func @named(%x: tensor<1x2x4x4xf32>, %w: tensor<3x2x1x1xf32>) -> tensor<1x3x4x4xf32> {
  %zero = arith.constant 0.0 : f32
  %empty = tensor.empty() : tensor<1x3x4x4xf32>
  // A name around a file position is still the name.
  // CHECK: linalg.fill {dlas.layer = "layer1.0.conv2"}
  %init = linalg.fill ins(%zero : f32) outs(%empty : tensor<1x3x4x4xf32>) -> tensor<1x3x4x4xf32> loc("layer1.0.conv2"("model.py":12:3))
  // CHECK: linalg.conv_2d_nchw_fchw {dlas.layer = "layer1.0.conv2"}
  %y = linalg.conv_2d_nchw_fchw ins(%x, %w : tensor<1x2x4x4xf32>, tensor<3x2x1x1xf32>) outs(%init : tensor<1x3x4x4xf32>) -> tensor<1x3x4x4xf32> loc(fused["layer1.0.conv2", "layer1.0.relu"])
  // A file is not a name: the operation belongs to the layer that makes its operand.
  // CHECK: linalg.generic
  // CHECK-SAME: dlas.layer = "layer1.0.conv2"
  %r = linalg.generic {indexing_maps = [affine_map<(n, c, h, w) -> (n, c, h, w)>, affine_map<(n, c, h, w) -> (n, c, h, w)>], iterator_types = ["parallel", "parallel", "parallel", "parallel"]} ins(%y : tensor<1x3x4x4xf32>) outs(%empty : tensor<1x3x4x4xf32>) {
  ^bb0(%in: f32, %out: f32):
    %0 = arith.maximumf %in, %zero : f32
    linalg.yield %0 : f32
  } -> tensor<1x3x4x4xf32> loc("model.py":13:3)
  return %r : tensor<1x3x4x4xf32>
}

// CHECK-LABEL: func.func @kept
func.func @kept(%x: tensor<4xf32>) -> tensor<4xf32> {
  %zero = arith.constant 0.0 : f32
  // CHECK: linalg.fill {dlas.layer = "mine"}
  %0 = linalg.fill {dlas.layer = "mine"} ins(%zero : f32) outs(%x : tensor<4xf32>) -> tensor<4xf32> loc("other")
  return %0 : tensor<4xf32>
}

// CHECK-LABEL: func.func @nameless
func.func @nameless(%x: tensor<4xf32>) -> tensor<4xf32> {
  %zero = arith.constant 0.0 : f32
  // CHECK: linalg.fill {dlas.layer = "nameless.linalg.fill.0"}
  %0 = linalg.fill ins(%zero : f32) outs(%x : tensor<4xf32>) -> tensor<4xf32>
  return %0 : tensor<4xf32>
}

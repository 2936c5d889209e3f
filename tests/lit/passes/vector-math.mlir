// Vectors: erf as a quotient of polynomials, exp as a power of two times a polynomial, a division by a number as a
// multiplication, a division by what the loop does not change as one division before it, a comparison of widened numbers
// as one of those that they were.
// RUN: dlas-opt %s --pass-pipeline=dlas-vector-math | FileCheck %s

// CHECK-LABEL: func.func @erf
func.func @erf(%x: vector<8xf32>, %s: f32) -> (vector<8xf32>, f32) {
  // CHECK-NOT: math.erf %{{.*}} : vector
  // CHECK: arith.cmpf ogt, %arg0
  // CHECK: arith.cmpf olt
  // CHECK-COUNT-10: math.fma
  // CHECK: arith.divf
  %y = math.erf %x : vector<8xf32>
  // Scalars stay.
  // CHECK: math.erf %arg1 : f32
  %t = math.erf %s : f32
  return %y, %t : vector<8xf32>, f32
}

// CHECK-LABEL: func.func @divide
func.func @divide(%x: vector<8xf32>, %y: vector<8xf32>) -> (vector<8xf32>, vector<8xf32>, vector<8xf32>) {
  %two = arith.constant dense<2.0> : vector<8xf32>
  %zero = arith.constant dense<0.0> : vector<8xf32>
  // CHECK: dense<5.000000e-01> : vector<8xf32>
  // CHECK: arith.mulf %arg0
  %a = arith.divf %x, %two : vector<8xf32>
  // CHECK: arith.divf %arg0, %arg1
  %b = arith.divf %x, %y : vector<8xf32>
  // CHECK: arith.divf %arg0
  %c = arith.divf %x, %zero : vector<8xf32>
  return %a, %b, %c : vector<8xf32>, vector<8xf32>, vector<8xf32>
}

// CHECK-LABEL: func.func @invariant
func.func @invariant(%x: vector<8xf32>, %a: f32, %b: f32) -> vector<8xf32> {
  %c0 = arith.constant 0 : index
  %c1 = arith.constant 1 : index
  %c4 = arith.constant 4 : index
  // CHECK: %[[S:.*]] = arith.addf %arg1, %arg2
  // CHECK: arith.divf %{{.*}}, %[[S]] : f32
  // CHECK: scf.for
  // CHECK-NOT: arith.divf
  // CHECK: arith.mulf %{{.*}} : vector<8xf32>
  %s = arith.addf %a, %b : f32
  %r = scf.for %i = %c0 to %c4 step %c1 iter_args(%v = %x) -> vector<8xf32> {
    %d = vector.broadcast %s : f32 to vector<8xf32>
    %w = arith.divf %v, %d : vector<8xf32>
    scf.yield %w : vector<8xf32>
  }
  return %r : vector<8xf32>
}

// CHECK-LABEL: func.func @compare
func.func @compare(%x: vector<8xf32>) -> (vector<8xi1>, vector<8xi1>) {
  // CHECK: arith.cmpf oeq, %arg0, %{{.*}} : vector<8xf32>
  %low = arith.constant dense<0xFFF0000000000000> : vector<8xf64>
  %w = arith.extf %x : vector<8xf32> to vector<8xf64>
  %a = arith.cmpf oeq, %w, %low : vector<8xf64>
  // f32 has no 0.1 of f64.
  // CHECK: arith.cmpf oeq, %{{.*}} : vector<8xf64>
  %tenth = arith.constant dense<0.1> : vector<8xf64>
  %b = arith.cmpf oeq, %w, %tenth : vector<8xf64>
  return %a, %b : vector<8xi1>, vector<8xi1>
}

// 2^(n - 1), whose exponent is shifted to its place, times 2^(1 + f), |f| at most 1/2, a polynomial.
// CHECK-LABEL: func.func @exp
func.func @exp(%x: vector<8xf32>, %s: f32) -> (vector<8xf32>, f32) {
  // CHECK-NOT: math.exp %{{.*}} : vector
  // CHECK: arith.cmpf ogt, %arg0
  // CHECK: arith.cmpf olt
  // CHECK: math.fma
  // CHECK: arith.subf
  // CHECK-COUNT-2: math.fma
  // CHECK: arith.shli %{{.*}} : vector<8xi32>
  // CHECK-COUNT-6: math.fma
  // CHECK: arith.mulf
  %y = math.exp %x : vector<8xf32>
  // CHECK: math.exp %arg1 : f32
  %t = math.exp %s : f32
  return %y, %t : vector<8xf32>, f32
}

// x times its logistic function is one division.
// CHECK-LABEL: func.func @silu
func.func @silu(%x: vector<8xf32>) -> vector<8xf32> {
  %one = arith.constant dense<1.0> : vector<8xf32>
  // The bounds are those of x itself.
  // CHECK: arith.cmpf ogt, %arg0
  // CHECK: %[[D:.*]] = arith.addf
  // CHECK: arith.divf %arg0, %[[D]]
  // CHECK-NOT: arith.mulf %arg0
  // CHECK: return
  %n = arith.negf %x : vector<8xf32>
  %e = math.exp %n : vector<8xf32>
  %d = arith.addf %e, %one : vector<8xf32>
  %s = arith.divf %one, %d : vector<8xf32>
  %y = arith.mulf %x, %s : vector<8xf32>
  return %y : vector<8xf32>
}

// The logistic function is wanted itself, too.
// CHECK-LABEL: func.func @kept
func.func @kept(%x: vector<8xf32>, %d: vector<8xf32>) -> (vector<8xf32>, vector<8xf32>) {
  %one = arith.constant dense<1.0> : vector<8xf32>
  // CHECK: %[[S:.*]] = arith.divf
  // CHECK: arith.mulf %arg0, %[[S]]
  %s = arith.divf %one, %d : vector<8xf32>
  %y = arith.mulf %x, %s : vector<8xf32>
  return %s, %y : vector<8xf32>, vector<8xf32>
}

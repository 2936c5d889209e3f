"""Functions of vectors that LLVM would compute with more instructions than they need, as a step on a kernel.

before: %y = math.erf %x : vector<8xf32>                                   18 blends and two divisions
after:  %y = c * P(c^2) / Q(c^2), c = max(min(%x, 3.92), -3.92)            10 FMAs and one division

before: %y = math.exp %x : vector<8xf32>                                   20 instructions
after:  %y = 2^n * P(x / ln 2 - n), n = round(x / ln 2), x bounded         14 instructions

before: %y = arith.mulf %x, (arith.divf 1.0, %d) : vector<8xf32>
after:  %y = arith.divf %x, %d : vector<8xf32>

before: %y = arith.divf %x, 1.41421354 : vector<8xf32>
after:  %y = arith.mulf %x, 0.707106769 : vector<8xf32>

before: for c:  %y = arith.divf %x, broadcast(%s)      %s from outside of the loop
after:  %i = arith.divf 1.0, %s;  for c:  %y = arith.mulf %x, broadcast(%i)

before: %y = arith.cmpf (arith.extf %x : f32 to f64), -inf : f64
after:  %y = arith.cmpf %x, -inf : f32
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np
from iree.compiler import ir

from dlas.passes.dispatch import float_constant
from dlas.passes.generics import walk_op
from dlas.passes.vectors import constant_vector, emit

# Fitted to erf(x) = x P(x^2) / Q(x^2) on |x| <= 3.92 by iteratively reweighted least squares: error below 2e-8 with
# real numbers, 3.2e-7 of the value with f32's. At the bound both sides are 1 in f32, and so beyond it.
_BOUND = 3.92
_NUMERATOR = (1.128379022e00, 1.927621982e-01, 5.306022163e-02, 3.868241056e-03, 2.874763511e-04, 2.034736699e-06)
_DENOMINATOR = (1.0, 5.041627179e-01, 1.150838368e-01, 1.517212791e-02, 1.188091921e-03, 3.807049609e-05)
_GREATER, _LESS = 2, 4  # arith's ordered comparisons

# 2^f = 1 + f P(f) on |f| <= 0.5, fitted likewise: error below 2e-9 with real numbers, 1e-7 of exp's value with f32's.
_POWER = (1.0, 6.931472029e-01, 2.402264791e-01, 5.550332471e-02, 9.618437358e-03, 1.339887442e-03, 1.535336189e-04)
_LOG2_E, _LOG2_E_REST = 1.44269502, 1.92596299e-08  # the second is what the first lacks as an f32
_EXP_LEAST, _EXP_MOST = -87.5, 89.0  # n is -126 and 128 there
_MANTISSA = 23
_ROUND = 1.5 * 2**_MANTISSA + 126  # the lowest bits of a sum with it are those of a rounded integer and 126


def lower_vector_math(function: ir.Operation) -> None:
    """Rewrites these ops of f32 vectors in ``function``."""
    inverses: dict[ir.Value, ir.Value] = {}
    for op in walk_op(function):
        if op.name not in _REWRITES or not isinstance(op.operands[0].type, ir.VectorType):
            continue
        with ir.InsertionPoint(op), op.location:
            new = _REWRITES[op.name](op, inverses)
        if new is not None:
            op.results[0].replace_all_uses_with(new)
            op.erase()


def _lower_erf(op: ir.Operation, inverses: dict[ir.Value, ir.Value]) -> ir.Value | None:
    vector = ir.VectorType(op.results[0].type)
    return _erf(op.operands[0], vector) if isinstance(vector.element_type, ir.F32Type) else None


def _lower_exp(op: ir.Operation, inverses: dict[ir.Value, ir.Value]) -> ir.Value | None:
    vector = ir.VectorType(op.results[0].type)
    if not isinstance(vector.element_type, ir.F32Type):
        return None
    negated = _defining(op.operands[0])
    if negated is not None and negated.name == "arith.negf":
        return _exp(negated.operands[0], -1.0, vector)
    return _exp(op.operands[0], 1.0, vector)


def _divide_instead(op: ir.Operation, inverses: dict[ir.Value, ir.Value]) -> ir.Value | None:
    """``x / d`` for ``x * (1 / d)``, where ``1 / d`` is for this alone: x times its logistic function."""
    vector = ir.VectorType(op.results[0].type)
    for x, inverse in (list(op.operands), list(reversed(op.operands))):
        owner = _defining(inverse)
        if owner is None or owner.name != "arith.divf" or _splat(owner.operands[0]) != 1.0 or owner.block != op.block:
            continue
        if len(list(inverse.uses)) == 1:
            return emit("arith.divf", [x, owner.operands[1]], vector)
    return None


def _lower_division(op: ir.Operation, inverses: dict[ir.Value, ir.Value]) -> ir.Value | None:
    vector = ir.VectorType(op.results[0].type)
    if not isinstance(vector.element_type, ir.F32Type):
        return None
    x, divisor = op.operands
    new = _multiply_by_inverse(x, divisor, vector)
    owner = _defining(divisor)
    if new is not None or owner is None or owner.name != "vector.broadcast":
        return new
    number = owner.operands[0]
    maker = _defining(number)
    if maker is None or not isinstance(number.type, ir.F32Type) or maker.block == op.block:
        return None
    if number not in inverses:
        with ir.InsertionPoint.after(maker):
            one = float_constant(1.0, number.type)
            inverses[number] = emit("arith.divf", [one, number], number.type)
    return emit("arith.mulf", [x, emit("vector.broadcast", [inverses[number]], vector)], vector)


def _narrow_comparison(op: ir.Operation, inverses: dict[ir.Value, ir.Value]) -> ir.Value | None:
    """A comparison of widened numbers with a number that f32 has."""
    wide, number = _defining(op.operands[0]), _splat(op.operands[1])
    if wide is None or wide.name != "arith.extf" or number is None or float(np.float32(number)) != number:
        return None
    narrow = ir.VectorType(wide.operands[0].type)
    if not isinstance(narrow.element_type, ir.F32Type):
        return None
    return ir.Operation.create(
        "arith.cmpf",
        results=[op.results[0].type],
        operands=[wide.operands[0], constant_vector(number, narrow)],
        attributes={"predicate": op.attributes["predicate"]},
    ).result


_REWRITES: dict[str, Callable[[ir.Operation, dict[ir.Value, ir.Value]], ir.Value | None]] = {
    "math.erf": _lower_erf,
    "math.exp": _lower_exp,
    "arith.mulf": _divide_instead,
    "arith.divf": _lower_division,
    "arith.cmpf": _narrow_comparison,
}


def _defining(value: ir.Value) -> ir.Operation | None:
    """The op that defines a value, None for a block argument."""
    return getattr(value.owner, "operation", None)


def _erf(x: ir.Value, vector: ir.VectorType) -> ir.Value:
    bounded = _bound(_bound(x, _GREATER, _BOUND, vector), _LESS, -_BOUND, vector)
    square = emit("arith.mulf", [bounded, bounded], vector)
    above = emit("arith.mulf", [bounded, _polynomial(_NUMERATOR, square, vector)], vector)
    return emit("arith.divf", [above, _polynomial(_DENOMINATOR, square, vector)], vector)


def _exp(x: ir.Value, sign: float, vector: ir.VectorType) -> ir.Value:
    """e to the power of ``sign * x``, as 2^(n - 1) * (2 * 2^f): 0 below -87, infinite where f32 has no such number.

    Source: Cody, Waite: Software Manual for the Elementary Functions, 1980, chapter 6 (the argument's reduction by a
    constant in two parts). The sum with 1.5 * 2^23 + 126 rounds, and has the exponent's bits of 2^(n - 1) at its end.
    """
    least, most = sorted((sign * _EXP_LEAST, sign * _EXP_MOST))
    bounded = _bound(_bound(x, _GREATER, most, vector), _LESS, least, vector)
    factor, round_ = constant_vector(sign * _LOG2_E, vector), constant_vector(_ROUND, vector)
    shifted = emit("math.fma", [bounded, factor, round_], vector)
    rest = emit("math.fma", [bounded, factor, emit("arith.subf", [round_, shifted], vector)], vector)
    rest = emit("math.fma", [bounded, constant_vector(sign * _LOG2_E_REST, vector), rest], vector)

    integers = ir.VectorType.get(vector.shape, ir.IntegerType.get_signless(32))
    places = ir.DenseElementsAttr.get_splat(integers, ir.IntegerAttr.get(integers.element_type, _MANTISSA))
    by = ir.Operation.create("arith.constant", results=[integers], attributes={"value": places}).result
    power = emit("arith.shli", [emit("arith.bitcast", [shifted], integers), by], integers)
    twice = _polynomial([2 * coefficient for coefficient in _POWER], rest, vector)
    return emit("arith.mulf", [emit("arith.bitcast", [power], vector), twice], vector)


def _bound(x: ir.Value, predicate: int, bound: float, vector: ir.VectorType) -> ir.Value:
    """The bound where ``x`` is beyond it, else ``x``: one instruction, and NaN stays NaN."""
    limit = constant_vector(bound, vector)
    beyond = ir.Operation.create(
        "arith.cmpf",
        results=[ir.VectorType.get(vector.shape, ir.IntegerType.get_signless(1))],
        operands=[x, limit],
        attributes={"predicate": ir.IntegerAttr.get(ir.IntegerType.get_signless(64), predicate)},
    ).result
    return emit("arith.select", [beyond, limit, x], vector)


def _polynomial(coefficients: Sequence[float], x: ir.Value, vector: ir.VectorType) -> ir.Value:
    """Horner's rule; the constant term comes first."""
    total = constant_vector(coefficients[-1], vector)
    for coefficient in reversed(coefficients[:-1]):
        total = emit("math.fma", [total, x, constant_vector(coefficient, vector)], vector)
    return total


def _multiply_by_inverse(x: ir.Value, divisor: ir.Value, vector: ir.VectorType) -> ir.Value | None:
    """``x * (1 / divisor)`` where the divisor is one normal number, else None."""
    number = _splat(divisor)
    if number is None or not np.isfinite(number) or number == 0:
        return None
    inverse = np.float32(1 / np.float64(number))
    if not np.isfinite(inverse) or abs(inverse) < np.finfo(np.float32).tiny:
        return None
    return emit("arith.mulf", [x, constant_vector(float(inverse), vector)], vector)


def _splat(value: ir.Value) -> float | None:
    """The number that is in all lanes of a constant or broadcast vector."""
    owner = _defining(value)
    if owner is not None and owner.name == "vector.broadcast":
        owner = _defining(owner.operands[0])
    if owner is None or owner.name != "arith.constant":
        return None
    attribute = owner.attributes["value"]
    if isinstance(attribute, ir.DenseElementsAttr) and attribute.is_splat:
        attribute = attribute.get_splat_value()
    return float(attribute.value) if isinstance(attribute, ir.FloatAttr) else None

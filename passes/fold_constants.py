"""``dlas-fold-constants``: what can be computed from constants is computed, and constants stand in the shape their
user wants.

    before: %t = linalg.transpose ins(%w : tensor<10x64xf32>) ... permutation = [1, 0]
            %y = linalg.matmul ins(%x, %t)
    after:  %w' = arith.constant dense<...> : tensor<64x10xf32>
            %y = linalg.matmul ins(%x, %w')

Folded: reshapes, transposes, slices, pads and casts of constants; ``linalg.generic`` over constants only (the square
roots and reciprocals of a batch norm, weight norms, flips) by numpy in float64. A ``linalg.generic`` operand that is
one number (rank 0, or a splat that only broadcasts) moves into the body as a scalar. Never folded: what would
make a constant much larger than its sources (broadcasts to an activation's size).
"""

from __future__ import annotations

import operator
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np

from dlas.passes.constants import (
    bindings,
    make_constant,
    make_scalar,
    numpy_dtype,
    read_constant,
    read_scalar,
)
from dlas.passes.generics import (
    Generic,
    build_elementwise,
    defining_op,
    element_type,
    erase_dead,
    layer_of,
    replace,
    shape_of,
    walk,
    walk_body,
)
from dlas.passes.registry import Note, Pass, register

_COMPARE: tuple[tuple[str, Callable[[Any, Any], Any]], ...] = (
    ("eq", operator.eq), ("gt", operator.gt), ("ge", operator.ge),
    ("lt", operator.lt), ("le", operator.le), ("ne", operator.ne),
)  # fmt: skip
# arith's numbering of float predicates: 1..6 ordered, 8..13 unordered (true if a NaN is involved).
_FLOAT_PREDICATES: dict[int, tuple[Callable[[Any, Any], Any], bool]] = {
    **{1 + i: (compare, False) for i, (_, compare) in enumerate(_COMPARE)},
    **{8 + i: (compare, True) for i, (_, compare) in enumerate(_COMPARE)},
}

_ELEMENTWISE: dict[str, Callable[..., np.ndarray]] = {
    "arith.addf": np.add,
    "arith.subf": np.subtract,
    "arith.mulf": np.multiply,
    "arith.divf": np.divide,
    "arith.negf": np.negative,
    "arith.maximumf": np.maximum,
    "arith.minimumf": np.minimum,
    "arith.addi": np.add,
    "arith.subi": np.subtract,
    "arith.muli": np.multiply,
    "arith.select": np.where,
    "math.sqrt": np.sqrt,
    "math.rsqrt": lambda x: 1.0 / np.sqrt(x),
    "math.absf": np.abs,
    "math.exp": np.exp,
    "math.powf": np.power,
    "math.tanh": np.tanh,
}

_CASTS = frozenset({
    "arith.extf", "arith.truncf", "arith.sitofp", "arith.index_cast", "arith.extsi", "arith.trunci", "arith.fptosi",
})  # fmt: skip

_REDUCERS: dict[str, np.ufunc] = {
    "arith.addf": np.add,
    "arith.mulf": np.multiply,
    "arith.maximumf": np.maximum,
    "arith.minimumf": np.minimum,
}

# Loop points of a generic that is worth evaluating while compiling (a gigabyte of float64 is 2**27).
_MAX_POINTS = 2**26


@register("dlas-fold-constants", context="torch-mlir")
@dataclass(frozen=True)
class FoldConstants(Pass):
    """See the module's docstring.

    Attributes:
        max_growth: an operation whose result has more than this many times the elements of its constant operands is
            left alone.
    """

    max_growth: int = 2

    def run(self, module: Any) -> list[Note]:
        notes: list[Note] = []
        for op in walk(module, "arith.truncf", "arith.sitofp"):
            _fold_scalar(op)
        for op in walk(module, *_FOLDERS):
            array = _FOLDERS[op.name](op)
            if array is None or numpy_dtype(element_type(op.results[0])) is None:
                continue
            sources = [read_constant(value) for value in _sources(op)]
            size = sum(source.size for source in sources if source is not None)
            if array.size > max(self.max_growth * size, 64):
                continue
            if op.name == "linalg.generic" and array.dtype.kind == "f" and not np.isfinite(array).all():
                notes.append(Note(self.name, layer_of(op), False, f"{op.name} of constants is not finite"))
                continue
            notes.append(Note(self.name, layer_of(op), True, f"evaluated {op.name}"))
            with bindings(op).InsertionPoint(op), op.location:
                replace(op, make_constant(array, element_type(op.results[0])))
        for op in walk(module, "linalg.generic"):
            self._inline_scalars(op)
        erase_dead(module)
        return notes

    @staticmethod
    def _inline_scalars(op: Any) -> None:
        """Move operands that are one number into the body (their block argument is replaced by a scalar)."""
        generic = Generic.read(op)
        if generic is None or not generic.is_elementwise or not generic.inputs:
            return
        numbers = {i: number for i, value in enumerate(generic.inputs) if (number := _one_number(value)) is not None}
        kept = [i for i in range(len(generic.inputs)) if i not in numbers]
        if not numbers or not kept:
            return
        ir = bindings(op)
        scalars = []
        with ir.InsertionPoint(op), op.location:
            for i, number in numbers.items():
                scalars.append((i, make_scalar(number, element_type(generic.inputs[i]))))
            mapping = dict(scalars)

            def body(arguments: Any) -> Any:
                values = {generic.body.arguments[i]: value for i, value in mapping.items()}
                values |= {generic.body.arguments[i]: value for i, value in zip(kept, arguments, strict=True)}
                return clone_body(generic, values)

            result = build_elementwise(
                [(generic.inputs[i], generic.indices[i]) for i in kept], op.results[0].type, body, layer_from=op
            )
        replace(op, result)


def clone_body(generic: Generic, values: dict[Any, Any]) -> Any:
    """Clone a body's operations at the current insertion point with block arguments mapped; the yielded value."""
    for op in generic.body_ops():
        copy = op.clone()
        for position, operand in enumerate(op.operands):
            if operand in values:
                copy.operands[position] = values[operand]
        values |= dict(zip(op.results, copy.results, strict=True))
    return values.get(generic.yielded, generic.yielded)


def _fold_scalar(op: Any) -> None:
    """A conversion of a scalar constant (MLIR's own folder leaves those that round)."""
    number = read_scalar(op.operands[0])
    kind = op.results[0].type
    dtype = numpy_dtype(kind)
    if number is None or dtype is None:
        return
    with bindings(op).InsertionPoint(op), op.location:
        replace(op, make_scalar(dtype.type(number).item(), kind))


def _sources(op: Any) -> list[Any]:
    """The tensors that an operation computes from: its operands, and what a generic's body reads by index."""
    body = [inner.operands[0] for inner in walk_body(op, "tensor.extract")] if op.name == "linalg.generic" else []
    return [*op.operands, *body]


def _one_number(value: Any) -> float | int | None:
    array = read_constant(value)
    if array is None or array.size == 0:
        return None
    if array.ndim and array.size > 1 and any(array.strides):
        return None
    return array.flat[0].item()


def _reshape(op: Any) -> np.ndarray | None:
    array = read_constant(op.operands[0])
    return None if array is None else np.reshape(array, shape_of(op.results[0]))


def _transpose(op: Any) -> np.ndarray | None:
    array = read_constant(op.operands[0])
    if array is None:
        return None
    return np.transpose(array, list(bindings(op).DenseI64ArrayAttr(op.attributes["permutation"])))


def _slice(op: Any) -> np.ndarray | None:
    array = read_constant(op.operands[0])
    if array is None or len(op.operands) > 1:
        return None
    kind = bindings(op).DenseI64ArrayAttr
    offsets, sizes, strides = (list(kind(op.attributes[f"static_{part}"])) for part in ("offsets", "sizes", "strides"))
    slices = tuple(
        slice(offset, offset + (size - 1) * stride + 1, stride)
        for offset, size, stride in zip(offsets, sizes, strides, strict=True)
    )
    return array[slices].reshape(shape_of(op.results[0]))


def _pad(op: Any) -> np.ndarray | None:
    array = read_constant(op.operands[0])
    if array is None or len(op.operands) > 1:
        return None
    terminator = list(op.regions[0].blocks[0].operations)[-1].operation
    number = read_scalar(terminator.operands[0])
    if number is None:
        return None
    kind = bindings(op).DenseI64ArrayAttr
    low, high = (list(kind(op.attributes[f"static_{side}"])) for side in ("low", "high"))
    return np.pad(array, list(zip(low, high, strict=True)), constant_values=number)


def _generic(op: Any) -> np.ndarray | None:
    generic = Generic.read(op)
    if generic is None:
        return None
    arrays = [read_constant(value) for value in generic.inputs]
    extents = generic.loop_extents()
    if any(array is None for array in arrays) or min(extents, default=1) < 0 or np.prod(extents) > _MAX_POINTS:
        return None
    # Without inputs only what is read by index makes a constant worth having.
    if not generic.inputs and not list(walk_body(op, "tensor.extract")):
        return None
    return evaluate(generic, [array for array in arrays if array is not None], extents)


def evaluate(generic: Generic, arrays: list[np.ndarray], extents: tuple[int, ...]) -> np.ndarray | None:
    """The result of a generic over arrays; None if its body has an operation without a numpy equal here."""
    value = evaluate_loops(generic, arrays, extents)
    return None if value is None else _from_loops(value, generic, extents)


def evaluate_loops(generic: Generic, arrays: list[np.ndarray], extents: tuple[int, ...]) -> np.ndarray | None:
    """What :func:`evaluate` finds, with a dimension per loop; the operands may be smaller than the operation's own.

    Floats are computed in float64 and rounded once at the end.
    """
    values: dict[Any, np.ndarray] = {}
    for argument, array, index in zip(generic.body.arguments, arrays, generic.indices, strict=False):
        wide = array.astype(np.float64) if array.dtype.kind == "f" else array
        values[argument] = to_loops(wide, index, len(extents))
    output = generic.body.arguments[len(generic.inputs)]
    reduced = tuple(i for i, kind in enumerate(generic.iterators) if kind == "reduction")
    ops = list(generic.body_ops())
    reducer: np.ufunc | None = None
    yielded = generic.yielded
    if reduced:
        last = ops.pop() if ops else None
        if last is None or last.name not in _REDUCERS or last.results[0] != yielded:
            return None
        others = [operand for operand in last.operands if operand != output]
        if len(others) != 1:
            return None
        reducer, yielded = _REDUCERS[last.name], others[0]
    for op in ops:
        if not _evaluate_op(op, values, output, extents):
            return None
    value = _value_of(yielded, values)
    if value is None:
        return None
    value = np.broadcast_to(value, extents)
    if reducer is not None:
        init = _init_array(generic)
        if init is None:
            return None
        start = to_loops(init, generic.indices[-1], len(extents))
        value = reducer(reducer.reduce(value, axis=reduced, keepdims=True), start)
    return value


def _evaluate_op(op: Any, values: dict[Any, np.ndarray], output: Any, extents: tuple[int, ...]) -> bool:
    """Put the value of one body operation in ``values``; False if it has none here."""
    if op.name == "linalg.index":
        dim = op.attributes["dim"].value
        values[op.results[0]] = to_loops(np.arange(extents[dim]), (dim,), len(extents))
        return True
    if op.name == "arith.constant":  # read where it is used
        return True
    if output in list(op.operands):
        return False
    if op.name == "tensor.extract":
        return _evaluate_extract(op, values)
    found = [_value_of(operand, values) for operand in op.operands]
    operands = [operand for operand in found if operand is not None]
    if len(operands) != len(found):
        return False
    if op.name == "cf.assert":
        return bool(np.all(operands[0]))
    if op.name in _CASTS:
        # A cast to an integer would round: only what keeps the value is taken.
        if op.name in ("arith.fptosi", "arith.trunci"):
            return False
        values[op.results[0]] = operands[0]
        return True
    with np.errstate(all="ignore"):
        if op.name == "arith.cmpf":
            predicate = bindings(op).IntegerAttr(op.attributes["predicate"]).value
            if predicate not in _FLOAT_PREDICATES:
                return False
            compare, unordered = _FLOAT_PREDICATES[predicate]
            result = compare(*operands)
            nan = np.isnan(operands[0]) | np.isnan(operands[1])
            values[op.results[0]] = (result | nan) if unordered else (result & ~nan)
            return True
        if op.name not in _ELEMENTWISE:
            return False
        values[op.results[0]] = _ELEMENTWISE[op.name](*operands)
    return True


def _evaluate_extract(op: Any, values: dict[Any, np.ndarray]) -> bool:
    source = read_constant(op.operands[0])
    indices = [_value_of(operand, values) for operand in list(op.operands)[1:]]
    if source is None:
        return False
    found = [index for index in indices if index is not None]
    if len(found) != source.ndim:
        return False
    if any(np.min(index) < 0 or np.max(index) >= extent for index, extent in zip(found, source.shape, strict=True)):
        return False
    array = source[tuple(np.broadcast_arrays(*found))] if found else source
    values[op.results[0]] = array.astype(np.float64) if array.dtype.kind == "f" else array
    return True


def _value_of(value: Any, values: dict[Any, np.ndarray]) -> np.ndarray | None:
    if value in values:
        return values[value]
    number = read_scalar(value)
    return None if number is None else np.asarray(number)


def _init_array(generic: Generic) -> np.ndarray | None:
    """What a reduction starts from: a fill of a number, or a constant."""
    op = defining_op(generic.output)
    if op is not None and op.name == "linalg.fill":
        number = read_scalar(op.operands[0])
        return None if number is None else np.full(shape_of(generic.output), number)
    return read_constant(generic.output)


def to_loops(array: np.ndarray, index: tuple[int | None, ...], rank: int) -> np.ndarray:
    """An operand's array with one axis per loop (extent 1 where it does not vary)."""
    used = [dim for dim in index if dim is not None]
    # A dimension read at the constant 0 has nothing but that element.
    array = array[tuple(0 if dim is None else slice(None) for dim in index)]
    array = np.transpose(array, np.argsort(used)) if used else array
    shape = [1] * rank
    for dim, extent in zip(sorted(used), array.shape, strict=True):
        shape[dim] = extent
    return array.reshape(shape)


def _from_loops(value: np.ndarray, generic: Generic, extents: tuple[int, ...]) -> np.ndarray | None:
    index = generic.indices[-1]
    shape = shape_of(generic.op.results[0])
    order = [dim for dim in index if dim is not None]
    rest = [dim for dim in range(len(extents)) if dim not in order]
    if any(value.shape[dim] != 1 for dim in rest):
        return None
    return np.transpose(value, order + rest).reshape(shape)


_FOLDERS: dict[str, Callable[[Any], np.ndarray | None]] = {
    "tensor.expand_shape": _reshape,
    "tensor.collapse_shape": _reshape,
    "tensor.extract_slice": _slice,
    "tensor.pad": _pad,
    "linalg.transpose": _transpose,
    "linalg.generic": _generic,
}

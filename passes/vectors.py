"""Emit vector code on tensors: reads, writes, shuffles, and loops that carry tensors. Works in IREE's context."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Sequence
from typing import TypeAlias

from iree.compiler import ir

from dlas.passes.dispatch import affine_map, index_constant, tensor_type

Index: TypeAlias = "int | ir.Value"


def emit(name: str, operands: Sequence[ir.Value], result: ir.Type) -> ir.Value:
    """An op with one result and no attributes."""
    return ir.Operation.create(name, results=[result], operands=list(operands)).result


class Indices:
    """Index constants, each emitted once at the insertion point where it is first asked for."""

    def __init__(self) -> None:
        self.known: dict[int, ir.Value] = {}

    def __call__(self, number: Index) -> ir.Value:
        if not isinstance(number, int):
            return number
        if number not in self.known:
            self.known[number] = index_constant(number)
        return self.known[number]


def _transfer(rank: int, vector: ir.VectorType) -> dict[str, ir.Attribute]:
    minor = affine_map(rank, [ir.AffineExpr.get_dim(number) for number in range(rank - vector.rank, rank)])
    return {
        "permutation_map": ir.AffineMapAttr.get(minor),
        "in_bounds": ir.ArrayAttr.get([ir.BoolAttr.get(True)] * vector.rank),
    }


def read(
    source: ir.Value, offsets: Sequence[Index], vector: ir.VectorType, padding: ir.Value, index: Indices
) -> ir.Value:
    """``vector.transfer_read`` along the last dimensions, in bounds."""
    return ir.Operation.create(
        "vector.transfer_read",
        results=[vector],
        operands=[source, *(index(offset) for offset in offsets), padding],
        attributes={
            **_transfer(len(offsets), vector),
            "operandSegmentSizes": ir.DenseI32ArrayAttr.get([1, len(offsets), 1, 0]),
        },
    ).result


def write(value: ir.Value, target: ir.Value, offsets: Sequence[Index], index: Indices) -> ir.Value:
    """``vector.transfer_write`` along the last dimensions, in bounds; returns the tensor."""
    return ir.Operation.create(
        "vector.transfer_write",
        results=[target.type],
        operands=[value, target, *(index(offset) for offset in offsets)],
        attributes={
            **_transfer(len(offsets), ir.VectorType(value.type)),
            "operandSegmentSizes": ir.DenseI32ArrayAttr.get([1, 1, len(offsets), 0]),
        },
    ).result


def rows(whole: ir.Value) -> list[ir.Value]:
    """``vector.extract`` of all vectors along the last dimension, the last but one fastest."""
    shaped = ir.VectorType(whole.type)
    row = ir.VectorType.get(shaped.shape[-1:], shaped.element_type)
    return [
        ir.Operation.create(
            "vector.extract",
            results=[row],
            operands=[whole],
            attributes={"static_position": ir.DenseI64ArrayAttr.get(place)},
        ).result
        for place in itertools.product(*map(range, shaped.shape[:-1]))
    ]


def block(lines: Sequence[ir.Value], shape: Sequence[int]) -> ir.Value:
    """The vector of which ``lines`` are :func:`rows`, ``shape`` of them.

    Made by ``vector.insert_strided_slice``: a chain of ``vector.insert`` would be canonicalised to single elements.
    """
    row, i64 = ir.VectorType(lines[0].type), ir.IntegerType.get_signless(64)
    whole = constant_vector(0.0, ir.VectorType.get([*shape, *row.shape], row.element_type))
    for line, place in zip(lines, itertools.product(*map(range, shape)), strict=True):
        whole = ir.Operation.create(
            "vector.insert_strided_slice",
            results=[whole.type],
            operands=[line, whole],
            attributes={
                "offsets": ir.ArrayAttr.get([ir.IntegerAttr.get(i64, number) for number in (*place, 0)]),
                "strides": ir.ArrayAttr.get([ir.IntegerAttr.get(i64, 1)]),
            },
        ).result
    return whole


def buffer(tensor: ir.Value) -> ir.Value:
    """The buffer of a 1-D tensor that is only read (``bufferization.to_buffer``): what to give :func:`prefetch`.

    It is the tensor's own, without a copy, where that begins anywhere in a binding of the kernel.
    """
    shaped = ir.ShapedType(tensor.type)
    type = ir.Type.parse(f"memref<{shaped.shape[0]}x{shaped.element_type}, strided<[1], offset: ?>>")
    attributes = {"read_only": ir.UnitAttr.get()}
    return ir.Operation.create(
        "bufferization.to_buffer", results=[type], operands=[tensor], attributes=attributes
    ).result


def prefetch(source: ir.Value, place: ir.Value) -> None:
    """``memref.prefetch``: has the level-2 cache get the line of an element of a 1-D buffer, to be read."""
    ir.Operation.create(
        "memref.prefetch",
        operands=[source, place],
        attributes={
            "isWrite": ir.BoolAttr.get(False),
            "localityHint": ir.IntegerAttr.get(ir.IntegerType.get_signless(32), 2),  # 3 is level 1
            "isDataCache": ir.BoolAttr.get(True),
        },
    )


def shuffle(value: ir.Value, mask: Sequence[int]) -> ir.Value:
    """``vector.shuffle`` of one vector."""
    return ir.Operation.create(
        "vector.shuffle",
        results=[value.type],
        operands=[value, value],
        attributes={"mask": ir.DenseI64ArrayAttr.get(list(mask))},
    ).result


def shuffle_two(first: ir.Value, second: ir.Value, mask: Sequence[int]) -> ir.Value:
    """``vector.shuffle``: lanes of ``first``, then those of ``second``, chosen by ``mask``."""
    element = ir.VectorType(first.type).element_type
    return ir.Operation.create(
        "vector.shuffle",
        results=[ir.VectorType.get([len(mask)], element)],
        operands=[first, second],
        attributes={"mask": ir.DenseI64ArrayAttr.get(list(mask))},
    ).result


def add(x: ir.Value, y: ir.Value) -> ir.Value:
    """The sum of two indices."""
    return affine(ir.AffineExpr.get_dim(0) + ir.AffineExpr.get_dim(1), x, y)


def minimum(x: ir.Value, y: ir.Value) -> ir.Value:
    """The smaller of two indices."""
    return emit("arith.minsi", [x, y], ir.IndexType.get())


def mark(value: ir.Value, role: str) -> ir.Value:
    """Sets ``dlas.role`` on the op that makes ``value``: a kernel is found by its roles."""
    value.owner.operation.attributes["dlas.role"] = ir.StringAttr.get(role)
    return value


def splat(source: ir.Value, offsets: Sequence[Index], vector: ir.VectorType, index: Indices) -> ir.Value:
    """One element of a tensor in all lanes."""
    element = ir.ShapedType(source.type).element_type
    scalar = emit("tensor.extract", [source, *(index(offset) for offset in offsets)], element)
    return emit("vector.broadcast", [scalar], vector)


def constant_vector(value: float, vector: ir.VectorType) -> ir.Value:
    """A vector with ``value`` in all lanes."""
    splat_ = ir.DenseElementsAttr.get_splat(vector, ir.FloatAttr.get(vector.element_type, value))
    return ir.Operation.create("arith.constant", results=[vector], attributes={"value": splat_}).result


def transpose(lines: Sequence[ir.Value]) -> list[ir.Value]:
    """As many vectors as they have lanes (a power of two), transposed: halves, quarters, ... change places."""
    lines, lanes = list(lines), len(lines)
    distance = lanes // 2
    while distance:
        low = [lane if not lane & distance else lane - distance + lanes for lane in range(lanes)]
        high = [lane + distance if not lane & distance else lane + lanes for lane in range(lanes)]
        for i in (i for i in range(lanes) if not i & distance):
            x, y = lines[i], lines[i + distance]
            lines[i], lines[i + distance] = shuffle_two(x, y, low), shuffle_two(x, y, high)
        distance //= 2
    return lines


class VectorArithmetic:
    """:class:`dlas.passes.winograd.Arithmetic` that emits vector ops."""

    def __init__(self, vector: ir.VectorType) -> None:
        self.vector = vector

    def add(self, x: ir.Value, y: ir.Value) -> ir.Value:
        """``x + y``."""
        return emit("arith.addf", [x, y], self.vector)

    def sub(self, x: ir.Value, y: ir.Value) -> ir.Value:
        """``x - y``."""
        return emit("arith.subf", [x, y], self.vector)

    def fma(self, factor: float, x: ir.Value, y: ir.Value) -> ir.Value:
        """``factor * x + y``."""
        return emit("vector.fma", [constant_vector(factor, self.vector), x, y], self.vector)


Body: TypeAlias = Callable[[ir.Value, list[ir.Value]], Sequence[ir.Value]]
"""The body of a loop: gets its counter and what it carries, returns what it made of that."""

Range: TypeAlias = "int | tuple[ir.Value, ir.Value]"
"""How often a loop runs: so many times from 0, or from one number to (without) another."""


def loop(
    range_: Range, carried: Sequence[ir.Value], body: Callable[[ir.Value, list[ir.Value]], Sequence[ir.Value]]
) -> list[ir.Value]:
    """``scf.for`` by 1 over carried tensors; a loop of one iteration is its body alone."""
    if range_ == 1:
        return list(body(index_constant(0), list(carried)))
    low, high = (index_constant(0), index_constant(range_)) if isinstance(range_, int) else range_
    return loop_between(low, high, carried, body)


def loop_between(
    low: ir.Value,
    high: ir.Value,
    carried: Sequence[ir.Value],
    body: Callable[[ir.Value, list[ir.Value]], Sequence[ir.Value]],
) -> list[ir.Value]:
    """``scf.for`` from ``low`` to ``high`` by 1 over carried tensors or vectors."""
    types = [value.type for value in carried]
    for_ = ir.Operation.create("scf.for", results=types, operands=[low, high, index_constant(1), *carried], regions=1)
    block = for_.regions[0].blocks.append(ir.IndexType.get(), *types)
    with ir.InsertionPoint(block):
        results = body(block.arguments[0], list(block.arguments)[1:])
        ir.Operation.create("scf.yield", operands=list(results))
    return list(for_.results)


def loops(
    ranges: Sequence[Range], carried: Sequence[ir.Value], body: Callable[..., Sequence[ir.Value]]
) -> list[ir.Value]:
    """Nested loops; ``body`` gets their counters, outermost first, and the carried tensors."""
    if not ranges:
        return list(body(list(carried)))

    def inner(counter: ir.Value, values: list[ir.Value]) -> list[ir.Value]:
        return loops(ranges[1:], values, lambda *rest: body(counter, *rest))

    return loop(ranges[0], carried, inner)


def affine(expression: ir.AffineExpr, *operands: ir.Value) -> ir.Value:
    """``affine.apply`` of an expression in as many dimensions as there are operands."""
    return _affine("affine.apply", [expression], operands)


def affine_min(expressions: Sequence[ir.AffineExpr], *operands: ir.Value) -> ir.Value:
    """``affine.min``: the least of some expressions."""
    return _affine("affine.min", expressions, operands)


def affine_max(expressions: Sequence[ir.AffineExpr], *operands: ir.Value) -> ir.Value:
    """``affine.max``: the greatest of some expressions."""
    return _affine("affine.max", expressions, operands)


def _affine(name: str, expressions: Sequence[ir.AffineExpr], operands: Sequence[ir.Value]) -> ir.Value:
    return ir.Operation.create(
        name,
        results=[ir.IndexType.get()],
        operands=list(operands),
        attributes={"map": ir.AffineMapAttr.get(affine_map(len(operands), expressions))},
    ).result


def plus(value: Index, constant: int) -> Index:
    """The sum; nothing is emitted for numbers."""
    if isinstance(value, int):
        return value + constant
    return affine(ir.AffineExpr.get_dim(0) + constant, value) if constant else value


def scaled(value: Index, factor: int, constant: int) -> Index:
    """``value * factor + constant``; nothing is emitted for numbers."""
    if isinstance(value, int):
        return value * factor + constant
    if factor == 1:
        return plus(value, constant)
    return affine(ir.AffineExpr.get_dim(0) * factor + constant, value)


def extract_slice(
    source: ir.Value, offsets: Sequence[Index], sizes: Sequence[Index], shape: Sequence[Index] | None = None
) -> ir.Value:
    """``tensor.extract_slice`` with unit strides; ``shape`` may drop unit dimensions of ``sizes``."""
    element = ir.ShapedType(source.type).element_type
    dynamic = [[number for number in part if not isinstance(number, int)] for part in (offsets, sizes)]
    return ir.Operation.create(
        "tensor.extract_slice",
        results=[tensor_type(shape or sizes, element)],
        operands=[source, *dynamic[0], *dynamic[1]],
        attributes={
            "operandSegmentSizes": ir.DenseI32ArrayAttr.get([1, *map(len, dynamic), 0]),
            **_static(offsets, sizes),
        },
    ).result


def insert_slice(source: ir.Value, target: ir.Value, offsets: Sequence[Index], sizes: Sequence[Index]) -> ir.Value:
    """``tensor.insert_slice`` with unit strides."""
    dynamic = [[number for number in part if not isinstance(number, int)] for part in (offsets, sizes)]
    return ir.Operation.create(
        "tensor.insert_slice",
        results=[target.type],
        operands=[source, target, *dynamic[0], *dynamic[1]],
        attributes={
            "operandSegmentSizes": ir.DenseI32ArrayAttr.get([1, 1, *map(len, dynamic), 0]),
            **_static(offsets, sizes),
        },
    ).result


def parallel_insert_slice(source: ir.Value, target: ir.Value, offsets: Sequence[Index], sizes: Sequence[int]) -> None:
    """``tensor.parallel_insert_slice`` with unit strides, for the end of an ``scf.forall``."""
    dynamic = [offset for offset in offsets if not isinstance(offset, int)]
    ir.Operation.create(
        "tensor.parallel_insert_slice",
        operands=[source, target, *dynamic],
        attributes={
            "operandSegmentSizes": ir.DenseI32ArrayAttr.get([1, 1, len(dynamic), 0, 0]),
            **_static(offsets, sizes),
        },
    )


def _static(offsets: Sequence[Index], sizes: Sequence[Index]) -> dict[str, ir.Attribute]:
    dynamic = ir.ShapedType.get_dynamic_stride_or_offset()
    numbers = ([number if isinstance(number, int) else dynamic for number in part] for part in (offsets, sizes))
    static_offsets, static_sizes = (ir.DenseI64ArrayAttr.get(part) for part in numbers)
    return {
        "static_offsets": static_offsets,
        "static_sizes": static_sizes,
        "static_strides": ir.DenseI64ArrayAttr.get([1] * len(sizes)),
    }

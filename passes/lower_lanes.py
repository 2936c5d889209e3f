"""Lower the tile of a lane kernel to vectors: one load per input pixel, a shuffle per channel of the group, FMAs.

The op is a ``linalg.generic`` with ``dlas.lanes = [stride, dilation, channels per group]`` (0 channels: pooling),
tiled to one row: ``x[1, 1, columns, B]``, ``weights[1, 1, K_w, C_PG, B]``, ``out[1, 1, OW, B]``.

    before: linalg.generic over (ow, o, x, i) with x[ow * stride + x * dilation, (o floordiv C_PG) * C_PG + i]
    after:  for i, column: s = shuffle(x[column], i);  for x: acc[ow] = fma(s, w[x, i], acc[ow])
"""

from __future__ import annotations

from collections.abc import Sequence

from iree.compiler import ir

from dlas.passes.dispatch import affine_map, float_constant, index_constant


def lower_lanes(function: ir.Operation) -> int:
    """Lowers every lane op in ``function``; returns how many."""
    found: list[ir.Operation] = []

    def visit(op: ir.Operation) -> ir.WalkResult:
        if op.name == "linalg.generic" and "dlas.lanes" in op.attributes:
            found.append(op)
        return ir.WalkResult.ADVANCE

    function.walk(visit)
    for op in found:
        with ir.InsertionPoint(op), op.location:
            result = _lower(op)
        op.results[0].replace_all_uses_with(result)
        op.erase()
    return len(found)


def _lower(op: ir.Operation) -> ir.Value:
    stride, dilation, per_group = list(ir.DenseI64ArrayAttr(op.attributes["dlas.lanes"]))
    source, weights, out = op.operands[0], op.operands[1], op.operands[2]
    pixels, lanes = list(ir.ShapedType(out.type).shape)[-2:]
    element = ir.ShapedType(out.type).element_type
    vector = ir.VectorType.get([lanes], element)
    taps = list(ir.ShapedType(weights.type).shape)[2 if per_group else 1]
    padding = float_constant(0.0, element)
    index = _Indices()
    accumulators = [_read(out, [0, 0, p, 0], vector, padding, index) for p in range(pixels)]
    combine = _combiner(op)
    columns = sorted({p * stride + x * dilation for p in range(pixels) for x in range(taps)})
    for i in range(max(1, per_group)):
        filters = [_read(weights, [0, 0, x, i, 0], vector, padding, index) for x in range(taps)] if per_group else []
        for column in columns:
            uses = [
                ((column - x * dilation) // stride, x)
                for x in range(taps)
                if (column - x * dilation) % stride == 0 and 0 <= (column - x * dilation) // stride < pixels
            ]
            if per_group == lanes:  # the whole block is one group: each channel is broadcast from memory
                value = _splat(source, [0, 0, column, i], vector, index)
            else:
                value = _read(source, [0, 0, column, 0], vector, padding, index)
            if 1 < per_group < lanes:
                value = _shuffle(value, [lane // per_group * per_group + i for lane in range(lanes)])
            for pixel, x in uses:
                accumulators[pixel] = (
                    _op("vector.fma", [value, filters[x], accumulators[pixel]], vector)
                    if per_group
                    else _op(combine, [value, accumulators[pixel]], vector)
                )
    for p, accumulator in enumerate(accumulators):
        out = _write(accumulator, out, [0, 0, p, 0], index)
    return out


def _combiner(op: ir.Operation) -> str:
    return next(iter(op.regions[0].blocks[0].operations)).operation.name


class _Indices:
    """Index constants, each emitted once."""

    def __init__(self) -> None:
        self.known: dict[int, ir.Value] = {}

    def __call__(self, number: int) -> ir.Value:
        if number not in self.known:
            self.known[number] = index_constant(number)
        return self.known[number]


def _op(name: str, operands: Sequence[ir.Value], result: ir.Type) -> ir.Value:
    return ir.Operation.create(name, results=[result], operands=list(operands)).result


def _splat(source: ir.Value, offsets: Sequence[int], vector: ir.VectorType, index: _Indices) -> ir.Value:
    element = ir.ShapedType(source.type).element_type
    scalar = _op("tensor.extract", [source, *(index(offset) for offset in offsets)], element)
    return _op("vector.broadcast", [scalar], vector)


def _shuffle(value: ir.Value, mask: Sequence[int]) -> ir.Value:
    return ir.Operation.create(
        "vector.shuffle",
        results=[value.type],
        operands=[value, value],
        attributes={"mask": ir.DenseI64ArrayAttr.get(list(mask))},
    ).result


def _transfer(rank: int) -> dict[str, ir.Attribute]:
    minor = affine_map(rank, [ir.AffineExpr.get_dim(rank - 1)])
    return {
        "permutation_map": ir.AffineMapAttr.get(minor),
        "in_bounds": ir.ArrayAttr.get([ir.BoolAttr.get(True)]),
    }


def _read(
    source: ir.Value, offsets: Sequence[int], vector: ir.VectorType, padding: ir.Value, index: _Indices
) -> ir.Value:
    return ir.Operation.create(
        "vector.transfer_read",
        results=[vector],
        operands=[source, *(index(offset) for offset in offsets), padding],
        attributes={
            **_transfer(len(offsets)),
            "operandSegmentSizes": ir.DenseI32ArrayAttr.get([1, len(offsets), 1, 0]),
        },
    ).result


def _write(value: ir.Value, target: ir.Value, offsets: Sequence[int], index: _Indices) -> ir.Value:
    return ir.Operation.create(
        "vector.transfer_write",
        results=[target.type],
        operands=[value, target, *(index(offset) for offset in offsets)],
        attributes={
            **_transfer(len(offsets)),
            "operandSegmentSizes": ir.DenseI32ArrayAttr.get([1, 1, len(offsets), 0]),
        },
    ).result

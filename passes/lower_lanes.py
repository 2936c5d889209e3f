"""Lower the tile of a lane kernel to vectors: one load per input pixel, a shuffle per channel of the group, FMAs.

The op is a ``linalg.generic`` with ``dlas.lanes = [stride, dilation, channels per group]`` (0 channels: pooling),
tiled to one row: ``x[1, 1, columns, B]``, ``weights[1, 1, K_w, C_PG, B]``, ``out[1, 1, OW, B]``.

    before: linalg.generic over (ow, o, x, i) with x[ow * stride + x * dilation, (o floordiv C_PG) * C_PG + i]
    after:  for i, column: s = shuffle(x[column], i);  for x: acc[ow] = fma(s, w[x, i], acc[ow])
"""

from __future__ import annotations

from iree.compiler import ir

from dlas.passes.dispatch import float_constant
from dlas.passes.vectors import Indices, emit, read, shuffle, splat, write


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
    index = Indices()
    accumulators = [read(out, [0, 0, p, 0], vector, padding, index) for p in range(pixels)]
    combine = _combiner(op)
    columns = sorted({p * stride + x * dilation for p in range(pixels) for x in range(taps)})
    for i in range(max(1, per_group)):
        filters = [read(weights, [0, 0, x, i, 0], vector, padding, index) for x in range(taps)] if per_group else []
        for column in columns:
            uses = [
                ((column - x * dilation) // stride, x)
                for x in range(taps)
                if (column - x * dilation) % stride == 0 and 0 <= (column - x * dilation) // stride < pixels
            ]
            if per_group == lanes:  # the whole block is one group: each channel is broadcast from memory
                value = splat(source, [0, 0, column, i], vector, index)
            else:
                value = read(source, [0, 0, column, 0], vector, padding, index)
            if 1 < per_group < lanes:
                value = shuffle(value, [lane // per_group * per_group + i for lane in range(lanes)])
            for pixel, x in uses:
                accumulators[pixel] = (
                    emit("vector.fma", [value, filters[x], accumulators[pixel]], vector)
                    if per_group
                    else emit(combine, [value, accumulators[pixel]], vector)
                )
    for p, accumulator in enumerate(accumulators):
        out = write(accumulator, out, [0, 0, p, 0], index)
    return out


def _combiner(op: ir.Operation) -> str:
    return next(iter(op.regions[0].blocks[0].operations)).operation.name

"""Reshapes, pads and crops of static tensors at the current insertion point (IREE's context)."""

from __future__ import annotations

from collections.abc import Sequence

from iree.compiler import ir

from dlas.passes import dispatch as d

Pads = tuple[int, int, int, int]


def reshape_expand(value: ir.Value, shape: Sequence[int], groups: Sequence[Sequence[int]]) -> ir.Value:
    """``tensor.expand_shape`` to a static shape."""
    return ir.Operation.create(
        "tensor.expand_shape",
        results=[d.tensor_type(shape, ir.ShapedType(value.type).element_type)],
        operands=[value],
        attributes={
            "reassociation": _reassociation(groups),
            "static_output_shape": ir.DenseI64ArrayAttr.get(list(shape)),
        },
    ).result


def reshape_collapse(value: ir.Value, shape: Sequence[int], groups: Sequence[Sequence[int]]) -> ir.Value:
    """``tensor.collapse_shape``."""
    return ir.Operation.create(
        "tensor.collapse_shape",
        results=[d.tensor_type(shape, ir.ShapedType(value.type).element_type)],
        operands=[value],
        attributes={"reassociation": _reassociation(groups)},
    ).result


def _reassociation(groups: Sequence[Sequence[int]]) -> ir.Attribute:
    integer = ir.IntegerType.get_signless(64)
    return ir.ArrayAttr.get([ir.ArrayAttr.get([ir.IntegerAttr.get(integer, i) for i in group]) for group in groups])


def pad_channels(value: ir.Value, channels: int, element: ir.Type) -> ir.Value:
    """NCHW with zero channels appended."""
    shape = list(ir.ShapedType(value.type).shape)
    return pad_nchw(value, (0, 0, 0, 0), channels - shape[1], element)


def pad_nchw(value: ir.Value, pads: Pads, extra_channels: int, element: ir.Type) -> ir.Value:
    """``tensor.pad`` of an NCHW tensor by zeros."""
    batch, channels, height, width = ir.ShapedType(value.type).shape
    top, left, bottom, right = pads
    shape = [batch, channels + extra_channels, top + height + bottom, left + width + right]
    return _pad(value, [0, 0, top, left], [0, extra_channels, bottom, right], shape, element)


def _pad(value: ir.Value, low: Sequence[int], high: Sequence[int], shape: Sequence[int], element: ir.Type) -> ir.Value:
    op = ir.Operation.create(
        "tensor.pad",
        results=[d.tensor_type(shape, element)],
        operands=[value],
        attributes={
            "static_low": ir.DenseI64ArrayAttr.get(list(low)),
            "static_high": ir.DenseI64ArrayAttr.get(list(high)),
            "operandSegmentSizes": ir.DenseI32ArrayAttr.get([1, 0, 0]),
        },
        regions=1,
    )
    block = op.regions[0].blocks.append(*[ir.IndexType.get()] * len(shape))
    with ir.InsertionPoint(block):
        ir.Operation.create("tensor.yield", operands=[d.float_constant(0.0, element)])
    return op.result


def crop_channels(value: ir.Value, channels: int, element: ir.Type) -> ir.Value:
    """The first ``channels`` channels of an NCHW tensor."""
    batch, _, height, width = ir.ShapedType(value.type).shape
    return _crop(value, [batch, channels, height, width], element)


def crop_columns(value: ir.Value, columns: int, element: ir.Type) -> ir.Value:
    """The first ``columns`` columns of a matrix."""
    rows, known = ir.ShapedType(value.type).shape
    return value if known == columns else _crop(value, [rows, columns], element)


def pad_columns(value: ir.Value, columns: int, element: ir.Type) -> ir.Value:
    """A matrix with zero columns appended."""
    rows, known = ir.ShapedType(value.type).shape
    return value if known == columns else _pad(value, [0, 0], [0, columns - known], [rows, columns], element)


def _crop(value: ir.Value, sizes: Sequence[int], element: ir.Type) -> ir.Value:
    rank = len(sizes)
    return ir.Operation.create(
        "tensor.extract_slice",
        results=[d.tensor_type(sizes, element)],
        operands=[value],
        attributes={
            "static_offsets": ir.DenseI64ArrayAttr.get([0] * rank),
            "static_sizes": ir.DenseI64ArrayAttr.get(list(sizes)),
            "static_strides": ir.DenseI64ArrayAttr.get([1] * rank),
            "operandSegmentSizes": ir.DenseI32ArrayAttr.get([1, 0, 0, 0]),
        },
    ).result

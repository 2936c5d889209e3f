"""``dlas-lift-conv-1d``: a 1-D convolution is a 2-D one over images of one row.

    before: %p = tensor.pad %x low[0, 0, 1] high[0, 0, 1]                                         : tensor<NxCxW+2>
            %c = linalg.conv_1d_ncw_fcw {strides = 2} ins(%p, %w : ..., tensor<KxCx3>)            : tensor<NxKxV>
            %y = linalg.generic(%c, %bias) maps (d0,d1,d2), (d1)                                  : tensor<NxKxV>
    after:  %r = tensor.expand_shape %x [[0], [1], [2, 3]]                                        : tensor<NxCx1xW>
            %p = tensor.pad %r low[0, 0, 0, 1] high[0, 0, 0, 1]                                   : tensor<NxCx1xW+2>
            %c = linalg.conv_2d_nchw_fchw {strides = [1, 2]} ins(%p, %w : ..., tensor<KxCx1x3>)   : tensor<NxKx1xV>
            %g = linalg.generic(%c, %bias) maps (d0,d1,d2,d3), (d1)                               : tensor<NxKx1xV>
            %y = tensor.collapse_shape %g [[0], [1], [2, 3]]                                      : tensor<NxKxV>

torch-mlir has grouped and depthwise 1-D convolutions as 2-D ones over *columns*, ``[N, C, W, 1]``, and pooling over
rows. Both become rows here. What is between two convolutions (elementwise ops, pads, pooling, concatenations of
channels, means) works on rows, too, so that a chain of layers has reshapes at its ends only: whatever reads a collapsed
row is lifted, forwards, and so is the padding in front of a convolution.

Refused: dynamic shapes, and channels that come last.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

from dlas.passes.constants import bindings, make_constant, read_constant
from dlas.passes.generics import (
    Generic,
    IndexTuple,
    build_elementwise,
    build_zero_init,
    copy_body,
    copy_layer,
    defining_op,
    element_type,
    erase_dead,
    layer_of,
    replace,
    shape_of,
    users,
    walk,
)
from dlas.passes.plan import Refusal
from dlas.passes.registry import Note, Pass, register

_ROOTS: dict[str, str] = {
    "linalg.conv_1d_ncw_fcw": "linalg.conv_2d_nchw_fchw",
    "linalg.depthwise_conv_1d_ncw_cw": "linalg.depthwise_conv_2d_nchw_chw",
    "linalg.pooling_ncw_max": "linalg.pooling_nchw_max",
    "linalg.pooling_ncw_sum": "linalg.pooling_nchw_sum",
}
"""The 2-D operation over rows for each 1-D one."""

_COLUMNS = (
    "linalg.conv_2d_nchw_fchw",
    "linalg.conv_2d_ngchw_gfchw",
    "linalg.depthwise_conv_2d_nchw_chw",
    "linalg.pooling_nchw_max",
    "linalg.pooling_nchw_sum",
)
_CHANNELS_LAST = ("linalg.conv_1d_nwc_wcf", "linalg.depthwise_conv_1d_nwc_wc")
_RESHAPES = ("tensor.expand_shape", "tensor.collapse_shape")
_BEFORE = ("tensor.pad", "tensor.expand_shape")  # with the convolution that they are in front of


@dataclass(frozen=True)
class Plan:
    """An operation that is to work on rows.

    Attributes:
        op: the operation.
        build: makes the lifted operation's result at the insertion point.
        is_root: whether it is a convolution or pooling; the others follow one.
    """

    op: Any
    build: Callable[[Any], Any]
    is_root: bool

    @classmethod
    def analyze(cls, op: Any) -> Plan | Refusal | None:
        """The plan; None for an operation that is neither 1-D nor next to one that was lifted."""
        if op.name in _CHANNELS_LAST:
            return Refusal("its channels come last")
        if op.name in _ROOTS or op.name in _COLUMNS:
            if op.name in _COLUMNS and not _is_column(op):
                return None
            return Refusal("dynamic shapes") if _is_dynamic(op) else cls(op, _build_window, True)
        if len(op.results) != 1 or not _has_row_shape(op.results[0]) and op.name not in ("linalg.generic", *_RESHAPES):
            return None
        follows = any(_row_of(operand) is not None for operand in op.operands)
        if _is_dynamic(op) or not follows and not (op.name in _BEFORE and _feeds_root(op.results[0])):
            return None
        if op.name == "tensor.pad":
            return cls(op, _build_pad, False) if _is_plain_pad(op) else None
        if op.name in _RESHAPES:
            return cls(op, _build_channel_reshape, False) if _splits_or_joins_channels(op) else None
        if op.name == "tensor.concat":
            axis = bindings(op).IntegerAttr(op.attributes["dim"]).value
            return cls(op, _build_concat, False) if axis < 2 else None
        generic = Generic.read(op)
        if generic is None or generic.rank != len(shape_of(generic.inputs[0] if generic.inputs else op.results[0])):
            return None
        if _is_mean(generic):
            return cls(op, _build_reduction, False)
        if not generic.is_elementwise or not _has_row_shape(op.results[0]):
            return None
        if any(inner.name in ("linalg.index", "tensor.extract") for inner in generic.body_ops()):
            return None
        return cls(op, _build_elementwise, False)


@register("dlas-lift-conv-1d", context="torch-mlir")
@dataclass(frozen=True)
class LiftConv1d(Pass):
    """See the module's docstring."""

    def run(self, module: Any) -> list[Note]:
        notes: list[Note] = []
        # Where columns are images, their pointwise convolutions only look like 1-D ones.
        images = [op.parent for op in walk(module, *_COLUMNS) if _is_over_images(op)]
        kinds = ("linalg.generic", "tensor.pad", "tensor.concat", *_RESHAPES, *_ROOTS, *_COLUMNS, *_CHANNELS_LAST)
        for op in walk(module, *kinds):
            plan = None if op.parent in images else Plan.analyze(op)
            if isinstance(plan, Refusal):
                notes.append(Note(self.name, layer_of(op), False, plan.reason))
            elif plan is not None:
                layer, name = layer_of(op), op.name
                with bindings(op).InsertionPoint(op), op.location:
                    value = _unlifted(plan.build(op), op.results[0].type)
                replace(op, value)
                if plan.is_root:
                    notes.append(Note(self.name, layer, True, f"{name} became {_ROOTS.get(name, name)} over one row"))
        erase_dead(module)
        return notes


# -- values as rows ----------------------------------------------------------------------------------------------------


def _row_shape(shape: Sequence[int]) -> tuple[int, ...]:
    """``[N, C, W]``, or a column ``[..., W, 1]``, as ``[..., 1, W]``."""
    return (*shape[:-1], 1, shape[-1]) if len(shape) == 3 else (*shape[:-2], 1, shape[-2])


def _has_row_shape(value: Any) -> bool:
    """Whether a value is ``[N, C, W]`` or a column."""
    if not isinstance(value.type, bindings(value).RankedTensorType):
        return False
    shape = shape_of(value)
    return len(shape) == 3 or len(shape) in (4, 5) and shape[-1] == 1


def _row_of(value: Any) -> Any | None:
    """The row that a value is a reshape of; None if there is none."""
    return _reshaped_from(value, _row_shape(shape_of(value))) if _has_row_shape(value) else None


def _reshaped_from(value: Any, wanted: Sequence[int]) -> Any | None:
    """The value of shape ``wanted`` that a value is a reshape of; None if there is none."""
    maker = defining_op(value)
    while maker is not None and maker.name in _RESHAPES:
        source = maker.operands[0]
        if shape_of(source) == wanted:
            return source
        maker = defining_op(source)
    return None


def _lifted(value: Any) -> Any:
    """A value as a row, at the insertion point."""
    row = _row_of(value)
    if row is not None:
        return row
    shape = _row_shape(shape_of(value))
    array = read_constant(value)
    if array is not None:
        return make_constant(array.reshape(shape), element_type(value))
    if len(shape_of(value)) > 3:
        flat = (*shape[:-2], shape[-1])
        value = _reshaped_from(value, flat) or _reshape("tensor.collapse_shape", value, flat)
    return _reshape("tensor.expand_shape", value, shape)


def _unlifted(row: Any, type: Any) -> Any:
    """A row in the type that the function had; values that are no rows, like means over one, are as they were."""
    shape = tuple(bindings(type).ShapedType(type).shape)
    if shape_of(row) == shape:
        return row
    flat = _reshape("tensor.collapse_shape", row, (*shape_of(row)[:-2], shape_of(row)[-1]))
    return flat if shape_of(flat) == shape else _reshape("tensor.expand_shape", flat, shape)


def _reshape(name: str, value: Any, shape: Sequence[int], groups: Sequence[Sequence[int]] = ()) -> Any:
    """A reshape; by default the two last dimensions of the wider type are one of the narrower."""
    ir = bindings(value)
    rank = max(len(shape), len(shape_of(value)))
    parts = groups or [*([i] for i in range(rank - 2)), [rank - 2, rank - 1]]
    attributes = {"reassociation": ir.Attribute.parse(str([list(part) for part in parts]))}
    if name == "tensor.expand_shape":
        attributes["static_output_shape"] = ir.DenseI64ArrayAttr.get(list(shape))
    kind = ir.RankedTensorType.get(list(shape), element_type(value))
    return ir.Operation.create(name, results=[kind], operands=[value], attributes=attributes).result


# -- what is lifted ----------------------------------------------------------------------------------------------------


def _is_column(op: Any) -> bool:
    """Whether a 2-D operation slides a window of width 1 over columns."""
    data, window, result = (shape_of(value) for value in (op.operands[0], op.operands[1], op.results[0]))
    return data[-1] == window[-1] == result[-1] == 1 and data[-2] != 1


def _is_over_images(op: Any) -> bool:
    """Whether a 2-D operation has results of one column by a window of several: the columns are images."""
    return shape_of(op.results[0])[-1] == 1 and shape_of(op.operands[1])[-1] > 1 and shape_of(op.results[0])[-2] != 1


def _is_dynamic(op: Any) -> bool:
    tensors = [v for v in (*op.operands, *op.results) if isinstance(v.type, bindings(op).RankedTensorType)]
    return any(extent < 0 for value in tensors for extent in shape_of(value))


def _feeds_root(value: Any) -> bool:
    """Whether a 1-D operation reads a value, directly or reshaped."""
    return any(_is_fed(user, value) for user in users(value))


def _is_fed(user: Any, value: Any) -> bool:
    if user.name in _RESHAPES:
        return _feeds_root(user.results[0])
    is_root = user.name in _ROOTS or user.name in _COLUMNS and _is_column(user)
    return is_root and user.operands[0] == value and not _is_dynamic(user)


def _is_plain_pad(op: Any) -> bool:
    """Whether a pad has static amounts, none beside a column, and one value."""
    ir = bindings(op)
    if len(op.operands) != 1:
        return False
    if any(list(argument.uses) for argument in op.regions[0].blocks[0].arguments):
        return False
    amounts = [list(ir.DenseI64ArrayAttr(op.attributes[name])) for name in ("static_low", "static_high")]
    rank = len(shape_of(op.operands[0]))
    return rank == 3 or rank == 4 and not any(amount[-1] for amount in amounts)


def _splits_or_joins_channels(op: Any) -> bool:
    """Whether a reshape is between the channels of a column and its groups."""
    shapes = [shape_of(op.operands[0]), shape_of(op.results[0])]
    narrow, wide = sorted(shapes, key=len)
    if len(wide) != 5 or wide[-1] != 1 or len(narrow) not in (3, 4):
        return False
    return narrow == (wide[0], wide[1] * wide[2], *wide[3:])[: len(narrow)]


def _is_mean(generic: Generic) -> bool:
    """Whether a generic reduces the last dimension of ``[N, C, W]``."""
    return (
        generic.iterators == ("parallel", "parallel", "reduction")
        and generic.indices[:-1] == ((0, 1, 2),)
        and generic.indices[-1] in ((0, 1), (0, 1, None))
    )


# -- operations over rows ----------------------------------------------------------------------------------------------


def _build_window(op: Any) -> Any:
    """A convolution or pooling over rows."""
    ir = bindings(op)
    data, window, init = op.operands
    made = defining_op(init)
    with op.location:
        kernel_shape = (*shape_of(window)[:-1], 1, shape_of(window)[-1])
        if op.name in _COLUMNS:
            kernel_shape = (*shape_of(window)[:-2], 1, shape_of(window)[-2])
        operands = [_lifted(data), _window(window, kernel_shape)]
        if made is not None and made.name == "linalg.fill":
            operands.append(_filled(made, _row_shape(shape_of(init))))
        else:
            operands.append(_lifted(init))
        created = ir.Operation.create(
            _ROOTS.get(op.name, op.name),
            results=[operands[-1].type],
            operands=operands,
            attributes={
                "strides": _pair(op, "strides"),
                "dilations": _pair(op, "dilations"),
                "operandSegmentSizes": ir.DenseI32ArrayAttr.get([2, 1]),
            },
            regions=1,
        )
        source = op.regions[0].blocks[0]
        kinds = [argument.type for argument in source.arguments]
        block = ir.Block.create_at_start(created.regions[0], kinds, [op.location] * len(kinds))
        with ir.InsertionPoint(block):
            results = copy_body(source, dict(zip(source.arguments, block.arguments, strict=True)))
            ir.Operation.create("linalg.yield", operands=results)
    copy_layer(op, created)
    return created.result


def _window(window: Any, shape: Sequence[int]) -> Any:
    """The weights, or the shape of a pooling window, over one row."""
    ir = bindings(window)
    array, made = read_constant(window), defining_op(window)
    if array is not None:
        return make_constant(array.reshape(shape), element_type(window))
    kind = ir.RankedTensorType.get(list(shape), element_type(window))
    if made is not None and made.name == "tensor.empty":
        return ir.Operation.create("tensor.empty", results=[kind]).result
    narrow = shape_of(window)
    if len(narrow) == len(shape):  # of a column
        window = _reshape("tensor.collapse_shape", window, narrow[:-1])
    return _reshape("tensor.expand_shape", window, shape)


def _filled(fill: Any, shape: Sequence[int]) -> Any:
    """What ``fill`` makes, in another shape."""
    kind = bindings(fill).RankedTensorType.get(list(shape), element_type(fill.results[0]))
    init = build_zero_init(kind, layer_from=fill)
    init.owner.operation.operands[0] = fill.operands[0]
    return init


def _pair(op: Any, name: str) -> Any:
    """The stride or dilation over rows."""
    ir = bindings(op)
    amounts = [int(amount) for amount in ir.DenseIntElementsAttr(op.attributes[name])] if name in op.attributes else [1]
    return ir.Attribute.parse(f"dense<[1, {amounts[0]}]> : vector<2xi64>")


def _build_pad(op: Any) -> Any:
    ir = bindings(op)
    data = _lifted(op.operands[0])
    amounts = {}
    for name in ("static_low", "static_high"):
        amount = list(ir.DenseI64ArrayAttr(op.attributes[name]))
        amounts[name] = ir.DenseI64ArrayAttr.get([*amount[:2], 0, amount[2]])
    created = ir.Operation.create(
        "tensor.pad",
        results=[ir.RankedTensorType.get(list(_row_shape(shape_of(op.results[0]))), element_type(data))],
        operands=[data],
        attributes={**amounts, "operandSegmentSizes": ir.DenseI32ArrayAttr.get([1, 0, 0])},
        regions=1,
    )
    block = ir.Block.create_at_start(created.regions[0], [ir.IndexType.get()] * 4, [op.location] * 4)
    with ir.InsertionPoint(block):
        ir.Operation.create("tensor.yield", operands=copy_body(op.regions[0].blocks[0], {}))
    return created.result


def _build_channel_reshape(op: Any) -> Any:
    """The channels of a row as groups, or the other way round."""
    shape, data = shape_of(op.results[0]), _lifted(op.operands[0])
    return _reshape(op.name, data, _row_shape(shape), [[0], [1, 2], [3], [4]])


def _build_concat(op: Any) -> Any:
    ir = bindings(op)
    kind = ir.RankedTensorType.get(list(_row_shape(shape_of(op.results[0]))), element_type(op.results[0]))
    operands = [_lifted(operand) for operand in op.operands]
    attributes = {"dim": op.attributes["dim"]}
    return ir.Operation.create("tensor.concat", results=[kind], operands=operands, attributes=attributes).result


def _build_elementwise(op: Any) -> Any:
    generic = Generic.read(op)
    assert generic is not None
    block = generic.body
    inputs = [_operand(*item, generic) for item in zip(generic.inputs, generic.indices, strict=False)]
    kind = bindings(op).RankedTensorType.get(list(_row_shape(shape_of(op.results[0]))), element_type(op.results[0]))

    def body(arguments: Sequence[Any]) -> Any:
        return copy_body(block, dict(zip(block.arguments, arguments, strict=False)))[0]

    return build_elementwise(inputs, kind, body, layer_from=op)


def _operand(value: Any, index: IndexTuple, generic: Generic) -> tuple[Any, IndexTuple]:
    """An operand of an elementwise op, and the loops over rows that it is read by."""
    loops: dict[int | None, int | None] = {None: None, 0: 0, 1: 1, 2: 3, 3: 2}
    moved = tuple(loops[dim] for dim in index)
    if len(index) != generic.rank or not _has_row_shape(value):
        return value, moved
    if shape_of(value) == shape_of(generic.op.results[0]) and index == tuple(range(generic.rank)):
        return _lifted(value), (0, 1, 2, 3)
    height = moved[3] if len(moved) == 4 else None
    return _lifted(value), (*moved[:2], height, moved[2])


def _build_reduction(op: Any) -> Any:
    """A sum or maximum over the only row."""
    ir = bindings(op)
    generic = Generic.read(op)
    assert generic is not None
    keeps = len(generic.indices[-1]) == 3
    init = generic.output if not keeps else _lifted_init(generic.output)
    n, c, h, w = (ir.AffineExpr.get_dim(i) for i in range(4))
    zero = ir.AffineExpr.get_constant(0)
    maps = [[n, c, h, w], [n, c, zero, zero] if keeps else [n, c]]
    kinds = [ir.Attribute.parse(f"#linalg.iterator_type<{kind}>") for kind in ("parallel", "reduction")]
    created = ir.Operation.create(
        "linalg.generic",
        results=[init.type],
        operands=[_lifted(generic.inputs[0]), init],
        attributes={
            "indexing_maps": ir.ArrayAttr.get([ir.AffineMapAttr.get(ir.AffineMap.get(4, 0, list(m))) for m in maps]),
            "iterator_types": ir.ArrayAttr.get([kinds[0], kinds[0], kinds[1], kinds[1]]),
            "operandSegmentSizes": ir.DenseI32ArrayAttr.get([1, 1]),
        },
        regions=1,
    )
    types = [argument.type for argument in generic.body.arguments]
    block = ir.Block.create_at_start(created.regions[0], types, [op.location] * 2)
    with ir.InsertionPoint(block):
        results = copy_body(generic.body, dict(zip(generic.body.arguments, block.arguments, strict=True)))
        ir.Operation.create("linalg.yield", operands=results)
    copy_layer(op, created)
    return created.result


def _lifted_init(init: Any) -> Any:
    made = defining_op(init)
    if made is not None and made.name == "linalg.fill":
        return _filled(made, _row_shape(shape_of(init)))
    return _lifted(init)

"""``dlas-trim-inputs``: a window that fits once reads no more than it needs.

    before: %p = tensor.pad %x low[0, 0, 1, 1] high[0, 0, 1, 1] : tensor<1x8x2x2> to tensor<1x8x4x4>
            %y = linalg.conv_2d_nchw_fchw {strides = 2} ins(%p, %w : ..., tensor<4x8x3x3>) -> tensor<1x4x1x1>
    after:  %p = tensor.pad %x low[0, 0, 1, 1] high[0, 0, 0, 0] : tensor<1x8x2x2> to tensor<1x8x3x3>

IREE drops the loop over an output extent of 1, infers the input's extent from the window alone, and refuses the
operation if rows are left over ("inferred input/output operand #1 has shape's dimension #2 to be 4, but found 3").
That is every 3x3 stride-2 layer on 2x2 features. Extents above 1 keep their leftover rows: IREE takes those, and the
padding stays symmetric. What padding does not cover is cut off by a ``tensor.extract_slice``.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from dlas.passes.constants import bindings
from dlas.passes.generics import (
    defining_op,
    element_type,
    erase_dead,
    layer_of,
    shape_of,
    single_user,
    walk,
)
from dlas.passes.registry import Note, Pass, register

_WINDOWED: dict[str, tuple[int, int]] = {
    "linalg.conv_1d_ncw_fcw": (2, 2),
    "linalg.conv_2d_nchw_fchw": (2, 2),
    "linalg.conv_3d_ncdhw_fcdhw": (2, 2),
    "linalg.conv_2d_ngchw_gfchw": (3, 3),
    "linalg.conv_2d_ngchw_fgchw": (3, 3),
    "linalg.depthwise_conv_1d_ncw_cw": (2, 1),
    "linalg.depthwise_conv_2d_nchw_chw": (2, 1),
    "linalg.pooling_nchw_max": (2, 0),
    "linalg.pooling_nchw_sum": (2, 0),
    "linalg.pooling_ncw_max": (2, 0),
    "linalg.pooling_ncw_sum": (2, 0),
}
"""The first spatial dimension of the input and result, and of the window (operand 1); the others follow in order."""


@dataclass(frozen=True)
class Plan:
    """How much of an input is read.

    Attributes:
        op: the windowed operation.
        shape: of its input once trimmed.
    """

    op: Any
    shape: tuple[int, ...]

    @classmethod
    def analyze(cls, op: Any) -> Plan | None:
        """The plan; None if nothing is left over where the output extent is 1, or extents are dynamic."""
        data, window, result = (shape_of(value) for value in (*op.operands[:2], op.results[0]))
        if min(*data, *window, *result) < 0:
            return None
        first, first_in_window = _WINDOWED[op.name]
        if "dilations" in op.attributes:
            dilations = list(bindings(op).DenseIntElementsAttr(op.attributes["dilations"]))
        else:
            dilations = [1] * (len(result) - first)  # the default of a named op
        shape = list(data)
        for position, dilation in enumerate(dilations):
            axis = first + position
            if result[axis] == 1:
                shape[axis] = (window[first_in_window + position] - 1) * dilation + 1
        return cls(op, tuple(shape)) if tuple(shape) != data else None


@register("dlas-trim-inputs", context="torch-mlir")
@dataclass(frozen=True)
class TrimInputs(Pass):
    """See the module's docstring."""

    def run(self, module: Any) -> list[Note]:
        notes: list[Note] = []
        for op in walk(module, *_WINDOWED):
            plan = Plan.analyze(op)
            if plan is not None:
                before = "x".join(map(str, shape_of(op.operands[0])))
                after = "x".join(map(str, plan.shape))
                notes.append(Note(self.name, layer_of(op), True, f"its input of {before} became {after}"))
                self._rewrite(plan)
        erase_dead(module)
        return notes

    @staticmethod
    def _rewrite(plan: Plan) -> None:
        op = plan.op
        with bindings(op).InsertionPoint(op), op.location:
            op.operands[0] = _trim(op.operands[0], plan.shape)


def _trim(value: Any, shape: tuple[int, ...]) -> Any:
    """``value`` cut to ``shape`` at its far end: less padding where that is what is cut, else a slice."""
    ir = bindings(value)
    source = defining_op(value)
    kind = ir.RankedTensorType.get(list(shape), element_type(value))
    if source is not None and source.name == "tensor.expand_shape" and single_user(value) is not None:
        # Groups are split off in front of the spatial dimensions, which are the last ones on both sides.
        narrow = shape_of(source.operands[0])
        tail = len(narrow) - 2
        if shape[-tail:] != shape_of(value)[-tail:]:
            inner = _trim(source.operands[0], (*narrow[:2], *shape[-tail:]))
            return ir.Operation.create(
                "tensor.expand_shape",
                results=[kind],
                operands=[inner],
                attributes={
                    "reassociation": source.attributes["reassociation"],
                    "static_output_shape": ir.DenseI64ArrayAttr.get(list(shape)),
                },
            ).result
    if source is not None and source.name == "tensor.pad" and len(source.operands) == 1:
        high = list(ir.DenseI64ArrayAttr(source.attributes["static_high"]))
        cut = [before - after for before, after in zip(shape_of(value), shape, strict=True)]
        if all(less <= padding for less, padding in zip(cut, high, strict=True)):
            rest = [padding - less for less, padding in zip(cut, high, strict=True)]
            pad = source.clone()
            pad.attributes["static_high"] = ir.DenseI64ArrayAttr.get(rest)
            pad.results[0].set_type(kind)
            return pad.results[0]
    rank = len(shape)
    return ir.Operation.create(
        "tensor.extract_slice",
        results=[kind],
        operands=[value],
        attributes={
            "static_offsets": ir.DenseI64ArrayAttr.get([0] * rank),
            "static_sizes": ir.DenseI64ArrayAttr.get(list(shape)),
            "static_strides": ir.DenseI64ArrayAttr.get([1] * rank),
            "operandSegmentSizes": ir.DenseI32ArrayAttr.get([1, 0, 0, 0]),
        },
    ).result

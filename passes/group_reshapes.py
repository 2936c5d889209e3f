"""``dlas-group-reshapes``: a grouped convolution's groups are split off, and joined, by reshapes of nothing else.

    before: %e = tensor.expand_shape %x [[0], [1, 2, 3, 4]] : tensor<NxG*C*H*W> into tensor<NxGxCxHxW>
            %c = linalg.conv_2d_ngchw_gfchw ins(%e, %w)
            %y = tensor.collapse_shape %c [[0], [1, 2, 3, 4]]
    after:  %i = tensor.collapse_shape %e [[0], [1, 2], [3], [4]]     : tensor<NxG*CxHxW>
            %g = tensor.expand_shape %i [[0], [1, 2], [3], [4]]       : tensor<NxGxCxHxW>
            %c = linalg.conv_2d_ngchw_gfchw ins(%g, %w)
            %o = tensor.collapse_shape %c [[0], [1, 2], [3], [4]]     : tensor<NxG*KxPxQ>
            %p = tensor.expand_shape %o [[0], [1, 2], [3], [4]]       : tensor<NxGxKxPxQ>
            %y = tensor.collapse_shape %p [[0], [1, 2, 3, 4]]

MLIR's canonicalisation makes one reshape of a model's own and that of the groups; the layout passes look for the NCHW
tensors between them. Nothing is refused; dynamic shapes stay as they are.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from dlas.passes.constants import bindings
from dlas.passes.generics import defining_op, element_type, layer_of, redirect, shape_of, single_user, uses_of, walk
from dlas.passes.registry import Note, Pass, register

_CONV = "linalg.conv_2d_ngchw_gfchw"
_GROUPS = [[0], [1, 2], [3], [4]]


@dataclass(frozen=True)
class Plan:
    """The sides of a grouped convolution that have no NCHW tensor: its data, its result, or both."""

    op: Any
    data: bool
    result: bool

    @classmethod
    def analyze(cls, op: Any) -> Plan | None:
        """The plan; None where both sides are reshapes of the groups alone, or a shape is dynamic."""
        data, result = op.operands[0], op.results[0]
        if min(*shape_of(data), *shape_of(result)) < 0:
            return None
        before, after = defining_op(data), single_user(result)
        splits = before is not None and before.name == "tensor.expand_shape" and _is_joined(before.operands[0], data)
        joins = after is not None and after.name == "tensor.collapse_shape" and _is_joined(after.results[0], result)
        return None if splits and joins else cls(op, not splits, not joins)


def _joined(shape: Sequence[int]) -> tuple[int, ...]:
    return (shape[0], shape[1] * shape[2], *shape[3:])


def _is_joined(narrow: Any, wide: Any) -> bool:
    return shape_of(narrow) == _joined(shape_of(wide))


@register("dlas-group-reshapes", context="torch-mlir")
@dataclass(frozen=True)
class GroupReshapes(Pass):
    """See the module's docstring."""

    def run(self, module: Any) -> list[Note]:
        notes = []
        for op in walk(module, _CONV):
            plan = Plan.analyze(op)
            if plan is not None:
                self._rewrite(plan)
                notes.append(Note(self.name, layer_of(op), True, "reads and writes NCHW"))
        return notes

    @staticmethod
    def _rewrite(plan: Plan) -> None:
        op = plan.op
        ir = bindings(op)
        if plan.data:
            with ir.InsertionPoint(op), op.location:
                op.operands[0] = _through_nchw(op.operands[0])
        if plan.result:
            uses = uses_of(op.results[0])
            with ir.InsertionPoint.after(op), op.location:
                redirect(uses, _through_nchw(op.results[0]))


def _through_nchw(value: Any) -> Any:
    """``[N, G, C, H, W]`` with its groups joined, and split again."""
    ir = bindings(value)
    reassociation = ir.Attribute.parse(str(_GROUPS))
    joined = ir.Operation.create(
        "tensor.collapse_shape",
        results=[ir.RankedTensorType.get(list(_joined(shape_of(value))), element_type(value))],
        operands=[value],
        attributes={"reassociation": reassociation},
    ).result
    shape = ir.DenseI64ArrayAttr.get(list(shape_of(value)))
    return ir.Operation.create(
        "tensor.expand_shape",
        results=[value.type],
        operands=[joined],
        attributes={"reassociation": reassociation, "static_output_shape": shape},
    ).result

"""``dlas-flatten-rows``: what is elementwise behind a linear layer works on the layer's own matrix.

    before: %e = tensor.expand_shape %p [[0, 1], [2]] : tensor<B*TxC> into tensor<BxTxC>
            %y = linalg.generic(%e, %bias) maps (d0,d1,d2), (d2)                               : tensor<BxTxC>
    after:  %g = linalg.generic(%p, %bias) maps (d0,d1), (d1)                                  : tensor<B*TxC>
            %y = tensor.expand_shape %g [[0, 1], [2]]

An activation function or a residual's sum can then join the kernel of the matrix product. Refused: operands that
are neither whole, nor one per column, nor one number.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from dlas.passes.constants import bindings
from dlas.passes.generics import (
    Generic,
    IndexTuple,
    build_elementwise,
    copy_body,
    defining_op,
    element_type,
    erase_dead,
    layer_of,
    replace,
    shape_of,
    walk,
)
from dlas.passes.registry import Note, Pass, register


@dataclass(frozen=True)
class Plan:
    """An elementwise op to flatten.

    Attributes:
        generic: the op.
        shape: (rows, columns).
        indices: the loop of the flat op per dimension of each flat input.
    """

    generic: Generic
    shape: tuple[int, int]
    indices: tuple[IndexTuple, ...]

    @classmethod
    def analyze(cls, op: Any) -> Plan | str | None:
        """The plan; the reason of a refusal; None if no operand is a matrix whose rows were split."""
        generic = Generic.read(op)
        if generic is None or not generic.is_elementwise or generic.rank < 3:
            return None
        shape = shape_of(op.results[0])
        if min(shape) < 0 or not any(_split_rows(value) for value in generic.inputs):
            return None
        if any(inner.name in ("linalg.index", "tensor.extract") for inner in generic.body_ops()):
            return "its body is not elementwise"
        indices = []
        for value, index in zip(generic.inputs, generic.indices, strict=False):
            flat = _flat_index(shape_of(value), index, shape)
            if flat is None:
                return f"operand of type {value.type} is neither whole nor one per column"
            indices.append(flat)
        return cls(generic, (int(np.prod(shape[:-1])), shape[-1]), tuple(indices))


def _split_rows(value: Any) -> bool:
    """Whether a value is a matrix whose rows were split into several dimensions."""
    op = defining_op(value)
    if op is None or op.name != "tensor.expand_shape":
        return False
    narrow, wide = shape_of(op.operands[0]), shape_of(value)
    return len(narrow) == 2 and min(narrow) >= 0 and narrow[-1] == wide[-1]


def _flat_index(extents: tuple[int, ...], index: IndexTuple, shape: tuple[int, ...]) -> IndexTuple | None:
    if extents == shape and index == tuple(range(len(shape))):
        return (0, 1)
    if index == (len(shape) - 1,):
        return (1,)
    return () if not index else None


@register("dlas-flatten-rows", context="torch-mlir")
@dataclass(frozen=True)
class FlattenRows(Pass):
    """See the module's docstring."""

    def run(self, module: Any) -> list[Note]:
        notes: list[Note] = []
        for op in walk(module, "linalg.generic"):
            plan = Plan.analyze(op)
            if isinstance(plan, str):
                notes.append(Note(self.name, layer_of(op), False, plan))
            elif plan is not None:
                notes.append(Note(self.name, layer_of(op), True, f"works on {plan.shape[0]}x{plan.shape[1]}"))
                self._rewrite(plan)
        erase_dead(module)
        return notes

    @staticmethod
    def _rewrite(plan: Plan) -> None:
        op = plan.generic.op
        ir = bindings(op)
        rank = plan.generic.rank
        groups = ir.Attribute.parse(f"[{list(range(rank - 1))}, [{rank - 1}]]")

        def body(arguments: Sequence[Any]) -> Any:
            block = plan.generic.body
            return copy_body(block, dict(zip(block.arguments, arguments, strict=False)))[0]

        with ir.InsertionPoint(op), op.location:
            flat_type = ir.RankedTensorType.get(list(plan.shape), element_type(op.results[0]))
            inputs = [
                (_flat(ir, value, plan.shape, groups) if index == (0, 1) else value, index)
                for value, index in zip(plan.generic.inputs, plan.indices, strict=True)
            ]
            flat = build_elementwise(inputs, flat_type, body, layer_from=op)
            result = ir.Operation.create(
                "tensor.expand_shape",
                results=[op.results[0].type],
                operands=[flat],
                attributes={
                    "reassociation": groups,
                    "static_output_shape": ir.DenseI64ArrayAttr.get(list(shape_of(op.results[0]))),
                },
            ).result
        replace(op, result)


def _flat(ir: Any, value: Any, shape: tuple[int, int], groups: Any) -> Any:
    maker = defining_op(value)
    if maker is not None and _split_rows(value):
        return maker.operands[0]
    return ir.Operation.create(
        "tensor.collapse_shape",
        results=[ir.RankedTensorType.get(list(shape), element_type(value))],
        operands=[value],
        attributes={"reassociation": groups},
    ).result

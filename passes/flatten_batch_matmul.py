"""``dlas-flatten-batch-matmul``: a batched product with one weight matrix is one product.

    before: %b = linalg.broadcast ins(%w : tensor<KxN>) outs(... : tensor<BxKxN>) dimensions = [0]
            %y = linalg.batch_matmul ins(%x : tensor<BxMxK>, %b) outs(%zero : tensor<BxMxN>)
    after:  %f = tensor.collapse_shape %x [[0, 1], [2]] : tensor<B*MxK>
            %p = linalg.matmul ins(%f, %w) outs(%zero : tensor<B*MxN>)
            %y = tensor.expand_shape %p [[0, 1], [2]]

torch's linear layers come as the second form, ONNX's ``MatMul`` of an activation of rank 3 and a weight of rank 2 as
the first. Refused: weights that are not constant or differ between batches, dynamic extents, an init that is not zero.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

from dlas.passes.constants import bindings, is_zero_scalar, make_constant, read_constant
from dlas.passes.convolutions import is_plain
from dlas.passes.generics import (
    Generic,
    build_zero_init,
    copy_layer,
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
    """A batched product to flatten.

    Attributes:
        op: the batch_matmul.
        weights: KxN, the matrix of every batch.
    """

    op: Any
    weights: np.ndarray

    @classmethod
    def analyze(cls, op: Any) -> Plan | str | None:
        """The plan; the reason of a refusal; None if the right operand is an activation."""
        weights = _repeated_matrix(op.operands[1])
        if weights is None:
            return None
        if isinstance(weights, str):
            return weights
        if min(shape_of(op.operands[0])) < 0:
            return "its extents are dynamic"
        init = defining_op(op.operands[2])
        if init is None or init.name != "linalg.fill" or not is_zero_scalar(init.operands[0]):
            return "it does not start from zero"
        return cls(op, weights) if is_plain(op) else "its operands are transposed"


def _repeated_matrix(value: Any) -> np.ndarray | str | None:
    """The KxN constant that a BxKxN value repeats; a reason why it is none, or None if it is not constant."""
    array = read_constant(value)
    if array is not None:
        same = len(array) == 1 or (array == array[:1]).all()
        return array[0] if same else "its weights differ between batches"
    op = defining_op(value)
    if op is None:
        return None
    if op.name == "linalg.broadcast":
        dimensions = list(bindings(op).DenseI64ArrayAttr(op.attributes["dimensions"]))
        return read_constant(op.operands[0]) if dimensions == [0] else None
    generic = Generic.read(op)
    if generic is None or not generic.is_elementwise or len(generic.inputs) != 1 or list(generic.body_ops()):
        return None
    array = read_constant(generic.inputs[0])
    if array is None or generic.yielded != generic.body.arguments[0]:
        return None
    if generic.indices[0] == (1, 2):
        return array
    return array[0] if generic.indices[0] == (None, 1, 2) else None


@register("dlas-flatten-batch-matmul", context="torch-mlir")
@dataclass(frozen=True)
class FlattenBatchMatmul(Pass):
    """See the module's docstring."""

    def run(self, module: Any) -> list[Note]:
        notes: list[Note] = []
        for op in walk(module, "linalg.batch_matmul"):
            plan = Plan.analyze(op)
            if isinstance(plan, str):
                notes.append(Note(self.name, layer_of(op), False, plan))
            elif plan is not None:
                notes.append(Note(self.name, layer_of(op), True, "became one matmul"))
                self._rewrite(plan)
        erase_dead(module)
        return notes

    @staticmethod
    def _rewrite(plan: Plan) -> None:
        op = plan.op
        ir = bindings(op)
        batch, rows, depth = shape_of(op.operands[0])
        columns = plan.weights.shape[1]
        kind, result_kind = element_type(op.operands[0]), element_type(op.results[0])
        with ir.InsertionPoint(op), op.location:
            reassociation = ir.Attribute.parse("[[0, 1], [2]]")
            flat = ir.Operation.create(
                "tensor.collapse_shape",
                results=[ir.RankedTensorType.get([batch * rows, depth], kind)],
                operands=[op.operands[0]],
                attributes={"reassociation": reassociation},
            ).result
            weights = make_constant(plan.weights, element_type(op.operands[1]))
            product_type = ir.RankedTensorType.get([batch * rows, columns], result_kind)
            zero = build_zero_init(product_type, layer_from=op)
            product = build_matmul(flat, weights, zero)
            copy_layer(op, product)
            result = ir.Operation.create(
                "tensor.expand_shape",
                results=[op.results[0].type],
                operands=[product.result],
                attributes={
                    "reassociation": reassociation,
                    "static_output_shape": ir.DenseI64ArrayAttr.get([batch, rows, columns]),
                },
            ).result
        replace(op, result)


def build_matmul(left: Any, right: Any, init: Any) -> Any:
    """A ``linalg.matmul`` with the default maps at the current insertion point; the bindings fill in its body."""
    from torch_mlir.dialects import linalg

    return linalg.matmul(left, right, outs=[init]).owner.operation

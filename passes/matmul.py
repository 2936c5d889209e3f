"""Matrix products of the canonical form: ``linalg.matmul`` by a constant matrix (linear layers)."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from iree.compiler import ir

from dlas.passes.constants import read_constant, read_scalar
from dlas.passes.plan import Refusal


@dataclass(frozen=True)
class MatmulSite:
    """``result[m, n] = sum over k of data[m, k] * weights[k, n]``."""

    op: ir.Operation
    data: ir.Value
    weights: np.ndarray
    result: ir.Value
    m: int
    n: int
    k: int

    @classmethod
    def analyze(cls, op: ir.Operation) -> MatmulSite | Refusal:
        """Reads a product; refuses activations on the right, other types, dynamic rows and a non-zero init."""
        if op.name != "linalg.matmul":
            return Refusal(f"{op.name} is not a matrix product")
        types = [ir.RankedTensorType(operand.type) for operand in op.operands]
        if any(str(type.element_type) != "f32" for type in types):
            return Refusal(f"matrix product of {types[0].element_type} (f32 has a schedule)")
        if not all(type.has_static_shape for type in types):
            return Refusal("dynamic shape")
        maps = op.attributes.get("indexing_maps", None)
        plain = ("(d0, d1, d2) -> (d0, d2)", "(d0, d1, d2) -> (d2, d1)", "(d0, d1, d2) -> (d0, d1)")
        if maps is not None and tuple(str(attr.value) for attr in maps) != plain:
            return Refusal("transposed or broadcast operands")
        weights = read_constant(op.operands[1])
        if weights is None:
            return Refusal("the right operand is not a constant")
        fill = getattr(op.operands[2].owner, "operation", None)
        if fill is None or fill.name != "linalg.fill" or read_scalar(fill.operands[0]) != 0:
            return Refusal("the accumulator does not start from zero")
        (m, k), n = types[0].shape, types[1].shape[1]
        return cls(op, op.operands[0], weights, op.results[0], m, n, k)

"""Grouped 3-D convolutions, which linalg has no name for: a ``linalg.generic`` over ten loops, over either bindings.

out[n, g, k, o, p, q] += x[n, g, c, o*s + z*d, p*s + y*d, q*s + x*d] * w[g, k, c, z, y, x]
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from dlas.passes.constants import bindings

_LOOPS = ["parallel"] * 6 + ["reduction"] * 4
_YIELD = "linalg.yield"
_WEIGHTS, _RESULT = [1, 2, 6, 7, 8, 9], [0, 1, 2, 3, 4, 5]


@dataclass(frozen=True)
class GroupedVolume:
    """Strides and dilations of a grouped 3-D convolution."""

    strides: tuple[int, ...]
    dilations: tuple[int, ...]

    @classmethod
    def read(cls, op: Any) -> GroupedVolume | None:
        """Reads a ``linalg.generic``; None if it is anything else."""
        if op.name != "linalg.generic" or len(op.operands) != 3 or len(op.results) != 1:
            return None
        ir = bindings(op)
        kinds = [str(kind).split("<")[-1].rstrip(">") for kind in ir.ArrayAttr(op.attributes["iterator_types"])]
        body = [view.operation.name for view in op.regions[0].blocks[0].operations]
        if kinds != _LOOPS or [name for name in body if name != "arith.extf"] != ["arith.mulf", "arith.addf", _YIELD]:
            return None
        maps = [
            [_factors(ir, expr) for expr in attribute.value.results]
            for attribute in ir.ArrayAttr(op.attributes["indexing_maps"])
        ]
        data, weights, result = maps
        if weights != [{dim: 1} for dim in _WEIGHTS] or result != [{dim: 1} for dim in _RESULT]:
            return None
        if data[:3] != [{0: 1}, {1: 1}, {6: 1}] or [set(part or {}) for part in data[3:]] != [{3, 7}, {4, 8}, {5, 9}]:
            return None
        pairs = [(part[3 + i], part[7 + i]) for i, part in enumerate(data[3:]) if part is not None]
        return cls(tuple(stride for stride, _ in pairs), tuple(dilation for _, dilation in pairs))


def _factors(ir: Any, expr: Any) -> dict[int, int] | None:
    """The factor of each loop in an index; None if it is no sum of multiples of them."""
    if isinstance(expr, ir.AffineDimExpr):
        return {ir.AffineDimExpr(expr).position: 1}
    if isinstance(expr, ir.AffineMulExpr):
        factors, number = _factors(ir, expr.lhs), expr.rhs
        if factors is None or not isinstance(number, ir.AffineConstantExpr):
            return None
        return {dim: factor * ir.AffineConstantExpr(number).value for dim, factor in factors.items()}
    if isinstance(expr, ir.AffineAddExpr):
        left, right = _factors(ir, expr.lhs), _factors(ir, expr.rhs)
        return None if left is None or right is None else {**left, **right}
    return None

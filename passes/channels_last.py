"""Transposes between NCHW and channels-last (NHWC), as between convolutions and layers along the channels."""

from __future__ import annotations

from dataclasses import dataclass

from iree.compiler import ir

from dlas.passes.generics import shape_of
from dlas.passes.plan import Refusal

_TO_LAST, _FROM_LAST = [0, 2, 3, 1], [0, 3, 1, 2]


@dataclass(frozen=True)
class ChannelsLastSite:
    """``linalg.transpose`` of ``[N, C, H, W]`` to ``[N, H, W, C]`` (``to_last``), or back.

    Attributes:
        op: the transpose.
        data: what it reads.
        to_last: its direction.
        shape: of the tensor in NCHW.
    """

    op: ir.Operation
    data: ir.Value
    to_last: bool
    shape: tuple[int, int, int, int]

    @property
    def result(self) -> ir.Value:
        return self.op.results[0]

    @classmethod
    def analyze(cls, op: ir.Operation) -> ChannelsLastSite | Refusal:
        """Reads a transpose; refuses other permutations, types, and what is as good as a reshape."""
        order = list(ir.DenseI64ArrayAttr(op.attributes["permutation"]))
        if order not in (_TO_LAST, _FROM_LAST):
            return Refusal(f"permutation {order} is not to or from channels-last")
        kind = ir.ShapedType(op.results[0].type)
        if not kind.has_static_shape or str(kind.element_type) != "f32":
            return Refusal(f"transpose of type {op.results[0].type}")
        to_last = order == _TO_LAST
        batch, channels, height, width = shape_of(op.operands[0] if to_last else op.results[0])
        if channels == 1 or height * width == 1:
            return Refusal("a transpose that moves nothing")
        return cls(op, op.operands[0], to_last, (batch, channels, height, width))

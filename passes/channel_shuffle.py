"""Channel shuffles: the channels of some groups in turn (Zhang et al., ShuffleNet, CVPR 2018, section 3.1)."""

from __future__ import annotations

from dataclasses import dataclass

from iree.compiler import ir

from dlas.passes.generics import defining_op, shape_of
from dlas.passes.plan import Refusal

_TURN = [0, 2, 1, 3, 4]


@dataclass(frozen=True)
class ShuffleSite:
    """``[N, C, H, W]`` seen as ``[N, g, C/g, H, W]``, transposed to ``[N, C/g, g, H, W]``, and seen as before again.

    Attributes:
        op: the last reshape.
        between: the ops before it that compute nothing else.
    """

    op: ir.Operation
    data: ir.Value
    groups: int
    between: tuple[ir.Operation, ir.Operation]

    @property
    def result(self) -> ir.Value:
        return self.op.results[0]

    @classmethod
    def analyze(cls, op: ir.Operation, block: int) -> ShuffleSite | Refusal | None:
        """Reads a shuffle from its last reshape; None: something else.

        Refuses groups that do not divide a block, groups that are no whole blocks, and other types.
        """
        turn = defining_op(op.operands[0]) if op.name == "tensor.collapse_shape" else None
        split = defining_op(turn.operands[0]) if turn is not None and turn.name == "linalg.transpose" else None
        if turn is None or split is None or split.name != "tensor.expand_shape":
            return None
        if list(ir.DenseI64ArrayAttr(turn.attributes["permutation"])) != _TURN:
            return None
        shape, parts = shape_of(op.results[0]), shape_of(split.results[0])
        if len(shape) != 4 or shape != shape_of(split.operands[0]) or (parts[0], *parts[3:]) != (shape[0], *shape[2:]):
            return None
        groups, channels = parts[1:3]
        if str(ir.ShapedType(op.results[0].type).element_type) != "f32" or min(shape) < 1:
            return Refusal(f"channel shuffle of type {op.results[0].type}")
        if groups < 2 or block % groups or channels % block:
            return Refusal(f"{groups} groups of {channels} channels: no whole blocks of {block}, {groups} lanes apart")
        if any(len(list(inner.results[0].uses)) > 1 for inner in (split, turn)):
            return Refusal("a part of the channel shuffle has other users")
        return cls(op, split.operands[0], groups, (split, turn))

"""Concatenations of activations along their channels."""

from __future__ import annotations

from dataclasses import dataclass

from iree.compiler import ir

from dlas.passes.generics import shape_of
from dlas.passes.plan import Refusal


@dataclass(frozen=True)
class ConcatSite:
    """``tensor.concat dim(1)`` of NCHW tensors."""

    op: ir.Operation
    parts: tuple[ir.Value, ...]
    shape: tuple[int, ...]

    @property
    def result(self) -> ir.Value:
        return self.op.results[0]

    @classmethod
    def analyze(cls, op: ir.Operation, block: int) -> ConcatSite | Refusal:
        """Reads a concatenation; refuses other dimensions and types, batches, and parts that are no whole blocks."""
        shape = shape_of(op.results[0])
        if len(shape) != 4 or ir.IntegerAttr(op.attributes["dim"]).value != 1:
            return Refusal("not along the channels of an image")
        if min(shape) < 1 or str(ir.ShapedType(op.results[0].type).element_type) != "f32":
            return Refusal(f"concatenation of type {op.results[0].type}")
        if shape[0] != 1:
            return Refusal(f"{shape[0]} images: the parts of each lie apart")
        parts = tuple(op.operands)
        if len(set(parts)) != len(parts):
            return Refusal("a part comes twice")
        uneven = [shape_of(part)[1] for part in parts if shape_of(part)[1] % block]
        if uneven:
            return Refusal(f"{uneven[0]} channels of a part are no whole blocks of {block}")
        return cls(op, parts, shape)

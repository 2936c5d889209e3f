"""Pooling and global reductions of the canonical form."""

from __future__ import annotations

from dataclasses import dataclass

from iree.compiler import ir

from dlas.passes.constants import read_scalar
from dlas.passes.conv import ConvShape, pad_amounts, pair
from dlas.passes.plan import Refusal

# op -> the arith op that combines two elements
POOL_OPS = {"linalg.pooling_nchw_max": "arith.maximumf", "linalg.pooling_nchw_sum": "arith.addf"}


@dataclass(frozen=True)
class WindowSite:
    """A pooling op; ``pad`` is (value, (top, left, bottom, right)) of the padding that it reads through."""

    op: ir.Operation
    data: ir.Value
    combine: str
    init: float
    pad: tuple[float, tuple[int, int, int, int]]
    kernel: tuple[int, int]
    stride: tuple[int, int]
    dilation: tuple[int, int]
    result: ir.Value

    @property
    def shape(self) -> ConvShape:
        """The window as a depthwise convolution would have it."""
        batch, channels, out_h, out_w = ir.ShapedType(self.result.type).shape
        _, _, in_h, in_w = ir.ShapedType(self.data.type).shape
        return ConvShape(
            batch=batch,
            c_in=channels,
            c_out=channels,
            groups=channels,
            in_h=in_h,
            in_w=in_w,
            out_h=out_h,
            out_w=out_w,
            k_h=self.kernel[0],
            k_w=self.kernel[1],
            stride=self.stride,
            dilation=self.dilation,
            pads=self.pad[1],
        )

    @classmethod
    def analyze(cls, op: ir.Operation) -> WindowSite | Refusal:
        """Reads a pooling op; refuses dynamic shapes, other types and an unknown initial value."""
        if op.name not in POOL_OPS:
            return Refusal(f"{op.name} is not a pooling op")
        type = ir.ShapedType(op.results[0].type)
        if not type.has_static_shape or str(type.element_type) != "f32":
            return Refusal(f"pooling of type {op.results[0].type}")
        fill = getattr(op.operands[2].owner, "operation", None)
        init = read_scalar(fill.operands[0]) if fill is not None and fill.name == "linalg.fill" else None
        if init is None:
            return Refusal("unknown initial value")
        data, pad = op.operands[0], (0.0, (0, 0, 0, 0))
        owner = getattr(data.owner, "operation", None)
        if owner is not None and owner.name == "tensor.pad":
            amounts = pad_amounts(owner)
            if amounts is not None:
                data, pad = owner.operands[0], amounts
        k_h, k_w = ir.ShapedType(op.operands[1].type).shape
        return cls(
            op,
            data,
            POOL_OPS[op.name],
            float(init),
            pad,
            (k_h, k_w),
            pair(op, "strides"),
            pair(op, "dilations"),
            op.results[0],
        )


@dataclass(frozen=True)
class ReduceSite:
    """A sum or maximum over height and width of an NCHW tensor, to ``[N, C, 1, 1]`` or ``[N, C]``."""

    op: ir.Operation
    data: ir.Value
    combine: str
    init: float
    result: ir.Value

    @classmethod
    def analyze(cls, op: ir.Operation) -> ReduceSite | Refusal:
        """Reads a ``linalg.generic`` that reduces the two last of four dimensions with one arith op."""
        if op.name != "linalg.generic" or len(op.operands) != 2 or len(op.results) != 1:
            return Refusal("not a reduction")
        kinds = ["parallel" in str(kind) for kind in op.attributes["iterator_types"]]
        if kinds != [True, True, False, False]:
            return Refusal("not a reduction over height and width")
        source = ir.ShapedType(op.operands[0].type)
        if not source.has_static_shape or str(source.element_type) != "f32":
            return Refusal(f"reduction of type {op.operands[0].type}")
        maps = [attr.value for attr in op.attributes["indexing_maps"]]
        if str(maps[0]) != "(d0, d1, d2, d3) -> (d0, d1, d2, d3)" or str(maps[1]) not in (
            "(d0, d1, d2, d3) -> (d0, d1, 0, 0)",
            "(d0, d1, d2, d3) -> (d0, d1)",
        ):
            return Refusal("permuted reduction")
        body = [inner.operation for inner in op.regions[0].blocks[0].operations]
        if len(body) != 2 or body[0].name not in POOL_OPS.values():
            return Refusal("the body is not one addf or maximumf")
        fill = getattr(op.operands[1].owner, "operation", None)
        init = read_scalar(fill.operands[0]) if fill is not None and fill.name == "linalg.fill" else None
        if init is None:
            return Refusal("unknown initial value")
        return cls(op, op.operands[0], body[0].name, float(init), op.results[0])

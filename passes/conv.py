"""What a convolution of the canonical form is: its shape, its operands, and where its result goes."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from iree.compiler import ir

from dlas.passes.constants import read_constant, read_scalar
from dlas.passes.plan import Refusal

USEFUL = "dlas.useful"
"""Attribute of a convolution with padded channels: :attr:`ConvShape.useful`."""

CONV_OPS = ("linalg.conv_2d_nchw_fchw", "linalg.conv_2d_ngchw_gfchw", "linalg.depthwise_conv_2d_nchw_chw")


@dataclass(frozen=True)
class ConvShape:
    """Extents of a 2-D convolution; ``pads`` is (top, left, bottom, right), in elements.

    ``useful`` is the share of the multiply-accumulates that are the model's; the others are by padded channels.
    """

    batch: int
    c_in: int
    c_out: int
    groups: int
    in_h: int
    in_w: int
    out_h: int
    out_w: int
    k_h: int
    k_w: int
    stride: tuple[int, int] = (1, 1)
    dilation: tuple[int, int] = (1, 1)
    pads: tuple[int, int, int, int] = (0, 0, 0, 0)
    useful: float = 1.0

    @property
    def c_per_group(self) -> int:
        """C_PG of the GSPC paper."""
        return self.c_in // self.groups

    @property
    def k_per_group(self) -> int:
        """K_PG of the GSPC paper."""
        return self.c_out // self.groups

    @property
    def steps(self) -> tuple[int, int]:
        """The strides that index maps need: 1 where the result has one row (or column).

        IREE folds the strides of a 1x1 kernel into its loads, and miscompiles one over a single row.
        """
        return (self.stride[0] if self.out_h > 1 else 1, self.stride[1] if self.out_w > 1 else 1)

    def tiles(self, m: int) -> tuple[int, int]:
        """Rows and columns of m x m output tiles that cover the result."""
        return -(-self.out_h // m), -(-self.out_w // m)

    def tile_pads(self, m: int) -> tuple[int, int, int, int]:
        """The padding (top, left, bottom, right) that whole m x m output tiles at stride 1 read."""
        top, left, _, _ = self.pads
        rows, columns = self.tiles(m)
        return (top, left, rows * m + self.k_h - 1 - top - self.in_h, columns * m + self.k_w - 1 - left - self.in_w)

    @property
    def macs(self) -> int:
        """Multiply-accumulates."""
        return self.batch * self.c_out * self.out_h * self.out_w * self.c_per_group * self.k_h * self.k_w

    @property
    def flops(self) -> int:
        """Floating-point operations of the model's own channels."""
        return round(2 * self.macs * self.useful)

    @property
    def problem(self) -> str:
        """All extents in one line: ``1x64x56x56 to 64, 3x3, groups 4, stride 1x1, dilation 1x1, pads 1 1 1 1``."""
        return (
            f"{self.batch}x{self.c_in}x{self.in_h}x{self.in_w} to {self.c_out}, {self.k_h}x{self.k_w}, "
            f"groups {self.groups}, stride {self.stride[0]}x{self.stride[1]}, "
            f"dilation {self.dilation[0]}x{self.dilation[1]}, pads {' '.join(map(str, self.pads))}"
        )

    @property
    def kind(self) -> str:
        """``depthwise``, ``grouped``, ``pointwise`` or ``conv``."""
        if self.groups > 1:
            return "depthwise" if self.c_per_group == 1 else "grouped"
        return "pointwise" if self.k_h == self.k_w == 1 else "conv"


@dataclass(frozen=True)
class ConvSite:
    """A convolution in the module: ``data`` is the input before padding, ``result`` the NCHW result."""

    op: ir.Operation
    shape: ConvShape
    data: ir.Value
    weights: np.ndarray
    result: ir.Value
    layer: str

    @classmethod
    def analyze(cls, op: ir.Operation) -> ConvSite | Refusal:
        """Reads a convolution; refuses what is not in the canonical form."""
        if op.name not in CONV_OPS:
            return Refusal(f"{op.name} is not a convolution")
        layer = str(ir.StringAttr(op.attributes["dlas.layer"]).value) if "dlas.layer" in op.attributes else ""
        data, filter_, init = op.operands[0], op.operands[1], op.operands[2]
        if not ir.ShapedType(op.results[0].type).has_static_shape:
            return Refusal("dynamic shape")
        others = {str(ir.ShapedType(value.type).element_type) for value in (*op.operands, *op.results)} - {"f32"}
        if others:  # f16 and bf16 accumulate in f32
            return Refusal(f"{min(others)} convolutions have no schedule (f32 has)")
        weights = read_constant(filter_)
        if weights is None:
            return Refusal("weights are not a constant")
        if not _is_zero_fill(init):
            return Refusal("the accumulator does not start from zero")
        result = op.results[0]
        grouped = op.name == "linalg.conv_2d_ngchw_gfchw"
        if grouped:
            collapsed = _single_user(result, "tensor.collapse_shape")
            expanded = _owner(data, "tensor.expand_shape")
            if collapsed is None or expanded is None:
                return Refusal("grouped convolution without the canonical reshapes")
            result, data = collapsed.results[0], expanded.operands[0]
            groups, weights = weights.shape[0], weights.reshape(-1, *weights.shape[2:])
        elif op.name == "linalg.depthwise_conv_2d_nchw_chw":
            groups, weights = weights.shape[0], weights[:, None]
        else:
            groups = 1
        data, pads = _through_zero_pad(data)
        batch, c_in, in_h, in_w = ir.ShapedType(data.type).shape
        _, c_out, out_h, out_w = ir.ShapedType(result.type).shape
        shape = ConvShape(
            batch=batch,
            c_in=c_in,
            c_out=c_out,
            groups=groups,
            in_h=in_h,
            in_w=in_w,
            out_h=out_h,
            out_w=out_w,
            k_h=weights.shape[2],
            k_w=weights.shape[3],
            stride=pair(op, "strides"),
            dilation=pair(op, "dilations"),
            pads=pads,
            useful=float(ir.FloatAttr(op.attributes[USEFUL]).value) if USEFUL in op.attributes else 1.0,
        )
        return cls(op, shape, data, weights, result, layer)


def _owner(value: ir.Value, name: str) -> ir.Operation | None:
    owner = value.owner
    op = getattr(owner, "operation", None)
    return op if op is not None and op.name == name else None


def _single_user(value: ir.Value, name: str) -> ir.Operation | None:
    users = [use.owner.operation for use in value.uses]
    return users[0] if len(users) == 1 and users[0].name == name else None


def _is_zero_fill(value: ir.Value) -> bool:
    fill = _owner(value, "linalg.fill")
    return fill is not None and read_scalar(fill.operands[0]) == 0


def pad_amounts(op: ir.Operation) -> tuple[float, tuple[int, int, int, int]] | None:
    """(value, (top, left, bottom, right)) of a ``tensor.pad`` of the two last of four dimensions by a constant."""
    low = list(ir.DenseI64ArrayAttr(op.attributes["static_low"]))
    high = list(ir.DenseI64ArrayAttr(op.attributes["static_high"]))
    if len(low) != 4 or any(low[:2]) or any(high[:2]) or min(low + high) < 0:
        return None
    value = read_scalar(op.regions[0].blocks[0].operations[0].operands[0])
    return None if value is None else (float(value), (low[2], low[3], high[2], high[3]))


def _through_zero_pad(value: ir.Value) -> tuple[ir.Value, tuple[int, int, int, int]]:
    pad = _owner(value, "tensor.pad")
    amounts = pad_amounts(pad) if pad is not None else None
    if pad is None or amounts is None or amounts[0] != 0:
        return value, (0, 0, 0, 0)
    return pad.operands[0], amounts[1]


def pair(op: ir.Operation, name: str) -> tuple[int, int]:
    """Strides or dilations; (1, 1) where the op has none."""
    if name not in op.attributes:
        return (1, 1)
    first, second = (int(v) for v in ir.DenseIntElementsAttr(op.attributes[name]))
    return first, second

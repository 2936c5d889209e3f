"""The first convolution of a separable pair: some rows of its result at a time, in scratch, for the second to read.

Channels of the input and of the result are the same, and each lane reads the lanes of its own group only.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from iree.compiler import ir

from dlas.passes import dispatch as d
from dlas.passes import vectors as v
from dlas.passes.conv import ConvShape
from dlas.passes.kernel_frame import Blocked, Epilogue, KernelFrame, ResultSpec, Slices, constant, dims
from dlas.passes.packing import pack_lanes, pack_winograd_lanes
from dlas.passes.plan import Choice
from dlas.passes.winograd_tiles import LaneNest

Lanes = Mapping[tuple[int, int], ir.Value]
"""Per-channel constants of an epilogue, ``[C/B, B]``, by (op, operand)."""


@dataclass(frozen=True)
class FirstConv:
    """The first convolution of a pair: its extents, input, weights ``[C, C_PG, K_h, K_w]`` and elementwise ops.

    The epilogue reads constants besides, and has one result, which the second convolution reads and nothing else.
    """

    shape: ConvShape
    data: Blocked
    weights: np.ndarray
    epilogue: Epilogue
    result: ResultSpec


class HiddenRows:
    """How the rows are computed.

    Attributes:
        weights: packed as the kernel reads them, a channel block first.
        window: rows and columns of the padded input.
        scratch: shapes of what :meth:`emit` is lent beside the hidden rows.
    """

    weights: np.ndarray
    window: tuple[int, int]
    scratch: Sequence[Sequence[int]]

    def emit(
        self, x: ir.Value, wt: ir.Value, lanes: Lanes, carried: list[ir.Value], top: ir.Value, rows: v.Index
    ) -> list[ir.Value]:
        """The first ``rows`` rows from row ``top`` of the result, to ``carried``: the hidden rows and the scratch."""
        raise NotImplementedError


def hidden_rows(frame: KernelFrame, first: FirstConv, choice: Choice) -> HiddenRows:
    """In Winograd's domain where the choice of the kernel has an output tile ``m``."""
    return TileRows(frame, first, choice) if choice.knobs.get("m") else LaneRows(frame, first, choice)


class LaneRows(HiddenRows):
    """By sums: ``pixels`` of a row at a time.

    rewrite: for c, row, pixel:  hidden[c, row, pixel] = epilogue(sum over y, x, i of
                                     shuffle_i(x[c, row + y, pixel + x]) * wt[c, y, x, i])
    """

    def __init__(self, frame: KernelFrame, first: FirstConv, choice: Choice) -> None:
        self.frame, self.first, self.shape = frame, first, first.shape
        self.block, self.pixels = frame.block, choice.knobs["pixels"]
        self.vector = ir.VectorType.get([self.block], frame.element)
        shape = first.shape
        self.weights = pack_lanes(first.weights, self.block)
        height = (shape.out_h - 1) * shape.stride[0] + (shape.k_h - 1) * shape.dilation[0] + 1
        width = (shape.out_w - 1) * shape.stride[1] + (shape.k_w - 1) * shape.dilation[1] + 1
        self.window, self.scratch = (height, width), []

    def emit(
        self, x: ir.Value, wt: ir.Value, lanes: Lanes, carried: list[ir.Value], top: ir.Value, rows: v.Index
    ) -> list[ir.Value]:
        whole, rest = divmod(self.shape.out_w, self.pixels)
        d0, d1 = dims(0, 1)

        def row(c: ir.Value, r: ir.Value, carried: list[ir.Value]) -> list[ir.Value]:
            first = v.affine((d0 + d1) * self.shape.stride[0], top, r)

            def pixels(t: ir.Value, carried: list[ir.Value], count: int = self.pixels) -> list[ir.Value]:
                left = v.affine(d0 * self.pixels, t)
                values = self._pixels(x, wt, lanes, (c, first, left), count)
                written, index = carried[0], v.Indices()
                for p, value in enumerate(values):
                    written = v.write(value, written, [c, r, v.affine(d0 + p, left), 0], index)
                return [written]

            if whole:
                carried = v.loop(whole, carried, pixels)
            return pixels(d.index_constant(whole), carried, rest) if rest else carried

        count: v.Range = rows if isinstance(rows, int) else (d.index_constant(0), rows)
        return v.loops([self.weights.shape[0], count], carried, row)

    def _pixels(
        self, x: ir.Value, wt: ir.Value, lanes: Lanes, place: tuple[ir.Value, ir.Value, ir.Value], count: int
    ) -> list[ir.Value]:
        """``count`` pixels of a row, whose first input is at (channel block, row, column of the result)."""
        shape, (c, first, left) = self.shape, place
        stride, dilation, per_group = shape.stride[1], shape.dilation[1], shape.c_per_group
        padding = d.float_constant(0.0, self.frame.element)
        columns = sorted({p * stride + q * dilation for p in range(count) for q in range(shape.k_w)})
        d0, d1 = dims(0, 1)

        def row(y: ir.Value, sums: list[ir.Value]) -> list[ir.Value]:
            index, sums = v.Indices(), list(sums)
            line = v.affine(d0 + d1 * shape.dilation[0], first, y)
            for i in range(per_group):
                weights = [v.read(wt, [c, y, q, i, 0], self.vector, padding, index) for q in range(shape.k_w)]
                for column in columns:
                    pixel = [c, line, v.affine(d0 * stride + column, left)]
                    if per_group == self.block:  # the whole block is one group: each channel is broadcast from memory
                        value = v.splat(x, [*pixel, i], self.vector, index)
                    else:
                        value = v.read(x, [*pixel, 0], self.vector, padding, index)
                    if 1 < per_group < self.block:
                        value = v.shuffle(value, [lane // per_group * per_group + i for lane in range(self.block)])
                    for q in range(shape.k_w):
                        p, between = divmod(column - q * dilation, stride)
                        if not between and 0 <= p < count:
                            sums[p] = v.emit("vector.fma", [value, weights[q], sums[p]], self.vector)
            return sums

        sums = v.loop(shape.k_h, [v.constant_vector(0.0, self.vector)] * count, row)
        epilogue = self.first.epilogue
        if not epilogue.ops:
            return sums
        assert epilogue.source is not None
        index = v.Indices()
        known = {key: v.read(value, [c, 0], self.vector, padding, index) for key, value in lanes.items()}
        apply = self.frame.apply_epilogue
        return [apply(epilogue, {epilogue.source: value}, known, [self.first.result])[0] for value in sums]


class TileRows(HiddenRows):
    """In Winograd's domain: ``pixels`` of a row of tiles at a time; rows that are not asked for may be written, too."""

    def __init__(self, frame: KernelFrame, first: FirstConv, choice: Choice) -> None:
        shape, m = first.shape, choice.knobs["m"]
        self.shape, self.pixels = shape, choice.knobs["pixels"]
        self.nest = LaneNest(frame, shape, choice, first.epilogue, [first.result], role="first")
        self.weights = pack_winograd_lanes(first.weights, frame.block, m)
        self.window = self.nest.tile_rows * m + 2, self.nest.tile_columns * m + 2
        self.scratch = [self.nest.lines_in(self.pixels // m), self.nest.lines_out(self.pixels // m)]

    def emit(
        self, x: ir.Value, wt: ir.Value, lanes: Lanes, carried: list[ir.Value], top: ir.Value, rows: v.Index
    ) -> list[ir.Value]:
        m, d0, d1 = self.nest.m, *dims(0, 1)
        slices, weights = Slices({}, dict(lanes), []), list(self.weights.shape[1:])

        def part(c: ir.Value, r: ir.Value, t: ir.Value, carried: list[ir.Value]) -> list[ir.Value]:
            filter_ = v.extract_slice(wt, [c, 0, 0, 0], [1, *weights], weights)
            left = v.affine(d0 * self.pixels, t)
            source, target = (c, v.affine(d0 * m + d1, r, top), left), (c, v.affine(d0 * m, r), left)
            return self.nest.tile_row(x, filter_, slices, carried, source, target, (m, self._width(left)))

        if isinstance(rows, int):
            count: v.Range = -(-rows // m)
        else:
            count = d.index_constant(0), v.affine(ir.AffineExpr.get_ceil_div(d0, m), rows)
        return v.loops([self.weights.shape[0], count, -(-self.shape.out_w // self.pixels)], carried, part)

    def _width(self, left: ir.Value) -> v.Range:
        """The pixels of a part's row."""
        if self.shape.out_w % self.pixels == 0:
            return self.pixels
        if self.shape.out_w < self.pixels:
            return self.shape.out_w
        there = v.affine_min([constant(self.pixels), ir.AffineExpr.get_dim(0) * -1 + self.shape.out_w], left)
        return d.index_constant(0), there

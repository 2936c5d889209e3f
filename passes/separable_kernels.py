"""Emit depthwise separable convolutions on the blocked layout: a depthwise and the pointwise convolution behind it as
one kernel, some rows at a time, so that what the first computes for the second stays in the core's own cache.

    for R rows of the result:
      for c, row, pixel:  hidden[c, row, pixel] = epilogue of the depthwise (x[c, ...] * taps[c])     vector code
      for T_O channels:   out[k, row, pixel] = epilogue (sum over c, i of hidden[c, row, pixel, i] * wt[c, i, k])
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from iree.compiler import ir

from dlas.passes import dispatch as d
from dlas.passes import vectors as v
from dlas.passes.constants import make_constant
from dlas.passes.conv import ConvShape
from dlas.passes.kernel_frame import (
    Blocked,
    Epilogue,
    KernelFrame,
    LoopNest,
    ResultSpec,
    Slices,
    Tile,
    dims,
    multiply_add,
)
from dlas.passes.packing import pack_weights
from dlas.passes.plan import Choice

_LINE = 16  # elements of a cache line


@dataclass(frozen=True)
class Depthwise:
    """The first convolution of a pair: its extents, input, weights ``[C, 1, K_h, K_w]`` and elementwise ops.

    The epilogue reads constants besides, and has one result, which the second convolution reads and nothing else.
    """

    shape: ConvShape
    data: Blocked
    weights: np.ndarray
    epilogue: Epilogue
    result: ResultSpec


class SeparableKernels(KernelFrame):
    """The part of the emitter for depthwise separable convolutions."""

    def separable_conv(
        self,
        first: Depthwise,
        shape: ConvShape,
        weights: np.ndarray,
        choice: Choice,
        layer: str,
        epilogue: Epilogue,
        results: Sequence[ResultSpec],
    ) -> list[Blocked]:
        """A depthwise convolution and the 1x1 convolution of stride 1 that reads it.

        The second one's weights are packed to ``[K/T_O, C/B, B, T_O/B, B]``; a workgroup has all output channels of
        some rows.
        """
        block, t_o, rows = self.block, choice.knobs["t_o"], choice.knobs["rows"]
        c_blocks = shape.c_in // block
        taps = first.weights.reshape(c_blocks, block, first.shape.k_h, first.shape.k_w).transpose(0, 2, 3, 1)
        _, packed = pack_weights(shape, weights, 1, block, t_o)
        packed = packed.reshape(-1, c_blocks, block, t_o // block, block)
        lanes = self._channel_vectors(first.epilogue, c_blocks)
        nest = _Nest(self, first, shape, choice, epilogue, results)
        inputs = [
            first.data.value,
            make_constant(np.ascontiguousarray(taps), self.element),
            make_constant(np.ascontiguousarray(packed), self.element),
            *lanes.values(),
        ]

        def emit(b: d.DispatchBody, bindings: Sequence[ir.Value], tile: Tile, slices: Slices) -> list[ir.Value]:
            data, before = first.data, first.shape
            height = (before.out_h - 1) * before.stride[0] + (before.k_h - 1) * before.dilation[0] + 1
            width = (before.out_w - 1) * before.stride[1] + (before.k_w - 1) * before.dilation[1] + 1
            offsets = [tile.image, 0, data.halo[0] - before.pads[0], data.halo[1] - before.pads[1], 0]
            sizes = [1, c_blocks, height, width, block]
            x = b.load(bindings[0], offsets, sizes, sizes[1:])
            constants = [
                b.load(binding, [0] * len(shape_), shape_, shape_)
                for binding, shape_ in zip(bindings[1:3], (taps.shape, packed.shape), strict=True)
            ]
            sizes = [c_blocks, block]
            vectors = {key: b.load(value, [0, 0], sizes, sizes) for key, value in zip(lanes, bindings[3:], strict=True)}
            return nest.emit(x, constants[0], constants[1], vectors, slices, tile)

        return self.windowed(
            kind="separable",
            choice=choice,
            layer=layer,
            shape=(shape.batch, shape.c_out, shape.out_h, shape.out_w),
            unit=rows,
            scratch=[nest.hidden],
            tile_blocks=-(-shape.c_out // block),
            root=LoopNest(inputs, emit),
            epilogue=epilogue,
            results=results,
            extents={"c": c_blocks, "k": t_o // block, "h": rows, "w": shape.out_w, "i": block},
            flops=first.shape.flops + shape.flops,
        )


class _Nest:
    """The loops of one workgroup."""

    def __init__(
        self,
        frame: SeparableKernels,
        first: Depthwise,
        shape: ConvShape,
        choice: Choice,
        epilogue: Epilogue,
        results: Sequence[ResultSpec],
    ) -> None:
        self.frame, self.first, self.shape = frame, first, shape
        self.epilogue, self.results = epilogue, results
        self.rows, self.pixels, self.t_o = (choice.knobs[name] for name in ("rows", "pixels", "t_o"))
        self.block = frame.block
        self.c_blocks = shape.c_in // self.block
        self.k_blocks = self.t_o // self.block
        self.k_tiles = -(-shape.c_out // self.t_o)
        self.vector = ir.VectorType.get([self.block], frame.element)
        self.hidden = [self.c_blocks, self.rows, self._room(), self.block]

    def _room(self) -> int:
        """Pixels of a row of the hidden result: a few more than there are where channel blocks, one behind the other,
        would evict each other from the cache."""

        def shared(width: int) -> int:
            return math.gcd(self.rows * width * self.block, 64 * _LINE)

        return min(range(self.shape.out_w, self.shape.out_w + 4), key=lambda width: (shared(width), width))

    def emit(
        self,
        x: ir.Value,
        taps: ir.Value,
        wt: ir.Value,
        lanes: Mapping[tuple[int, int], ir.Value],
        slices: Slices,
        tile: Tile,
    ) -> list[ir.Value]:
        """Some rows after the other."""

        def part(number: ir.Value, carried: list[ir.Value]) -> list[ir.Value]:
            *outs, hidden = carried
            top = v.affine(ir.AffineExpr.get_dim(0) * self.rows, number)
            hidden = self._depthwise(x, taps, lanes, hidden, top)
            outs = v.loop(
                self.k_tiles,
                outs,
                lambda tile_, outs: self._pointwise(hidden, wt, slices, outs, tile_, top),
            )
            return [*outs, hidden]

        parts: v.Range = self.shape.out_h // self.rows if tile.rows.units is None else tile.rows.units
        *outs, tile.scratch[0] = v.loop(parts, [*slices.outs, tile.scratch[0]], part)
        return outs

    # -- the depthwise convolution ---------------------------------------------------------------------------------

    def _depthwise(
        self, x: ir.Value, taps: ir.Value, lanes: Mapping[tuple[int, int], ir.Value], hidden: ir.Value, top: ir.Value
    ) -> ir.Value:
        """``rows`` rows of its result from row ``top``, to ``hidden``."""
        whole, rest = divmod(self.shape.out_w, self.pixels)
        d0, d1 = dims(0, 1)

        def row(c: ir.Value, r: ir.Value, carried: list[ir.Value]) -> list[ir.Value]:
            first = v.affine((d0 + d1) * self.first.shape.stride[0], top, r)

            def pixels(t: ir.Value, carried: list[ir.Value], count: int = self.pixels) -> list[ir.Value]:
                left = v.affine(d0 * self.pixels, t)
                values = self._pixels(x, taps, lanes, (c, first, left), count)
                written, index = carried[0], v.Indices()
                for p, value in enumerate(values):
                    written = v.write(value, written, [c, r, v.affine(d0 + p, left), 0], index)
                return [written]

            if whole:
                carried = v.loop(whole, carried, pixels)
            return pixels(d.index_constant(whole), carried, rest) if rest else carried

        return v.loops([self.c_blocks, self.rows], [hidden], row)[0]

    def _pixels(
        self,
        x: ir.Value,
        taps: ir.Value,
        lanes: Mapping[tuple[int, int], ir.Value],
        place: tuple[ir.Value, ir.Value, ir.Value],
        count: int,
    ) -> list[ir.Value]:
        """``count`` pixels of a row, whose first input is at (channel block, row, column of the result)."""
        shape, (c, first, left) = self.first.shape, place
        stride, dilation = shape.stride[1], shape.dilation[1]
        padding = d.float_constant(0.0, self.frame.element)
        columns = sorted({p * stride + q * dilation for p in range(count) for q in range(shape.k_w)})
        d0, d1 = dims(0, 1)

        def row(y: ir.Value, sums: list[ir.Value]) -> list[ir.Value]:
            index, sums = v.Indices(), list(sums)
            line = v.affine(d0 + d1 * shape.dilation[0], first, y)
            weights = [v.read(taps, [c, y, q, 0], self.vector, padding, index) for q in range(shape.k_w)]
            for column in columns:
                value = v.read(x, [c, line, v.affine(d0 * stride + column, left), 0], self.vector, padding, index)
                for q in range(shape.k_w):
                    pixel, between = divmod(column - q * dilation, stride)
                    if not between and 0 <= pixel < count:
                        sums[pixel] = v.emit("vector.fma", [value, weights[q], sums[pixel]], self.vector)
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

    # -- the pointwise convolution ---------------------------------------------------------------------------------

    def _pointwise(
        self, hidden: ir.Value, wt: ir.Value, slices: Slices, outs: list[ir.Value], number: ir.Value, top: ir.Value
    ) -> list[ir.Value]:
        """The ``number``-th T_O channels of ``rows`` rows of the result from row ``top``."""
        d0 = ir.AffineExpr.get_dim(0)
        first = v.affine(d0 * self.k_blocks, number)
        width, block = self.shape.out_w, self.block
        place, sizes = [first, top, 0, 0], [self.k_blocks, self.rows, width, block]
        parts = [v.extract_slice(out, place, sizes) for out in outs]
        data = v.extract_slice(hidden, [0, 0, 0, 0], [self.c_blocks, self.rows, width, block])
        sizes_ = [1, self.c_blocks, block, self.k_blocks, block]
        filter_ = v.extract_slice(wt, [number, 0, 0, 0, 0], sizes_, sizes_[1:])
        k, h, w, o, c, i = dims(*range(6))
        value = d.generic(
            [data, filter_],
            [d.fill(d.float_constant(0.0, self.frame.element), parts[0], "init")],
            [d.affine_map(6, [c, h, w, i]), d.affine_map(6, [c, i, k, o]), d.affine_map(6, [k, h, w, o])],
            "pppprr",
            multiply_add,
            {"dlas.role": ir.StringAttr.get("root")},
        )[0]
        values = [value]
        if self.epilogue.ops:
            identity = d.affine_map(4, dims(0, 1, 2, 3))
            sources = {
                key: (
                    v.extract_slice(tensor, place, sizes)
                    if map_ == identity
                    else v.extract_slice(tensor, [first, 0], [self.k_blocks, block]),
                    map_,
                )
                for key, (tensor, map_) in slices.sources.items()
            }
            if self.epilogue.source is not None:
                sources[self.epilogue.source] = value, identity
            lanes = {
                key: v.extract_slice(tensor, [first, 0], [self.k_blocks, block]) for key, tensor in slices.lanes.items()
            }
            values = self.frame.emit_epilogue(self.epilogue, sources, lanes, parts, self.results)
        return [v.insert_slice(value, out, place, sizes) for value, out in zip(values, outs, strict=True)]

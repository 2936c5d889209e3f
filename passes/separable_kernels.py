"""Emit separable convolutions on the blocked layout: a depthwise or small-group and the pointwise convolution behind it
as one kernel, some rows at a time, so that what the first computes for the second stays in the core's own cache.

    for R rows of the result:
      for c, row, pixel:  hidden[c, row, pixel] = epilogue of the first (x[c, ...] * taps[c])         vector code
      for T_O channels:   out[k, row, pixel] = epilogue (sum over c, i of hidden[c, row, pixel, i] * wt[c, i, k])
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import replace
from typing import Protocol

import numpy as np
from iree.compiler import ir

from dlas.passes import dispatch as d
from dlas.passes import vectors as v
from dlas.passes.constants import make_constant
from dlas.passes.conv import ConvShape
from dlas.passes.hidden_rows import FirstConv, HiddenRows, Lanes, hidden_rows
from dlas.passes.kernel_frame import (
    Blocked,
    Epilogue,
    KernelFrame,
    LoopNest,
    ResultSpec,
    Slices,
    Tile,
    constant,
    dims,
    multiply_add,
)
from dlas.passes.packing import pack_weights
from dlas.passes.plan import Choice
from dlas.passes.strassen_kernels import Band, StrassenNest, StrassenWeights

_LINE = 16  # elements of a cache line


class SeparableKernels(KernelFrame):
    """The part of the emitter for separable convolutions."""

    def separable_conv(
        self,
        first: FirstConv,
        shape: ConvShape,
        weights: np.ndarray,
        choice: Choice,
        layer: str,
        epilogue: Epilogue,
        results: Sequence[ResultSpec],
    ) -> list[Blocked]:
        """A convolution by lanes and the 1x1 convolution of stride 1 that reads it.

        The second one's weights are packed to ``[K/T_O, C/B, B, T_O/B, B]``; a workgroup has all output channels of
        some rows.
        """
        block, t_o, rows = self.block, choice.knobs["t_o"], choice.knobs["rows"]
        c_blocks = shape.c_in // block
        lanes = self._channel_vectors(first.epilogue, c_blocks)
        before = hidden_rows(self, first, choice)
        second = (_ByStrassen if choice.knobs.get("strassen") else _BySums)(
            self, shape, weights, choice, epilogue, results
        )
        nest = _Nest(self, before, second, shape, choice)
        inputs = [first.data.value, make_constant(before.weights, self.element), *second.inputs, *lanes.values()]

        def emit(b: d.DispatchBody, bindings: Sequence[ir.Value], tile: Tile, slices: Slices) -> list[ir.Value]:
            data, pads = first.data, first.shape.pads
            offsets = [tile.image, 0, data.halo[0] - pads[0], data.halo[1] - pads[1], 0]
            sizes = [1, c_blocks, *before.window, block]
            x = b.load(bindings[0], offsets, sizes, sizes[1:])
            taps = b.load(bindings[1], [0] * before.weights.ndim, before.weights.shape, before.weights.shape)
            filters, rest = bindings[2 : 2 + len(second.inputs)], bindings[2 + len(second.inputs) :]
            sizes = [c_blocks, block]
            vectors = {key: b.load(value, [0, 0], sizes, sizes) for key, value in zip(lanes, rest, strict=True)}
            return nest.emit(x, taps, second.load(b, filters), vectors, slices, tile)

        return self.windowed(
            kind="separable",
            choice=choice,
            layer=layer,
            shape=(shape.batch, shape.c_out, shape.out_h, shape.out_w),
            unit=rows,
            scratch=nest.scratch(),
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
        self, frame: SeparableKernels, before: HiddenRows, second: _Second, shape: ConvShape, choice: Choice
    ) -> None:
        self.before, self.second, self.shape = before, second, shape
        self.rows, self.block = choice.knobs["rows"], frame.block
        self.c_blocks = shape.c_in // self.block

    def scratch(self) -> list[Sequence[int]]:
        """The shapes of the tensors that :meth:`emit` is lent: the hidden rows, and what both convolutions need."""
        hidden = [self.c_blocks, self.rows, self._room(), self.block]
        return [hidden, *self.before.scratch, *self.second.scratch]

    def _room(self) -> int:
        """Pixels of a row of the hidden result: a few more than there are where channel blocks, one behind the other,
        would evict each other from the cache."""

        def shared(width: int) -> int:
            return math.gcd(self.rows * width * self.block, 64 * _LINE)

        return min(range(self.shape.out_w, self.shape.out_w + 4), key=lambda width: (shared(width), width))

    def emit(
        self, x: ir.Value, taps: ir.Value, wt: Sequence[ir.Value], lanes: Lanes, slices: Slices, tile: Tile
    ) -> list[ir.Value]:
        """Some rows after the other."""
        own = 1 + len(self.before.scratch)

        def part(number: ir.Value, carried: list[ir.Value]) -> list[ir.Value]:
            outs, scratch = carried[: len(slices.outs)], carried[len(slices.outs) :]
            top = v.affine(ir.AffineExpr.get_dim(0) * self.rows, number)
            rows: v.Index = self.rows
            if self.shape.out_h % self.rows:  # the last part is shorter
                rows = v.affine_min([constant(rows), ir.AffineExpr.get_dim(0) * -1 + self.shape.out_h], top)
            scratch[:own] = self.before.emit(x, taps, lanes, scratch[:own], top, rows)
            outs, scratch[own:] = self.second.emit(scratch[0], wt, slices, outs, scratch[own:], top, rows)
            return [*outs, *scratch]

        parts: v.Range = -(-self.shape.out_h // self.rows) if tile.rows.units is None else tile.rows.units
        carried = v.loop(parts, [*slices.outs, *tile.scratch], part)
        tile.scratch[:] = carried[len(slices.outs) :]
        return carried[: len(slices.outs)]


class _Second(Protocol):
    """How the pointwise convolution is computed.

    Attributes:
        inputs: its weights.
        scratch: shapes of what :meth:`emit` is lent.
    """

    inputs: Sequence[ir.Value]
    scratch: Sequence[Sequence[int]]

    def load(self, b: d.DispatchBody, bindings: Sequence[ir.Value]) -> list[ir.Value]:
        """The weights in a workgroup."""

    def emit(
        self,
        hidden: ir.Value,
        wt: Sequence[ir.Value],
        slices: Slices,
        outs: list[ir.Value],
        scratch: list[ir.Value],
        top: ir.Value,
        rows: v.Index,
    ) -> tuple[list[ir.Value], list[ir.Value]]:
        """``rows`` rows of the results from row ``top``, from as many hidden ones. Returns results and scratch."""


class _ByStrassen:
    """By Strassen's algorithm; see :mod:`dlas.passes.strassen_kernels`."""

    def __init__(
        self,
        frame: SeparableKernels,
        shape: ConvShape,
        weights: np.ndarray,
        choice: Choice,
        epilogue: Epilogue,
        results: Sequence[ResultSpec],
    ) -> None:
        pair = 2 * choice.knobs["t_o"]
        self.weights = StrassenWeights(frame, weights, choice.knobs["t_o"], -(-shape.c_out // pair) * pair)
        plane = choice.knobs["rows"], shape.out_w
        self.nest = StrassenNest(frame, shape.c_in, plane, choice.knobs["strassen"], self.weights, epilogue, results)
        self.inputs: Sequence[ir.Value] = self.weights.values
        self.scratch: Sequence[Sequence[int]] = self.nest.scratch()

    def load(self, b: d.DispatchBody, bindings: Sequence[ir.Value]) -> list[ir.Value]:
        return self.weights.load(b, bindings, 0)

    def emit(
        self,
        hidden: ir.Value,
        wt: Sequence[ir.Value],
        slices: Slices,
        outs: list[ir.Value],
        scratch: list[ir.Value],
        top: ir.Value,
        rows: v.Index,
    ) -> tuple[list[ir.Value], list[ir.Value]]:
        return self.nest.emit(hidden, wt, replace(slices, outs=outs), Band(0, top, rows), scratch)


class _BySums:
    """A register tile after the other, by the schedule."""

    def __init__(
        self,
        frame: SeparableKernels,
        shape: ConvShape,
        weights: np.ndarray,
        choice: Choice,
        epilogue: Epilogue,
        results: Sequence[ResultSpec],
    ) -> None:
        self.frame, self.shape, self.epilogue, self.results = frame, shape, epilogue, results
        t_o, self.block = choice.knobs["t_o"], frame.block
        self.c_blocks, self.k_blocks = shape.c_in // self.block, t_o // self.block
        _, packed = pack_weights(shape, weights, 1, self.block, t_o)
        self.packed = np.ascontiguousarray(packed.reshape(-1, self.c_blocks, self.block, self.k_blocks, self.block))
        self.inputs: Sequence[ir.Value] = [make_constant(self.packed, frame.element)]
        self.scratch: Sequence[Sequence[int]] = []

    def load(self, b: d.DispatchBody, bindings: Sequence[ir.Value]) -> list[ir.Value]:
        return [b.load(bindings[0], [0] * self.packed.ndim, self.packed.shape, self.packed.shape)]

    def emit(
        self,
        hidden: ir.Value,
        wt: Sequence[ir.Value],
        slices: Slices,
        outs: list[ir.Value],
        scratch: list[ir.Value],
        top: ir.Value,
        rows: v.Index,
    ) -> tuple[list[ir.Value], list[ir.Value]]:
        def tile(number: ir.Value, outs: list[ir.Value]) -> list[ir.Value]:
            return self._tile(hidden, wt[0], slices, outs, number, top, rows)

        return v.loop(self.packed.shape[0], outs, tile), scratch

    def _tile(
        self,
        hidden: ir.Value,
        wt: ir.Value,
        slices: Slices,
        outs: list[ir.Value],
        number: ir.Value,
        top: ir.Value,
        rows: v.Index,
    ) -> list[ir.Value]:
        """The ``number``-th T_O channels of ``rows`` rows of the result from row ``top``."""
        d0 = ir.AffineExpr.get_dim(0)
        first = v.affine(d0 * self.k_blocks, number)
        width, block = self.shape.out_w, self.block
        place, sizes = [first, top, 0, 0], [self.k_blocks, rows, width, block]
        parts = [v.extract_slice(out, place, sizes) for out in outs]
        data = v.extract_slice(hidden, [0, 0, 0, 0], [self.c_blocks, rows, width, block])
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

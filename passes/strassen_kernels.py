"""Emit pointwise convolutions by Strassen's algorithm on the blocked layout: 7/8 of the multiply-adds, in one kernel.

The halves of :mod:`dlas.passes.strassen` are those of the input channels, of the output channels of two register tiles
side by side, and of twice M pixels one behind the other. Sums of inputs are made once for all output channels of a
workgroup; sums of products stay in the accumulators, or on the stack in level 1.

    for 2 M pixels (of whole rows, one row behind the other):
      for j < M: for c < C/2B:  V[q, c, j, :] = sums of x[c, j], x[C/2B + c, j], x[c, M + j], x[C/2B + c, M + j]
      for 2 T_O channels:
        acc[T_O/B][M] : vector<B> = 0
        for q < 3:  for c: for i:  acc[k][j] += splat(V[q, c, j, i]) * wt[q, c, i, k];   Q[q] = acc
        one product more:          out[its quadrant] = epilogue(acc)
        ... and so the other three products, from zero or what Q keeps, and quadrants
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial

import numpy as np
from iree.compiler import ir

from dlas.passes import dispatch as d
from dlas.passes import vectors as v
from dlas.passes.constants import make_constant
from dlas.passes.conv import ConvShape
from dlas.passes.kernel_frame import Blocked, Epilogue, KernelFrame, LoopNest, ResultSpec, Slices, Tile, constant, dims
from dlas.passes.lane_tail import UNROLL, LaneTail
from dlas.passes.packing import pack_strassen_weights
from dlas.passes.plan import Choice
from dlas.passes.strassen import FIRST, PLAIN, PRODUCTS, SECOND, THIRD, input_sums

Sums = list[list[ir.Value]]
"""Accumulators, by channel block and pixel."""


class StrassenKernels(KernelFrame):
    """The part of the emitter for Strassen's algorithm."""

    def strassen_conv(
        self,
        shape: ConvShape,
        data: Blocked,
        weights: np.ndarray,
        choice: Choice,
        layer: str,
        epilogue: Epilogue,
        results: Sequence[ResultSpec],
    ) -> list[Blocked]:
        """A pointwise convolution of stride 1 without groups; see :func:`pack_strassen_weights`."""
        knobs = choice.knobs
        filter_ = StrassenWeights(self, weights, knobs["t_o"], knobs["k_w"])
        nest = StrassenNest(self, shape.c_in, (shape.out_h, shape.out_w), knobs["pixels"], filter_, epilogue, results)

        def emit(b: d.DispatchBody, bindings: Sequence[ir.Value], tile: Tile, slices: Slices) -> list[ir.Value]:
            sizes = [1, nest.c_blocks, shape.in_h, shape.in_w, self.block]
            x = b.load(bindings[0], [tile.image, 0, data.halo[0], data.halo[1], 0], sizes, sizes[1:])
            rows = Band(tile.rows.first, tile.rows.first, tile.rows.count)
            outs, tile.scratch[:] = nest.emit(x, filter_.load(b, bindings[1:], tile.index), slices, rows, tile.scratch)
            return outs

        return self.windowed(
            kind=shape.kind,
            choice=choice,
            layer=layer,
            shape=(shape.batch, shape.c_out, shape.out_h, shape.out_w),
            unit=knobs["rows"],
            scratch=nest.scratch(),
            tile_blocks=knobs["k_w"] // self.block,
            root=LoopNest([data.value, *filter_.values], emit),
            epilogue=epilogue,
            results=results,
            extents={},
            flops=shape.flops,
        )


class StrassenWeights:
    """Packed weights, of which each workgroup reads those of its own output channels.

    Attributes:
        values: constants; the second one is of the channel block without a partner, if there is one.
        tiles: pairs of register tiles of a workgroup.
        vectors: channel blocks of a register tile.
    """

    def __init__(self, frame: KernelFrame, weights: np.ndarray, t_o: int, k_w: int) -> None:
        """``weights``: ``[K, C, 1, 1]``."""
        arrays = pack_strassen_weights(weights[:, :, 0, 0], frame.block, t_o, k_w)
        self.arrays = [array for array in arrays if array.size]
        self.values = [make_constant(array, frame.element) for array in self.arrays]
        self.tiles, self.vectors = k_w // (2 * t_o), t_o // frame.block

    def load(self, b: d.DispatchBody, bindings: Sequence[ir.Value], workgroup: ir.Value | int) -> list[ir.Value]:
        """The slices of a workgroup."""
        loaded = []
        for binding, array in zip(bindings, self.arrays, strict=False):
            sizes = [1, *array.shape[1:]]
            loaded.append(b.load(binding, [workgroup, *[0] * (array.ndim - 1)], sizes, sizes[1:]))
        return loaded


@dataclass(frozen=True)
class Band:
    """Rows of the result.

    Attributes:
        source, target: the first one's place in the input and in the results.
        count: how many there are.
    """

    source: v.Index
    target: v.Index
    count: v.Index


@dataclass(frozen=True)
class Left:
    """What the left operands of a pair of register tiles of pixels are read from.

    Attributes:
        x: the input; None where all operands are in V.
        sums: V.
        last: the channel block without a partner, if there is one.
        places: in the input, (row, column) of the first pixel of each tile.
    """

    x: ir.Value | None
    sums: ir.Value
    last: Sequence[ir.Value]
    places: Sequence[tuple[ir.Value, ir.Value]]


@dataclass
class StrassenNest(LaneTail):
    """The loops of one workgroup.

    Attributes:
        channels: of the input.
        plane: height and width of input and result.
        pixels: M, of a register tile.
        weights: what it multiplies by.
    """

    frame: KernelFrame
    channels: int
    plane: tuple[int, int]
    pixels: int
    weights: StrassenWeights
    epilogue: Epilogue
    results: Sequence[ResultSpec]

    def __post_init__(self) -> None:
        self.block, self.vectors, self.tiles = self.frame.block, self.weights.vectors, self.weights.tiles
        self.c_blocks = -(-self.channels // self.block)
        self.half, self.odd = divmod(self.c_blocks, 2)
        self.vector = ir.VectorType.get([self.block], self.frame.element)
        self.unroll = math.gcd(self.block, UNROLL)
        self.short = self.plane[0] * self.plane[1] < 2 * self.pixels
        self.in_rows = self.plane[1] % self.pixels == 0

    def scratch(self) -> list[list[int]]:
        """The shapes of the tensors that :meth:`emit` is lent: V, Q, and the channel block without a partner."""
        last = [[2, self.pixels, self.block]] * self.odd
        kept = [3, self.vectors, self.pixels, self.block]
        return [[len(self._copied), self.half, self.pixels, self.block], kept, *last]

    @property
    def _copied(self) -> Sequence[int]:
        """The products whose left operands are in V: register tiles that lie in a row are read where they are."""
        return [q for q in range(PRODUCTS) if not (self.in_rows and q in PLAIN)]

    def emit(
        self, x: ir.Value, weights: Sequence[ir.Value], slices: Slices, band: Band, scratch: Sequence[ir.Value]
    ) -> tuple[list[ir.Value], list[ir.Value]]:
        """All pixels of some rows, at least two register tiles, or all there are.

        Where they are no whole pairs of tiles, the last pair overlaps the one before.
        """
        d0, two = ir.AffineExpr.get_dim(0), 2 * self.pixels
        count = v.scaled(band.count, self.plane[1], 0)
        if isinstance(count, int):
            pairs: v.Range = -(-count // two)
        else:
            pairs = d.index_constant(0), v.affine(ir.AffineExpr.get_ceil_div(d0, two), count)

        def pair(number: ir.Value, carried: list[ir.Value]) -> list[ir.Value]:
            outs, (sums, kept, *last) = carried[: len(slices.outs)], carried[len(slices.outs) :]
            if isinstance(count, int):
                start = v.affine_min([d0 * two, constant(max(0, count - two))], number)
            else:
                start = v.affine_min([d0 * two, ir.AffineExpr.get_dim(1) - two], number, count)
            sums, last = self._input(x, sums, last, start, band)
            places = self._places(start, band)
            sources = [self._place(v.affine(d0 + half * self.pixels, start), band.source) for half in range(2)]

            def step(number: ir.Value, carried: list[ir.Value]) -> list[ir.Value]:
                *outs, kept = carried
                write = partial(self._write, slices, number, places)
                left = Left(x, sums, last, sources)
                return self._multiply(left, weights, number, kept, outs, write)

            *outs, kept = v.loop(self.tiles, [*outs, kept], step)
            return [*outs, sums, kept, *last]

        carried = v.loop(pairs, [*slices.outs, *scratch], pair)
        return carried[: len(slices.outs)], carried[len(slices.outs) :]

    def _place(self, pixel: ir.Value, first: v.Index) -> tuple[ir.Value, ir.Value]:
        """Row and column of a pixel of a band."""
        width, index = d.index_constant(self.plane[1]), ir.IndexType.get()
        row, column = (v.emit(name, [pixel, width], index) for name in ("arith.divui", "arith.remui"))
        if isinstance(first, int):
            return v.affine(ir.AffineExpr.get_dim(0) + first, row) if first else row, column
        return v.add(row, first), column

    def _input(
        self, x: ir.Value, sums: ir.Value, last: Sequence[ir.Value], start: ir.Value, band: Band
    ) -> tuple[ir.Value, list[ir.Value]]:
        """The left operands of the products."""
        d0, d1 = dims(0, 1)

        def column(j: ir.Value, carried: list[ir.Value]) -> list[ir.Value]:
            pixels = [v.affine(d0 + d1 + half * self.pixels, start, j) for half in range(2)]
            if self.short:  # behind the end comes the last pixel again
                end = constant(self.plane[0] * self.plane[1] - 1)
                pixels = [v.affine_min([d0, end], pixel) for pixel in pixels]
            places = [self._place(pixel, band.source) for pixel in pixels]

            def channels(c: ir.Value, carried: list[ir.Value]) -> list[ir.Value]:
                index, (written,) = v.Indices(), carried
                blocks = c, v.affine(d0 + self.half, c)
                quadrants = [self.read(x, [block, *place, 0], index) for place in places for block in blocks]
                values = input_sums(quadrants, v.VectorArithmetic(self.vector))
                for slot, q in enumerate(self._copied):
                    written = v.write(values[q], written, [slot, c, j, 0], index)
                return [written]

            written, *rest = carried
            written = v.loop(self.half, [written], channels)[0]
            index = v.Indices()
            for number, place in enumerate(places[: 2 * self.odd]):
                value = self.read(x, [self.c_blocks - 1, *place, 0], index)
                rest[0] = v.write(value, rest[0], [number, j, 0], index)
            return [written, *rest]

        written, *rest = v.loop(self.pixels, [sums, *last], column)
        return written, rest

    def _multiply(
        self,
        left: Left,
        weights: Sequence[ir.Value],
        number: ir.Value,
        kept: ir.Value,
        outs: list[ir.Value],
        write: Callable[[list[ir.Value], tuple[int, int], Sums], list[ir.Value]],
    ) -> list[ir.Value]:
        """The ``number``-th pair of register tiles."""
        zero = v.constant_vector(0.0, self.vector)
        zeros = [[zero] * self.pixels for _ in range(self.vectors)]

        def product(acc: Sums, q: int) -> Sums:
            def block(c: ir.Value, carried: list[ir.Value]) -> list[ir.Value]:
                if q in self._copied:
                    slot = self._copied.index(q)
                    operand = partial(self._splat, left.sums, lambda j, lane: [slot, c, j, lane])
                else:
                    pixel_half, channel_half = PLAIN[q]
                    assert left.x is not None
                    (row, column), d0 = left.places[pixel_half], ir.AffineExpr.get_dim(0)
                    place = v.plus(c, channel_half * self.half), row
                    operand = partial(self._splat, left.x, lambda j, lane: [*place, v.affine(d0 + j, column), lane])
                return self._flat(self._steps(operand, weights[0], [number, q], c, self._tile(carried)))

            return self._tile(v.loop(self.half, self._flat(acc), block))

        def finish(outs: list[ir.Value], quadrant: tuple[int, int], acc: Sums) -> list[ir.Value]:
            if self.odd:
                operand = partial(self._splat, left.last[0], lambda j, lane: [quadrant[0], j, lane])
                acc = self._steps(operand, weights[1], [number, quadrant[1]], None, acc)
            return write(outs, quadrant, acc)

        acc = zeros
        for slot, q in enumerate(FIRST[:-1]):
            acc = product(acc, q)
            kept = self._keep(acc, kept, slot)
        outs = finish(outs, (1, 0), product(acc, FIRST[-1]))
        outs = finish(outs, (0, 0), product(self._kept(kept, 0), SECOND))
        found = product(zeros, THIRD[0])
        kept = self._keep(self._added(found, kept, 1), kept, 1)
        outs = finish(outs, (1, 1), self._added(found, kept, 2))
        outs = finish(outs, (0, 1), product(self._kept(kept, 1), THIRD[1]))
        return [*outs, kept]

    def _splat(
        self,
        source: ir.Value,
        place: Callable[[int, ir.Value], Sequence[v.Index]],
        j: int,
        lane: ir.Value,
        index: v.Indices,
    ) -> ir.Value:
        return v.splat(source, place(j, lane), self.vector, index)

    def _steps(
        self,
        left: Callable[[int, ir.Value, v.Indices], ir.Value],
        right: ir.Value,
        weights: Sequence[v.Index],
        c: ir.Value | None,
        acc: Sums,
    ) -> Sums:
        """The multiply-adds of one channel block ``c`` of ``left(j, i) * right[weights, c * B + i, k]``."""
        d0, d1 = dims(0, 1)

        def part(number: ir.Value, carried: list[ir.Value]) -> list[ir.Value]:
            index, acc = v.Indices(), self._tile(carried)
            for i in range(self.unroll):
                lane = v.affine(d0 * self.unroll + i, number)
                row = lane if c is None else v.affine(d0 * self.block + d1, c, lane)
                values = [self.read(right, [*weights, row, k, 0], index) for k in range(self.vectors)]
                for j in range(self.pixels):
                    splat = left(j, lane, index)
                    for k, value in enumerate(values):
                        acc[k][j] = v.mark(v.emit("vector.fma", [splat, value, acc[k][j]], self.vector), "root")
            return self._flat(acc)

        return self._tile(v.loop(self.block // self.unroll, self._flat(acc), part))

    def _flat(self, acc: Sums) -> list[ir.Value]:
        return [value for line in acc for value in line]

    def _tile(self, values: Sequence[ir.Value]) -> Sums:
        return [list(values[k * self.pixels : (k + 1) * self.pixels]) for k in range(self.vectors)]

    def _keep(self, acc: Sums, products: ir.Value, slot: v.Index) -> ir.Value:
        index = v.Indices()
        for k, line in enumerate(acc):
            for j, value in enumerate(line):
                products = v.write(value, products, [slot, k, j, 0], index)
        return products

    def _kept(self, products: ir.Value, slot: v.Index) -> Sums:
        index = v.Indices()
        return [[self.read(products, [slot, k, j, 0], index) for j in range(self.pixels)] for k in range(self.vectors)]

    def _added(self, acc: Sums, products: ir.Value, slot: v.Index) -> Sums:
        kept = self._kept(products, slot)
        return [
            [v.emit("arith.addf", list(pair), self.vector) for pair in zip(*lines, strict=True)]
            for lines in zip(acc, kept, strict=True)
        ]

    def _places(self, start: ir.Value, band: Band) -> list[list[tuple[ir.Value, ir.Value]]]:
        """Rows and columns of the pixels of both halves."""
        d0 = ir.AffineExpr.get_dim(0)
        there = self.plane[0] * self.plane[1] if self.short else 2 * self.pixels
        places = [self._place(v.affine(d0 + j, start), band.target) for j in range(min(there, 2 * self.pixels))]
        return [places[: self.pixels], places[self.pixels :]]

    def _write(
        self,
        slices: Slices,
        number: ir.Value,
        places: list[list[tuple[ir.Value, ir.Value]]],
        outs: list[ir.Value],
        quadrant: tuple[int, int],
        acc: Sums,
    ) -> list[ir.Value]:
        """A quadrant through the epilogue, to its place."""
        d0 = ir.AffineExpr.get_dim(0)
        for k, line in enumerate(acc):
            index = v.Indices()
            block = v.affine(d0 * (2 * self.vectors) + (quadrant[1] * self.vectors + k), number)
            for value, place in zip(line, places[quadrant[0]], strict=False):
                outs = self.write_column([value], slices, outs, (block, *place), index)
        return outs

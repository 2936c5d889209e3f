"""Emit convolutions of stride 2 with few input channels in Winograd's domain, by the phases of their input.

A kernel of its own, ``polyphase_input``, pads the NCHW input and splits it so that the same column of neighbouring
tiles is side by side. A workgroup has some rows of tiles, and walks each a part at a time:

    for c, v:         L[a, j, t] = (B^T d)[a]                   v: parity of the rows; d: column j of tile t, lanes on t
      for u:          V[a, b, i, t] = (L B)[b]                  u: parity of the columns; i counts (c, v, u)
    for T_O channels:
      for a:          M[b, k, t] = sum over i of V[a, b, i, t] * U[a, b, i, k]           lanes on output channels again
                      R[k, a, t] = (M A)
      for k:          out[k, m x m] = epilogue(A^T R)
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial

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
    Rows,
    Slices,
    Tile,
    constant,
    dims,
    tensor_bytes,
)
from dlas.passes.lane_tail import LaneTail
from dlas.passes.plan import Choice
from dlas.passes.polyphase import PHASES, Polyphase

_EQUAL = 0  # arith's integer comparison


class PolyphaseKernels(KernelFrame):
    """The part of the emitter for convolutions of stride 2 by phases."""

    def polyphase_conv(
        self,
        shape: ConvShape,
        data: ir.Value,
        weights: np.ndarray,
        choice: Choice,
        layer: str,
        epilogue: Epilogue,
        results: Sequence[ResultSpec],
    ) -> list[Blocked]:
        """A convolution of stride 2; ``data`` is NCHW without its padding.

        Weights are transformed and packed to ``[K/T_O, alpha_h, alpha_w, 4*C, T_O/B, B]`` at compile time.
        """
        knobs = choice.knobs
        phases = Polyphase(shape, knobs["m"], knobs["tiles"], self.block)
        packed = phases.pack_weights(weights, knobs["t_o"])
        split = self._polyphase_input(phases, data, layer)
        nest = _Nest(self, phases, knobs["t_o"] // self.block, knobs["ow"], packed.shape[0], epilogue, results)

        def emit(b: d.DispatchBody, bindings: Sequence[ir.Value], tile: Tile, slices: Slices) -> list[ir.Value]:
            sizes = [1, *phases.input_shape[1:]]
            x = b.load(bindings[0], [tile.image, 0, 0, 0, 0], sizes, sizes[1:])
            wt = b.load(bindings[1], [0] * packed.ndim, packed.shape, packed.shape)
            outs, tile.scratch[:] = nest.emit(x, wt, slices, tile.rows, tile.scratch)
            return outs

        return self.windowed(
            kind=shape.kind,
            choice=choice,
            layer=layer,
            shape=(shape.batch, shape.c_out, shape.out_h, shape.out_w),
            unit=phases.m,
            scratch=phases.scratch(nest.k_blocks),
            tile_blocks=-(-shape.c_out // self.block),
            root=LoopNest([split, make_constant(packed, self.element)], emit),
            epilogue=epilogue,
            results=results,
            extents={"columns": shape.tiles(phases.m)[1], "blocks": -(-shape.c_out // self.block)},
            flops=shape.flops,
        )

    def _polyphase_input(self, phases: Polyphase, data: ir.Value, layer: str) -> ir.Value:
        """The padded input, ``[N, C, rows, step, tiles]``, by a kernel of its own."""
        shape, block = phases.shape, self.block
        m = phases.m
        choice = Choice("polyphase_input", {"m": m, "block": block}, f"for tiles of {m}x{m} outputs of stride {PHASES}")
        type_ = d.tensor_type(phases.input_shape, self.element)
        split = _Split(self, phases)

        def emit(b: d.DispatchBody, tile: Tile) -> None:
            sizes = [1, 1, shape.in_h, shape.in_w]
            x = b.load(b.inputs[0], [tile.image, tile.index, 0, 0], sizes, sizes[2:])
            place, sizes = [tile.image, tile.index, 0, 0, 0], [1, 1, *phases.input_shape[2:]]
            out = b.load(b.outputs[0], place, sizes, sizes[2:])
            rows = phases.input_shape[2] if tile.rows.units is None else tile.rows.units
            out, tile.scratch[0] = split.emit(x, out, tile.scratch[0], rows)
            b.store(out, b.outputs[0], place, sizes)

        made = self.dispatch(
            batch=shape.batch,
            tiles=shape.c_in,
            tile_blocks=1,
            height=phases.input_shape[2],
            inputs=[data],
            types=[type_],
            emit=emit,
            scratch=[[split.width]],
        )[0]
        moved = tensor_bytes(data.type) + tensor_bytes(type_)
        self.record(made.owner.operation, "transform", choice, layer, {}, 0, moved)
        return made


@dataclass
class _Split:
    """The kernel of the input's phases: a padded row in scratch, from which tiles are transposed in registers."""

    frame: PolyphaseKernels
    phases: Polyphase

    def __post_init__(self) -> None:
        self.block = self.frame.block
        self.vector = ir.VectorType.get([self.block], self.frame.element)
        self.step, self.tiles = self.phases.input_shape[3:]
        # A tile's columns are read by whole vectors.
        columns = (self.tiles - 1) * self.step + -(-self.step // self.block) * self.block
        self.width = -(-columns // self.block) * self.block

    def emit(self, x: ir.Value, out: ir.Value, line: ir.Value, rows: v.Range) -> list[ir.Value]:
        """Rows of one channel, to ``out[row, j, t]``; returns ``out`` and ``line``."""
        zero = v.constant_vector(0.0, self.vector)
        d0 = ir.AffineExpr.get_dim(0)

        def clear(number: ir.Value, carried: list[ir.Value]) -> list[ir.Value]:
            return [v.write(zero, carried[0], [v.affine(d0 * self.block, number)], v.Indices())]

        line = v.loop(self.width // self.block, [line], clear)[0]

        def row(y: ir.Value, carried: list[ir.Value]) -> list[ir.Value]:
            out, line = carried
            line = self._fill(x, line, y)
            return [self._transpose(line, out, y), line]

        return v.loop(rows, [out, line], row)

    def _fill(self, x: ir.Value, line: ir.Value, y: ir.Value) -> ir.Value:
        """Row ``y`` of the padded input; above and below the image zeros."""
        shape = self.phases.shape
        top, left = shape.pads[:2]
        d0 = ir.AffineExpr.get_dim(0)
        wanted = v.plus(y, -top)
        row = v.affine_max([constant(0), d0], v.affine_min([constant(shape.in_h - 1), d0], wanted))
        inside = ir.Operation.create(
            "arith.cmpi",
            results=[ir.IntegerType.get_signless(1)],
            operands=[row, wanted],
            attributes={"predicate": ir.IntegerAttr.get(ir.IntegerType.get_signless(64), _EQUAL)},
        ).result
        used = min(shape.in_w, self.width - left)
        vector = self.vector if used >= self.block else ir.VectorType.get([used], self.frame.element)
        zero = v.constant_vector(0.0, vector)
        padding = d.float_constant(0.0, self.frame.element)

        def copy(column: ir.Value, line: ir.Value) -> ir.Value:
            index = v.Indices()
            value = v.read(x, [row, column], vector, padding, index)
            value = ir.Operation.create("arith.select", results=[vector], operands=[inside, value, zero]).result
            return v.write(value, line, [v.plus(column, left)], index)

        def step(number: ir.Value, carried: list[ir.Value]) -> list[ir.Value]:
            return [copy(v.affine(d0 * self.block, number), carried[0])]

        if whole := used // self.block:
            line = v.loop(whole, [line], step)[0]
        if rest := used % self.block:  # the last vector may overlap the one before
            line = copy(d.index_constant(used - self.block if whole else used - rest), line)
        return line

    def _transpose(self, line: ir.Value, out: ir.Value, y: ir.Value) -> ir.Value:
        padding = d.float_constant(0.0, self.frame.element)
        d0 = ir.AffineExpr.get_dim(0)

        def tiles(number: ir.Value, carried: list[ir.Value]) -> list[ir.Value]:
            written, index = carried[0], v.Indices()
            first = v.affine(d0 * self.block, number)
            for part in range(0, self.step, self.block):
                columns = [
                    v.affine((d0 * self.block + t) * self.step + part, number) for t in range(self.block)
                ]  # of the same part of so many tiles
                lines = [v.read(line, [column], self.vector, padding, index) for column in columns]
                for j, value in enumerate(v.transpose(lines)[: self.step - part], part):
                    written = v.write(value, written, [y, j, first], index)
            return [v.mark(written, "transform")]

        return v.loop(self.tiles // self.block, [out], tiles)[0]


@dataclass
class _Nest(LaneTail):
    """The loops of a workgroup.

    Attributes:
        k_blocks: channel blocks of a register tile.
        ow: its tiles.
        k_tiles: register tiles of all channels.
    """

    frame: PolyphaseKernels
    phases: Polyphase
    k_blocks: int
    ow: int
    k_tiles: int
    epilogue: Epilogue
    results: Sequence[ResultSpec]

    def __post_init__(self) -> None:
        self.m, self.block = self.phases.m, self.frame.block
        self.vector = ir.VectorType.get([self.block], self.frame.element)
        self.arithmetic = v.VectorArithmetic(self.vector)

    def emit(
        self, x: ir.Value, wt: ir.Value, slices: Slices, band: Rows, scratch: Sequence[ir.Value]
    ) -> tuple[list[ir.Value], list[ir.Value]]:
        """The loops over rows of tiles; one that reaches over the lower edge has code of its own."""
        carried = [*slices.outs, *scratch]
        for first, rows, height in self._rows(band):
            step = partial(self._part, x, wt, slices, first, height)
            carried = v.loops([rows, self.phases.parts], carried, step)
        return carried[: len(slices.outs)], carried[len(slices.outs) :]

    def _rows(self, band: Rows) -> list[tuple[int, v.Range, int]]:
        """(first, range, outputs' rows) of whole rows of tiles, and of the one that is not whole."""
        whole, left = divmod(self.phases.shape.out_h, self.m)
        low: int | ir.Value = 0
        ranges: list[tuple[int, v.Range, int]]
        if band.units is None:
            ranges = [(0, whole, self.m), (whole, 1, left)]
            return [(first, range_, height) for first, range_, height in ranges if range_ and height]
        low, high = band.units
        number = ir.AffineExpr.get_dim(0)
        if not left:
            return [(0, (low, high), self.m)]
        last = v.affine_max([constant(0), number - whole], high)  # 1 in the last band
        ranges = [(whole, (d.index_constant(0), last), left)]
        if whole:
            ranges.insert(0, (0, (low, v.affine_min([number, constant(whole)], high)), self.m))
        return ranges

    def _part(
        self,
        x: ir.Value,
        wt: ir.Value,
        slices: Slices,
        first: int,
        height: int,
        r: ir.Value,
        part: ir.Value,
        carried: list[ir.Value],
    ) -> list[ir.Value]:
        """Part ``part`` of row of tiles ``first + r``."""
        phases, d0 = self.phases, ir.AffineExpr.get_dim(0)
        count = len(slices.outs)
        outs, (lines, transformed, products, sums) = carried[:count], carried[count:]
        columns = phases.shape.tiles(self.m)[1]
        start = v.affine_min([d0 * phases.tiles, constant(columns - phases.tiles)], part)
        row = v.plus(r, first)
        lines, transformed = self._transform_input(x, lines, transformed, (row, start))
        wide = v.affine_min([constant(phases.tiles * self.m), d0 * -self.m + phases.shape.out_w], start)

        def channels(number: ir.Value, carried: list[ir.Value]) -> list[ir.Value]:
            outs, (products, sums) = carried[:count], carried[count:]

            def points(a: ir.Value, carried: list[ir.Value]) -> list[ir.Value]:
                products = self._multiply(transformed, wt, carried[0], (number, a))
                return [products, self._transform_rows(products, carried[1], a)]

            products, sums = v.loop(phases.rows.alpha, [products, sums], points)
            place = number, v.affine(d0 * self.m, row), v.affine(d0 * self.m, start)
            outs = self._transform_columns(sums, slices, outs, place, (height, wide))
            return [*outs, products, sums]

        rest = v.loop(self.k_tiles, [*outs, products, sums], channels)
        return [*rest[:count], lines, transformed, *rest[count:]]

    def _transform_input(
        self, x: ir.Value, lines: ir.Value, transformed: ir.Value, origin: tuple[ir.Value, ir.Value]
    ) -> list[ir.Value]:
        """``B^T d B`` of the tiles from ``origin`` (row of tiles, column of tiles), phase by phase."""
        phases = self.phases
        d0, d1, d2 = dims(0, 1, 2)
        row, start = origin

        def phase(c: ir.Value, parity: ir.Value, carried: list[ir.Value]) -> list[ir.Value]:
            lines, transformed = carried
            top = v.affine(d0 * phases.step + d1, row, parity)

            def down(j: ir.Value, number: ir.Value, carried: list[ir.Value]) -> list[ir.Value]:
                index, written = v.Indices(), carried[0]
                tile, column = v.affine(d0 * self.block, number), v.affine(d0 * self.block + d1, number, start)
                rows = [v.plus(top, PHASES * p) for p in range(phases.rows.alpha)]
                inputs = [self.read(x, [c, y, j, column], index) for y in rows]
                for a, value in enumerate(phases.rows.input(inputs, self.arithmetic)):
                    written = v.write(value, written, [a, j, tile], index)
                return [written]

            lines = v.loops([phases.step, phases.vectors_read], [lines], down)[0]

            def along(a: ir.Value, number: ir.Value, carried: list[ir.Value]) -> list[ir.Value]:
                index, written = v.Indices(), carried[0]
                tile = v.affine(d0 * self.block, number)
                for u in range(PHASES):
                    channel = v.affine((d0 * PHASES + d1) * PHASES + u, c, parity)
                    inputs = []
                    for q in range(phases.columns.alpha):
                        further, j = divmod(PHASES * q + u, phases.step)
                        inputs.append(self.read(lines, [a, j, v.plus(tile, further)], index))
                    for b, value in enumerate(phases.columns.input(inputs, self.arithmetic)):
                        written = v.write(value, written, [a, b, channel, tile], index)
                return [written]

            transformed = v.loops([phases.rows.alpha, phases.vectors], [transformed], along)[0]
            return [lines, transformed]

        return v.loops([phases.shape.c_in, PHASES], [lines, transformed], phase)

    def _multiply(
        self, transformed: ir.Value, wt: ir.Value, products: ir.Value, place: tuple[ir.Value, ir.Value]
    ) -> ir.Value:
        """The products of a row of points with the channels of a register tile, each summed in registers."""
        number, a = place
        whole, rest = divmod(self.phases.tiles, self.ow)
        d0 = ir.AffineExpr.get_dim(0)

        def tile(b: ir.Value, which: ir.Value, carried: list[ir.Value], count: int) -> list[ir.Value]:
            written, index, first = carried[0], v.Indices(), v.affine(d0 * self.ow, which)
            at = [v.plus(first, t) for t in range(count)]
            sums: list[list[ir.Value]] = []
            for i in range(self.phases.channels):
                weights = [self.read(wt, [number, a, b, i, k, 0], index) for k in range(self.k_blocks)]
                inputs = [v.splat(transformed, [a, b, i, t], self.vector, index) for t in at]
                if not sums:
                    sums = [[v.emit("arith.mulf", [x, weight], self.vector) for x in inputs] for weight in weights]
                    continue
                sums = [
                    [
                        v.mark(v.emit("vector.fma", [x, weight, sum_], self.vector), "root")
                        for x, sum_ in zip(inputs, row, strict=True)
                    ]
                    for weight, row in zip(weights, sums, strict=True)
                ]
            for k, row in enumerate(sums):
                for t, value in zip(at, row, strict=True):
                    written = v.write(value, written, [b, k, t, 0], index)
            return [written]

        # Two register tiles in the body of one loop would share their weights, and spill their accumulators.
        points = self.phases.columns.alpha
        if whole:
            products = v.loops([points, whole], [products], partial(tile, count=self.ow))[0]
        if rest:
            last = d.index_constant(whole)
            products = v.loop(points, [products], lambda b, carried: tile(b, last, carried, rest))[0]
        return products

    def _transform_rows(self, products: ir.Value, sums: ir.Value, a: ir.Value) -> ir.Value:
        """Row ``a`` of ``M A`` of a part's tiles."""
        d0 = ir.AffineExpr.get_dim(0)
        filtering = self.phases.columns

        def tile(k: ir.Value, t: ir.Value, carried: list[ir.Value]) -> list[ir.Value]:
            index, written = v.Indices(), carried[0]
            values = [self.read(products, [b, k, t, 0], index) for b in range(filtering.alpha)]
            for q, value in enumerate(filtering.output(values, self.arithmetic)):
                written = v.write(value, written, [k, a, v.affine(d0 * self.m + q, t), 0], index)
            return [written]

        return v.loops([self.k_blocks, self.phases.tiles], [sums], tile)[0]

    def _transform_columns(
        self,
        sums: ir.Value,
        slices: Slices,
        outs: Sequence[ir.Value],
        place: tuple[ir.Value, ir.Value, ir.Value],
        extent: tuple[int, ir.Value],
    ) -> list[ir.Value]:
        """The first ``extent`` outputs of ``A^T (M A)``, through the epilogue, to ``place`` (number, top, left)."""
        number, top, left = place
        d0, d1 = dims(0, 1)
        filtering = self.phases.rows

        def block(k: ir.Value, outs: list[ir.Value]) -> list[ir.Value]:
            channel = v.affine(d0 * self.k_blocks + d1, number, k)

            def column(z: ir.Value, outs: list[ir.Value]) -> list[ir.Value]:
                index, at = v.Indices(), v.add(left, z)
                values = [self.read(sums, [k, a, z, 0], index) for a in range(filtering.alpha)]
                outputs = filtering.output(values, self.arithmetic)
                return self.write_column(outputs[: extent[0]], slices, outs, (channel, top, at), index)

            return v.loop((d.index_constant(0), extent[1]), outs, column)

        return v.loop(self.k_blocks, list(outs), block)

"""The loops over tiles of Winograd's domain, one channel block at a time, that several kernels share."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial

from iree.compiler import ir

from dlas.passes import dispatch as d
from dlas.passes import vectors as v
from dlas.passes.conv import ConvShape
from dlas.passes.kernel_frame import Epilogue, KernelFrame, ResultSpec, Rows, Slices, constant, dims
from dlas.passes.lane_tail import LaneTail
from dlas.passes.packing import NEAR
from dlas.passes.plan import Choice
from dlas.passes.winograd import input_1d, output_1d


@dataclass
class Tiles(LaneTail):
    """What all kernels do with tiles of (m + 2)^2 inputs and m^2 outputs of one channel block.

    A transform of two dimensions is two loops over one, with a row of tiles in a tensor of lines between them: unrolled
    into one, its values would not fit the registers, and neighbours share the columns that their inputs overlap in.

    ``scaled``: the weights lack the factors of the filter transform, which the output's transform makes up for.
    """

    scaled = False

    frame: KernelFrame
    shape: ConvShape
    choice: Choice
    epilogue: Epilogue
    results: Sequence[ResultSpec]

    def __post_init__(self) -> None:
        self.m = self.choice.knobs["m"]
        self.block = self.frame.block
        self.alpha = self.m + 2
        self.tile_rows, self.tile_columns = self.shape.tiles(self.m)
        self.vector = ir.VectorType.get([self.block], self.frame.element)

    def lines_in(self, columns: int, blocks: int = 1) -> list[int]:
        """The shape of a row of tiles, of some channel blocks, whose inputs are transformed along columns."""
        return [blocks, self.alpha, columns * self.m + 2, self.block]

    def lines_out(self, columns: int) -> list[int]:
        """The shape of a row of tiles whose products are transformed along rows."""
        return [self.alpha, columns * self.m, self.block]

    def transform_columns(
        self, x: ir.Value, lines: ir.Value, number: ir.Value, place: tuple[ir.Value, ir.Value, ir.Value]
    ) -> ir.Value:
        """``B^T d`` of a row of tiles whose first input is at ``place`` (block, top, left), to ``lines[number]``."""
        block, top, left = place
        d0, d1 = dims(0, 1)

        def body(z: ir.Value, carried: list[ir.Value]) -> list[ir.Value]:
            index, column = v.Indices(), v.affine(d0 + d1, left, z)
            rows = [v.affine(d0 + p, top) for p in range(self.alpha)]
            inputs = [self.read(x, [block, row, column, 0], index) for row in rows]
            written = carried[0]
            for a, value in enumerate(input_1d(self.m, inputs, v.VectorArithmetic(self.vector))):
                written = v.write(value, written, [number, a, z, 0], index)
            return [written]

        return v.loop(ir.ShapedType(lines.type).shape[2], [lines], body)[0]

    def transform_row(
        self, lines: ir.Value, number: ir.Value, a: ir.Value, tile: ir.Value, index: v.Indices
    ) -> list[ir.Value]:
        """Row ``a`` of ``B^T d B`` of a tile, from :meth:`transform_columns`."""
        d0 = ir.AffineExpr.get_dim(0)
        columns = [v.affine(d0 * self.m + q, tile) for q in range(self.alpha)]
        inputs = [self.read(lines, [number, a, z, 0], index) for z in columns]
        return input_1d(self.m, inputs, v.VectorArithmetic(self.vector))

    def transform_all(
        self,
        x: ir.Value,
        target: ir.Value,
        lines: ir.Value,
        ranges: tuple[v.Range, int, int],
        origin: tuple[ir.Value, ir.Value, ir.Value],
    ) -> list[ir.Value]:
        """The tiles of so many rows, columns and channel blocks, to ``target[p, tile, c*B : +B]``.

        As many channel blocks are written side by side as ``lines`` has room for: whole lines of the cache.
        ``origin`` is the place of the first input: (block, row, column). Returns ``target`` and ``lines``.
        """
        d0, d1 = dims(0, 1)
        rows, columns, blocks = ranges
        first, y, left = origin
        run = ir.ShapedType(lines.type).shape[0]

        def row(r: ir.Value, c: ir.Value, carried: list[ir.Value]) -> list[ir.Value]:
            target, lines = carried
            top = v.affine(d0 * self.m + d1, r, y)

            def transform(number: ir.Value, carried: list[ir.Value]) -> list[ir.Value]:
                block = v.affine(d0 * run + d1 + ir.AffineExpr.get_dim(2), c, number, first)
                return [self.transform_columns(x, carried[0], number, (block, top, left))]

            lines = v.loop(run, [lines], transform)[0]

            def body(t: ir.Value, a: ir.Value, number: ir.Value, carried: list[ir.Value]) -> list[ir.Value]:
                index, written = v.Indices(), carried[0]
                tile = v.affine(d0 * columns + d1, r, t)
                lane = v.affine((d0 * run + d1) * self.block, c, number)
                for b, value in enumerate(self.transform_row(lines, number, a, t, index)):
                    written = v.write(value, written, [v.affine(d0 * self.alpha + b, a), tile, lane], index)
                return [v.mark(written, "transform")]

            return [*v.loops([columns, self.alpha, run], [target], body), lines]

        return v.loops([rows, blocks // run], [target, lines], row)

    def output_row(self, products: Sequence[ir.Value], lines: ir.Value, a: ir.Value, tile: ir.Value) -> ir.Value:
        """Row ``a`` of ``M A`` of a tile."""
        d0, index = ir.AffineExpr.get_dim(0), v.Indices()
        for q, value in enumerate(output_1d(self.m, products, v.VectorArithmetic(self.vector), scaled=self.scaled)):
            lines = v.write(value, lines, [a, v.affine(d0 * self.m + q, tile), 0], index)
        return lines

    def output_columns(
        self,
        lines: ir.Value,
        slices: Slices,
        outs: Sequence[ir.Value],
        place: tuple[ir.Value, ir.Value, ir.Value],
        extent: tuple[int, v.Range],
    ) -> list[ir.Value]:
        """The first ``extent`` outputs of ``A^T (M A)`` of a row of tiles, through the epilogue, to ``place``."""
        block, top, left = place
        d0, d1 = dims(0, 1)

        def body(z: ir.Value, outs: list[ir.Value]) -> list[ir.Value]:
            index, column = v.Indices(), v.affine(d0 + d1, left, z)
            values = [self.read(lines, [a, z, 0], index) for a in range(self.alpha)]
            outputs = output_1d(self.m, values, v.VectorArithmetic(self.vector), scaled=self.scaled)
            return self.write_column(outputs[: extent[0]], slices, outs, (block, top, column), index)

        return v.loop(extent[1], outs, body)


@dataclass
class LaneNest(Tiles):
    """Every lane reads the lanes of its own group only; ``role``: ``dlas.role`` of the products."""

    role: str = "root"

    def scratch(self) -> list[list[int]]:
        """The shapes of the tensors that :meth:`emit` is lent."""
        return [self.lines_in(self.tile_columns), self.lines_out(self.tile_columns)]

    def emit(
        self, x: ir.Value, wt: ir.Value, slices: Slices, band: Rows, scratch: Sequence[ir.Value]
    ) -> tuple[list[ir.Value], list[ir.Value]]:
        """The loops over rows of tiles; those that reach over the lower edge have code of their own."""
        carried = [*slices.outs, *scratch]
        for top, rows, height in _rows(self.shape.out_h, self.m, band):
            carried = v.loop(rows, carried, partial(self._row, x, wt, slices, top, height))
        return carried[: len(slices.outs)], carried[len(slices.outs) :]

    def _row(
        self, x: ir.Value, wt: ir.Value, slices: Slices, first: int, height: int, r: ir.Value, carried: list[ir.Value]
    ) -> list[ir.Value]:
        zero = d.index_constant(0)
        place = zero, v.affine(ir.AffineExpr.get_dim(0) * self.m + first, r), zero
        return self.tile_row(x, wt, slices, carried, place, place, (height, self.shape.out_w))

    def tile_row(
        self,
        x: ir.Value,
        wt: ir.Value,
        slices: Slices,
        carried: Sequence[ir.Value],
        source: tuple[ir.Value, ir.Value, ir.Value],
        target: tuple[ir.Value, ir.Value, ir.Value],
        extent: tuple[int, v.Range],
    ) -> list[ir.Value]:
        """A row of as many tiles as the scratch holds, of one channel block.

        Args:
            x, wt: the input, and the transformed weights of the block.
            slices: what the epilogue reads.
            carried: the results and the scratch.
            source, target: the place of the first input and of the first output, (block, row, column).
            extent: the outputs that there are, of a column and of a row.
        """
        *outs, lines, sums = carried
        d0, zero = ir.AffineExpr.get_dim(0), d.index_constant(0)
        columns = ir.ShapedType(sums.type).shape[1] // self.m
        lines = self.transform_columns(x, lines, zero, source)

        def body(t: ir.Value, a: ir.Value, carried: list[ir.Value]) -> list[ir.Value]:
            index = v.Indices()
            products = [
                self._product(value, wt, v.affine(d0 * self.alpha + b, a), index)
                for b, value in enumerate(self.transform_row(lines, zero, a, t, index))
            ]
            return [self.output_row(products, carried[0], a, t)]

        sums = v.loops([columns, self.alpha], [sums], body)[0]
        outs = self.output_columns(sums, slices, outs, target, extent)
        return [*outs, lines, sums]

    def _product(self, value: ir.Value, wt: ir.Value, point: ir.Value, index: v.Indices) -> ir.Value:
        """Over the channels of each lane's group; see :func:`dlas.passes.packing.pack_winograd_lanes`.

        ``sum of S[far][lane xor far]`` of ``S[far][lane] = sum of value[lane xor near] * U[point, far + near, lane]``.
        """
        per_group = self.shape.c_per_group
        values = [self._across(value, near) for near in range(min(per_group, NEAR))]
        total: ir.Value | None = None
        for far in range(0, per_group, NEAR):
            part = v.emit("arith.mulf", [value, self.read(wt, [point, far, 0], index)], self.vector)
            for near, lanes in list(enumerate(values))[1:]:
                weights = self.read(wt, [point, far + near, 0], index)
                part = v.mark(v.emit("vector.fma", [lanes, weights, part], self.vector), self.role)
            total = part if total is None else v.emit("arith.addf", [total, self._across(part, far)], self.vector)
        assert total is not None
        return total

    def _across(self, value: ir.Value, distance: int) -> ir.Value:
        """In each lane what ``value`` has in lane ``lane xor distance``."""
        return v.shuffle(value, [lane ^ distance for lane in range(self.block)]) if distance else value


def _parts(extent: int, step: int) -> list[tuple[int, int, int]]:
    """(start, count, size) of the whole steps of an extent, and of what is left."""
    whole, left = divmod(extent, step)
    return [part for part in ((0, whole, step), (whole * step, 1, left)) if part[1] and part[2]]


def _rows(extent: int, step: int, band: Rows) -> list[tuple[int, v.Range, int]]:
    """The parts of a column, and which of them are in a band of ``step`` pixels each."""
    parts: list[tuple[int, v.Range, int]] = []
    for start, count, size in _parts(extent, step):
        if band.units is None:
            parts.append((start, count, size))
            continue
        low, high = band.units
        if start == 0:  # from the band's first to its last, or to the last whole one
            whole = low, high
            if extent % step:
                whole = low, v.affine_min([ir.AffineExpr.get_dim(0), constant(count)], high)
            parts.append((start, whole, size))
        else:  # what is left, in the last band
            before = start // step
            left = v.affine_max([constant(0), ir.AffineExpr.get_dim(0) - before], high)
            parts.append((start, (d.index_constant(0), left), size))
    return parts

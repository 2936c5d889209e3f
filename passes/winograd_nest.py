"""The loops of a workgroup of winograd_conv: tiles into Winograd's domain, products, and back."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import partial

from iree.compiler import ir

from dlas.passes import dispatch as d
from dlas.passes import vectors as v
from dlas.passes.kernel_frame import Rows, Slices, constant, dims
from dlas.passes.lane_tail import UNROLL
from dlas.passes.planar import LINE
from dlas.passes.winograd import prefetch_distance, side_by_side, spread_tiles
from dlas.passes.winograd_tiles import Tiles


@dataclass
class WinogradNest(Tiles):
    """The loops of one workgroup.

    Attributes:
        filter_shape: of its weights.
        first: the place of the first of them.
        later: those of all workgroups, to prefetch; None: nothing is.
        matrix, step: how many of them a point and ``depth`` channels, and a step of a register tile, have.
        turns: register tiles that read the same of them.
        ahead: how far ahead of those that are read prefetches are.
    """

    filter_shape: Sequence[int]  # K_W/T_O, C_PG/depth, points, depth, T_O/B, B
    first: ir.Value = field(init=False)
    later: ir.Value | None = field(init=False, default=None)

    def __post_init__(self) -> None:
        super().__post_init__()
        knobs = self.choice.knobs
        self.k_tiles, self.depths, *_, self.k_blocks, _ = self.filter_shape
        self.points, self.depth = self.alpha**2, knobs["depth"] // self.block
        self.staged = bool(knobs.get("staged"))
        self.c_blocks = self.depths * self.depth
        self.unroll = math.gcd(self.block, UNROLL)
        self.matrix = knobs["depth"] * self.k_blocks * self.block
        self.step = self.unroll * self.k_blocks * self.block
        self.turns = -(-knobs["rows"] * knobs["columns"] // knobs["ow"])
        self.ahead = prefetch_distance(4 * math.prod(self.filter_shape)) // 4

    def scratch(self) -> list[list[int]]:
        """The shapes of the tensors that :meth:`emit` is lent: products, and the transformed input if it makes it."""
        rows, columns = self.choice.knobs["rows"], self.choice.knobs["columns"]
        tiles, width = rows * columns, self.depth * self.block
        room = spread_tiles(self.m, tiles, self.k_blocks * self.block)
        shapes = [self.lines_out(columns), [self.points, self.k_blocks, room, self.block]]
        if not self.staged:
            shapes += [
                self.lines_in(columns, side_by_side(self.depth)),
                [self.points, spread_tiles(self.m, tiles, width), width],
            ]
        return shapes

    def emit(
        self, x: ir.Value, wt: ir.Value, slices: Slices, band: Rows, scratch: Sequence[ir.Value]
    ) -> tuple[list[ir.Value], list[ir.Value]]:
        """The loops over parts of the result. All have as many tiles; at the edges, these have fewer pixels."""
        rows, columns = self.choice.knobs["rows"], self.choice.knobs["columns"]
        d0, d1 = dims(0, 1)
        parts: v.Range = self.tile_rows // rows if band.units is None else band.units

        def step(r: ir.Value, c: ir.Value, carried: list[ir.Value]) -> list[ir.Value]:
            first = v.affine(d0 * (rows * self.tile_columns) + d1 * columns, r, c)
            top, left = v.affine(d0 * (rows * self.m), r), v.affine(d0 * (columns * self.m), c)
            part = Part(rows, columns, first, top, left, self._whole_rows(r, parts), self._width(left))
            return self._step(x, wt, slices, carried, part)

        carried = v.loops([parts, self.tile_columns // columns], [*slices.outs, *scratch], step)
        return carried[: len(slices.outs)], carried[len(slices.outs) :]

    def _whole_rows(self, number: ir.Value, parts: v.Range) -> v.Index:
        """How many rows of tiles of a part do not reach over the lower edge: all, or all but the last one."""
        rows = self.choice.knobs["rows"]
        if self.shape.out_h % self.m == 0:
            return rows
        if parts == 1:
            return rows - 1
        left = ir.AffineExpr.get_dim(0) * -rows + self.shape.out_h // self.m
        return v.affine_min([constant(rows), left], number)

    def _width(self, left: ir.Value) -> v.Range:
        """The pixels of a part's row."""
        width = self.choice.knobs["columns"] * self.m
        if self.shape.out_w % width == 0:
            return width
        if self.shape.out_w < width:
            return self.shape.out_w
        there = v.affine_min([constant(width), ir.AffineExpr.get_dim(0) * -1 + self.shape.out_w], left)
        return d.index_constant(0), there

    def _step(self, x: ir.Value, wt: ir.Value, slices: Slices, carried: list[ir.Value], part: Part) -> list[ir.Value]:
        outs, scratch = carried[: len(slices.outs)], carried[len(slices.outs) :]
        zero = d.index_constant(0)
        rows, columns = part.rows, part.columns
        tiles = rows * columns

        def transform(first: ir.Value, lines: ir.Value, target: ir.Value) -> list[ir.Value]:
            origin = first, part.top, part.left
            return self.transform_all(x, target, lines, (rows, columns, self.depth), origin)[::-1]

        def multiply(data: ir.Value, products: ir.Value, number: ir.Value, depth: ir.Value) -> ir.Value:
            channels = self.depth * self.block
            place: list[v.Index] = [0, 0, 0]
            if self.staged:
                place[:2] = v.affine(ir.AffineExpr.get_dim(0) * self.points, depth), part.first
            data = v.extract_slice(data, place, [self.points, tiles, channels])
            return self._multiply(data, wt, products, number, depth, tiles)

        if not self.staged and self.depths == 1:
            scratch[2:] = transform(zero, *scratch[2:])

        def channels(number: ir.Value, carried: list[ir.Value]) -> list[ir.Value]:
            outs, (lines, buffer, *rest) = carried[: len(slices.outs)], carried[len(slices.outs) :]
            sizes = [self.points, self.k_blocks, tiles, self.block]
            products = v.extract_slice(buffer, [0, 0, 0, 0], sizes)
            if self.depths == 1:
                products = multiply(x if self.staged else rest[1], products, number, zero)
            else:

                def deeper(depth: ir.Value, carried: list[ir.Value]) -> list[ir.Value]:
                    if self.staged:
                        return [multiply(x, carried[0], number, depth)]
                    first = v.affine(ir.AffineExpr.get_dim(0) * self.depth, depth)
                    rest = transform(first, *carried[1:])
                    return [multiply(rest[1], carried[0], number, depth), *rest]

                # The sums start from zero before the loop over depths.
                products, *rest = v.loop(self.depths, [self._zeros(products), *rest], deeper)
            buffer = v.insert_slice(products, buffer, [0, 0, 0, 0], sizes)
            k = v.affine(ir.AffineExpr.get_dim(0) * self.k_blocks, number)
            return [*self._transform_output(buffer, slices, [*outs, lines], k, part), buffer, *rest]

        return v.loop(self.k_tiles, [*outs, *scratch], channels)

    def _zeros(self, products: ir.Value) -> ir.Value:
        zero, role = d.float_constant(0.0, self.frame.element), {"dlas.role": ir.StringAttr.get("init")}
        return d.generic([], [products], [d.affine_map(4, dims(0, 1, 2, 3))], "pppp", lambda _: [zero], role)[0]

    def _multiply(
        self, data: ir.Value, wt: ir.Value, products: ir.Value, number: ir.Value, depth: ir.Value, tiles: int
    ) -> ir.Value:
        """Adds the products of the ``depth``-th input channels, for register tile ``number``."""
        ow = min(self.choice.knobs["ow"], tiles)
        whole, rest = divmod(tiles, ow)
        d0, d1 = dims(0, 1)

        def point(p: ir.Value, carried: list[ir.Value]) -> list[ir.Value]:
            place = (d0 * self.depths + d1) * self.points + ir.AffineExpr.get_dim(2)
            first = v.affine(place * self.matrix + ir.AffineExpr.get_dim(3), number, depth, p, self.first)

            def several(t: ir.Value, carried: list[ir.Value]) -> list[ir.Value]:
                return [self._register_tile(data, wt, carried[0], p, first, v.affine(d0 * ow, t), t, ow)]

            carried = v.loop(whole, carried, several)
            if rest:
                last, tile = d.index_constant(whole), d.index_constant(whole * ow)
                carried = [self._register_tile(data, wt, carried[0], p, first, tile, last, rest)]
            return carried

        return v.loop(self.points, [products], point)[0]

    def _register_tile(
        self,
        data: ir.Value,
        wt: ir.Value,
        products: ir.Value,
        p: ir.Value,
        first: ir.Value,
        tile: ir.Value,
        turn: ir.Value,
        width: int,
    ) -> ir.Value:
        """The ``turn``-th register tile of a point: ``width`` tiles from ``tile`` on, weights from ``first`` on."""
        d0, d1 = dims(0, 1)
        t_o, index = self.k_blocks * self.block, v.Indices()
        places = [(k, v.affine(d0 + j, tile)) for k in range(self.k_blocks) for j in range(width)]
        if self.depths == 1:
            sums = [v.constant_vector(0.0, self.vector)] * len(places)
        else:
            sums = [self.read(products, [p, k, t, 0], index) for k, t in places]

        def step(number: ir.Value, carried: list[ir.Value]) -> list[ir.Value]:
            index, acc = v.Indices(), list(carried)
            self._prefetch(v.affine(d0 + d1 * self.step, first, number), turn)
            for i in range(self.unroll):
                channel = v.affine(d0 * self.unroll + i, number)
                row = v.affine(d0 + d1 * t_o, first, channel)
                values = [self.read(wt, [v.plus(row, k * self.block)], index) for k in range(self.k_blocks)]
                for j in range(width):
                    splat = v.splat(data, [p, v.affine(d0 + j, tile), channel], self.vector, index)
                    for k, value in enumerate(values):
                        at = k * width + j
                        acc[at] = v.mark(v.emit("vector.fma", [splat, value, acc[at]], self.vector), "root")
            return acc

        for (k, t), value in zip(places, v.loop(self.depth * self.block // self.unroll, sums, step), strict=True):
            products = v.write(value, products, [p, k, t, 0], index)
        return products

    def _prefetch(self, place: ir.Value, turn: ir.Value) -> None:
        """This turn's share of the lines that lie ``ahead`` of a step's; behind the last weights there is that line."""
        if self.later is None:
            return
        share = -(-self.step // (LINE * self.turns))
        d0, d1 = dims(0, 1)
        last = constant(ir.ShapedType(self.later.type).shape[0] - 1)
        for i in range(share):
            line = d0 + d1 * (share * LINE) + (self.ahead + i * LINE)
            v.prefetch(self.later, v.affine_min([line, last], place, turn))

    def _transform_output(
        self, products: ir.Value, slices: Slices, carried: list[ir.Value], k: ir.Value, part: Part
    ) -> list[ir.Value]:
        """The part's rows of tiles through the epilogue; one that reaches over the lower edge has code of its own.

        ``carried`` are the results and the lines.
        """
        d0, d1 = dims(0, 1)

        def row(r: ir.Value, c: ir.Value, carried: list[ir.Value], height: int) -> list[ir.Value]:
            *outs, lines = carried

            def body(t: ir.Value, a: ir.Value, carried: list[ir.Value]) -> list[ir.Value]:
                index = v.Indices()
                tile = v.affine(d0 * part.columns + d1, r, t)
                points = [v.affine(d0 * self.alpha + b, a) for b in range(self.alpha)]
                values = [self.read(products, [point, c, tile, 0], index) for point in points]
                return [self.output_row(values, carried[0], a, t)]

            lines = v.loops([part.columns, self.alpha], [lines], body)[0]
            place = v.affine(d0 + d1, c, k), v.affine(d0 * self.m + d1, r, part.top), part.left
            return [*self.output_columns(lines, slices, outs, place, (height, part.width)), lines]

        whole = part.whole
        if whole != 0:
            rows: v.Range = whole if isinstance(whole, int) else (d.index_constant(0), whole)
            carried = v.loops([rows, self.k_blocks], carried, partial(row, height=self.m))
        if whole != part.rows:
            index = v.Indices()
            rest = index(whole), index(part.rows)
            carried = v.loops([rest, self.k_blocks], carried, partial(row, height=self.shape.out_h % self.m))
        return carried


@dataclass(frozen=True)
class Part:
    """A part of the result.

    Attributes:
        rows, columns: of tiles.
        first: number of its first tile.
        top, left: its place, in pixels.
        whole: rows of tiles that do not reach over the lower edge.
        width: pixels of a row.
    """

    rows: int
    columns: int
    first: ir.Value
    top: ir.Value
    left: ir.Value
    whole: v.Index
    width: v.Range

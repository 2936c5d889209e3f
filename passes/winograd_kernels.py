"""Emit 3x3 convolutions in Winograd's domain on the blocked layout, groups included: one kernel, nothing in memory.

A workgroup computes some channel blocks of one group. It walks the result a part at a time, so that the transformed
input and the products stay in the core's own cache.

    for rows x columns of tiles, and (where not all fit) ``depth`` input channels:
      for tile, c:      V[p, tile, c*B : +B] = (B^T d B)[p]                    p counts the (m + 2)^2 points
      for T_O channels of the workgroup:
        for p:          M[p, k, tile, o] = sum over i of V[p, tile, i] * U[p, i, k, o]      (``root``)
        for tile, k:    out[k, m x m] = epilogue(A^T M A)
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import partial
from typing import Any

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
    multiply_add,
)
from dlas.passes.packing import pack_winograd_lanes, pack_winograd_weights
from dlas.passes.plan import Choice
from dlas.passes.winograd import input_1d, output_1d, transform_2d


class WinogradKernels(KernelFrame):
    """The part of the emitter for Winograd's domain."""

    def winograd_conv(
        self,
        shape: ConvShape,
        data: Blocked,
        weights: np.ndarray,
        choice: Choice,
        layer: str,
        epilogue: Epilogue,
        results: Sequence[ResultSpec],
    ) -> list[Blocked]:
        """A 3x3 convolution of stride 1; ``data`` has the halo of :meth:`ConvShape.tile_pads`.

        Weights are transformed and packed to ``[g * K_PG/K_W, K_W/T_O, C_PG/depth, (m + 2)^2, depth, T_O/B, B]`` at
        compile time, K_W being the channels of a workgroup.
        """
        block, knobs = self.block, choice.knobs
        sizes = (knobs[name] for name in ("merge", "block", "m", "depth", "t_o", "k_w"))
        packed = pack_winograd_weights(shape, weights, *sizes)
        filter_ = make_constant(packed, self.element)
        tiles_per_group = packed.shape[0] // (shape.groups // knobs["merge"])
        nest = _Nest(self, shape, choice, epilogue, results, packed.shape[1:])

        def emit(b: d.DispatchBody, bindings: Sequence[ir.Value], tile: Tile, slices: Slices) -> list[ir.Value]:
            first = b.affine(
                ir.AffineExpr.get_floor_div(ir.AffineExpr.get_dim(0), tiles_per_group) * nest.c_blocks, tile.index
            )
            offsets = [tile.image, first, data.halo[0] - shape.pads[0], data.halo[1] - shape.pads[1], 0]
            sizes = [1, nest.c_blocks, nest.tile_rows * nest.m + 2, nest.tile_columns * nest.m + 2, block]
            x = b.load(bindings[0], offsets, sizes, sizes[1:])
            wt_sizes = [1, *packed.shape[1:]]
            wt = b.load(bindings[1], [tile.index, 0, 0, 0, 0, 0, 0], wt_sizes, wt_sizes[1:])
            return nest.emit(x, wt, slices, tile.rows)

        return self.windowed(
            kind=shape.kind,
            choice=choice,
            layer=layer,
            shape=(shape.batch, shape.c_out, shape.out_h, shape.out_w),
            unit=knobs["rows"] * nest.m,
            scratch=True,
            tile_blocks=knobs["k_w"] // block,
            root=LoopNest([data.value, filter_], emit),
            epilogue=epilogue,
            results=results,
            extents={"rows": nest.tile_rows, "columns": nest.tile_columns, "depths": nest.depths},
            flops=shape.flops,
        )

    def winograd_lane_conv(
        self,
        shape: ConvShape,
        data: Blocked,
        weights: np.ndarray,
        choice: Choice,
        layer: str,
        epilogue: Epilogue,
        results: Sequence[ResultSpec],
    ) -> list[Blocked]:
        """The same for groups that divide a block: lanes read the channels of their group by shuffles.

        Weights are transformed and packed to ``[C/B, (m + 2)^2, C_PG, B]``.
        """
        block, per_group = self.block, shape.c_per_group
        filter_ = make_constant(pack_winograd_lanes(weights, block, choice.knobs["m"]), self.element)
        nest = _LaneNest(self, shape, choice, epilogue, results)

        def emit(b: d.DispatchBody, bindings: Sequence[ir.Value], tile: Tile, slices: Slices) -> list[ir.Value]:
            offsets = [tile.image, tile.block, data.halo[0] - shape.pads[0], data.halo[1] - shape.pads[1], 0]
            sizes = [1, 1, nest.tile_rows * nest.m + 2, nest.tile_columns * nest.m + 2, block]
            x = b.load(bindings[0], offsets, sizes, sizes[1:])
            wt_sizes = [1, (nest.m + 2) ** 2, per_group, block]
            wt = b.load(bindings[1], [tile.block, 0, 0, 0], wt_sizes, wt_sizes[1:])
            return nest.emit(x, wt, slices, tile.rows)

        return self.windowed(
            kind=shape.kind,
            choice=choice,
            layer=layer,
            shape=(shape.batch, shape.c_out, shape.out_h, shape.out_w),
            unit=nest.m,
            tile_blocks=1,
            root=LoopNest([data.value, filter_], emit),
            epilogue=epilogue,
            results=results,
            extents={},
            flops=shape.flops,
        )


@dataclass
class _Tiles:
    """What both kernels do with a tile of (m + 2)^2 inputs and m^2 outputs of one channel block."""

    frame: WinogradKernels
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

    def read(self, value: ir.Value, place: Sequence[v.Index], index: v.Indices) -> ir.Value:
        """A vector of lanes."""
        return v.read(value, place, self.vector, d.float_constant(0.0, self.frame.element), index)

    def transform_in(
        self, x: ir.Value, block: ir.Value, top: ir.Value, left: ir.Value, index: v.Indices
    ) -> list[list[ir.Value]]:
        """``B^T d B`` of the tile whose first input is at (block, top, left)."""
        d0 = ir.AffineExpr.get_dim(0)
        rows = [v.affine(d0 + p, top) for p in range(self.alpha)]
        columns = [v.affine(d0 + q, left) for q in range(self.alpha)]
        inputs = [[self.read(x, [block, y, z, 0], index) for z in columns] for y in rows]
        return transform_2d(input_1d, self.m, inputs, _Vectors(self.vector))

    def transform_out(
        self,
        points: list[list[ir.Value]],
        slices: Slices,
        outs: Sequence[ir.Value],
        place: tuple[ir.Value, ir.Value, ir.Value],
        extent: tuple[int, int],
        index: v.Indices,
    ) -> list[ir.Value]:
        """The first ``extent`` outputs of ``A^T M A``, through the epilogue, to ``place``: (block, top, left)."""
        block, top, left = place
        d0 = ir.AffineExpr.get_dim(0)
        epilogue = self.epilogue
        identity = d.affine_map(4, dims(0, 1, 2, 3))
        outputs = transform_2d(output_1d, self.m, points, _Vectors(self.vector))
        lanes = {key: self.read(value, [block, 0], index) for key, value in slices.lanes.items()}
        outs = list(outs)
        columns = [v.affine(d0 + q, left) for q in range(extent[1])]
        for p in range(extent[0]):
            row = v.affine(d0 + p, top)
            for q, column in enumerate(columns):
                pixel = [block, row, column, 0]
                values = [outputs[p][q]]
                if epilogue.ops:
                    known = {
                        key: self.read(value, pixel if map_ == identity else [block, 0], index)
                        for key, (value, map_) in slices.sources.items()
                    }
                    if epilogue.source is not None:
                        known[epilogue.source] = outputs[p][q]
                    values = self.frame.apply_epilogue(epilogue, known, lanes, self.results)
                outs = [v.write(value, out, pixel, index) for value, out in zip(values, outs, strict=True)]
        return outs


class _LaneNest(_Tiles):
    """Every lane reads the lanes of its own group only: a tile never leaves the registers (and the spills)."""

    def emit(self, x: ir.Value, wt: ir.Value, slices: Slices, band: Rows) -> list[ir.Value]:
        """The loops over tiles; those that reach over an edge have code of their own."""
        outs = list(slices.outs)
        for top, rows, height in _rows(self.shape.out_h, self.m, band):
            for left, columns, width in _parts(self.shape.out_w, self.m):
                body = partial(self._tile, x, wt, slices, (top, left), (height, width))
                outs = v.loops([rows, columns], outs, body)
        return outs

    def _tile(
        self,
        x: ir.Value,
        wt: ir.Value,
        slices: Slices,
        corner: tuple[int, int],
        extent: tuple[int, int],
        r: ir.Value,
        t: ir.Value,
        outs: list[ir.Value],
    ) -> list[ir.Value]:
        d0 = ir.AffineExpr.get_dim(0)
        index = v.Indices()
        top, left = v.affine(d0 * self.m + corner[0], r), v.affine(d0 * self.m + corner[1], t)
        block = d.index_constant(0)
        points = self.transform_in(x, block, top, left, index)
        products = [
            [self._product(value, wt, a * self.alpha + b, index) for b, value in enumerate(row)]
            for a, row in enumerate(points)
        ]
        return self.transform_out(products, slices, outs, (block, top, left), extent, index)

    def _product(self, value: ir.Value, wt: ir.Value, point: int, index: v.Indices) -> ir.Value:
        """Over the channels i of each lane's group: ``sum of value[group(lane)*C_PG + i] * U[point, i, lane]``."""
        per_group = self.shape.c_per_group
        total: ir.Value | None = None
        for i in range(per_group):
            lanes = v.shuffle(value, [lane // per_group * per_group + i for lane in range(self.block)])
            weights = self.read(wt, [point, i, 0], index)
            if total is None:
                total = v.emit("arith.mulf", [lanes, weights], self.vector)
            else:
                total = v.emit("vector.fma", [lanes, weights, total], self.vector)
                total.owner.attributes["dlas.role"] = ir.StringAttr.get("root")  # carries the kernel's identity
        assert total is not None
        return total


@dataclass
class _Nest(_Tiles):
    filter_shape: Sequence[int]  # K_W/T_O, C_PG/depth, points, depth, T_O/B, B

    def __post_init__(self) -> None:
        super().__post_init__()
        self.k_tiles, self.depths, self.points, channels, self.k_blocks, _ = self.filter_shape
        self.depth = channels // self.block
        self.c_blocks = self.depths * self.depth

    def emit(self, x: ir.Value, wt: ir.Value, slices: Slices, band: Rows) -> list[ir.Value]:
        """The loops over parts of the result: whole ones, then what is left at the right and at the bottom.

        The two scratch tensors are carried through all of them: carried, they are one buffer each.
        """
        rows, columns = self.choice.knobs["rows"], self.choice.knobs["columns"]
        height, width = rows * self.m, columns * self.m
        element, tiles = self.frame.element, rows * columns
        carried = [
            *slices.outs,
            d.empty([self.points, tiles, self.depth * self.block], element),
            d.empty([self.points, self.k_blocks, tiles, self.block], element),
        ]
        d0 = ir.AffineExpr.get_dim(0)
        for top, down, part_height in _rows(self.shape.out_h, height, band):
            for left, along, part_width in _parts(self.shape.out_w, width):

                def step(r: ir.Value, c: ir.Value, carried: list[ir.Value], part: _Part) -> list[ir.Value]:
                    top, left = v.affine(d0 * height + part.top, r), v.affine(d0 * width + part.left, c)
                    return self._step(x, wt, slices, carried, replace(part, top=top, left=left))

                part = _Part(top, left, part_height, part_width)
                carried = v.loops([down, along], carried, partial(step, part=part))
        return carried[:-2]

    def _step(self, x: ir.Value, wt: ir.Value, slices: Slices, carried: list[ir.Value], part: _Part) -> list[ir.Value]:
        *outs, scratch, products = carried
        zero = d.index_constant(0)
        if self.depths == 1:
            scratch = self._transform_input(x, scratch, part, zero)

        def channels(number: ir.Value, carried: list[ir.Value]) -> list[ir.Value]:
            *outs, scratch, products = carried
            if self.depths == 1:
                products = self._multiply(scratch, wt, self._zeros(products), number, zero)
            else:

                def deeper(depth: ir.Value, carried: list[ir.Value]) -> list[ir.Value]:
                    first = v.affine(ir.AffineExpr.get_dim(0) * self.depth, depth)
                    scratch = self._transform_input(x, carried[0], part, first)
                    return [scratch, self._multiply(scratch, wt, carried[1], number, depth)]

                scratch, products = v.loop(self.depths, [scratch, self._zeros(products)], deeper)
            k = v.affine(ir.AffineExpr.get_dim(0) * self.k_blocks, number)
            return [*self._transform_output(products, slices, outs, k, part), scratch, products]

        return v.loop(self.k_tiles, [*outs, scratch, products], channels)

    def _zeros(self, products: ir.Value) -> ir.Value:
        return d.fill(d.float_constant(0.0, self.frame.element), products, "init")

    def _multiply(
        self, data: ir.Value, wt: ir.Value, products: ir.Value, number: ir.Value, depth: ir.Value
    ) -> ir.Value:
        """Adds the products of the ``depth``-th input channels, for register tile ``number``."""
        shape = self.filter_shape[2:]
        filter_ = v.extract_slice(wt, [number, depth, 0, 0, 0, 0], [1, 1, *shape], shape)
        p, k, t, o, i = dims(*range(5))
        return d.generic(
            [data, filter_],
            [products],
            [d.affine_map(5, [p, t, i]), d.affine_map(5, [p, i, k, o]), d.affine_map(5, [p, k, t, o])],
            "ppppr",
            multiply_add,
            {"dlas.role": ir.StringAttr.get("root")},
        )[0]

    def _transform_input(self, x: ir.Value, scratch: ir.Value, part: _Part, first: ir.Value) -> ir.Value:
        d0, d1 = dims(0, 1)
        rows, columns = part.tiles(self.m)

        def body(r: ir.Value, t: ir.Value, c: ir.Value, carried: list[ir.Value]) -> list[ir.Value]:
            index = v.Indices()
            top, left = v.affine(d0 * self.m + d1, r, part.top), v.affine(d0 * self.m + d1, t, part.left)
            points = self.transform_in(x, v.affine(d0 + d1, c, first), top, left, index)
            tile, lane = v.affine(d0 * columns + d1, r, t), v.affine(d0 * self.block, c)
            target = carried[0]
            for a, values in enumerate(points):
                for b, value in enumerate(values):
                    target = v.write(value, target, [a * self.alpha + b, tile, lane], index)
            return [target]

        return v.loops([rows, columns, self.depth], [scratch], body)[0]

    def _transform_output(
        self, products: ir.Value, slices: Slices, outs: list[ir.Value], k: ir.Value, part: _Part
    ) -> list[ir.Value]:
        """The part's tiles through the epilogue; those that reach over an edge of it have code of their own."""
        for row, rows, height in _parts(part.height, self.m):
            for column, columns, width in _parts(part.width, self.m):
                body = partial(self._output_tile, products, slices, k, part, (row, column), (height, width))
                outs = v.loops([rows, columns, self.k_blocks], outs, body)
        return outs

    def _output_tile(
        self,
        products: ir.Value,
        slices: Slices,
        k: ir.Value,
        part: _Part,
        corner: tuple[int, int],
        extent: tuple[int, int],
        r: ir.Value,
        t: ir.Value,
        c: ir.Value,
        outs: list[ir.Value],
    ) -> list[ir.Value]:
        """A tile counted from ``corner`` of the part, of which ``extent`` outputs are in the result."""
        d0, d1 = dims(0, 1)
        index = v.Indices()
        row, column = corner[0] // self.m, corner[1] // self.m
        tile = v.affine((d0 + row) * part.tiles(self.m)[1] + d1 + column, r, t)
        points = [
            [self.read(products, [a * self.alpha + b, c, tile, 0], index) for b in range(self.alpha)]
            for a in range(self.alpha)
        ]
        top = v.affine(d0 * self.m + d1 + corner[0], r, part.top)
        left = v.affine(d0 * self.m + d1 + corner[1], t, part.left)
        return self.transform_out(points, slices, outs, (v.affine(d0 + d1, c, k), top, left), extent, index)


@dataclass(frozen=True)
class _Part:
    """A part of the result, in pixels; ``top`` and ``left`` are values inside the loops."""

    top: Any
    left: Any
    height: int
    width: int

    def tiles(self, m: int) -> tuple[int, int]:
        return -(-self.height // m), -(-self.width // m)


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


class _Vectors:
    """:class:`dlas.passes.winograd.Arithmetic` that emits vector ops."""

    def __init__(self, vector: ir.VectorType) -> None:
        self.vector = vector
        self.factors: dict[float, ir.Value] = {}

    def add(self, x: ir.Value, y: ir.Value) -> ir.Value:
        return v.emit("arith.addf", [x, y], self.vector)

    def sub(self, x: ir.Value, y: ir.Value) -> ir.Value:
        return v.emit("arith.subf", [x, y], self.vector)

    def fma(self, factor: float, x: ir.Value, y: ir.Value) -> ir.Value:
        if factor not in self.factors:
            self.factors[factor] = v.constant_vector(factor, self.vector)
        return v.emit("vector.fma", [self.factors[factor], x, y], self.vector)

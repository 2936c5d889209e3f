"""Emit sparse convolutions on the planar layout (:mod:`dlas.passes.planar`).

A workgroup has some output channels and one register tile of pixels, consecutive vectors of the plane. The non-zeros
of an output channel are walked once: each is one load of an offset, one broadcast of its value, and a multiply-add per
vector whose other operand comes straight from memory.

    for chunk of input channels: for k:
      acc[V] : vector<B>
      for j in row (chunk, k):  acc[v] += splat(values[j]) * x[offsets[j] + tile + v*B : +B]
      out[k, tile + v*B : +B] = epilogue(acc[v])                                            after the last chunk

Variants differ in what ``x`` is:

    direct  the planes, where they are
    shift   a copy of the planes per column of the kernel, shifted by it, so that every vector is aligned
    pack    im2col of the chunk and the tile, in the workgroup's scratch: x[c, tap, :] = plane[c, tap + tile : +V*B]
    tile    the planes cut into tiles with their halo, [tiles, C, V*B + halo], by a kernel of its own

Of *tile*, where all that a workgroup reads is in one piece, each row can also prefetch its share of the lines of a tile
that comes ``prefetch`` tiles later:

    for k:  for i < lines / rows: prefetch x[tile + prefetch, LINE * (row * (lines / rows) + i)];  acc = ...
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
from dlas.passes.kernel_frame import Epilogue, ResultSpec, tensor_bytes
from dlas.passes.plan import Choice
from dlas.passes.planar import LINE, Csr, Phases, Planar, Plane, RegisterTile, compress
from dlas.passes.planar_kernels import Place, PlanarKernels, Source, Tail
from dlas.passes.reshape import reshape_collapse


class SparseKernels(PlanarKernels):
    """The part of the emitter for convolutions of pruned weights."""

    def sparse_conv(
        self,
        shape: ConvShape,
        data: Planar | tuple[ir.Value, Phases],
        weights: np.ndarray,
        choice: Choice,
        layer: str,
        epilogue: Epilogue,
        planes: dict[ir.Value, Planar],
        results: Sequence[ResultSpec],
        out: Plane,
    ) -> list[Planar]:
        """A convolution by the non-zeros of its weights.

        Args:
            data: the input: in place, or split by the strides.
            planes: tensors that the epilogue reads, by the value they stand for, all of geometry ``out``.
            results: what to write; those with a halo get zeros around their pixels.
            out: geometry of the results.
        """
        register = RegisterTile.of(out.pixels, self.block, choice.knobs["accumulators"])
        tail = Tail(self, out, register.count, register.cover, epilogue, results)
        source = Source.of(shape, data)
        if choice.knobs.get("tile"):
            source = self._tiled(source, tail, register, layer)
        panel = _Panel.of(shape, source, choice.knobs["channels"], register.vectors * self.block)
        packed = bool(choice.knobs.get("pack"))
        csr = compress(shape, weights, choice.knobs["channels"], panel.places if packed else source.places(shape.c_in))
        elements = source.planes * source.size
        distance = choice.knobs.get("prefetch", 0)
        ahead = _Ahead.of(shape, register.count, elements, csr.chunks, distance) if distance else None
        nest = _Nest(tail, shape, csr, register.vectors, panel if packed else None, ahead, in_tiles=source.tiled)
        groups = [[0], [1], [2, 3]] if source.tiled else [[0], [1, 2]]
        x_shape = [shape.batch, *([register.count] if source.tiled else []), elements]
        x_value = reshape_collapse(source.value, x_shape, groups)
        constants = [make_constant(array, kind) for array, kind in nest.constants()]

        def emit(b: d.DispatchBody, bound: list[ir.Value], place: Place, outs: list[ir.Value]) -> list[ir.Value]:
            start = [place.image, *([place.tile] if source.tiled else []), 0]
            x = b.load(bound[0], start, [1] * (len(start) - 1) + [elements], [elements])
            sizes = [[int(ir.ShapedType(value.type).shape[0])] for value in constants]
            loaded = [b.load(binding, [0], size, size) for binding, size in zip(bound[1:], sizes, strict=True)]
            later = None if ahead is None else ahead.load(b, bound[0], place)
            return nest.emit(x, later, loaded, place, outs)

        result_shape = (shape.batch, shape.c_out, shape.out_h, shape.out_w)
        values = self.planar_dispatch(tail, result_shape, choice.knobs["k_w"], [x_value, *constants], planes, emit)
        inputs = values[0].owner.operation.operands
        moved = sum(tensor_bytes(value.type) for value in (*list(inputs)[1:], *values))
        operations = 2 * csr.values.size * shape.batch * shape.out_h * shape.out_w
        extents = {"vectors": register.vectors, "tiles": register.count, "chunks": csr.chunks}
        self.record(values[0].owner.operation, "sparse", choice, layer, extents, operations, moved)
        return [Planar(value, result_shape, out) for value in values]

    def _tiled(self, source: Source, tail: Tail, register: RegisterTile, layer: str) -> Source:
        """The input cut into the tiles of pixels, with what their taps reach beyond them."""
        pixels = register.vectors * self.block
        within = [place for _, place in source.taps]
        low = min(within)
        reach = max(within) - low + pixels
        size = -(-reach // self.block) * self.block
        batch = ir.ShapedType(source.value.type).shape[0]
        type = d.tensor_type([batch, register.count, source.planes, size], self.element)

        def body(b: d.DispatchBody) -> None:
            dim = ir.AffineExpr.get_dim(0)
            image = b.affine(ir.AffineExpr.get_floor_div(dim, register.count)) if batch > 1 else 0
            tile = b.affine(ir.AffineExpr.get_mod(dim, register.count))
            planes = [source.planes, source.size]
            x = b.load(b.inputs[0], [image, 0, 0], [1, *planes], planes)
            place, sizes = [image, tile, 0, 0], [1, 1, source.planes, size]
            out = b.load(b.outputs[0], place, sizes, sizes[2:])
            base = tail.base(tile, pixels)

            def plane(number: ir.Value, carried: list[ir.Value]) -> list[ir.Value]:
                index, target = v.Indices(), carried[0]
                for start in sorted({min(i, reach - self.block) for i in range(0, reach, self.block)}):
                    value = tail.read(x, [number, v.affine(dim + (low + start), base)], index)
                    target = v.write(v.mark(value, "epilogue"), target, [number, start], index)
                return [target]

            b.store(v.loop(source.planes, [out], plane)[0], b.outputs[0], place, sizes)

        value = d.create_dispatch(batch * register.count, [source.value], [type], body)[0]
        moved = tensor_bytes(source.value.type) + tensor_bytes(type)
        copy = Choice("row_copy", {"ow": self.block, "block": self.block}, "whole vectors of a tile")
        self.record(value.owner.operation, "tiles", copy, layer, {}, 0, moved)
        return Source(value, source.planes, size, [(plane, place - low) for plane, place in source.taps], True)


@dataclass(frozen=True)
class _Panel:
    """The scratch of *pack*: a row of pixels for each input channel of a chunk and tap.

    Attributes:
        rows: number of rows.
        pixels: of a row.
        columns: ``[groups * chunks * rows]``: where each row comes from.
        places: ``[C, taps]``: where the row of a channel and tap is.
    """

    rows: int
    pixels: int
    columns: np.ndarray
    places: np.ndarray

    @classmethod
    def of(cls, shape: ConvShape, source: Source, channels: int, pixels: int) -> _Panel:
        taps, per_group = shape.k_h * shape.k_w, shape.c_per_group
        chunks = -(-per_group // channels)
        # The last chunk may have fewer channels: it copies the last one again.
        channel = np.minimum(np.arange(chunks * channels), per_group - 1)
        all_channels = np.arange(shape.groups)[:, None] * per_group + channel
        rows = (np.arange(shape.c_in) % per_group % channels)[:, None] * taps + np.arange(taps)
        columns = source.places(shape.c_in)[all_channels.reshape(-1)].reshape(-1)
        return cls(channels * taps, pixels, columns, rows * pixels)


@dataclass(frozen=True)
class _Ahead:
    """The lines of a later tile that each row of the CSR prefetches.

    Attributes:
        distance: tiles from the workgroup's own, those of the next image behind the last one's.
        images, tiles: their numbers.
        elements: of a tile.
        lines: of a row.
    """

    distance: int
    images: int
    tiles: int
    elements: int
    lines: int

    @classmethod
    def of(cls, shape: ConvShape, tiles: int, elements: int, chunks: int, distance: int) -> _Ahead:
        lines = -(-elements // (LINE * chunks * shape.c_out))
        return cls(distance, shape.batch, tiles, elements, lines)

    def load(self, b: d.DispatchBody, binding: ir.Value, place: Place) -> ir.Value:
        """The tile, as a buffer; behind the last one there is that one."""
        d0, d1 = (ir.AffineExpr.get_dim(i) for i in range(2))
        last = ir.AffineExpr.get_constant(self.images * self.tiles - 1)
        if isinstance(place.image, int):
            start: list[v.Index] = [place.image, v.affine_min([d0 + self.distance, last], place.tile)]
        else:
            number = v.affine_min([d0 * self.tiles + d1 + self.distance, last], place.image, place.tile)
            of_number = (ir.AffineExpr.get_floor_div(d0, self.tiles), ir.AffineExpr.get_mod(d0, self.tiles))
            start = [v.affine(expression, number) for expression in of_number]
        return v.buffer(b.load(binding, [*start, 0], [1, 1, self.elements], [self.elements]))

    def emit(self, tile: ir.Value, row: ir.Value) -> None:
        """The prefetches of a row; where rows are more than enough, the last ones ask for the last line again."""
        d0, last = ir.AffineExpr.get_dim(0), ir.AffineExpr.get_constant(self.elements - 1)
        for i in range(self.lines):
            v.prefetch(tile, v.affine_min([d0 * (LINE * self.lines) + LINE * i, last], row))


class _Nest:
    """The loops of one workgroup of :meth:`SparseKernels.sparse_conv`, up to its tail."""

    def __init__(
        self,
        tail: Tail,
        shape: ConvShape,
        csr: Csr,
        vectors: int,
        panel: _Panel | None,
        ahead: _Ahead | None,
        *,
        in_tiles: bool,
    ) -> None:
        self.tail, self.shape, self.csr, self.vectors, self.panel = tail, shape, csr, vectors, panel
        self.ahead, self.in_tiles = ahead, in_tiles
        self.vector, self.block, self.element = tail.vector, tail.frame.block, tail.frame.element

    def constants(self) -> list[tuple[np.ndarray, ir.Type]]:
        """Positions, offsets and values, and where the panel comes from."""
        integer = ir.IntegerType.get_signless(32)
        csr = self.csr
        # IREE has no tensors without elements.
        offsets = csr.offsets if csr.offsets.size else np.zeros(1, np.int32)
        values = csr.values if csr.values.size else np.zeros(1, np.float32)
        columns = [] if self.panel is None else [(self.panel.columns.astype(np.int32), integer)]
        return [(csr.positions, integer), (offsets, integer), (values, self.element), *columns]

    def emit(
        self,
        x: ir.Value,
        later: ir.Value | None,
        constants: Sequence[ir.Value],
        place: Place,
        outs: list[ir.Value],
    ) -> list[ir.Value]:
        """All chunks of the workgroup's channels; ``later``: of which tile rows prefetch lines."""
        self.x, self.later, self.first = x, later, place.first
        self.positions, self.offsets, self.values, *self.columns = constants
        pixels = self.vectors * self.block
        self.base = self.tail.base(place.tile, pixels)
        self.origin: ir.Value | None = None if self.in_tiles else self.base
        chunks = self.csr.chunks
        # The sums between chunks: tiles overlap at the end of a plane, and their results are other workgroups', too.
        scratch = [d.empty([place.k_w, pixels], self.element)] if chunks > 1 else []
        panel = [] if self.panel is None else [d.empty([self.panel.rows * self.panel.pixels], self.element)]
        carried = [*panel, *scratch, *outs]
        # The first chunk starts from zero and the last has the epilogue.
        for number, count in [(0, 1), (1, chunks - 2), (chunks - 1, 1)] if chunks > 1 else [(0, 1)]:
            if not count:
                continue

            def chunk(c: ir.Value, carried: list[ir.Value], number: int = number) -> list[ir.Value]:
                index = v.affine(ir.AffineExpr.get_dim(0) + number, c)
                filled = [self._fill(x, index, self.panel, value) for value in carried[: len(panel)] if self.panel]
                if filled:
                    self.x, self.origin = filled[0], None
                row = partial(self._row, index, number == 0, number == chunks - 1)
                return [*filled, *v.loop(place.k_w, carried[len(panel) :], row)]

            carried = v.loop(count, carried, chunk)
        return carried[len(panel) + len(scratch) :]

    def _fill(self, x: ir.Value, chunk: ir.Value, panel: _Panel, target: ir.Value) -> ir.Value:
        """Im2col of a chunk for the tile."""
        d0, d1, d2 = (ir.AffineExpr.get_dim(i) for i in range(3))
        group = ir.AffineExpr.get_floor_div(d0, self.shape.k_per_group)
        first = v.affine((group * self.csr.chunks + d1) * panel.rows, self.first, chunk)

        def row(r: ir.Value, carried: list[ir.Value]) -> list[ir.Value]:
            index, target = v.Indices(), carried[0]
            start = self._integer(self.columns[0], v.add(first, r))
            start = start if self.in_tiles else v.add(start, self.base)
            for i in range(0, panel.pixels, self.block):
                value = self.tail.read(x, [v.affine(d0 + i, start)], index)
                target = v.write(value, target, [v.affine(d0 * panel.pixels + i, r)], index)
            return [target]

        return v.loop(panel.rows, [target], row)[0]

    def _row(self, chunk: ir.Value, start: bool, end: bool, k: ir.Value, carried: list[ir.Value]) -> list[ir.Value]:
        """One output channel of one chunk."""
        index = v.Indices()
        d0, d1, d2 = (ir.AffineExpr.get_dim(i) for i in range(3))
        row = v.affine(d0 * self.shape.c_out + d1 + d2, chunk, self.first, k)
        if self.ahead is not None and self.later is not None:
            self.ahead.emit(self.later, row)
        low = self._integer(self.positions, row)
        high = self._integer(self.positions, v.affine(d0 + 1, row))
        kept = [i * self.block for i in range(self.vectors)]
        if start:
            accumulators = [v.constant_vector(0.0, self.vector)] * self.vectors
        else:
            accumulators = [self.tail.read(carried[0], [k, place], index) for place in kept]
        accumulators = v.loop_between(low, high, accumulators, self._nonzero)
        if not end:
            scratch = carried[0]
            for value, place in zip(accumulators, kept, strict=True):
                scratch = v.write(value, scratch, [k, place], index)
            return [scratch, *carried[1:]]
        pixels = [v.affine(d0 + place, self.base) for place in kept]
        before = len(carried) - len(self.tail.results)
        return [*carried[:before], *self.tail.finish(accumulators, pixels, k, carried[before:], index)]

    def _nonzero(self, j: ir.Value, accumulators: list[ir.Value]) -> list[ir.Value]:
        index = v.Indices()
        offset = self._integer(self.offsets, j)
        offset = offset if self.origin is None else v.add(offset, self.origin)
        weight = v.splat(self.values, [j], self.vector, index)
        results = []
        for i, accumulator in enumerate(accumulators):
            x = self.tail.read(self.x, [v.affine(ir.AffineExpr.get_dim(0) + i * self.block, offset)], index)
            results.append(v.mark(v.emit("vector.fma", [weight, x, accumulator], self.vector), "root"))
        return results

    def _integer(self, source: ir.Value, place: ir.Value) -> ir.Value:
        """An i32 of a 1-D tensor as an index."""
        number = v.emit("tensor.extract", [source, place], ir.IntegerType.get_signless(32))
        return v.emit("arith.index_castui", [number], ir.IndexType.get())

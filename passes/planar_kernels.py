"""Kernels on the planar layout (:mod:`dlas.passes.planar`): their frame, and what brings tensors there and back.

A workgroup has some channels and some register tiles of pixels, consecutive vectors of the plane.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
from iree.compiler import ir

from dlas.passes import dispatch as d
from dlas.passes import vectors as v
from dlas.passes.constants import make_constant
from dlas.passes.conv import ConvShape
from dlas.passes.elementwise import Access
from dlas.passes.kernel_frame import Epilogue, KernelFrame, ResultSpec, Tile, tensor_bytes
from dlas.passes.plan import Choice
from dlas.passes.planar import Phases, Planar, Plane, tap_places
from dlas.passes.reshape import reshape_collapse, reshape_expand

# Channels of a workgroup of elementwise ops, at most.
_PLANES = 16


class PlanarKernels(KernelFrame):
    """The part of the emitter for the planar layout."""

    def planes(
        self,
        shape: tuple[int, ...],
        choice: Choice,
        layer: str,
        epilogue: Epilogue,
        planes: dict[ir.Value, Planar],
        results: Sequence[ResultSpec],
        out: Plane,
    ) -> list[Planar]:
        """Elementwise ops on planes that no other kernel takes."""
        tail = Tail(self, out, 1, out.cover, epilogue, results)
        k_w = max(k for k in range(1, min(shape[1], _PLANES) + 1) if shape[1] % k == 0)

        def emit(b: d.DispatchBody, bound: list[ir.Value], place: Place, outs: list[ir.Value]) -> list[ir.Value]:
            d0 = ir.AffineExpr.get_dim(0)

            def vector(k: ir.Value, i: ir.Value, carried: list[ir.Value]) -> list[ir.Value]:
                last = d.index_constant(out.cover - self.block)
                pixel = v.minimum(v.affine(d0 * self.block, i), last)
                return tail.finish([None], [pixel], k, carried, v.Indices())

            return v.loops([k_w, -(-out.cover // self.block)], outs, vector)

        values = self.planar_dispatch(tail, shape, k_w, [], planes, emit)
        moved = sum(tensor_bytes(value.type) for value in (*(p.value for p in planes.values()), *values))
        operations = len(epilogue.ops) * int(np.prod(shape))
        self.record(values[0].owner.operation, "planes", choice, layer, {}, operations, moved)
        return [Planar(value, shape, out) for value in values]

    def planar_dispatch(
        self,
        tail: Tail,
        shape: tuple[int, ...],
        k_w: int,
        inputs: list[ir.Value],
        planes: dict[ir.Value, Planar],
        emit: Callable[[d.DispatchBody, list[ir.Value], Place, list[ir.Value]], list[ir.Value]],
    ) -> list[ir.Value]:
        """A kernel with ``k_w`` channels and one tile of pixels per workgroup; ``emit`` writes its slices."""
        batch, channels = shape[:2]
        size, epilogue = tail.out.size, tail.epilogue
        lanes = {
            (i, j): make_constant(np.ascontiguousarray(operand.constant, np.float32), self.element)
            for i, op in enumerate(epilogue.ops)
            for j, operand in enumerate(op.operands)
            if operand.access is Access.CHANNEL and operand.constant is not None
        }
        mask = [] if tail.masks is None else [make_constant(tail.masks, ir.IntegerType.get_signless(32))]
        k_tiles = channels // k_w

        def body(b: d.DispatchBody) -> None:
            bound = iter(b.inputs)
            dim = ir.AffineExpr.get_dim(0)
            per_image = tail.tiles * k_tiles
            inner = ir.AffineExpr.get_mod(dim, per_image)
            image = b.affine(ir.AffineExpr.get_floor_div(dim, per_image)) if batch > 1 else 0
            tile = b.affine(ir.AffineExpr.get_floor_div(inner, k_tiles))
            first = b.affine(ir.AffineExpr.get_mod(inner, k_tiles) * k_w)
            place = Place(image, first, tile, k_w)
            own = [next(bound) for _ in inputs]
            sizes = [1, k_w, size]
            tail.sources = {key: b.load(next(bound), [image, first, 0], sizes, sizes[1:]) for key in planes}
            tail.per_plane = {key: b.load(next(bound), [image, first], [1, k_w], [k_w]) for key in epilogue.plane}
            tail.per_channel = {key: b.load(next(bound), [first], [k_w], [k_w]) for key in lanes}
            if tail.masks is not None:
                number = 0 if len(tail.masks) == 1 else b.affine(ir.AffineExpr.get_mod(dim, len(tail.masks)), image)
                tail.mask = b.load(next(bound), [number, 0], [1, tail.out.cover], [tail.out.cover])
            outs = [b.load(binding, [image, first, 0], sizes, sizes[1:]) for binding in b.outputs]
            values = tail.borders(emit(b, own, place, outs), place)
            for value, binding in zip(values, b.outputs, strict=True):
                b.store(value, binding, [image, first, 0], sizes)

        operands = [
            *inputs,
            *(planar.value for planar in planes.values()),
            *epilogue.plane.values(),
            *lanes.values(),
            *mask,
        ]
        types = [d.tensor_type([batch, channels, size], self.element)] * len(tail.results)
        return d.create_dispatch(batch * tail.tiles * k_tiles, operands, types, body)

    # -- to the layout and back ------------------------------------------------------------------------------------

    def to_planar(self, data: Planar, out: Plane, choice: Choice, layer: str) -> Planar:
        """Planes of another geometry, zeros included."""
        if data.plane == out:
            return data
        top, left, bottom, _ = out.pads
        # One phase: rows from the first of the zeros above; its columns begin where the pixels do.
        rows = [(row - top, out.start + (row - top) * out.pitch) for row in range(top + data.plane.height + bottom)]
        copy = _Copy(self, data.plane, (1, 1), out.pitch, out.size)
        value = self._copied(data, [[(rows, 0)]], copy, choice, "planar", layer)
        flat = reshape_collapse(value, [*data.shape[:2], out.size], [[0, 1], [2], [3]])
        return Planar(flat, data.shape, out)

    def to_phases(self, data: Planar, phases: Phases, choice: Choice, layer: str) -> ir.Value:
        """The input of strided convolutions, split by the strides."""
        copy = _Copy(self, data.plane, phases.stride, phases.pitch, phases.size)
        parts = []
        for a, b in phases.used:
            rows = [(row * phases.stride[0] + a - phases.pads[0], row * phases.pitch) for row in range(phases.rows)]
            parts.append([(rows, b - phases.pads[1])])
        return self._copied(data, parts, copy, choice, "phases", layer)

    def _copied(
        self,
        data: Planar,
        parts: list[list[tuple[list[tuple[int, int]], int]]],
        copy: _Copy,
        choice: Choice,
        kind: str,
        layer: str,
    ) -> ir.Value:
        batch, channels = data.shape[:2]
        type = d.tensor_type([batch, len(parts), channels, copy.size], self.element)

        def emit(b: d.DispatchBody, tile: Tile) -> None:
            size = data.plane.size
            x = b.load(b.inputs[0], [tile.image, tile.block, 0], [1, 1, size], [size])
            place, sizes = [tile.image, 0, tile.block, 0], [1, len(parts), 1, copy.size]
            out = b.load(b.outputs[0], place, sizes, [len(parts), copy.size])
            for number, part in enumerate(parts):
                for rows, first in part:
                    out = copy.emit(x, out, number, rows, first)
            v.mark(out, "epilogue")  # where no tap reads a pixel, nothing is loaded
            b.store(out, b.outputs[0], place, sizes)

        return self._plane_by_plane(data, type, emit, choice, kind, layer)

    def from_planar(self, data: Planar, choice: Choice, layer: str) -> ir.Value:
        """NCHW."""
        if data.plane.is_dense:
            return reshape_expand(data.value, data.shape, [[0], [1], [2, 3]])
        batch, channels, height, width = data.shape
        copy = _Copy(self, data.plane, (1, 1), width, height * width)
        type = d.tensor_type([batch, channels, height * width], self.element)

        def emit(b: d.DispatchBody, tile: Tile) -> None:
            size = data.plane.size
            x = b.load(b.inputs[0], [tile.image, tile.block, 0], [1, 1, size], [size])
            place, sizes = [tile.image, tile.block, 0], [1, 1, height * width]
            out = b.load(b.outputs[0], place, sizes, [height * width])
            b.store(copy.emit_exact(x, out), b.outputs[0], place, sizes)

        value = self._plane_by_plane(data, type, emit, choice, "unplanar", layer)
        return reshape_expand(value, data.shape, [[0], [1], [2, 3]])

    def _plane_by_plane(
        self,
        data: Planar,
        type: ir.RankedTensorType,
        emit: Callable[[d.DispatchBody, Tile], None],
        choice: Choice,
        kind: str,
        layer: str,
    ) -> ir.Value:
        """A kernel that copies whole planes; ``emit`` does one."""
        value = self.dispatch(
            batch=data.shape[0],
            tiles=data.shape[1],
            tile_blocks=1,
            height=1,
            inputs=[data.value],
            types=[type],
            emit=emit,
        )[0]
        moved = tensor_bytes(data.value.type) + tensor_bytes(type)
        self.record(value.owner.operation, kind, choice, layer, {}, 0, moved)
        return value

    def dense_planes(self, value: ir.Value) -> Planar:
        """An NCHW tensor as planes without any padding."""
        batch, channels, height, width = shape = tuple(ir.ShapedType(value.type).shape)
        flat = reshape_collapse(value, [batch, channels, height * width], [[0], [1], [2, 3]])
        return Planar(flat, shape, Plane.dense(height, width))


@dataclass(frozen=True)
class Source:
    """What a sparse convolution reads.

    Attributes:
        value: ``[N, planes, size]``, or ``[N, tiles, planes, size]``.
        planes: planes of an image, several for a channel where there are phases.
        size: elements of a plane.
        taps: for each tap (K_h, K_w order), channel 0's plane and the position there that the tile's first pixel reads.
        tiled: whether tiles are apart.
    """

    value: ir.Value
    planes: int
    size: int
    taps: list[tuple[int, int]]
    tiled: bool = False

    @classmethod
    def of(cls, shape: ConvShape, data: Planar | tuple[ir.Value, Phases]) -> Source:
        """The planes, or the phases of a plane."""
        if isinstance(data, Planar):
            plane = data.plane
            first = plane.start - shape.pads[0] * plane.pitch - shape.pads[1]
            rows = [(row, column) for _, row, column in tap_places(shape, shape.pads)]
            taps = [(0, first + row * plane.pitch + column) for row, column in rows]
            return cls(data.value, shape.c_in, plane.size, taps)
        value, phases = data
        taps = [
            (phases.used.index(phase) * shape.c_in, row * phases.pitch + column)
            for phase, row, column in tap_places(shape, phases.pads, phases.shifted)
        ]
        planes = len(phases.used) * shape.c_in
        return cls(
            reshape_collapse(value, [shape.batch, planes, phases.size], [[0], [1, 2], [3]]), planes, phases.size, taps
        )

    def places(self, channels: int) -> np.ndarray:
        """``[channels, taps]``: position in an image's planes."""
        plane, place = np.array(self.taps).T
        return (np.arange(channels)[:, None] + plane) * self.size + place


@dataclass(frozen=True)
class Place:
    """A workgroup's part of the result: image, first channel, number of the tile of pixels, and channels."""

    image: int | ir.Value
    first: ir.Value
    tile: ir.Value
    k_w: int


class Tail:
    """The end of a kernel on planes: the epilogue, zeros between rows, and zeros around the pixels.

    ``tiles`` workgroups of a channel write ``cover`` elements from the first pixel on, which may be fewer than those of
    other kernels that write planes of this geometry. ``masks``, ``[phases, cover]``: what is written of images that are
    phases of others; without them, the pixels of the plane, where there are zeros around them.
    """

    sources: dict[ir.Value, ir.Value]
    per_plane: dict[ir.Value, ir.Value]
    per_channel: dict[tuple[int, int], ir.Value]
    mask: ir.Value

    def __init__(
        self,
        frame: PlanarKernels,
        out: Plane,
        tiles: int,
        cover: int,
        epilogue: Epilogue,
        results: Sequence[ResultSpec],
        masks: np.ndarray | None = None,
    ) -> None:
        self.frame, self.out, self.tiles, self.cover = frame, out, tiles, cover
        self.epilogue, self.results = epilogue, results
        self.vector = ir.VectorType.get([frame.block], frame.element)
        self.masked = [masks is not None or any(result.halo) for result in results]
        self.masks = out.mask()[None] if masks is None and any(self.masked) else masks

    def base(self, tile: ir.Value, pixels: int) -> ir.Value:
        """The first pixel of a tile; the last tile begins early where it would reach over the end."""
        base = v.affine(ir.AffineExpr.get_dim(0) * pixels, tile)
        return v.minimum(base, d.index_constant(self.out.pixels - pixels)) if self.tiles > 1 else base

    def read(self, source: ir.Value, place: Sequence[v.Index], index: v.Indices) -> ir.Value:
        return v.read(source, place, self.vector, d.float_constant(0.0, self.frame.element), index)

    def finish(
        self,
        accumulators: Sequence[ir.Value | None],
        pixels: Sequence[ir.Value],
        k: ir.Value,
        outs: Sequence[ir.Value],
        index: v.Indices,
    ) -> list[ir.Value]:
        """Vectors of channel ``k`` at these pixels, through the epilogue, to the results."""
        epilogue = self.epilogue
        lanes = {key: v.splat(value, [k], self.vector, index) for key, value in self.per_channel.items()}
        planes = {key: v.splat(value, [k], self.vector, index) for key, value in self.per_plane.items()}
        outs = list(outs)
        for accumulator, pixel in zip(accumulators, pixels, strict=True):
            place = v.affine(ir.AffineExpr.get_dim(0) + self.out.start, pixel)
            values = [accumulator]
            if epilogue.ops:
                known = {key: self.read(value, [k, place], index) for key, value in self.sources.items()}
                known |= planes
                if epilogue.source is not None and accumulator is not None:
                    known[epilogue.source] = accumulator
                values = list(self.frame.apply_epilogue(epilogue, known, lanes, self.results))
            for number, value in enumerate(values):
                masked = self._masked(value, pixel, index) if self.masked[number] else value
                outs[number] = v.mark(v.write(masked, outs[number], [k, place], index), "epilogue")
        return outs

    def _masked(self, value: ir.Value, pixel: ir.Value, index: v.Indices) -> ir.Value:
        integers = ir.VectorType.get([self.frame.block], ir.IntegerType.get_signless(32))
        zero = ir.Operation.create(
            "arith.constant",
            results=[integers.element_type],
            attributes={"value": ir.IntegerAttr.get(integers.element_type, 0)},
        ).result
        mask = v.read(self.mask, [pixel], integers, zero, index)
        bits = v.emit("arith.bitcast", [value], integers)
        return v.emit("arith.bitcast", [v.emit("arith.andi", [bits, mask], integers)], self.vector)

    def borders(self, outs: Sequence[ir.Value], place: Place) -> list[ir.Value]:
        """Zeros before the first and behind the last pixel: each tile of pixels does it for some channels."""
        share = -(-place.k_w // self.tiles)
        outs = list(outs)
        for number, result in enumerate(self.results):
            if not any(result.halo):
                continue

            def zero(i: ir.Value, carried: list[ir.Value]) -> list[ir.Value]:
                d0, d1 = (ir.AffineExpr.get_dim(p) for p in range(2))
                channel = v.minimum(v.affine(d0 * share + d1, place.tile, i), d.index_constant(place.k_w - 1))
                target = _zeros(carried[0], [channel], 0, self.out.start, self.vector)
                return [_zeros(target, [channel], self.out.start + self.cover, self.out.size, self.vector)]

            outs[number : number + 1] = v.loop(share, [outs[number]], zero)
        return outs


def _zeros(target: ir.Value, prefix: list[v.Index], low: int, high: int, vector: ir.VectorType) -> ir.Value:
    """Stores zeros from ``low`` to ``high`` of the last dimension: whole vectors, the last one over the one before.

    Fewer elements than a vector are taken to be at the beginning, before what is written behind them.
    """
    lanes = vector.shape[0]
    d0 = ir.AffineExpr.get_dim(0)

    def store(i: ir.Value, carried: list[ir.Value]) -> list[ir.Value]:
        zero = v.constant_vector(0.0, vector)
        return [v.write(zero, carried[0], [*prefix, v.affine(d0 * lanes + low, i)], v.Indices())]

    whole, rest = divmod(high - low, lanes)
    if whole:
        target = v.loop(whole, [target], store)[0]
    if rest:
        last = d.index_constant(max(low, high - lanes) if whole else low)
        target = v.write(v.constant_vector(0.0, vector), target, [*prefix, last], v.Indices())
    return target


class _Copy:
    """Copies the rows of a plane, every ``stride``-th column of them, with zeros where there is no pixel."""

    def __init__(self, frame: PlanarKernels, source: Plane, stride: tuple[int, int], pitch: int, size: int) -> None:
        self.frame, self.source, self.stride, self.pitch, self.size = frame, source, stride, pitch, size
        self.lanes = frame.block
        self.vector = ir.VectorType.get([self.lanes], frame.element)
        self.piece = 1 << min(source.width, self.lanes).bit_length() - 1

    def emit(self, x: ir.Value, out: ir.Value, number: int, rows: list[tuple[int, int]], first: int) -> ir.Value:
        """Writes rows to part ``number`` of ``out``.

        Args:
            rows: for each row its number in the source, which may lie outside, and its place in the result; both in
                equal steps.
            first: the source's column at the row's place.
        """
        inside = [i for i, (row, _) in enumerate(rows) if 0 <= row < self.source.height]
        head = rows[inside[0]][1] if inside else self.size
        tail = rows[inside[-1]][1] + self.pitch if inside else self.size
        out = _zeros(out, [number], 0, head, self.vector)

        def row(i: ir.Value, carried: list[ir.Value]) -> list[ir.Value]:
            source_row, place = rows[inside[0]]
            d0, d1 = (ir.AffineExpr.get_dim(p) for p in range(2))
            step = self.stride[1] * self.lanes
            base = d0 * (self.stride[0] * self.source.pitch) + (self.source.start + source_row * self.source.pitch)

            def vector(column: int, number_: ir.Value, target: ir.Value) -> ir.Value:
                """The ``number_``-th vector behind the one at ``column``."""
                index = v.Indices()
                columns = [first + (column + lane) * self.stride[1] for lane in range(self.lanes)]
                value = self._gather(x, (i, number_), base + d1 * step, columns, index)
                to = v.affine(d0 * self.pitch + d1 * self.lanes + (place + column), i, number_)
                return v.write(value, target, [number, to], index)

            target = carried[0]
            whole = [column for column in range(0, self.pitch, self.lanes) if self._is_inner(first, column)]
            for column in range(0, self.pitch, self.lanes):
                if column not in whole:
                    target = vector(column, d.index_constant(0), target)
                elif column == whole[0]:
                    target = v.loop(len(whole), [target], lambda n, to: [vector(whole[0], n, to[0])])[0]
            return [target]

        if inside:
            out = v.loop(len(inside), [out], row)[0]
        return _zeros(out, [number], tail, self.size, self.vector)

    def _is_inner(self, first: int, column: int) -> bool:
        """Whether all that :meth:`_gather` loads for the vector at ``column`` lies in the row."""
        start = first + column * self.stride[1]
        return start >= 0 and start + self.lanes * self.stride[1] + self.piece <= self.source.width

    def emit_exact(self, x: ir.Value, out: ir.Value) -> ir.Value:
        """Writes the pixels and nothing else."""
        width = self.source.width
        columns = sorted({min(column, width - self.piece) for column in range(0, width, self.piece)})

        def row(i: ir.Value, carried: list[ir.Value]) -> list[ir.Value]:
            target, index = carried[0], v.Indices()
            d0 = ir.AffineExpr.get_dim(0)
            for column in columns:
                value = self._load(x, v.affine(d0 * self.source.pitch + (self.source.start + column), i), index)
                target = v.write(value, target, [v.affine(d0 * self.pitch + column, i)], index)
            return [target]

        return v.loop(self.source.height, [out], row)[0]

    def _load(self, x: ir.Value, place: ir.Value, index: v.Indices) -> ir.Value:
        vector = ir.VectorType.get([self.piece], self.frame.element)
        return v.mark(v.read(x, [place], vector, d.float_constant(0.0, self.frame.element), index), "epilogue")

    def _gather(
        self,
        x: ir.Value,
        place: tuple[ir.Value, ir.Value],
        base: ir.AffineExpr,
        columns: list[int],
        index: v.Indices,
    ) -> ir.Value:
        """The vector of these columns of the row at ``base``, zero where a column lies outside."""
        missing = {lane: column for lane, column in enumerate(columns) if 0 <= column < self.source.width}
        if not missing:
            return v.constant_vector(0.0, self.vector)
        value = None
        while missing:
            start = min(min(missing.values()), self.source.width - self.piece)
            loaded = self._load(x, v.affine(base + start, *place), index)
            found = {lane: column - start for lane, column in missing.items() if start <= column < start + self.piece}
            if value is None and self.piece == self.lanes and found == {lane: lane for lane in range(self.lanes)}:
                return loaded
            before = v.constant_vector(0.0, self.vector) if value is None else value
            mask = [self.lanes + found[lane] if lane in found else lane for lane in range(self.lanes)]
            value = v.shuffle_two(before, loaded, mask)
            missing = {lane: column for lane, column in missing.items() if lane not in found}
        assert value is not None
        return value

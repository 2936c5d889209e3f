"""Emit linear layers by the non-zeros of their weights (:mod:`dlas.passes.sparse_linear`): ``[M, K] x [K, N]``.

One row or a few, lanes on the non-zeros (``sparse_matvec``). Weights come from memory once, 6 bytes each:

    for n of the workgroup:  acc : vector<8>
      for g in groups (n):  acc += values[g] * gather(x[m], columns[g])
      sums[n] = add up acc
    for n/B:  out[m, n : +B] = epilogue(sums[n : +B])

Some rows, lanes on the rows (``sparse_matmul``). The rows are packed before, T tiles of V vectors, ``[T, K, V*B]``
(``pack_rows``), which the layers that read the same input share:

    for chunk of columns: for n of the workgroup:  acc[V] : vector<B>
      for j in row (chunk, n):  acc[v] += splat(values[j]) * packed[t, columns[j], v*B : +B]
      sums[n, v*B : +B] = acc[v]
    for n/B: for v:  out[t*V*B + v*B : +B, n : +B] = epilogue(transpose(sums[n : +B, v*B : +B]))
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial

import numpy as np
from iree.compiler import ir

from dlas.passes import dispatch as d
from dlas.passes import vectors as v
from dlas.passes.constants import make_constant
from dlas.passes.elementwise import Access
from dlas.passes.kernel_frame import Epilogue, KernelFrame, ResultSpec, Tile
from dlas.passes.matmul import MatmulSite
from dlas.passes.plan import Choice
from dlas.passes.reshape import crop_columns, pad_columns
from dlas.passes.row_kernels import fold
from dlas.passes.sparse_linear import GATHER_GROUP, RowGroups, compress_rows, packed_words

_LINE = 16
"""Elements of a cache line: rows are read and written by whole lines, because many rows may share a few sets."""

_PIECES = 8
"""Parts of the columns that the packing of a tile of rows is dealt out in, at most."""


@dataclass(frozen=True)
class RowTiles:
    """How M rows are tiles of ``vectors`` vectors: one that may have more rows than there are, or several that overlap.

    The last of several tiles begins early enough to be whole.
    """

    m: int
    vectors: int
    lanes: int

    @property
    def rows(self) -> int:
        """Rows of a tile."""
        return self.vectors * self.lanes

    @property
    def count(self) -> int:
        return -(-self.m // self.rows)

    @property
    def stored(self) -> int:
        """Rows of a tile that there are."""
        return min(self.m, self.rows)

    def first(self, tile: ir.Value) -> int | ir.Value:
        """The first row of a tile."""
        if self.count == 1:
            return 0
        start = v.affine(ir.AffineExpr.get_dim(0) * self.rows, tile)
        return v.minimum(start, d.index_constant(self.m - self.rows))


class SparseLinearKernels(KernelFrame):
    """The part of the emitter for linear layers of pruned weights."""

    def sparse_matvec(
        self, site: MatmulSite, choice: Choice, layer: str, epilogue: Epilogue, results: Sequence[ResultSpec]
    ) -> list[ir.Value]:
        """Lanes on the non-zeros, row by row of the input. Returns the results as ``[M, N]``."""
        n_w, chunk = choice.knobs["n_w"], choice.knobs["chunk"]
        groups = compress_rows(site.weights, n_w, chunk, GATHER_GROUP)
        tiles = -(-site.n // n_w)
        tail = _Tail(self, site, epilogue, results, tiles * n_w)
        constants = _constants(groups, GATHER_GROUP, self.element)

        def emit(b: d.DispatchBody, place: Tile) -> None:
            bound = iter(b.inputs)
            x = b.load(next(bound), [0, 0], [site.m, site.k], [site.m, site.k])
            loaded = _load_all(b, [next(bound) for _ in constants], constants)
            outs = tail.bind(b, list(bound), 0, site.m, place.block, n_w)
            sums = place.scratch[0]

            def row(m: ir.Value, carried: list[ir.Value]) -> list[ir.Value]:
                nest = _Gather(self, groups, x, m, loaded, place.index, choice.knobs)
                sums = nest.emit(carried[0])

                def store(i: ir.Value, outs: list[ir.Value]) -> list[ir.Value]:
                    index = v.Indices()
                    column = v.affine(ir.AffineExpr.get_dim(0) * self.block, i)
                    return tail.finish(tail.read(sums, [column], index), m, column, outs, index)

                return [sums, *v.loop(n_w // self.block, carried[1:], store)]

            place.scratch[0], *written = v.loop(site.m, [sums, *outs], row)
            tail.store(b, written, 0, site.m, place.block, n_w)

        flops = 2 * site.m * groups.nonzeros
        inputs = [site.data, *constants, *tail.inputs]
        stored = self.dispatch(
            batch=1,
            tiles=tiles,
            tile_blocks=n_w,
            height=1,
            inputs=inputs,
            types=tail.types,
            emit=emit,
            flops=flops,
            scratch=[[n_w]],
        )
        self._record_sparse(stored, inputs, choice, layer, {"chunks": groups.chunks}, flops)
        return [crop_columns(value, site.n, self.element) for value in stored]

    def pack_rows(self, data: ir.Value, tiles: RowTiles, choice: Choice, layer: str) -> ir.Value:
        """``[M, K]`` as ``[T, K, V*B]``, zeros for rows that there are not."""
        m, k = ir.ShapedType(data.type).shape
        blocks = k // self.block
        pieces = 1 if k % self.block else max(n for n in range(1, _PIECES + 1) if blocks % n == 0)
        width = k // pieces
        type = d.tensor_type([tiles.count, k, tiles.rows], self.element)

        def emit(b: d.DispatchBody, place: Tile) -> None:
            d0 = ir.AffineExpr.get_dim(0)
            tile = v.affine(ir.AffineExpr.get_floor_div(d0, pieces), place.index)
            first = v.affine(ir.AffineExpr.get_mod(d0, pieces) * width, place.index)
            rows = tiles.stored
            x = b.load(b.inputs[0], [tiles.first(tile), first], [rows, width], [rows, width])
            out = b.load(b.outputs[0], [tile, first, 0], [1, width, tiles.rows], [width, tiles.rows])

            step = min(_LINE // self.block, width // self.block) * self.block

            def columns(i: ir.Value, carried: list[ir.Value]) -> list[ir.Value]:
                start = v.affine(d0 * step, i)
                if width % step:  # the last step begins before the end of the one before
                    start = v.minimum(start, d.index_constant(width - step))

                def block(number: ir.Value, carried: list[ir.Value], present: int = self.block) -> list[ir.Value]:
                    index = v.Indices()
                    row = v.affine(d0 * self.block, number)
                    vector = ir.VectorType.get([self.block], self.element)
                    zero = d.float_constant(0.0, self.element)
                    out = carried[0]
                    for part in range(0, step, self.block):
                        lines = [
                            v.read(x, [v.plus(row, lane), v.plus(start, part)], vector, zero, index)
                            if lane < present
                            else v.constant_vector(0.0, vector)
                            for lane in range(self.block)
                        ]
                        for lane, line in enumerate(v.transpose(lines), part):
                            out = v.mark(v.write(line, out, [v.plus(start, lane), row], index), "epilogue")
                    return [out]

                return _row_blocks(tiles, carried, block)

            out = v.loop(-(-width // step), [out], columns)[0]
            b.store(out, b.outputs[0], [tile, first, 0], [1, width, tiles.rows])

        value = self.dispatch(
            batch=1, tiles=tiles.count * pieces, tile_blocks=1, height=1, inputs=[data], types=[type], emit=emit
        )[0]
        moved = _bytes([data, value])
        self.record(value.owner.operation, "pack", choice, layer, {"vectors": tiles.vectors}, 0, moved)
        return value

    def sparse_matmul(
        self,
        site: MatmulSite,
        packed: ir.Value,
        choice: Choice,
        layer: str,
        epilogue: Epilogue,
        results: Sequence[ResultSpec],
    ) -> list[ir.Value]:
        """Lanes on the rows, ``packed`` by :meth:`pack_rows`. Returns the results as ``[M, N]``."""
        knobs = choice.knobs
        n_w, chunk, group = knobs["n_w"], knobs["chunk"], knobs["group"]
        rows = RowTiles(site.m, knobs["vectors"], self.block)
        groups = compress_rows(site.weights, n_w, chunk, group)
        across = -(-site.n // n_w)
        tail = _Tail(self, site, epilogue, results, across * n_w)
        constants = _constants(groups, group, self.element)

        def emit(b: d.DispatchBody, place: Tile) -> None:
            bound = iter(b.inputs)
            d0 = ir.AffineExpr.get_dim(0)
            tile = v.affine(ir.AffineExpr.get_floor_div(d0, across), place.index)
            part = v.affine(ir.AffineExpr.get_mod(d0, across), place.index)
            first, column = rows.first(tile), v.affine(d0 * n_w, part)
            x = b.load(next(bound), [tile, 0, 0], [1, site.k, rows.rows], [site.k, rows.rows])
            loaded = _load_all(b, [next(bound) for _ in constants], constants)
            outs = tail.bind(b, list(bound), first, rows.stored, column, n_w)
            nest = _Broadcast(self, groups, x, loaded, part, choice.knobs)
            sums = place.scratch[0] = nest.emit(place.scratch[0])

            step = max(n for n in (self.block, _LINE) if n_w % n == 0)

            def outputs(i: ir.Value, carried: list[ir.Value]) -> list[ir.Value]:
                start = v.affine(d0 * step, i)

                def block(number: ir.Value, outs: list[ir.Value], present: int = self.block) -> list[ir.Value]:
                    index = v.Indices()
                    row = v.affine(d0 * self.block, number)
                    columns = [v.plus(start, part) for part in range(0, step, self.block)]
                    parts = [
                        v.transpose([tail.read(sums, [v.plus(column, lane), row], index) for lane in range(self.block)])
                        for column in columns
                    ]
                    for lane in range(present):
                        for column, lines in zip(columns, parts, strict=True):
                            outs = tail.finish(lines[lane], v.plus(row, lane), column, outs, index)
                    return outs

                return _row_blocks(rows, carried, block)

            written = v.loop(n_w // step, outs, outputs)
            tail.store(b, written, first, rows.stored, column, n_w)

        flops = 2 * site.m * groups.nonzeros
        inputs = [packed, *constants, *tail.inputs]
        stored = self.dispatch(
            batch=1,
            tiles=rows.count * across,
            tile_blocks=n_w,
            height=1,
            inputs=inputs,
            types=tail.types,
            emit=emit,
            flops=flops,
            scratch=[[n_w, rows.rows]],
        )
        self._record_sparse(stored, inputs, choice, layer, {"chunks": groups.chunks, "tiles": rows.count}, flops)
        return [crop_columns(value, site.n, self.element) for value in stored]

    def _record_sparse(
        self,
        values: Sequence[ir.Value],
        inputs: Sequence[ir.Value],
        choice: Choice,
        layer: str,
        extents: Mapping[str, int],
        flops: int,
    ) -> None:
        moved = _bytes([*inputs, *values])
        self.record(values[0].owner.operation, "sparse", choice, layer, extents, flops, moved)


def _row_blocks(tiles: RowTiles, carried: list[ir.Value], block: Callable[..., list[ir.Value]]) -> list[ir.Value]:
    """A loop over the blocks of rows of a tile; the last one may have fewer rows than a vector has lanes."""
    whole, rest = divmod(tiles.stored, tiles.lanes)
    if whole:
        carried = v.loop(whole, carried, block)
    return block(d.index_constant(whole), carried, rest) if rest else carried


class _Tail:
    """The end of a kernel: vectors of a row through the epilogue to the results, ``[M, columns]``.

    Attributes:
        inputs: what the epilogue reads, in the order that :meth:`bind` expects.
        types: of the results.
    """

    def __init__(
        self, frame: KernelFrame, site: MatmulSite, epilogue: Epilogue, results: Sequence[ResultSpec], columns: int
    ) -> None:
        self.frame, self.site, self.epilogue, self.results = frame, site, epilogue, results
        self.vector = ir.VectorType.get([frame.block], frame.element)
        self.full = {value: pad_columns(value, columns, frame.element) for value in epilogue.full_plain}
        self.per_column = {}
        for i, op in enumerate(epilogue.ops):
            for j, operand in enumerate(op.operands):
                if operand.access is Access.CHANNEL and operand.constant is not None:
                    padded = np.zeros(columns, np.float32)
                    padded[: site.n] = operand.constant
                    self.per_column[i, j] = make_constant(padded, frame.element)
        self.inputs = [*self.full.values(), *self.per_column.values()]
        self.types = [d.tensor_type([site.m, columns], frame.element)] * len(results)

    def bind(
        self, b: d.DispatchBody, bindings: Sequence[ir.Value], row: v.Index, rows: int, column: ir.Value, columns: int
    ) -> list[ir.Value]:
        """Loads the workgroup's slices of the inputs; returns those of the results."""
        bound, tile = iter(bindings), [rows, columns]
        self.sources = {key: b.load(next(bound), [row, column], tile, tile) for key in self.full}
        self.lanes = {key: b.load(next(bound), [column], [columns], [columns]) for key in self.per_column}
        return [b.load(binding, [row, column], tile, tile) for binding in b.outputs]

    def store(
        self, b: d.DispatchBody, outs: Sequence[ir.Value], row: v.Index, rows: int, column: ir.Value, columns: int
    ) -> None:
        for value, binding in zip(outs, b.outputs, strict=True):
            b.store(value, binding, [row, column], [rows, columns])

    def read(self, source: ir.Value, place: Sequence[v.Index], index: v.Indices) -> ir.Value:
        return v.read(source, place, self.vector, d.float_constant(0.0, self.frame.element), index)

    def finish(
        self, line: ir.Value, row: v.Index, column: ir.Value, outs: Sequence[ir.Value], index: v.Indices
    ) -> list[ir.Value]:
        """A vector of sums of a row, from ``column`` on, through the epilogue into the results."""
        values = [line]
        if self.epilogue.ops:
            known = {key: self.read(source, [row, column], index) for key, source in self.sources.items()}
            known[self.site.result] = line
            lanes = {key: self.read(source, [column], index) for key, source in self.lanes.items()}
            values = self.frame.apply_epilogue(self.epilogue, known, lanes, self.results)
        return [
            v.mark(v.write(value, out, [row, column], index), "epilogue")
            for value, out in zip(values, outs, strict=True)
        ]


class _Weights:
    """The non-zeros in a kernel.

    Args:
        groups: how they are stored.
        loaded: positions, words of columns, and values.
        tile: the workgroup's, of outputs.
        knobs: ``n_w`` outputs of a tile.
        group: non-zeros of a group.
    """

    def __init__(
        self,
        groups: RowGroups,
        loaded: Sequence[ir.Value],
        tile: ir.Value,
        knobs: Mapping[str, int],
        group: int,
    ) -> None:
        self.positions, self.words, self.values = loaded
        self.chunks, self.tile, self.n_w, self.group = groups.chunks, tile, knobs["n_w"], group

    def between(self, chunk: ir.Value, n: ir.Value) -> tuple[ir.Value, ir.Value]:
        """The first group of an output in a chunk, and the one behind the last."""
        d0, d1, d2 = (ir.AffineExpr.get_dim(i) for i in range(3))
        slot = v.affine(d0 * (self.chunks * self.n_w) + d1 * self.n_w + d2, self.tile, chunk, n)
        ends = [slot, v.affine(d0 + 1, slot)]
        low, high = (v.emit("tensor.extract", [self.positions, end], ir.IntegerType.get_signless(32)) for end in ends)
        return _index(low), _index(high)

    def columns(self, number: ir.Value) -> list[ir.Value]:
        """The columns of a group, relative to the chunk."""
        kind = ir.ShapedType(self.words.type).element_type
        per_word = kind.width // 16
        words = self.group // per_word
        d0 = ir.AffineExpr.get_dim(0)
        found = []
        for i in range(words):
            word = v.emit("tensor.extract", [self.words, v.affine(d0 * words + i, number)], kind)
            for part in range(per_word):
                column = word
                if part:
                    column = v.emit("arith.shrui", [column, _integer(16 * part, kind)], kind)
                if part < per_word - 1:
                    column = v.emit("arith.andi", [column, _integer(0xFFFF, kind)], kind)
                found.append(_index(column))
        return found


class _Sums:
    """The sums of a workgroup, chunk by chunk of the columns; subclasses compute those of one output in one chunk."""

    weights: _Weights
    knobs: Mapping[str, int]

    def emit(self, sums: ir.Value) -> ir.Value:
        """All chunks of all outputs."""
        for first, count in _rounds(self.weights.chunks):

            def chunk(c: ir.Value, carried: list[ir.Value], first: int = first) -> list[ir.Value]:
                number = v.affine(ir.AffineExpr.get_dim(0) + first, c)
                return v.loop(self.knobs["n_w"], carried, partial(self._output, number, first == 0))

            sums = v.loop(count, [sums], chunk)[0]
        return sums

    def _output(self, chunk: ir.Value, start: bool, n: ir.Value, carried: list[ir.Value]) -> list[ir.Value]:
        """Adds up output ``n`` in a chunk, from zero where it is the first (``start``)."""
        raise NotImplementedError


class _Gather(_Sums):
    """The sums of a workgroup of :meth:`SparseLinearKernels.sparse_matvec` for one row of the input."""

    def __init__(
        self,
        frame: KernelFrame,
        groups: RowGroups,
        x: ir.Value,
        row: ir.Value,
        loaded: Sequence[ir.Value],
        tile: ir.Value,
        knobs: Mapping[str, int],
    ) -> None:
        self.frame, self.x, self.row, self.knobs = frame, x, row, knobs
        self.weights = _Weights(groups, loaded, tile, knobs, GATHER_GROUP)
        self.vector = ir.VectorType.get([GATHER_GROUP], frame.element)

    def _output(self, chunk: ir.Value, start: bool, n: ir.Value, carried: list[ir.Value]) -> list[ir.Value]:
        element = self.frame.element
        d0, d1 = (ir.AffineExpr.get_dim(i) for i in range(2))
        before = v.affine(d0 * self.knobs["chunk"], chunk)

        def group(number: ir.Value, total: list[ir.Value]) -> list[ir.Value]:
            index = v.Indices()
            weights = v.read(
                self.weights.values,
                [v.affine(d0 * GATHER_GROUP, number)],
                self.vector,
                d.float_constant(0.0, element),
                index,
            )
            inputs = [
                v.emit("tensor.extract", [self.x, self.row, v.affine(d0 + d1, before, column)], element)
                for column in self.weights.columns(number)
            ]
            gathered = v.emit("vector.from_elements", inputs, self.vector)
            return [v.mark(v.emit("vector.fma", [weights, gathered, total[0]], self.vector), "root")]

        low, high = self.weights.between(chunk, n)
        total = v.loop_between(low, high, [v.constant_vector(0.0, self.vector)], group)[0]
        number = fold("arith.addf", total)
        if not start:
            number = v.emit("arith.addf", [number, v.emit("tensor.extract", [carried[0], n], element)], element)
        return [v.emit("tensor.insert", [number, carried[0], n], carried[0].type)]


class _Broadcast(_Sums):
    """The sums of a workgroup of :meth:`SparseLinearKernels.sparse_matmul`."""

    def __init__(
        self,
        frame: KernelFrame,
        groups: RowGroups,
        x: ir.Value,
        loaded: Sequence[ir.Value],
        tile: ir.Value,
        knobs: Mapping[str, int],
    ) -> None:
        self.frame, self.x, self.knobs = frame, x, knobs
        self.weights = _Weights(groups, loaded, tile, knobs, knobs["group"])
        self.vector = ir.VectorType.get([frame.block], frame.element)
        self.places = [i * frame.block for i in range(knobs["vectors"])]

    def _output(self, chunk: ir.Value, start: bool, n: ir.Value, carried: list[ir.Value]) -> list[ir.Value]:
        index, sums = v.Indices(), carried[0]
        chains, d0, d1 = self.knobs["chains"], ir.AffineExpr.get_dim(0), ir.AffineExpr.get_dim(1)
        before = v.affine(d0 * self.knobs["chunk"], chunk)

        def group(number: ir.Value, totals: list[ir.Value]) -> list[ir.Value]:
            index, totals = v.Indices(), list(totals)
            for i, column in enumerate(self.weights.columns(number)):
                row = v.affine(d0 + d1, before, column)
                place = v.affine(d0 * self.weights.group + i, number)
                weight = v.splat(self.weights.values, [place], self.vector, index)
                base = i % chains * len(self.places)
                for slot, place in enumerate(self.places, base):
                    x = self._read(self.x, [row, place], index)
                    totals[slot] = v.mark(v.emit("vector.fma", [weight, x, totals[slot]], self.vector), "root")
            return totals

        zero = v.constant_vector(0.0, self.vector)
        starts = [zero if start else self._read(sums, [n, place], index) for place in self.places]
        low, high = self.weights.between(chunk, n)
        totals = v.loop_between(low, high, starts + [zero] * (len(self.places) * (chains - 1)), group)
        for slot, place in enumerate(self.places):
            total = totals[slot]
            for other in totals[slot + len(self.places) :: len(self.places)]:
                total = v.emit("arith.addf", [total, other], self.vector)
            sums = v.write(total, sums, [n, place], index)
        return [sums]

    def _read(self, source: ir.Value, place: Sequence[v.Index], index: v.Indices) -> ir.Value:
        return v.read(source, place, self.vector, d.float_constant(0.0, self.frame.element), index)


def _rounds(chunks: int) -> list[tuple[int, int]]:
    """The first chunk and how many: the first one starts the sums."""
    return [(0, 1), (1, chunks - 1)] if chunks > 1 else [(0, 1)]


def _constants(groups: RowGroups, group: int, element: ir.Type) -> list[ir.Value]:
    """Positions, words of columns, and values."""
    words = packed_words(groups.columns, group)
    integer, word = (ir.IntegerType.get_signless(width) for width in (32, 8 * words.itemsize))
    return [make_constant(groups.positions, integer), make_constant(words, word), make_constant(groups.values, element)]


def _load_all(b: d.DispatchBody, bindings: Sequence[ir.Value], values: Sequence[ir.Value]) -> list[ir.Value]:
    """The bindings of some 1-D tensors, whole."""
    sizes = [list(ir.ShapedType(value.type).shape) for value in values]
    return [b.load(binding, [0], size, size) for binding, size in zip(bindings, sizes, strict=True)]


def _integer(number: int, kind: ir.Type) -> ir.Value:
    attribute = ir.IntegerAttr.get(kind, number)
    return ir.Operation.create("arith.constant", results=[kind], attributes={"value": attribute}).result


def _index(number: ir.Value) -> ir.Value:
    return v.emit("arith.index_castui", [number], ir.IndexType.get())


def _bytes(values: Sequence[ir.Value]) -> int:
    shaped = [ir.ShapedType(value.type) for value in values]
    return sum(int(np.prod(list(kind.shape))) * kind.element_type.width // 8 for kind in shaped)

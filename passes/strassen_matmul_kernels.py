"""Emit linear layers by Strassen's algorithm on row-major matrices: 7/8 of the multiply-adds.

The halves of :mod:`dlas.passes.strassen` are those of K, of the columns of two register tiles side by side, and of
twice R rows below each other. A kernel of its own makes the sums of inputs, for all workgroups and all layers that read
them:

    for 2 R rows:  V[rows, 7, c, j, :] = the left operands of the products, from x[j, c], x[j, K/2B + c], ...

Then a workgroup has all rows of some columns, whose weights it reads from memory once:

    for 2 R rows:
      for 2 T_O columns:  the 7 products of V with sums of wt, as in :mod:`dlas.passes.strassen_kernels`
        out[rows, columns] = epilogue(sums of them)
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
from dlas.passes.elementwise import Access
from dlas.passes.kernel_frame import Epilogue, ResultSpec, Slices, Tile, constant, dims, tensor_bytes
from dlas.passes.matmul import MatmulSite
from dlas.passes.plan import Choice
from dlas.passes.reshape import crop_columns, pad_columns
from dlas.passes.strassen import PRODUCTS, input_sums
from dlas.passes.strassen_kernels import Left, StrassenKernels, StrassenNest, StrassenWeights, Sums


@dataclass(frozen=True)
class RowPairs:
    """How a matrix ``[m, k]`` is cut for its sums: ``[count, 7, K/2B, rows, B]``.

    Where ``m`` is no whole number of pairs, the last one overlaps the one before.
    """

    m: int
    k: int
    rows: int
    block: int

    @property
    def count(self) -> int:
        """Pairs of register tiles of rows."""
        return -(-self.m // (2 * self.rows))

    @property
    def half(self) -> int:
        """Vectors of half a row."""
        return self.k // (2 * self.block)

    @property
    def shape(self) -> list[int]:
        """Of all sums."""
        return [self.count, PRODUCTS, self.half, self.rows, self.block]

    def first(self, number: ir.Value) -> ir.Value:
        """The first row of a pair."""
        return v.affine_min([ir.AffineExpr.get_dim(0) * (2 * self.rows), constant(self.m - 2 * self.rows)], number)


class StrassenMatmulKernels(StrassenKernels):
    """The part of the emitter for linear layers by Strassen's algorithm."""

    def strassen_input(self, value: ir.Value, pairs: RowPairs, choice: Choice, layer: str) -> ir.Value:
        """The left operands of the products."""
        d0 = ir.AffineExpr.get_dim(0)
        type, vector = d.tensor_type(pairs.shape, self.element), ir.VectorType.get([self.block], self.element)

        def body(b: d.DispatchBody) -> None:
            sizes, place, whole = [2 * pairs.rows, pairs.k], [b.workgroup, 0, 0, 0, 0], [1, *pairs.shape[1:]]
            x = b.load(b.inputs[0], [pairs.first(b.workgroup), 0], sizes, sizes)

            def step(c: ir.Value, j: ir.Value, carried: list[ir.Value]) -> list[ir.Value]:
                index, (out,) = v.Indices(), carried
                zero = d.float_constant(0.0, self.element)
                columns = [v.affine((d0 + half * pairs.half) * self.block, c) for half in range(2)]
                rows = [v.plus(j, half * pairs.rows) for half in range(2)]
                quadrants = [v.read(x, [row, column], vector, zero, index) for row in rows for column in columns]
                for q, operand in enumerate(input_sums(quadrants, v.VectorArithmetic(vector))):
                    out = v.write(v.mark(operand, "epilogue"), out, [q, c, j, 0], index)
                return [out]

            out = b.load(b.outputs[0], place, whole, whole[1:])
            b.store(v.loops([pairs.half, pairs.rows], [out], step)[0], b.outputs[0], place, whole)

        sums = d.create_dispatch(pairs.count, [value], [type], body)[0]
        moved = tensor_bytes(value.type) + tensor_bytes(type)
        flops = 4 * pairs.count * pairs.half * pairs.rows * self.block
        self.record(sums.owner.operation, "sums", choice, layer, {}, flops, moved)
        return sums

    def strassen_matmul(
        self,
        site: MatmulSite,
        sums: ir.Value,
        choice: Choice,
        layer: str,
        epilogue: Epilogue,
        results: Sequence[ResultSpec],
    ) -> list[ir.Value]:
        """``[M, K] x [K, N]``, K being a multiple of two vectors and M at least ``2 * rows``.

        ``sums``: see :meth:`strassen_input`. Returns the results as ``[M, N]``.
        """
        k_w = choice.knobs["k_w"]
        pairs = RowPairs(site.m, site.k, choice.knobs["rows"], self.block)
        filter_ = StrassenWeights(self, site.weights.T[:, :, None, None], choice.knobs["t_o"], k_w)
        nest = _RowNest(self, site.k, (site.m, 1), pairs.rows, filter_, epilogue, results)
        workgroups = -(-site.n // k_w)
        columns = workgroups * k_w
        full = [(value, pad_columns(value, columns, self.element)) for value in epilogue.full_plain]
        vectors = {}
        for i, op in enumerate(epilogue.ops):
            for j, operand in enumerate(op.operands):
                if operand.access is Access.CHANNEL and operand.constant is not None:
                    padded = np.pad(operand.constant.astype(np.float32), (0, columns - site.n))
                    vectors[i, j] = make_constant(padded, self.element)
        inputs = [sums, *filter_.values, *(value for _, value in full), *vectors.values()]
        types = [d.tensor_type([site.m, columns], self.element)] * len(results)
        identity = d.affine_map(2, dims(0, 1))

        def emit(b: d.DispatchBody, place: Tile) -> None:
            bindings = iter(b.inputs)
            v_ = b.load(next(bindings), [0] * len(pairs.shape), pairs.shape, pairs.shape)
            weights = filter_.load(b, [next(bindings) for _ in filter_.values], place.index)
            start, tile = [0, place.block], [site.m, k_w]
            sources = {key: (b.load(next(bindings), start, tile, tile), identity) for key, _ in full}
            lanes = {key: b.load(next(bindings), [place.block], [k_w], [k_w]) for key in vectors}
            outs = [b.load(binding, start, tile, tile) for binding in b.outputs]
            *values, place.scratch[0] = nest.emit_rows(
                v_, weights, Slices(sources, lanes, outs), pairs, place.scratch[0]
            )
            for value, binding in zip(values, b.outputs, strict=True):
                b.store(value, binding, start, tile)

        flops = 2 * site.m * site.n * site.k
        values = self.dispatch(
            batch=1,
            tiles=workgroups,
            tile_blocks=k_w,
            height=1,  # rows stay together
            inputs=inputs,
            types=types,
            emit=emit,
            flops=flops,
            scratch=[[3, filter_.vectors, pairs.rows, self.block]],
        )
        moved = sum(tensor_bytes(value.type) for value in (*inputs, *values))
        self.record(values[0].owner.operation, "matmul", choice, layer, {}, flops, moved)
        return [crop_columns(value, site.n, self.element) for value in values]


class _RowNest(StrassenNest):
    """The loops of one workgroup of :meth:`StrassenMatmulKernels.strassen_matmul`."""

    @property
    def _copied(self) -> Sequence[int]:
        """All of them: rows of x may lie at a distance at which they push each other out of level 1."""
        return range(PRODUCTS)

    def emit_rows(
        self, sums: ir.Value, weights: Sequence[ir.Value], slices: Slices, pairs: RowPairs, kept: ir.Value
    ) -> list[ir.Value]:
        """All rows; returns the results, then ``kept``."""
        d0 = ir.AffineExpr.get_dim(0)

        def pair(number: ir.Value, carried: list[ir.Value]) -> list[ir.Value]:
            sizes = [1, *pairs.shape[1:]]
            left = Left(None, v.extract_slice(sums, [number, 0, 0, 0, 0], sizes, sizes[1:]), [], [])
            first = pairs.first(number)
            rows = [[v.affine(d0 + half * self.pixels + j, first) for j in range(self.pixels)] for half in range(2)]

            def step(number: ir.Value, carried: list[ir.Value]) -> list[ir.Value]:
                *outs, kept = carried
                write = partial(self._write_rows, slices, number, rows)
                return self._multiply(left, weights, number, kept, outs, write)

            return v.loop(self.tiles, carried, step)

        return v.loop(pairs.count, [*slices.outs, kept], pair)

    def _write_rows(
        self,
        slices: Slices,
        number: ir.Value,
        rows: list[list[ir.Value]],
        outs: list[ir.Value],
        quadrant: tuple[int, int],
        acc: Sums,
    ) -> list[ir.Value]:
        """A quadrant through the epilogue, to its place."""
        d0 = ir.AffineExpr.get_dim(0)
        for k, line in enumerate(acc):
            index = v.Indices()
            block = d0 * (2 * self.vectors) + (quadrant[1] * self.vectors + k)
            column = v.affine(block * self.block, number)
            lanes = {key: self.read(value, [column], index) for key, value in slices.lanes.items()}
            for value, row in zip(line, rows[quadrant[0]], strict=True):
                values = [value]
                if self.epilogue.ops:
                    known = {key: self.read(full, [row, column], index) for key, (full, _) in slices.sources.items()}
                    if self.epilogue.source is not None:
                        known[self.epilogue.source] = value
                    values = self.frame.apply_epilogue(self.epilogue, known, lanes, self.results)
                outs = [v.write(value, out, [row, column], index) for value, out in zip(values, outs, strict=True)]
        return outs

"""Emit attention and batched matrix products: a workgroup has some rows of one matrix of the batch.

    S[r, n] = sum over k of Q[r, k] * K[k, n]         ``scores``, on the stack
    S[r]    = program(S[r])                           scale, mask, softmax (:mod:`dlas.passes.row_kernels`)
    O[r, v] = sum over n of S[r, n] * V[n, v]         ``context``

Queries are read, and the context is written, where they lie between the heads of their tokens. Keys and values are
packed before, matrix by matrix, unless they lie so already.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from math import prod

from iree.compiler import ir

from dlas.passes import dispatch as d
from dlas.passes import vectors as v
from dlas.passes.attention import BATCH, COLUMN, ROW, AttentionSite, BatchProduct, View
from dlas.passes.generics import shape_of
from dlas.passes.kernel_frame import binary, dims, fused_multiply_add, multiply_add, tensor_bytes
from dlas.passes.plan import Choice
from dlas.passes.row_kernels import Program, RowKernels, first_of_tile, flat_operand, reshaped


class AttentionKernels(RowKernels):
    """The part of the emitter for products of activations."""

    def fits_between(self, site: AttentionSite) -> bool:
        """Whether the program of a site can work where the scores are."""
        return Program(self, site.program, 1).may_overwrite(site.place)

    def attention(self, site: AttentionSite, out: View, choice: Choice, pack: Choice, layer: str) -> ir.Value:
        """Both products and what is between them as one kernel; returns the value that ``out`` stands for."""
        scores, context, rows = site.scores, site.context, choice.knobs["m"]
        program = Program(self, site.program, choice.knobs["width"], site.place)
        keys = self._dense(_times(scores.right, scores.left.scale), scores.k, scores.n, pack, layer)
        values = self._dense(_times(context.right, context.left.scale), context.k, context.n, pack, layer)
        places = [place for place in site.program.inputs if place != site.place]
        operands = [flat_operand(place, site.program.columns, self.element) for place in places]
        inputs = [scores.left.source, keys, values, *operands]
        type = d.tensor_type([axis.extent for axis in out.axes], self.element)
        tiles = -(-scores.m // rows)
        columns = shape_of(keys)[2]

        def body(b: d.DispatchBody) -> None:
            matrix, first = self._tile_of(b, tiles, rows, scores.m)
            query = self._rows(b, b.inputs[0], scores.left, matrix, first, rows)
            key = self._matrix(b, b.inputs[1], matrix, [scores.k, columns])
            value = self._matrix(b, b.inputs[2], matrix, [context.k, context.n])
            bound = {
                place: b.load(binding, [0] * len(shape_of(tensor)), shape_of(tensor), shape_of(tensor))
                for place, binding, tensor in zip(places, b.inputs[3:], operands, strict=True)
            }
            tile = self._zeros(d.empty([rows, columns], self.element))
            tile = self._product(query, scores.left.order, key, tile, "scores")
            start = v.affine(ir.AffineExpr.get_dim(0) * scores.m + ir.AffineExpr.get_dim(1), matrix, first)
            tile = program.emit(bound, [tile], rows, start)[0]
            if columns != scores.n:
                tile = v.extract_slice(tile, [0, 0], [rows, scores.n])
            self._write_rows(
                b, out, matrix, first, rows, lambda result: self._product(tile, "rc", value, result, "context")
            )

        result = d.create_dispatch(scores.batch * tiles, inputs, [type], body)[0]
        flops = 2 * scores.batch * scores.m * (scores.n * scores.k + context.n * context.k)
        extents = {
            "m": rows, "n": columns, "k": scores.k, "context_n": context.n, "context_k": context.k,
        }  # fmt: skip
        moved = sum(tensor_bytes(value.type) for value in (*inputs, result))
        self.record(result.owner.operation, "attention", choice, layer, extents, flops, moved)
        return result

    def batch_product(self, site: BatchProduct, out: View, choice: Choice, pack: Choice, layer: str) -> ir.Value:
        """A product of its own; returns the value that ``out`` stands for."""
        rows = choice.knobs["m"]
        right = self._dense(_times(site.right, site.left.scale), site.k, site.n, pack, layer, pad=False)
        type = d.tensor_type([axis.extent for axis in out.axes], self.element)
        tiles = -(-site.m // rows)

        def body(b: d.DispatchBody) -> None:
            matrix, first = self._tile_of(b, tiles, rows, site.m)
            left = self._rows(b, b.inputs[0], site.left, matrix, first, rows)
            value = self._matrix(b, b.inputs[1], matrix, [site.k, site.n])
            self._write_rows(
                b, out, matrix, first, rows, lambda result: self._product(left, site.left.order, value, result, "root")
            )

        result = d.create_dispatch(site.batch * tiles, [site.left.source, right], [type], body)[0]
        moved = sum(tensor_bytes(value.type) for value in (site.left.source, right, result))
        flops = 2 * site.batch * site.m * site.n * site.k
        extents = {"m": rows, "n": site.n, "k": site.k}
        self.record(result.owner.operation, "batch_matmul", choice, layer, extents, flops, moved)
        return result

    # -- operands ------------------------------------------------------------------------------------------------

    def _dense(self, view: View, rows: int, columns: int, choice: Choice, layer: str, pad: bool = True) -> ir.Value:
        """A batch of matrices one after another, row by row; columns padded by zeros to whole vectors if asked."""
        block = choice.knobs["block"]
        padded = -(-columns // block) * block if pad and view.order == "cr" else columns
        batch = prod(axis.extent for axis in view.axes if axis.kind == BATCH)
        if view.is_dense and padded == columns and view.scale == 1:
            return reshaped(view.source, [batch, rows, columns])
        transposed = view.order == "cr"

        def element(arguments: Sequence[ir.Value]) -> list[ir.Value]:
            if view.scale == 1:
                return [arguments[0]]
            return [binary("arith.mulf", arguments[0], d.float_constant(view.scale, self.element))]

        def body(b: d.DispatchBody) -> None:
            matrix = b.workgroup
            offsets, sizes = _place(view, matrix, 0, rows)
            place, out_sizes = [matrix, 0, 0], [1, rows, columns]
            out = b.load(b.outputs[0], place, out_sizes, out_sizes)
            # The loops follow the input: IREE interchanges a transpose that does not. The copy has one dimension fewer
            # than its result: a generic whose maps are equal would fold to a scalar copy.
            x = b.load(b.inputs[0], offsets, sizes, [columns, rows] if transposed else [rows, columns])
            maps = [d.affine_map(3, dims(1, 2)), d.affine_map(3, dims(0, 2, 1) if transposed else dims(0, 1, 2))]
            role = {"dlas.role": ir.StringAttr.get("epilogue")}
            b.store(d.generic([x], [out], maps, "ppp", element, role)[0], b.outputs[0], place, out_sizes)
            if padded > columns:
                margin, margin_sizes = [matrix, 0, columns], [1, rows, padded - columns]
                target = b.load(b.outputs[0], margin, margin_sizes, margin_sizes)
                zeros = d.fill(d.float_constant(0.0, self.element), target, "border")
                b.store(zeros, b.outputs[0], margin, margin_sizes)

        type = d.tensor_type([batch, rows, padded], self.element)
        packed = d.create_dispatch(batch, [view.source], [type], body)[0]
        extents = {"rows": rows, "columns": columns, "transposed": int(transposed)}
        moved = tensor_bytes(view.source.type) + tensor_bytes(type)
        self.record(packed.owner.operation, "pack", choice, layer, extents, 0, moved)
        return packed

    def _tile_of(self, b: d.DispatchBody, tiles: int, rows: int, m: int) -> tuple[ir.Value, ir.Value]:
        """The matrix of a workgroup, and the first of its rows."""
        d0 = ir.AffineExpr.get_dim(0)
        matrix = b.affine(ir.AffineExpr.get_floor_div(d0, tiles))
        tile = b.affine(ir.AffineExpr.get_mod(d0, tiles))
        return matrix, first_of_tile(tile, rows, m)

    def _matrix(self, b: d.DispatchBody, binding: ir.Value, matrix: ir.Value, shape: Sequence[int]) -> ir.Value:
        return b.load(binding, [matrix, 0, 0], [1, *shape], list(shape))

    def _rows(
        self, b: d.DispatchBody, binding: ir.Value, view: View, matrix: ir.Value, first: ir.Value, rows: int
    ) -> ir.Value:
        """Some rows of a matrix, in the order of its dimensions."""
        offsets, sizes = _place(view, matrix, first, rows)
        shape = [size for size, axis in zip(sizes, view.axes, strict=True) if axis.kind != BATCH]
        return b.load(binding, offsets, sizes, shape)

    def _write_rows(
        self,
        b: d.DispatchBody,
        out: View,
        matrix: ir.Value,
        first: ir.Value,
        rows: int,
        product: Callable[[ir.Value], ir.Value],
    ) -> None:
        """Writes some rows of the result: what ``product`` adds to zeros."""
        offsets, sizes = _place(out, matrix, first, rows)
        shape = [size for size, axis in zip(sizes, out.axes, strict=True) if axis.kind != BATCH]
        target = b.load(b.outputs[0], offsets, sizes, shape)
        b.store(product(self._zeros(target)), b.outputs[0], offsets, sizes)

    def _zeros(self, target: ir.Value) -> ir.Value:
        return d.fill(d.float_constant(0.0, self.element), target, "init")

    def _product(self, left: ir.Value, order: str, right: ir.Value, out: ir.Value, role: str) -> ir.Value:
        """``out[m, n] += left[m, k] * right[k, n]``; ``left`` may be ``[k, m]`` (order ``cr``)."""
        left_map = dims(0, 2) if order == "rc" else dims(2, 0)
        depth = shape_of(right)[0]
        return d.generic(
            [left, right],
            [out],
            [d.affine_map(3, left_map), d.affine_map(3, dims(2, 1)), d.affine_map(3, dims(0, 1))],
            "ppr",
            multiply_add if depth > 1 else fused_multiply_add,
            {"dlas.role": ir.StringAttr.get(role)},
        )[0]


def _times(view: View, factor: float) -> View:
    return replace(view, scale=view.scale * factor)


def _place(view: View, matrix: ir.Value, first: ir.Value | int, rows: int) -> tuple[list[int | ir.Value], list[int]]:
    """Offsets and sizes of ``rows`` rows from ``first`` on of one matrix."""
    d0 = ir.AffineExpr.get_dim(0)
    offsets: list[int | ir.Value] = []
    sizes = []
    for axis in view.axes:
        if axis.kind == BATCH:
            index = ir.AffineExpr.get_mod(ir.AffineExpr.get_floor_div(d0, max(axis.stride, 1)), axis.extent)
            offsets.append(0 if axis.extent == 1 else v.affine(index, matrix))
            sizes.append(1)
        elif axis.kind == ROW:
            offsets.append(first)
            sizes.append(rows)
        else:
            assert axis.kind == COLUMN
            offsets.append(0)
            sizes.append(axis.extent)
    return offsets, sizes

"""Emit dense convolutions on the planar layout (:mod:`dlas.passes.planar`): lanes on pixels, whatever the channels.

Groups whose channels fill no block cost nothing beyond their operations, since channels are never lanes. A workgroup
has some output channels and some register tiles of pixels, of T_K channels and V consecutive vectors of the plane.

    for tile of V*B pixels: for k/T_K:
      acc[T_K][V] : vector<B>
      for c: for y, x (unrolled):  acc[k][v] += splat(w[k, c, y, x]) * x[c, offset(y, x) + tile + v*B : +B]
      out[k, tile + v*B : +B] = epilogue(acc[k][v])
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from functools import partial

import numpy as np
from iree.compiler import ir

from dlas.passes import dispatch as d
from dlas.passes import vectors as v
from dlas.passes.constants import make_constant
from dlas.passes.conv import ConvShape
from dlas.passes.kernel_frame import Epilogue, ResultSpec, constant, tensor_bytes
from dlas.passes.plan import Choice
from dlas.passes.planar import Phases, Planar, Plane, RegisterTile
from dlas.passes.planar_kernels import Place, PlanarKernels, Source, Tail
from dlas.passes.reshape import reshape_collapse, reshape_expand


class PlanarConvKernels(PlanarKernels):
    """The part of the emitter for dense convolutions on planes."""

    def planar_conv(
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
        masks: np.ndarray | None = None,
    ) -> list[Planar]:
        """A convolution with vectors along the planes.

        Args:
            data: the input: in place, or split by the strides.
            planes: tensors that the epilogue reads, by the value they stand for, all of geometry ``out``.
            results: what to write; those with a halo get zeros around their pixels.
            out: geometry of the results.
            masks: of images that are phases: see :class:`Tail`.
        """
        register = RegisterTile.of(out.pixels, self.block, choice.knobs["accumulators"])
        run = min(choice.knobs["run"], register.count)
        tail = Tail(self, out, -(-register.count // run), register.cover, epilogue, results, masks)
        source = Source.of(shape, data)
        nest = _Nest(tail, shape, source, register, run, choice.knobs["t_k"])
        elements = source.planes * source.size
        x_value = reshape_collapse(source.value, [shape.batch, elements], [[0], [1, 2]])
        filter_ = make_constant(nest.pack_weights(weights), self.element)
        count = int(ir.ShapedType(filter_.type).shape[0])

        def emit(b: d.DispatchBody, bound: list[ir.Value], place: Place, outs: list[ir.Value]) -> list[ir.Value]:
            x = b.load(bound[0], [place.image, 0], [1, elements], [elements])
            return nest.emit(x, b.load(bound[1], [0], [count], [count]), place, outs)

        result_shape = (shape.batch, shape.c_out, shape.out_h, shape.out_w)
        values = self.planar_dispatch(tail, result_shape, choice.knobs["k_w"], [x_value, filter_], planes, emit)
        inputs = values[0].owner.operation.operands
        moved = sum(tensor_bytes(value.type) for value in (*list(inputs)[1:], *values))
        extents = {"vectors": register.vectors, "tiles": register.count}
        self.record(values[0].owner.operation, shape.kind, choice, layer, extents, shape.flops, moved)
        return [Planar(value, result_shape, out) for value in values]

    def pointwise_phases(
        self,
        shape: ConvShape,
        data: ir.Value,
        phases: Phases,
        weights: np.ndarray,
        choice: Choice,
        layer: str,
        epilogue: Epilogue,
        result: ResultSpec,
    ) -> ir.Value:
        """A pointwise convolution of what :meth:`to_phases` made of its input: the phases of its result.

        They are images for it, each of one row; zeros around the pixels stay zeros.
        """
        batch, count, size = shape.batch, len(phases.used), phases.size
        image = Plane.dense(1, size)
        split = replace(shape, batch=batch * count, in_h=1, in_w=size, out_h=1, out_w=size)
        split = replace(split, useful=shape.useful * shape.macs / split.macs)
        images = reshape_collapse(data, [split.batch, shape.c_in, size], [[0, 1], [2], [3]])
        source = Planar(images, (split.batch, shape.c_in, 1, size), image)
        masks = phases.mask(shape.out_h, shape.out_w)
        found = self.planar_conv(split, source, weights, choice, layer, epilogue, {}, [result], image, masks)
        return reshape_expand(found[0].value, [batch, count, shape.c_out, size], [[0, 1], [2], [3]])


class _Nest:
    """The loops of one workgroup of :meth:`PlanarConvKernels.planar_conv`, up to its tail."""

    def __init__(
        self,
        tail: Tail,
        shape: ConvShape,
        source: Source,
        register: RegisterTile,
        run: int,
        t_k: int,
    ) -> None:
        self.tail, self.shape, self.source, self.register, self.run = tail, shape, source, register, run
        self.t_k = t_k
        self.vector, self.block = tail.vector, tail.frame.block

    def pack_weights(self, weights: np.ndarray) -> np.ndarray:
        """``[K, C_PG, K_h, K_w]`` to ``[K/T_K, C_PG, K_h, K_w, T_K]``, flat."""
        k, taps = self.shape.c_out, self.shape.k_h * self.shape.k_w
        tiles = weights.reshape(k // self.t_k, self.t_k, self.shape.c_per_group, taps)
        return np.ascontiguousarray(tiles.transpose(0, 2, 3, 1), np.float32).reshape(-1)

    def emit(self, x: ir.Value, weights: ir.Value, place: Place, outs: list[ir.Value]) -> list[ir.Value]:
        """All register tiles of the workgroup, one after the other."""
        self.x, self.weights, self.place = x, weights, place
        self.pixels = self.register.vectors * self.block
        tiles: v.Range = self.run
        if self.register.count % self.run:
            d0 = ir.AffineExpr.get_dim(0)
            left = v.affine_min([constant(self.run), d0 * -self.run + self.register.count], place.tile)
            tiles = d.index_constant(0), left
        return v.loop(tiles, outs, self._tile)

    def _tile(self, number: ir.Value, carried: list[ir.Value]) -> list[ir.Value]:
        """One register tile of pixels, for all channels of the workgroup."""
        d0, d1 = (ir.AffineExpr.get_dim(i) for i in range(2))
        base = v.affine((d0 * self.run + d1) * self.pixels, self.place.tile, number)
        if self.register.count > 1:  # the last tile begins early where it would reach over the end
            base = v.minimum(base, d.index_constant(self.tail.out.pixels - self.pixels))
        return v.loop(self.place.k_w // self.t_k, carried, partial(self._channels, base))

    def _group(self, channel: ir.Value) -> ir.Value:
        return v.affine(ir.AffineExpr.get_floor_div(ir.AffineExpr.get_dim(0), self.shape.k_per_group), channel)

    def _start(self, group: ir.Value, c: ir.Value, base: ir.Value) -> ir.Value:
        """Where the first pixel of a channel of the group is, but for the taps' offsets."""
        d0, d1, d2 = (ir.AffineExpr.get_dim(i) for i in range(3))
        return v.affine((d0 * self.shape.c_per_group + d1) * self.source.size + d2, group, c, base)

    def _channels(self, base: ir.Value, number: ir.Value, outs: list[ir.Value]) -> list[ir.Value]:
        """T_K output channels of the tile."""
        d0, d1 = (ir.AffineExpr.get_dim(i) for i in range(2))
        first = v.affine(d0 + d1 * self.t_k, self.place.first, number)
        zero = v.constant_vector(0.0, self.vector)
        group = self._group(first)
        body = partial(self._products, base, first, group)
        sums = v.loop(self.shape.c_per_group, [zero] * (self.t_k * self.register.vectors), body)
        index = v.Indices()
        pixels = [v.affine(d0 + i * self.block, base) for i in range(self.register.vectors)]
        for j in range(self.t_k):
            channel = v.affine(d0 * self.t_k + j, number)
            own = sums[j * self.register.vectors : (j + 1) * self.register.vectors]
            outs = self.tail.finish(own, pixels, channel, outs, index)
        return outs

    def _products(
        self,
        base: ir.Value,
        first: ir.Value,
        group: ir.Value,
        c: ir.Value,
        sums: list[ir.Value],
    ) -> list[ir.Value]:
        """One input channel's products with all taps."""
        index, vectors, taps = v.Indices(), self.register.vectors, len(self.source.taps)
        d0, d1 = (ir.AffineExpr.get_dim(i) for i in range(2))
        tile = ir.AffineExpr.get_floor_div(d0, self.t_k) * self.shape.c_per_group
        weights = v.affine((tile + d1) * (taps * self.t_k), first, c)
        start = self._start(group, c, base)
        rows, columns = range(self.t_k), range(vectors)
        for tap, (plane, place) in enumerate(self.source.taps):

            def weight(j: int, first: int = tap * self.t_k) -> ir.Value:
                return v.splat(self.weights, [v.affine(d0 + (first + j), weights)], self.vector, index)

            def pixels(i: int, first: int = plane * self.source.size + place) -> ir.Value:
                return self.tail.read(self.x, [v.affine(d0 + (first + i * self.block), start)], index)

            # The fewer operands wait in registers, the others come one by one.
            if self.t_k < vectors:
                kept = [weight(j) for j in rows]
                pairs = ((kept[j], value, j, i) for i in columns for value in [pixels(i)] for j in rows)
            else:
                kept = [pixels(i) for i in columns]
                pairs = ((value, kept[i], j, i) for j in rows for value in [weight(j)] for i in columns)
            for one, other, j, i in pairs:
                at = j * vectors + i
                sums[at] = v.mark(v.emit("vector.fma", [one, other, sums[at]], self.vector), "root")
        return sums

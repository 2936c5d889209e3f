"""Emit 3x3 convolutions in Winograd's domain on the blocked layout, groups included: one kernel, nothing in memory.

A workgroup computes some channel blocks of one group. It walks the result a part at a time, so that the transformed
input and the products stay in the core's own cache.

    for rows x columns of tiles, and (where not all fit) ``depth`` input channels:
      for tile, c:      V[p, tile, c*B : +B] = (B^T d B)[p]                    p counts the (m + 2)^2 points
      for T_O channels of the workgroup:
        for p: for T tiles: acc[T_O/B][T] : vector<B> = 0
          for i:        acc[k][t] += splat(V[p, t, i]) * U[p, i, k]                         (``root``)
          M[p] = acc
        for tile, k:    out[k, m x m] = epilogue(A^T M A)

``staged`` has V made by a kernel of its own, once for all workgroups: for many channels at small planes, where to
transform the input for each workgroup, or to read the weights for each part, takes longer than V's way through memory.

Weights are in memory in the order in which they are read. With ``prefetch``, each step of a register tile asks for its
share of the lines that lie :func:`dlas.passes.winograd.prefetch_distance` ahead, the next workgroup's at the end.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from iree.compiler import ir

from dlas.passes import dispatch as d
from dlas.passes import vectors as v
from dlas.passes.constants import make_constant
from dlas.passes.conv import ConvShape
from dlas.passes.kernel_frame import Blocked, Epilogue, KernelFrame, LoopNest, ResultSpec, Slices, Tile, tensor_bytes
from dlas.passes.packing import pack_winograd_lanes, pack_winograd_taps, pack_winograd_weights
from dlas.passes.plan import Choice
from dlas.passes.winograd import side_by_side, spread_tiles
from dlas.passes.winograd_nest import WinogradNest
from dlas.passes.winograd_online import OnlineNest
from dlas.passes.winograd_tiles import LaneNest, Tiles


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
        pack, Nest = (pack_winograd_taps, OnlineNest) if knobs.get("online") else (pack_winograd_weights, WinogradNest)
        packed = pack(shape, weights, *sizes)
        filter_ = make_constant(packed.reshape(-1), self.element)
        groups = shape.groups // knobs["merge"]
        tiles_per_group = packed.shape[0] // groups
        nest = Nest(self, shape, choice, epilogue, results, packed.shape[1:])
        staged = self._winograd_input(shape, data, choice, layer, groups * nest.depths) if nest.staged else None

        def emit(b: d.DispatchBody, bindings: Sequence[ir.Value], tile: Tile, slices: Slices) -> list[ir.Value]:
            group = ir.AffineExpr.get_floor_div(ir.AffineExpr.get_dim(0), tiles_per_group)
            if staged is not None:
                sizes = [1, nest.depths * nest.points, nest.tile_rows * nest.tile_columns, nest.depth * block]
                first = b.affine(group * (nest.depths * nest.points), tile.index)
                x = b.load(bindings[0], [tile.image, first, 0, 0], sizes, sizes[1:])
            else:
                first = b.affine(group * nest.c_blocks, tile.index)
                offsets = [tile.image, first, data.halo[0] - shape.pads[0], data.halo[1] - shape.pads[1], 0]
                sizes = [1, nest.c_blocks, nest.tile_rows * nest.m + 2, nest.tile_columns * nest.m + 2, block]
                x = b.load(bindings[0], offsets, sizes, sizes[1:])
            wt = b.load(bindings[1], [0], [packed.size], [packed.size])
            nest.first = v.affine(ir.AffineExpr.get_dim(0) * packed[0].size, tile.index)
            nest.later = v.buffer(wt) if knobs.get("prefetch") else None
            outs, tile.scratch[:] = nest.emit(x, wt, slices, tile.rows, tile.scratch)
            return outs

        return self.windowed(
            kind=shape.kind,
            choice=choice,
            layer=layer,
            shape=(shape.batch, shape.c_out, shape.out_h, shape.out_w),
            unit=knobs["rows"] * nest.m,
            scratch=nest.scratch(),
            tile_blocks=knobs["k_w"] // block,
            root=LoopNest([data.value if staged is None else staged, filter_], emit),
            epilogue=epilogue,
            results=results,
            extents={"rows": nest.tile_rows, "columns": nest.tile_columns, "depths": nest.depths},
            flops=shape.flops,
        )

    def _winograd_input(self, shape: ConvShape, data: Blocked, choice: Choice, layer: str, slabs: int) -> ir.Value:
        """The transformed input, ``[N, g * C_PG/depth * (m + 2)^2, tiles, depth]``, by a kernel of its own.

        ``slabs`` is ``g * C_PG/depth``.
        """
        block, m, channels = self.block, choice.knobs["m"], choice.knobs["depth"]
        choice = Choice("winograd_input", {"m": m, "block": block}, f"for F({m}x{m}, 3x3)")
        nest = Tiles(self, shape, choice, Epilogue([], None), [])
        points, tiles = nest.alpha**2, nest.tile_rows * nest.tile_columns
        room = spread_tiles(m, tiles, channels)
        run = side_by_side(channels // block)  # channel blocks of a workgroup
        runs = channels // (run * block)
        number = ir.AffineExpr.get_dim(0)

        def emit(b: d.DispatchBody, tile: Tile) -> None:
            offsets = [tile.image, tile.block, data.halo[0] - shape.pads[0], data.halo[1] - shape.pads[1], 0]
            sizes = [1, run, nest.tile_rows * m + 2, nest.tile_columns * m + 2, block]
            x = b.load(b.inputs[0], offsets, sizes, sizes[1:])
            point = b.affine(ir.AffineExpr.get_floor_div(number, runs) * points, tile.index)
            channel = b.affine(ir.AffineExpr.get_mod(number, runs) * (run * block), tile.index)
            place, sizes = [tile.image, point, 0, channel], [1, points, tiles, run * block]
            out = b.load(b.outputs[0], place, sizes, sizes[1:])
            rows = nest.tile_rows if tile.rows.units is None else tile.rows.units
            zero = d.index_constant(0)
            ranges = rows, nest.tile_columns, run
            out, tile.scratch[0] = nest.transform_all(x, out, tile.scratch[0], ranges, (zero, zero, zero))
            b.store(out, b.outputs[0], place, sizes)

        transformed = self.dispatch(
            batch=shape.batch,
            tiles=slabs * runs,
            tile_blocks=run,
            height=nest.tile_rows,
            inputs=[data.value],
            types=[d.tensor_type([shape.batch, slabs * points, room, channels], self.element)],
            emit=emit,
            scratch=[nest.lines_in(nest.tile_columns, run)],
        )[0]
        moved = tensor_bytes(data.value.type) + tensor_bytes(transformed.type)
        self.record(transformed.owner.operation, "transform", choice, layer, {}, 0, moved)
        return transformed

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
        """The same for groups that divide a block, or are one: lanes read the channels of their group by shuffles.

        Weights are transformed and packed to ``[C/B, (m + 2)^2, C_PG, B]``; see :func:`pack_winograd_lanes`.
        """
        block, per_group = self.block, shape.c_per_group
        filter_ = make_constant(pack_winograd_lanes(weights, block, choice.knobs["m"]), self.element)
        nest = LaneNest(self, shape, choice, epilogue, results)

        def emit(b: d.DispatchBody, bindings: Sequence[ir.Value], tile: Tile, slices: Slices) -> list[ir.Value]:
            offsets = [tile.image, tile.block, data.halo[0] - shape.pads[0], data.halo[1] - shape.pads[1], 0]
            sizes = [1, 1, nest.tile_rows * nest.m + 2, nest.tile_columns * nest.m + 2, block]
            x = b.load(bindings[0], offsets, sizes, sizes[1:])
            wt_sizes = [1, (nest.m + 2) ** 2, per_group, block]
            wt = b.load(bindings[1], [tile.block, 0, 0, 0], wt_sizes, wt_sizes[1:])
            outs, tile.scratch[:] = nest.emit(x, wt, slices, tile.rows, tile.scratch)
            return outs

        return self.windowed(
            kind=shape.kind,
            choice=choice,
            layer=layer,
            shape=(shape.batch, shape.c_out, shape.out_h, shape.out_w),
            unit=nest.m,
            scratch=nest.scratch(),
            tile_blocks=1,
            root=LoopNest([data.value, filter_], emit),
            epilogue=epilogue,
            results=results,
            extents={},
            flops=shape.flops,
        )

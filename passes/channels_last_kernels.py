"""Emit the kernels between channel blocks and channels-last tensors: a pixel's channels are copied vector by vector.

to channels-last:    for h, w: for k:  out[h, w, k*B : +B] = x[k, h, w, :]
from channels-last:  for h, w: for k:  out[k, h, w, :] = epilogue(x[h, w, k*B : +B])
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial

from iree.compiler import ir

from dlas.passes import dispatch as d
from dlas.passes import vectors as v
from dlas.passes.kernel_frame import Blocked, Epilogue, KernelFrame, LoopNest, ResultSpec, Slices, Tile, tensor_bytes
from dlas.passes.lane_tail import LaneTail
from dlas.passes.plan import Choice


class ChannelsLastKernels(KernelFrame):
    """Adds the kernels to the frame."""

    def to_channels_last(self, data: Blocked, choice: Choice, layer: str) -> ir.Value:
        """A blocked tensor as ``[N, H, W, C]``."""
        batch, channels, height, width = data.shape
        whole, rest = divmod(channels, self.block)
        vector = ir.VectorType.get([self.block], self.element)
        d0 = ir.AffineExpr.get_dim(0)

        def emit(b: d.DispatchBody, tile: Tile) -> None:
            first, count = tile.rows.first, tile.rows.count
            source = [1, data.blocks, count, width, self.block]
            start = [tile.image, 0, v.plus(first, data.halo[0]), data.halo[1], 0]
            x = b.load(b.inputs[0], start, source, source[1:])
            place, sizes = [tile.image, first, 0, 0], [1, count, width, channels]
            out = b.load(b.outputs[0], place, sizes, sizes[1:])
            zero = d.float_constant(0.0, self.element)

            def pixel(row: ir.Value, column: ir.Value, outs: list[ir.Value]) -> list[ir.Value]:
                def block(k: ir.Value, outs: list[ir.Value]) -> list[ir.Value]:
                    index = v.Indices()
                    copied = v.read(x, [k, row, column, 0], vector, zero, index)
                    written = v.write(copied, outs[0], [row, column, v.affine(d0 * self.block, k)], index)
                    return [v.mark(written, "root")]

                outs = v.loop(whole, outs, block) if whole else outs
                if rest:
                    index, part = v.Indices(), ir.VectorType.get([rest], self.element)
                    copied = v.read(x, [whole, row, column, 0], part, zero, index)
                    outs = [v.mark(v.write(copied, outs[0], [row, column, whole * self.block], index), "root")]
                return outs

            rows: v.Range = count if isinstance(count, int) else (d.index_constant(0), count)
            b.store(v.loops([rows, width], [out], pixel)[0], b.outputs[0], place, sizes)

        result = self.dispatch(
            batch=batch,
            tiles=1,
            tile_blocks=data.blocks,
            height=height,
            inputs=[data.value],
            types=[d.tensor_type([batch, height, width, channels], self.element)],
            emit=emit,
        )[0]
        moved = tensor_bytes(data.value.type) + tensor_bytes(result.type)
        self.record(result.owner.operation, "unpack", choice, layer, {}, 0, moved)
        return result

    def from_channels_last(
        self,
        data: ir.Value,
        shape: tuple[int, int, int, int],
        choice: Choice,
        layer: str,
        epilogue: Epilogue,
        results: Sequence[ResultSpec],
    ) -> list[Blocked]:
        """``[N, H, W, C]`` in blocks, through elementwise ops; ``shape`` is that in NCHW."""
        _, channels, height, width = shape
        nest = _Nest(self, channels, epilogue, results)

        def emit(b: d.DispatchBody, bound: Sequence[ir.Value], tile: Tile, slices: Slices) -> list[ir.Value]:
            sizes = [1, height, width, channels]
            x = b.load(bound[0], [tile.image, 0, 0, 0], sizes, sizes[1:])
            rows = height if tile.rows.units is None else tile.rows.units
            return v.loops([rows, width], slices.outs, partial(nest.pixel, x, slices))

        return self.windowed(
            kind="pack",
            choice=choice,
            layer=layer,
            shape=shape,
            tile_blocks=-(-channels // self.block),
            root=LoopNest([data], emit),
            epilogue=epilogue,
            results=results,
            extents={},
        )


@dataclass
class _Nest(LaneTail):
    frame: KernelFrame
    channels: int
    epilogue: Epilogue
    results: Sequence[ResultSpec]

    def __post_init__(self) -> None:
        self.vector = ir.VectorType.get([self.frame.block], self.frame.element)

    def pixel(
        self, x: ir.Value, slices: Slices, row: ir.Value, column: ir.Value, outs: list[ir.Value]
    ) -> list[ir.Value]:
        """All channels of a pixel; lanes without one are zero."""
        lanes = self.frame.block
        whole, rest = divmod(self.channels, lanes)

        def block(k: ir.Value, outs: list[ir.Value]) -> list[ir.Value]:
            index = v.Indices()
            value = self.read(x, [row, column, v.affine(ir.AffineExpr.get_dim(0) * lanes, k)], index)
            return self.write_column([v.mark(value, "root")], slices, outs, (k, row, column), index)

        outs = v.loop(whole, outs, block) if whole else outs
        if rest:
            index, element = v.Indices(), self.frame.element
            part = ir.VectorType.get([rest], element)
            read = v.read(x, [row, column, whole * lanes], part, d.float_constant(0.0, element), index)
            zeros = v.constant_vector(0.0, part)
            value = v.shuffle_two(read, zeros, [min(lane, rest) for lane in range(lanes)])
            last = d.index_constant(whole)
            outs = self.write_column([v.mark(value, "root")], slices, outs, (last, row, column), index)
        return outs

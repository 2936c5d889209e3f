"""Emit the kernel between channel blocks of two sizes: vectors of the smaller one are copied, side by side or apart.

16 to 8:  for k, h, w:  out[k, h, w, 0:8] = x[k floordiv 2, h, w, (k mod 2) * 8 : +8]
8 to 16:  for k, h, w:  out[k, h, w, 0:8] = x[2*k, h, w, :];  out[k, h, w, 8:16] = x[2*k + 1, h, w, :]
"""

from __future__ import annotations

from collections.abc import Sequence

from iree.compiler import ir

from dlas.passes import dispatch as d
from dlas.passes import vectors as v
from dlas.passes.kernel_frame import Blocked, Epilogue, KernelFrame, LoopNest, ResultSpec, Slices, Tile
from dlas.passes.plan import Choice
from dlas.passes.reshape import Pads, reshape_collapse, reshape_expand


class RepackKernels(KernelFrame):
    """Adds the kernel to the frame."""

    def repack(
        self, value: ir.Value, data: Blocked, halo: Pads, halo_value: float, choice: Choice, layer: str
    ) -> Blocked:
        """A tensor in blocks of this emitter from one in others, with its own halo written on the way.

        ``value`` is what both stand for. A reshape where a plane is one pixel without a halo and blocks are full.
        """
        batch, channels, height, width = data.shape
        blocks = -(-channels // self.block)
        full = data.room * data.block == blocks * self.block
        if height * width == 1 and full and not any((*halo, *data.halo)):
            flat = reshape_collapse(data.value, [batch, blocks * self.block], [[0], [1, 2, 3, 4]])
            packed = reshape_expand(flat, [batch, blocks, 1, 1, self.block], [[0], [1, 2, 3, 4]])
            return Blocked(packed, data.shape, self.block, halo, halo_value)
        narrow = min(self.block, data.block)
        tile_blocks = 1
        if self.block < data.block and blocks % (data.block // self.block) == 0:
            tile_blocks = data.block // self.block  # all of a block that is read

        def emit(b: d.DispatchBody, bound: Sequence[ir.Value], tile: Tile, slices: Slices) -> list[ir.Value]:
            vector = ir.VectorType.get([narrow], self.element)
            zero = d.float_constant(0.0, self.element)
            parts = self._parts(b, bound[0], data, tile, tile_blocks)

            def pixel(row: ir.Value, column: ir.Value, outs: list[ir.Value]) -> list[ir.Value]:
                index, out = v.Indices(), outs[0]
                for number, (part, is_there) in enumerate(parts):
                    copied = v.read(part, [row, column, 0], vector, zero, index)
                    if is_there is not None:
                        nothing = v.constant_vector(0.0, vector)
                        copied = v.emit("arith.select", [is_there, copied, nothing], vector)
                    block, lane = divmod(number * narrow, self.block)
                    out = v.write(copied, out, [block, row, column, lane], index)
                return [v.mark(out, "root")]

            rows = height if tile.rows.units is None else tile.rows.units
            return v.loops([rows, width], slices.outs, pixel)

        return self.windowed(
            kind="repack",
            choice=choice,
            layer=layer,
            shape=data.shape,
            tile_blocks=tile_blocks,
            root=LoopNest([data.value], emit),
            epilogue=Epilogue([], None),
            results=[ResultSpec(value, halo, halo_value)],
            extents={},
        )[0]

    def _parts(
        self, b: d.DispatchBody, binding: ir.Value, data: Blocked, tile: Tile, tile_blocks: int
    ) -> list[tuple[ir.Value, ir.Value | None]]:
        """What lies side by side in a tile of the result: slices ``[H, W, narrow]``, and whether each is there (None:
        it always is)."""
        _, _, height, width = data.shape
        number, index = ir.AffineExpr.get_dim(0), ir.IndexType.get()

        def part(block: d.Size, lane: d.Size, lanes: int) -> ir.Value:
            offsets = [tile.image, block, data.halo[0], data.halo[1], lane]
            return b.load(binding, offsets, [1, 1, height, width, lanes], [height, width, lanes])

        if self.block < data.block:
            each = data.block // self.block
            block = b.affine(ir.AffineExpr.get_floor_div(number, each), tile.block)
            if tile_blocks > 1:
                return [(part(block, i * self.block, self.block), None) for i in range(each)]
            lane = b.affine(ir.AffineExpr.get_mod(number, each) * self.block, tile.block)
            return [(part(block, lane, self.block), None)]
        each, parts = self.block // data.block, []
        for i in range(each):
            block = b.affine(number * each + i, tile.block)
            is_there = None
            if i and data.blocks % each:  # the last block of the result may have none: its lanes are zero
                last = d.index_constant(data.blocks - 1)
                is_there = ir.Operation.create(
                    "arith.cmpi",
                    results=[ir.IntegerType.get_signless(1)],
                    operands=[block, last],
                    attributes={"predicate": ir.IntegerAttr.get(ir.IntegerType.get_signless(64), _AT_MOST)},
                ).result
                block = v.emit("arith.minsi", [block, last], index)
            parts.append((part(block, 0, data.block), is_there))
        return parts


_AT_MOST = 3  # arith's signed "less than or equal"

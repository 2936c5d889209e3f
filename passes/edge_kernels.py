"""Kernels at the edges of the blocked layout: pack, unpack, copies with another halo; shuffles, global reductions."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from iree.compiler import ir

from dlas.passes import dispatch as d
from dlas.passes import vectors as v
from dlas.passes.generics import shape_of
from dlas.passes.kernel_frame import (
    IDENTITY,
    Blocked,
    Epilogue,
    KernelFrame,
    LoopNest,
    ResultSpec,
    Slices,
    Tile,
    binary,
    dims,
    tensor_bytes,
)
from dlas.passes.plan import Choice
from dlas.passes.reshape import Pads, crop_channels, pad_channels, reshape_collapse, reshape_expand


class EdgeKernels(KernelFrame):
    """Adds the kernels at the layout's edges to the frame."""

    def copy(self, data: Blocked, halo: Pads, halo_value: float, choice: Choice, layer: str) -> Blocked:
        """The same tensor with another halo."""
        batch, _, height, width = data.shape
        maps = [d.affine_map(4, dims(1, 2, 3)), d.affine_map(4, dims(*IDENTITY))]
        result = ResultSpec(data.value, halo, halo_value)

        def emit(b: d.DispatchBody, tile: Tile) -> None:
            first, tile_shape = tile.rows.first, [1, tile.rows.count, width, self.block]
            # One dimension fewer than the result: a generic whose maps are equal would fold to a scalar copy.
            start = [tile.image, tile.block, v.plus(first, data.halo[0]), data.halo[1], 0]
            x = b.load(b.inputs[0], start, [1, *tile_shape], tile_shape[1:])
            place = [tile.image, tile.block, v.plus(first, halo[0]), halo[1], 0]
            out = b.load(b.outputs[0], place, [1, *tile_shape], tile_shape)
            role = {"dlas.role": ir.StringAttr.get("epilogue")}
            value = d.generic([x], [out], maps, "pppp", lambda a: [a[0]], role)[0]
            b.store(value, b.outputs[0], place, [1, *tile_shape])
            self.emit_border(b, b.outputs[0], result, tile, 1, height, width)

        value = self.dispatch(
            batch=batch,
            tiles=data.blocks,
            tile_blocks=1,
            height=height,
            inputs=[data.value],
            types=[self.result_type(data.shape, halo)],
            emit=emit,
        )[0]
        self.record(
            value.owner.operation,
            "copy",
            choice,
            layer,
            {"h": height, "w": width, "epilogue": 1},
            0,
            2 * tensor_bytes(value.type),
        )
        return Blocked(value, data.shape, self.block, halo, halo_value)

    def pack(self, value: ir.Value, halo: Pads, halo_value: float, choice: Choice, layer: str) -> Blocked:
        """NCHW to blocked, with the halo written on the way; a reshape where a plane is one pixel without a halo.

        A plane of one column, which must not have a halo, is packed as a row.
        """
        batch, channels, height, width = shape = tuple(ir.ShapedType(value.type).shape)
        if width == 1 and height > 1:
            row = self.pack(_turned(value), halo, halo_value, choice, layer)
            return Blocked(_turned(row.value), shape, self.block, halo, halo_value)
        blocks = -(-channels // self.block)
        if channels % self.block:
            value = pad_channels(value, blocks * self.block, self.element)
        if height * width == 1 and not any(halo):
            flat = reshape_collapse(value, [batch, blocks * self.block], [[0], [1, 2, 3]])
            packed = reshape_expand(flat, [batch, blocks, 1, 1, self.block], [[0], [1, 2, 3, 4]])
            return Blocked(packed, shape, self.block, halo, halo_value)
        split = [batch, blocks, self.block, height, width]
        expanded = reshape_expand(value, split, [[0], [1, 2], [3], [4]])
        result = ResultSpec(value, halo, halo_value)

        def emit(b: d.DispatchBody, tile: Tile) -> None:
            first, count = tile.rows.first, tile.rows.count
            source = [1, self.block, count, width]
            x = b.load(b.inputs[0], [tile.image, tile.block, 0, first, 0], [1, *source], source)
            tile_shape = [1, count, width, self.block]
            place = [tile.image, tile.block, v.plus(first, halo[0]), halo[1], 0]
            out = b.load(b.outputs[0], place, [1, *tile_shape], tile_shape)
            # The loops follow the input: IREE interchanges a transpose that does not.
            maps = [d.affine_map(4, dims(*IDENTITY)), d.affine_map(4, dims(0, 2, 3, 1))]
            role = {"dlas.role": ir.StringAttr.get("epilogue")}
            moved = d.generic([x], [out], maps, "pppp", lambda a: [a[0]], role)[0]
            b.store(moved, b.outputs[0], place, [1, *tile_shape])
            self.emit_border(b, b.outputs[0], result, tile, 1, height, width)

        packed = self.dispatch(
            batch=batch,
            tiles=blocks,
            tile_blocks=1,
            height=height,
            inputs=[expanded],
            types=[self.result_type(shape, halo)],
            emit=emit,
        )[0]
        self.record(
            packed.owner.operation, "pack", choice, layer, {"h": height, "w": width}, 0, 2 * tensor_bytes(packed.type)
        )
        return Blocked(packed, shape, self.block, halo, halo_value)

    def pad(self, value: ir.Value, pads: Pads, choice: Choice, layer: str) -> ir.Value:
        """An NCHW tensor with zeros around height and width."""
        batch, channels, height, width = ir.ShapedType(value.type).shape
        top, left, bottom, right = pads
        rows, columns = top + height + bottom, left + width + right

        def emit(b: d.DispatchBody, tile: Tile) -> None:
            # One dimension fewer than the result: a generic whose maps are equal would fold to a scalar copy.
            x = b.load(b.inputs[0], [tile.image, tile.block, 0, 0], [1, 1, height, width], [height, width])
            place, sizes = [tile.image, tile.block, top, left], [1, 1, height, width]
            out = b.load(b.outputs[0], place, sizes, sizes[1:])
            role = {"dlas.role": ir.StringAttr.get("epilogue")}
            maps = [d.affine_map(3, dims(1, 2)), d.affine_map(3, dims(0, 1, 2))]
            b.store(d.generic([x], [out], maps, "ppp", lambda a: [a[0]], role)[0], b.outputs[0], place, sizes)
            strips = [
                ("border", 0, 0, top, columns),
                ("border", top + height, 0, bottom, columns),
                ("margin", top, 0, height, left),
                ("margin", top, left + width, height, right),
            ]
            for role_, row, column, strip_rows, strip_columns in strips:
                if strip_rows and strip_columns:
                    offsets = [tile.image, tile.block, row, column]
                    sizes = [1, 1, strip_rows, strip_columns]
                    target = b.load(b.outputs[0], offsets, sizes, sizes[1:])
                    b.store(d.fill(d.float_constant(0.0, self.element), target, role_), b.outputs[0], offsets, sizes)

        type = d.tensor_type([batch, channels, rows, columns], self.element)
        padded = self.dispatch(
            batch=batch,
            tiles=channels,
            tile_blocks=1,
            height=1,  # planes stay whole
            inputs=[value],
            types=[type],
            emit=emit,
        )[0]
        extents = {"w": width, "columns": columns, "rows": top + bottom}
        moved = tensor_bytes(value.type) + tensor_bytes(type)
        self.record(padded.owner.operation, "pad", choice, layer, extents, 0, moved)
        return padded

    def unpack(self, data: Blocked, choice: Choice, layer: str) -> ir.Value:
        """Blocked to NCHW; a reshape where a plane is one pixel without a halo.

        A plane of one column, which must not have a halo, is unpacked as a row.
        """
        batch, channels, height, width = data.shape
        if width == 1 and height > 1:
            row = Blocked(_turned(data.value), (batch, channels, 1, height), self.block, data.halo, data.halo_value)
            return _turned(self.unpack(row, choice, layer))
        if height * width == 1 and not any(data.halo):
            flat = reshape_collapse(data.value, [batch, data.blocks * self.block], [[0], [1, 2, 3, 4]])
            plain = reshape_expand(flat, [batch, data.blocks * self.block, 1, 1], [[0], [1, 2, 3]])
            return plain if channels % self.block == 0 else crop_channels(plain, channels, self.element)
        out_shape = [batch, data.blocks, self.block, height, width]

        def emit(b: d.DispatchBody, tile: Tile) -> None:
            first, count = tile.rows.first, tile.rows.count
            tile_shape = [1, count, width, self.block]
            start = [tile.image, tile.block, v.plus(first, data.halo[0]), data.halo[1], 0]
            x = b.load(b.inputs[0], start, [1, *tile_shape], tile_shape)
            place = [tile.image, tile.block, 0, first, 0]
            sizes = [1, 1, self.block, count, width]
            out = b.load(b.outputs[0], place, sizes, sizes[1:])
            maps = [d.affine_map(4, dims(*IDENTITY)), d.affine_map(4, dims(0, 3, 1, 2))]
            role = {"dlas.role": ir.StringAttr.get("epilogue")}
            moved = d.generic([x], [out], maps, "pppp", lambda a: [a[0]], role)[0]
            b.store(moved, b.outputs[0], place, sizes)

        result = self.dispatch(
            batch=batch,
            tiles=data.blocks,
            tile_blocks=1,
            height=height,
            inputs=[data.value],
            types=[d.tensor_type(out_shape, self.element)],
            emit=emit,
        )[0]
        self.record(
            result.owner.operation,
            "unpack",
            choice,
            layer,
            {"h": height, "w": width, "unpack": 1},
            0,
            2 * tensor_bytes(result.type),
        )
        merged = reshape_collapse(result, [batch, data.blocks * self.block, height, width], [[0], [1, 2], [3], [4]])
        return merged if channels % self.block == 0 else crop_channels(merged, channels, self.element)

    def room(self, shape: tuple[int, ...], halo: Pads) -> ir.Value:
        """A blocked tensor that :meth:`put` fills."""
        return d.empty(list(self.result_type(shape, halo).shape), self.element)

    def put(self, target: ir.Value, data: Blocked, halo: Pads, first: int) -> ir.Value:
        """``target`` with a tensor's blocks in it, from block ``first`` on; both with ``halo`` (data may have more)."""
        batch, blocks, rows, columns, block = ir.ShapedType(target.type).shape
        sizes = [batch, data.blocks, rows, columns, block]
        offsets = [0, 0, data.halo[0] - halo[0], data.halo[1] - halo[1], 0]
        part = data.value if list(shape_of(data.value)) == sizes else v.extract_slice(data.value, offsets, sizes)
        return v.insert_slice(part, target, [0, first, 0, 0, 0], sizes)

    def shuffle(self, data: Blocked, groups: int, choice: Choice, layer: str, result: ResultSpec) -> Blocked:
        """A channel shuffle: a block of each group becomes as many blocks, whose lanes are of the groups in turn.

        for h, w:  out[k*g + j, h, w, l] = x[(l mod g) * C/(g*B) + k, h, w, j * B/g + l div g]        j < g
        """
        _, channels, height, width = data.shape
        apart, lanes = channels // (groups * self.block), self.block // groups
        vector = ir.VectorType.get([self.block], self.element)

        def emit(b: d.DispatchBody, bound: Sequence[ir.Value], tile: Tile, slices: Slices) -> list[ir.Value]:
            sizes = [groups, height, width, self.block]
            place = [tile.image, tile.index, data.halo[0], data.halo[1], 0]
            x = b.load(bound[0], place, [1, *sizes], sizes, [1, apart, 1, 1, 1])

            def pixel(row: ir.Value, column: ir.Value, outs: list[ir.Value]) -> list[ir.Value]:
                index, zero = v.Indices(), d.float_constant(0.0, self.element)
                blocks = [v.read(x, [g, row, column, 0], vector, zero, index) for g in range(groups)]
                out = outs[0]
                for j in range(groups):
                    mixed = v.shuffle(blocks[0], [j * lanes + lane // groups for lane in range(self.block)])
                    for g in range(1, groups):
                        turn = [self.block + j * lanes + lane // groups for lane in range(self.block)]
                        mask = [there if lane % groups == g else lane for lane, there in enumerate(turn)]
                        mixed = v.shuffle_two(mixed, blocks[g], mask)
                    out = v.write(mixed, out, [j, row, column, 0], index)
                return [v.mark(out, "root")]

            rows = height if tile.rows.units is None else tile.rows.units
            return v.loops([rows, width], slices.outs, pixel)

        return self.windowed(
            kind="shuffle",
            choice=choice,
            layer=layer,
            shape=data.shape,
            tile_blocks=groups,
            root=LoopNest([data.value], emit),
            epilogue=Epilogue([], None),
            results=[result],
            extents={},
        )[0]

    def reduce(self, data: Blocked, combine: str, init: float, choice: Choice, layer: str) -> ir.Value:
        """Sum or maximum over height and width, to ``[N, C/B, B]``."""
        batch, _, height, width = data.shape
        tile_shape = [1, height, width, self.block]

        def emit(b: d.DispatchBody, tile: Tile) -> None:
            x = b.load(
                b.inputs[0], [tile.image, tile.block, data.halo[0], data.halo[1], 0], [1, *tile_shape], tile_shape
            )
            sizes = [1, 1, self.block]
            out = b.load(b.outputs[0], [tile.image, tile.block, 0], sizes, sizes[1:])
            start = d.fill(d.float_constant(init, self.element), out, "init")
            role = {"dlas.role": ir.StringAttr.get("root")}
            maps = [d.affine_map(4, dims(0, 2, 3, 1)), d.affine_map(4, dims(0, 1))]
            total = d.generic([x], [start], maps, "pprr", lambda a: [binary(combine, a[0], a[1])], role)[0]
            b.store(total, b.outputs[0], [tile.image, tile.block, 0], sizes)

        result = self.dispatch(
            batch=batch,
            tiles=data.blocks,
            tile_blocks=1,
            height=1,  # a sum stays whole
            inputs=[data.value],
            types=[d.tensor_type([batch, data.blocks, self.block], self.element)],
            emit=emit,
        )[0]
        moved = tensor_bytes(data.value.type)
        self.record(
            result.owner.operation, "reduce", choice, layer, {"h": height, "w": width}, int(np.prod(data.shape)), moved
        )
        return result


def _turned(value: ir.Value) -> ir.Value:
    """A tensor with its dimensions 2 and 3, one of which is 1, the other way round."""
    shape = list(ir.ShapedType(value.type).shape)
    flat = [*shape[:2], shape[2] * shape[3], *shape[4:]]
    rest = [[4]] if len(shape) == 5 else []
    groups = [[0], [1], [2, 3], *rest]
    turned = [*shape[:2], shape[3], shape[2], *shape[4:]]
    return reshape_expand(reshape_collapse(value, flat, groups), turned, groups)

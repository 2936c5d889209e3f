"""Emit the kernels of the blocked layout: each is one dispatch over tensors ``[N, C/B, H + halo, W + halo, B]``.

Inside a workgroup the loops are always in the order (k, h, w, o | reductions): k counts channel blocks, o the lanes
of a block. The ops carry ``dlas.role``: ``init``, ``root`` (what reduces), ``epilogue`` (elementwise tail) and
``border`` (zeros, or the padding value, around the interior).
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np
from iree.compiler import ir

from dlas.passes import dispatch as d
from dlas.passes.constants import make_constant
from dlas.passes.conv import ConvShape
from dlas.passes.elementwise import Access, Elementwise
from dlas.passes.matmul import MatmulSite
from dlas.passes.plan import Choice, Kernel

Pads = tuple[int, int, int, int]
_IDENTITY = (0, 1, 2, 3)


@dataclass(frozen=True)
class Blocked:
    """A tensor in the blocked layout: ``value`` is ``[N, ceil(C/B), H + halo, W + halo, B]``."""

    value: ir.Value
    shape: tuple[int, int, int, int]
    block: int
    halo: Pads = (0, 0, 0, 0)
    halo_value: float = 0.0

    @property
    def blocks(self) -> int:
        """Channel blocks, the last one padded."""
        return -(-self.shape[1] // self.block)


@dataclass(frozen=True)
class ResultSpec:
    """A result that a kernel writes: the value it stands for, and the halo around it."""

    value: ir.Value
    halo: Pads = (0, 0, 0, 0)
    halo_value: float = 0.0


@dataclass
class Epilogue:
    """Elementwise ops at the tail of a kernel.

    Attributes:
        ops: in program order; each reads results of earlier ones, of the root, or extra inputs.
        source: the value that the root computes, or None where the first op reads only extra inputs.
        full: blocked tensors that the ops read, by the value they stand for.
        plane: ``[N, C/B, B]`` tensors by the ``[N, C, 1, 1]`` value that they stand for.
        full_plain: ``[M, N]`` tensors that the ops of a matrix product read.
    """

    ops: Sequence[Elementwise]
    source: ir.Value | None
    full: Mapping[ir.Value, Blocked] = field(default_factory=dict)
    plane: Mapping[ir.Value, ir.Value] = field(default_factory=dict)
    full_plain: Sequence[ir.Value] = ()


@dataclass
class Root:
    """What reduces in a kernel, as callbacks on the body of the dispatch.

    Attributes:
        inputs: tensors that it reads.
        emit: given the body, its bindings of ``inputs``, the tile's coordinates and the accumulator, emits the op.
        init: initial value of the accumulator.
    """

    inputs: Sequence[ir.Value]
    emit: Callable[[d.DispatchBody, Sequence[ir.Value], Tile, ir.Value], ir.Value]
    init: float = 0.0


@dataclass(frozen=True)
class Tile:
    """A workgroup's place in the result: image, number of the tile within it, first channel block."""

    image: int | ir.Value
    index: ir.Value
    block: ir.Value


def dims(*positions: int) -> list[ir.AffineExpr]:
    """Affine dimensions by position."""
    return [ir.AffineExpr.get_dim(position) for position in positions]


class KernelEmitter:
    """Emits dispatches at the current insertion point and keeps the record of each distinct kernel."""

    def __init__(self, block: int) -> None:
        self.block = block
        self.kernels: dict[str, Kernel] = {}
        self.element = ir.F32Type.get()

    # -- the frame that all kernels share ------------------------------------------------------------------------

    def windowed(
        self,
        *,
        kind: str,
        choice: Choice,
        layer: str,
        shape: tuple[int, int, int, int],
        tile_blocks: int,
        root: Root | None,
        epilogue: Epilogue,
        results: Sequence[ResultSpec],
        extents: Mapping[str, int],
        flops: int = 0,
    ) -> list[Blocked]:
        """A kernel over ``shape`` (of the result) with ``tile_blocks`` channel blocks per workgroup."""
        batch, channels, height, width = shape
        blocks = -(-channels // self.block)
        tiles = blocks // tile_blocks
        tile_shape = [tile_blocks, height, width, self.block]
        vectors = self._channel_vectors(epilogue, blocks)
        full = list(epilogue.full.items())
        plane = list(epilogue.plane.items())
        root_inputs = list(root.inputs) if root else []
        inputs = [
            *root_inputs,
            *(blocked.value for _, blocked in full),
            *(value for _, value in plane),
            *vectors.values(),
        ]
        types = [self._result_type(shape, result.halo) for result in results]

        def body(b: d.DispatchBody) -> None:
            tile = self._tile(b, batch, tiles, tile_blocks)
            bindings = iter(b.inputs)
            root_bindings = [next(bindings) for _ in root_inputs]
            sources: dict[ir.Value, tuple[ir.Value, ir.AffineMap]] = {}
            identity = d.affine_map(4, dims(*_IDENTITY))
            for key, blocked in full:
                offsets = [tile.image, tile.block, blocked.halo[0], blocked.halo[1], 0]
                sources[key] = (b.load(next(bindings), offsets, [1, *tile_shape], tile_shape), identity)
            for key, _ in plane:
                sizes = [1, tile_blocks, self.block]
                sources[key] = (
                    b.load(next(bindings), [tile.image, tile.block, 0], sizes, sizes[1:]),
                    d.affine_map(4, dims(0, 3)),
                )
            lanes = {}
            for key_ in vectors:
                sizes = [tile_blocks, self.block]
                lanes[key_] = b.load(next(bindings), [tile.block, 0], sizes, sizes)
            places = [[tile.image, tile.block, result.halo[0], result.halo[1], 0] for result in results]
            outs = [
                b.load(binding, place, [1, *tile_shape], tile_shape)
                for binding, place in zip(b.outputs, places, strict=True)
            ]
            if root is not None:
                init = d.fill(d.float_constant(root.init, self.element), outs[0], "init")
                value = root.emit(b, root_bindings, tile, init)
                if epilogue.source is not None:
                    sources[epilogue.source] = (value, identity)
                values = [value]
            if epilogue.ops:
                values = self._emit_epilogue(epilogue, sources, lanes, outs, results)
            for value, binding, place in zip(values, b.outputs, places, strict=True):
                b.store(value, binding, place, [1, *tile_shape])
            for result, binding in zip(results, b.outputs, strict=True):
                self._emit_border(b, binding, result, tile, tile_blocks, height, width)

        values = d.create_dispatch(batch * tiles, inputs, types, body)
        moved = sum(_bytes(value.type) for value in (*inputs, *values))
        extents = {**extents, "epilogue": int(bool(epilogue.ops))}
        self._record(values[0].owner.operation, kind, choice, layer, extents, flops, moved)
        return [
            Blocked(value, shape, self.block, result.halo, result.halo_value)
            for value, result in zip(values, results, strict=True)
        ]

    def _tile(self, b: d.DispatchBody, batch: int, tiles: int, tile_blocks: int) -> Tile:
        workgroup = d.ir.AffineExpr.get_dim(0)
        if batch == 1:
            image: int | ir.Value = 0
            index = b.workgroup
        else:
            image = b.affine(ir.AffineExpr.get_floor_div(workgroup, tiles))
            index = b.affine(ir.AffineExpr.get_mod(workgroup, tiles))
        return Tile(image, index, b.affine(workgroup * tile_blocks, index))

    def _result_type(self, shape: Sequence[int], halo: Pads) -> ir.RankedTensorType:
        batch, channels, height, width = shape
        blocks = -(-channels // self.block)
        top, left, bottom, right = halo
        return d.tensor_type([batch, blocks, top + height + bottom, left + width + right, self.block], self.element)

    def _emit_border(
        self,
        b: d.DispatchBody,
        binding: ir.Value,
        result: ResultSpec,
        tile: Tile,
        blocks: int,
        height: int,
        width: int,
    ) -> None:
        top, left, bottom, right = result.halo
        strips = [
            (0, 0, top, left + width + right),
            (top + height, 0, bottom, left + width + right),
            (top, 0, height, left),
            (top, left + width, height, right),
        ]
        for row, column, rows, columns in strips:
            if rows and columns:
                offsets = [tile.image, tile.block, row, column, 0]
                sizes = [1, blocks, rows, columns, self.block]
                target = b.load(binding, offsets, sizes, sizes[1:])
                value = d.fill(d.float_constant(result.halo_value, self.element), target, "border")
                b.store(value, binding, offsets, sizes)

    # -- epilogues -------------------------------------------------------------------------------------------------

    def _channel_vectors(self, epilogue: Epilogue, blocks: int) -> dict[tuple[int, int], ir.Value]:
        """Per-channel constants of the epilogue as ``[C/B, B]`` tensors, by (op, operand)."""
        vectors = {}
        for i, op in enumerate(epilogue.ops):
            for j, operand in enumerate(op.operands):
                if operand.access is Access.CHANNEL and operand.constant is not None:
                    padded = np.zeros(blocks * self.block, np.float32)
                    padded[: operand.constant.size] = operand.constant
                    vectors[i, j] = make_constant(padded.reshape(blocks, self.block), self.element)
        return vectors

    def _emit_epilogue(
        self,
        epilogue: Epilogue,
        sources: Mapping[ir.Value, tuple[ir.Value, ir.AffineMap]],
        lanes: Mapping[tuple[int, int], ir.Value],
        outs: Sequence[ir.Value],
        results: Sequence[ResultSpec],
        lane_dims: Sequence[int] = (0, 3),
        rank: int = 4,
    ) -> list[ir.Value]:
        inputs = [value for value, _ in sources.values()]
        maps = [map_ for _, map_ in sources.values()]
        position = {key: i for i, key in enumerate(sources)}
        lane_position = {}
        for key, value in lanes.items():
            lane_position[key] = len(inputs)
            inputs.append(value)
            maps.append(d.affine_map(rank, dims(*lane_dims)))
        identity = d.affine_map(rank, dims(*range(rank)))

        def body(arguments: Sequence[ir.Value]) -> list[ir.Value]:
            known: dict[ir.Value, ir.Value] = {key: arguments[i] for key, i in position.items()}
            for i, op in enumerate(epilogue.ops):
                block = op.op.regions[0].blocks[0]
                scalars: dict[ir.Value, ir.Value] = {}
                for j, operand in enumerate(op.operands):
                    if (i, j) in lane_position:
                        value = arguments[lane_position[i, j]]
                    elif operand.access is Access.SCALAR:
                        value = self._scalar(operand.value, operand.constant)
                    else:
                        value = known[operand.value]
                    scalars[block.arguments[j]] = value
                known[op.op.results[0]] = _clone_body(block, scalars)
            return [known[result.value] for result in results]

        return d.generic(
            inputs,
            outs,
            [*maps, *[identity] * len(outs)],
            "p" * rank,
            body,
            {"dlas.role": ir.StringAttr.get("epilogue")},
        )

    def _scalar(self, value: ir.Value, constant: np.ndarray | None) -> ir.Value:
        if constant is not None:
            return d.float_constant(float(constant[0]), self.element)
        return value.owner.operation.clone().results[0]

    # -- convolutions ----------------------------------------------------------------------------------------------

    def packed_conv(
        self,
        shape: ConvShape,
        data: Blocked | ir.Value,
        weights: np.ndarray,
        choice: Choice,
        layer: str,
        epilogue: Epilogue,
        results: Sequence[ResultSpec],
    ) -> list[Blocked]:
        """GSPC: the weights are packed to ``[g, K_PG/T_O, C_PG/T_I, K_h, K_w, T_I, T_O]`` here, at compile time.

        ``data`` is blocked, or NCHW (already padded) where the input has too few channels to fill a block: the
        kernel broadcasts its elements, so any layout of the input will do.
        """
        block, t_o = self.block, choice.knobs["t_o"]
        tile_blocks = t_o // block
        direct = not isinstance(data, Blocked)
        groups, packed = pack_weights(shape, weights, choice.knobs["merge"], None if direct else block, t_o)
        tiles_per_group = packed.shape[0] // groups
        c_blocks, k_h, k_w, t_i = packed.shape[1:5]
        filter_ = make_constant(packed.reshape(*packed.shape[:5], tile_blocks, block), self.element)
        (s_h, s_w), (d_h, d_w) = shape.stride, shape.dilation
        rows, columns = (shape.out_h - 1) * s_h + (k_h - 1) * d_h + 1, (shape.out_w - 1) * s_w + (k_w - 1) * d_w + 1
        reductions = [("c", c_blocks), ("y", k_h), ("x", k_w), ("i", t_i)]
        kept = [(name, extent) for name, extent in reductions if extent > 1 or name == "i"]
        axis = {name: 4 + i for i, (name, _) in enumerate(kept)}
        expr = {name: ir.AffineExpr.get_dim(position) for name, position in axis.items()}
        k, h, w, o = dims(*_IDENTITY)
        row = h * s_h + expr["y"] * d_h if "y" in axis else h * s_h
        column = w * s_w + expr["x"] * d_w if "x" in axis else w * s_w
        n_dims = 4 + len(kept)
        kept_sizes = [extent for name, extent in kept if name != "i"]
        input_value = data.value if isinstance(data, Blocked) else data

        def emit(b: d.DispatchBody, bindings: Sequence[ir.Value], tile: Tile, init: ir.Value) -> ir.Value:
            if isinstance(data, Blocked):
                top, left = data.halo[0] - shape.pads[0], data.halo[1] - shape.pads[1]
                first = b.affine(
                    ir.AffineExpr.get_floor_div(ir.AffineExpr.get_dim(0), tiles_per_group) * c_blocks, tile.index
                )
                offsets = [tile.image, first, top, left, 0]
                sizes = [1, c_blocks, rows, columns, block]
                slice_shape = ([c_blocks] if "c" in axis else []) + [rows, columns, block]
                exprs = ([expr["c"]] if "c" in axis else []) + [row, column, expr["i"]]
            else:
                offsets = [tile.image, 0, 0, 0]
                sizes = [1, t_i, rows, columns]
                slice_shape = sizes[1:]
                exprs = [expr["i"], row, column]
            x = b.load(bindings[0], offsets, sizes, slice_shape)
            filter_sizes = [1, c_blocks, k_h, k_w, t_i, tile_blocks, block]
            wt = b.load(bindings[1], [tile.index, 0, 0, 0, 0, 0, 0], filter_sizes, [*kept_sizes, t_i, tile_blocks, block])
            filter_map = [expr[name] for name, _ in kept] + [k, o]
            return d.generic(
                [x, wt],
                [init],
                [d.affine_map(n_dims, exprs), d.affine_map(n_dims, filter_map), d.affine_map(n_dims, [k, h, w, o])],
                "pppp" + "r" * len(kept),
                _multiply_add,
                {"dlas.role": ir.StringAttr.get("root")},
            )[0]

        extents = {
            "c": c_blocks,
            "y": k_h,
            "x": k_w,
            "i": t_i,
            "k": tile_blocks,
            "h": shape.out_h,
            "w": shape.out_w,
            "stride": s_w,
        }
        return self.windowed(
            kind=shape.kind,
            choice=choice,
            layer=layer,
            shape=(shape.batch, shape.c_out, shape.out_h, shape.out_w),
            tile_blocks=tile_blocks,
            root=Root([input_value, filter_], emit),
            epilogue=epilogue,
            results=results,
            extents=extents,
            flops=2 * shape.macs,
        )

    def lane_conv(
        self,
        shape: ConvShape,
        data: Blocked,
        weights: np.ndarray,
        choice: Choice,
        layer: str,
        epilogue: Epilogue,
        results: Sequence[ResultSpec],
    ) -> list[Blocked]:
        """Fewer channels per group than lanes: each lane reads its group's channels by shuffles of one vector.

        Weights become ``[C/B, K_h, K_w, C_PG, B]``; the input map ``(o floordiv C_PG) * C_PG + i`` says which lane.
        """
        block, per_group = self.block, shape.c_per_group
        k_h, k_w = shape.k_h, shape.k_w
        padded = np.zeros((-(-shape.c_out // block) * block, *weights.shape[1:]), np.float32)
        padded[: shape.c_out] = weights
        packed = padded.reshape(-1, block, per_group, k_h, k_w).transpose(0, 3, 4, 2, 1)
        filter_ = make_constant(np.ascontiguousarray(packed), self.element)

        def emit(b: d.DispatchBody, bindings: Sequence[ir.Value], tile: Tile, init: ir.Value) -> ir.Value:
            k, h, w, o, y, x, i = dims(*range(7))
            lane = ir.AffineExpr.get_floor_div(o, per_group) * per_group + i if per_group > 1 else o
            source = self._window_slice(b, bindings[0], data, tile, shape)
            sizes = [1, k_h, k_w, per_group, block]
            wt = b.load(bindings[1], [tile.block, 0, 0, 0, 0], sizes, sizes)
            row, column = h * shape.stride[0] + y * shape.dilation[0], w * shape.stride[1] + x * shape.dilation[1]
            return d.generic(
                [source, wt],
                [init],
                [
                    d.affine_map(7, [k, row, column, lane]),
                    d.affine_map(7, [k, y, x, i, o]),
                    d.affine_map(7, [k, h, w, o]),
                ],
                "pppprrr",
                _multiply_add,
                {
                    "dlas.role": ir.StringAttr.get("root"),
                    "dlas.lanes": ir.DenseI64ArrayAttr.get([shape.stride[1], shape.dilation[1], per_group]),
                },
            )[0]

        return self.windowed(
            kind=shape.kind,
            choice=choice,
            layer=layer,
            shape=(shape.batch, shape.c_out, shape.out_h, shape.out_w),
            tile_blocks=1,
            root=Root([data.value, filter_], emit),
            epilogue=epilogue,
            results=results,
            extents={"y": k_h, "x": k_w, "i": per_group, "h": shape.out_h, "w": shape.out_w, "stride": shape.stride[1]},
            flops=2 * shape.macs,
        )

    def pool(
        self,
        shape: ConvShape,
        data: Blocked,
        combine: str,
        init: float,
        choice: Choice,
        layer: str,
        epilogue: Epilogue,
        results: Sequence[ResultSpec],
    ) -> list[Blocked]:
        """Pooling; ``shape`` gives the window as a depthwise convolution would."""
        k_h, k_w = shape.k_h, shape.k_w

        def emit(b: d.DispatchBody, bindings: Sequence[ir.Value], tile: Tile, start: ir.Value) -> ir.Value:
            k, h, w, o, y, x = dims(*range(6))
            source = self._window_slice(b, bindings[0], data, tile, shape)
            window = d.empty([k_h, k_w], self.element)
            row, column = h * shape.stride[0] + y * shape.dilation[0], w * shape.stride[1] + x * shape.dilation[1]
            return d.generic(
                [source, window],
                [start],
                [d.affine_map(6, [k, row, column, o]), d.affine_map(6, [y, x]), d.affine_map(6, [k, h, w, o])],
                "pppprr",
                lambda arguments: [_binary(combine, arguments[0], arguments[2])],
                {
                    "dlas.role": ir.StringAttr.get("root"),
                    "dlas.lanes": ir.DenseI64ArrayAttr.get([shape.stride[1], shape.dilation[1], 0]),
                },
            )[0]

        return self.windowed(
            kind="pooling",
            choice=choice,
            layer=layer,
            shape=(shape.batch, shape.c_out, shape.out_h, shape.out_w),
            tile_blocks=1,
            root=Root([data.value], emit, init),
            epilogue=epilogue,
            results=results,
            extents={"y": k_h, "x": k_w, "h": shape.out_h, "w": shape.out_w, "stride": shape.stride[1]},
            flops=shape.macs,
        )

    def _window_slice(
        self, b: d.DispatchBody, binding: ir.Value, data: Blocked, tile: Tile, shape: ConvShape
    ) -> ir.Value:
        rows = (shape.out_h - 1) * shape.stride[0] + (shape.k_h - 1) * shape.dilation[0] + 1
        columns = (shape.out_w - 1) * shape.stride[1] + (shape.k_w - 1) * shape.dilation[1] + 1
        offsets = [tile.image, tile.block, data.halo[0] - shape.pads[0], data.halo[1] - shape.pads[1], 0]
        sizes = [1, 1, rows, columns, self.block]
        return b.load(binding, offsets, sizes, sizes[1:])

    def elementwise(
        self, shape: tuple[int, int, int, int], choice: Choice, layer: str, epilogue: Epilogue, results: Sequence[ResultSpec]
    ) -> list[Blocked]:
        """Elementwise ops on blocked tensors that no other kernel takes."""
        return self.windowed(
            kind="elementwise",
            choice=choice,
            layer=layer,
            shape=shape,
            tile_blocks=1,
            root=None,
            epilogue=epilogue,
            results=results,
            extents={"h": shape[2], "w": shape[3]},
            flops=len(epilogue.ops) * int(np.prod(shape)),
        )

    # -- matrix products -------------------------------------------------------------------------------------------

    def matmul(
        self, site: MatmulSite, choice: Choice, layer: str, epilogue: Epilogue, results: Sequence[ResultSpec]
    ) -> list[ir.Value]:
        """``[M, K] x [K, N]`` with the weights packed to ``[N/T_O, K, T_O]``; rows and columns stay row-major.

        Returns the results as ``[M, N]``.
        """
        t_o = choice.knobs["t_o"]
        tiles = -(-site.n // t_o)
        padded = np.pad(site.weights, ((0, 0), (0, tiles * t_o - site.n)))
        packed = np.ascontiguousarray(padded.reshape(site.k, tiles, t_o).transpose(1, 0, 2))
        filter_ = make_constant(packed, self.element)
        full = [(value, self._pad_columns(value, tiles * t_o)) for value in epilogue.full_plain]
        vectors = {}
        for i, op in enumerate(epilogue.ops):
            for j, operand in enumerate(op.operands):
                if operand.access is Access.CHANNEL and operand.constant is not None:
                    vector = np.zeros(tiles * t_o, np.float32)
                    vector[: site.n] = operand.constant
                    vectors[i, j] = make_constant(vector, self.element)
        inputs = [site.data, filter_, *(value for _, value in full), *vectors.values()]
        types = [d.tensor_type([site.m, tiles * t_o], self.element)] * len(results)
        identity = d.affine_map(2, dims(0, 1))

        def body(b: d.DispatchBody) -> None:
            column = b.affine(ir.AffineExpr.get_dim(0) * t_o)
            bindings = iter(b.inputs)
            x = b.load(next(bindings), [0, 0], [site.m, site.k], [site.m, site.k])
            wt = b.load(next(bindings), [b.workgroup, 0, 0], [1, site.k, t_o], [site.k, t_o])
            tile = [site.m, t_o]
            sources = {key: (b.load(next(bindings), [0, column], tile, tile), identity) for key, _ in full}
            lanes = {key: b.load(next(bindings), [column], [t_o], [t_o]) for key in vectors}
            outs = [b.load(binding, [0, column], tile, tile) for binding in b.outputs]
            init = d.fill(d.float_constant(0.0, self.element), outs[0], "init")
            values = d.generic(
                [x, wt],
                [init],
                [d.affine_map(3, dims(0, 2)), d.affine_map(3, dims(2, 1)), d.affine_map(3, dims(0, 1))],
                "ppr",
                _multiply_add,
                {"dlas.role": ir.StringAttr.get("root")},
            )
            sources[site.result] = (values[0], identity)
            if epilogue.ops:
                values = self._emit_epilogue(epilogue, sources, lanes, outs, results, lane_dims=(1,), rank=2)
            for value, binding in zip(values, b.outputs, strict=True):
                b.store(value, binding, [0, column], tile)

        values = d.create_dispatch(tiles, inputs, types, body)
        moved = sum(_bytes(value.type) for value in (*inputs, *values))
        extents = {"w": site.m, "i": site.k, "epilogue": int(bool(epilogue.ops))}
        self._record(
            values[0].owner.operation, "matmul", choice, layer, extents, 2 * site.m * site.n * site.k, moved
        )
        return [crop_columns(value, site.n, self.element) for value in values]

    def _pad_columns(self, value: ir.Value, columns: int) -> ir.Value:
        rows, known = ir.ShapedType(value.type).shape
        return value if known == columns else _pad(value, [0, 0], [0, columns - known], [rows, columns], self.element)

    # -- edges -----------------------------------------------------------------------------------------------------

    def copy(self, data: Blocked, halo: Pads, halo_value: float, choice: Choice, layer: str) -> Blocked:
        """The same tensor with another halo."""
        batch, _, height, width = data.shape
        tile_shape = [1, height, width, self.block]
        identity = d.affine_map(4, dims(*_IDENTITY))
        result = ResultSpec(data.value, halo, halo_value)

        def body(b: d.DispatchBody) -> None:
            tile = self._tile(b, batch, data.blocks, 1)
            x = b.load(b.inputs[0], [tile.image, tile.block, data.halo[0], data.halo[1], 0], [1, *tile_shape], tile_shape)
            place = [tile.image, tile.block, halo[0], halo[1], 0]
            out = b.load(b.outputs[0], place, [1, *tile_shape], tile_shape)
            role = {"dlas.role": ir.StringAttr.get("epilogue")}
            value = d.generic([x], [out], [identity, identity], "pppp", lambda a: [a[0]], role)[0]
            b.store(value, b.outputs[0], place, [1, *tile_shape])
            self._emit_border(b, b.outputs[0], result, tile, 1, height, width)

        value = d.create_dispatch(batch * data.blocks, [data.value], [self._result_type(data.shape, halo)], body)[0]
        self._record(
            value.owner.operation, "copy", choice, layer, {"h": height, "w": width}, 0, 2 * _bytes(value.type)
        )
        return Blocked(value, data.shape, self.block, halo, halo_value)

    def pack(self, value: ir.Value, halo: Pads, halo_value: float, choice: Choice, layer: str) -> Blocked:
        """NCHW to blocked, with the halo written on the way."""
        batch, channels, height, width = shape = tuple(ir.ShapedType(value.type).shape)
        blocks = -(-channels // self.block)
        if channels % self.block:
            value = pad_channels(value, blocks * self.block, self.element)
        split = [batch, blocks, self.block, height, width]
        expanded = reshape_expand(value, split, [[0], [1, 2], [3], [4]])
        result = ResultSpec(value, halo, halo_value)

        def body(b: d.DispatchBody) -> None:
            tile = self._tile(b, batch, blocks, 1)
            x = b.load(
                b.inputs[0], [tile.image, tile.block, 0, 0, 0], [1, 1, *split[2:]], [1, *split[2:]]
            )
            tile_shape = [1, height, width, self.block]
            place = [tile.image, tile.block, halo[0], halo[1], 0]
            out = b.load(b.outputs[0], place, [1, *tile_shape], tile_shape)
            # The loops follow the input: IREE interchanges a transpose that does not.
            maps = [d.affine_map(4, dims(*_IDENTITY)), d.affine_map(4, dims(0, 2, 3, 1))]
            role = {"dlas.role": ir.StringAttr.get("epilogue")}
            moved = d.generic([x], [out], maps, "pppp", lambda a: [a[0]], role)[0]
            b.store(moved, b.outputs[0], place, [1, *tile_shape])
            self._emit_border(b, b.outputs[0], result, tile, 1, height, width)

        packed = d.create_dispatch(batch * blocks, [expanded], [self._result_type(shape, halo)], body)[0]
        self._record(
            packed.owner.operation, "pack", choice, layer, {"h": height, "w": width}, 0, 2 * _bytes(packed.type)
        )
        return Blocked(packed, shape, self.block, halo, halo_value)

    def unpack(self, data: Blocked, choice: Choice, layer: str) -> ir.Value:
        """Blocked to NCHW."""
        batch, channels, height, width = data.shape
        out_shape = [batch, data.blocks, self.block, height, width]

        def body(b: d.DispatchBody) -> None:
            tile = self._tile(b, batch, data.blocks, 1)
            tile_shape = [1, height, width, self.block]
            x = b.load(
                b.inputs[0], [tile.image, tile.block, data.halo[0], data.halo[1], 0], [1, *tile_shape], tile_shape
            )
            place = [tile.image, tile.block, 0, 0, 0]
            sizes = [1, 1, *out_shape[2:]]
            out = b.load(b.outputs[0], place, sizes, sizes[1:])
            maps = [d.affine_map(4, dims(*_IDENTITY)), d.affine_map(4, dims(0, 3, 1, 2))]
            role = {"dlas.role": ir.StringAttr.get("epilogue")}
            moved = d.generic([x], [out], maps, "pppp", lambda a: [a[0]], role)[0]
            b.store(moved, b.outputs[0], place, sizes)

        result = d.create_dispatch(
            batch * data.blocks, [data.value], [d.tensor_type(out_shape, self.element)], body
        )[0]
        self._record(
            result.owner.operation, "unpack", choice, layer, {"h": height, "w": width, "unpack": 1}, 0, 2 * _bytes(result.type)
        )
        merged = reshape_collapse(result, [batch, data.blocks * self.block, height, width], [[0], [1, 2], [3], [4]])
        return merged if channels % self.block == 0 else crop_channels(merged, channels, self.element)

    def reduce(self, data: Blocked, combine: str, init: float, choice: Choice, layer: str) -> ir.Value:
        """Sum or maximum over height and width, to ``[N, C/B, B]``."""
        batch, _, height, width = data.shape
        tile_shape = [1, height, width, self.block]

        def body(b: d.DispatchBody) -> None:
            tile = self._tile(b, batch, data.blocks, 1)
            x = b.load(
                b.inputs[0], [tile.image, tile.block, data.halo[0], data.halo[1], 0], [1, *tile_shape], tile_shape
            )
            sizes = [1, 1, self.block]
            out = b.load(b.outputs[0], [tile.image, tile.block, 0], sizes, sizes[1:])
            start = d.fill(d.float_constant(init, self.element), out, "init")
            role = {"dlas.role": ir.StringAttr.get("root")}
            maps = [d.affine_map(4, dims(0, 2, 3, 1)), d.affine_map(4, dims(0, 1))]
            total = d.generic([x], [start], maps, "pprr", lambda a: [_binary(combine, a[0], a[1])], role)[0]
            b.store(total, b.outputs[0], [tile.image, tile.block, 0], sizes)

        result = d.create_dispatch(
            batch * data.blocks, [data.value], [d.tensor_type([batch, data.blocks, self.block], self.element)], body
        )[0]
        moved = _bytes(data.value.type)
        self._record(
            result.owner.operation, "reduce", choice, layer, {"h": height, "w": width}, int(np.prod(data.shape)), moved
        )
        return result

    # -- records ---------------------------------------------------------------------------------------------------

    def _record(
        self,
        op: ir.Operation,
        kind: str,
        choice: Choice,
        layer: str,
        extents: Mapping[str, int],
        flops: int,
        moved: int,
    ) -> None:
        body = "\n".join(view.operation.get_asm(use_local_scope=True) for view in op.regions[0].blocks[0].operations)
        text = _rename_values(body) + repr((kind, choice, sorted(extents.items()), [str(v.type) for v in op.operands]))
        key = f"{kind}_{hashlib.sha1(text.encode()).hexdigest()[:12]}"
        for inner in op.regions[0].blocks[0].operations:
            if "dlas.role" in inner.operation.attributes:
                inner.operation.attributes["dlas.kernel"] = ir.StringAttr.get(key)
        kernel = self.kernels.setdefault(key, Kernel(key, kind, choice, dict(extents), [], flops, moved))
        kernel.layers.append(layer)


def _rename_values(text: str) -> str:
    """The text with its SSA names numbered in order of appearance: equal for equal bodies."""
    names: dict[str, str] = {}
    return re.sub(r"%[\w.$-]+", lambda match: names.setdefault(match.group(), f"%v{len(names)}"), text)


def pack_weights(
    shape: ConvShape, weights: np.ndarray, merge: int, t_i: int | None, t_o: int
) -> tuple[int, np.ndarray]:
    """Weights ``[K, C_PG, K_h, K_w]`` to ``[g * K_PG/T_O, C_PG/T_I, K_h, K_w, T_I, T_O]`` (GSPC paper, section 4).

    Args:
        merge: this many groups become one, block-diagonally.
        t_i: channels of an input block (the channel counts are padded with zeros), None: all channels at once.
        t_o: channels of an output tile.

    Returns:
        (groups after merging, packed weights).
    """
    groups = shape.groups // merge
    c_pg, k_pg = shape.c_per_group * merge, shape.k_per_group * merge
    dense = np.zeros((groups, k_pg, c_pg, shape.k_h, shape.k_w), np.float32)
    source = weights.reshape(groups, merge, shape.k_per_group, shape.c_per_group, shape.k_h, shape.k_w)
    for m in range(merge):
        rows = slice(m * shape.k_per_group, (m + 1) * shape.k_per_group)
        columns = slice(m * shape.c_per_group, (m + 1) * shape.c_per_group)
        dense[:, rows, columns] = source[:, m]
    t_i = c_pg if t_i is None else t_i
    pad_k, pad_c = -k_pg % t_o, -c_pg % t_i
    if pad_k or pad_c:
        dense = np.pad(dense, ((0, 0), (0, pad_k), (0, pad_c), (0, 0), (0, 0)))
    split = dense.reshape(groups, -1, t_o, (c_pg + pad_c) // t_i, t_i, shape.k_h, shape.k_w)
    packed = split.transpose(0, 1, 3, 5, 6, 4, 2)
    return groups, np.ascontiguousarray(packed).reshape(-1, *packed.shape[2:])


def _multiply_add(arguments: Sequence[ir.Value]) -> list[ir.Value]:
    product = _binary("arith.mulf", arguments[0], arguments[1])
    return [_binary("arith.addf", arguments[2], product)]


def _binary(name: str, left: ir.Value, right: ir.Value) -> ir.Value:
    return ir.Operation.create(name, results=[left.type], operands=[left, right]).result


def _clone_body(block: ir.Block, scalars: dict[ir.Value, ir.Value]) -> ir.Value:
    """Clones the ops of an elementwise body at the current insertion point; returns what it yields."""
    for view in block.operations:
        op = view.operation
        if op.name == "linalg.yield":
            return _scalar_of(op.operands[0], scalars)
        operands = [_scalar_of(operand, scalars) for operand in op.operands]
        clone = op.clone()
        for i, operand in enumerate(operands):
            clone.operation.operands[i] = operand
        for old, new in zip(op.results, clone.operation.results, strict=True):
            scalars[old] = new
    raise AssertionError("a linalg body ends with linalg.yield")


def _scalar_of(value: ir.Value, scalars: dict[ir.Value, ir.Value]) -> ir.Value:
    if value not in scalars:  # a constant defined outside the body
        scalars[value] = value.owner.operation.clone().operation.results[0]
    return scalars[value]


def _bytes(type: ir.Type) -> int:
    shaped = ir.ShapedType(type)
    return int(np.prod(list(shaped.shape))) * 4


def reshape_expand(value: ir.Value, shape: Sequence[int], groups: Sequence[Sequence[int]]) -> ir.Value:
    """``tensor.expand_shape`` to a static shape."""
    return ir.Operation.create(
        "tensor.expand_shape",
        results=[d.tensor_type(shape, ir.ShapedType(value.type).element_type)],
        operands=[value],
        attributes={
            "reassociation": _reassociation(groups),
            "static_output_shape": ir.DenseI64ArrayAttr.get(list(shape)),
        },
    ).result


def reshape_collapse(value: ir.Value, shape: Sequence[int], groups: Sequence[Sequence[int]]) -> ir.Value:
    """``tensor.collapse_shape``."""
    return ir.Operation.create(
        "tensor.collapse_shape",
        results=[d.tensor_type(shape, ir.ShapedType(value.type).element_type)],
        operands=[value],
        attributes={"reassociation": _reassociation(groups)},
    ).result


def _reassociation(groups: Sequence[Sequence[int]]) -> ir.Attribute:
    integer = ir.IntegerType.get_signless(64)
    return ir.ArrayAttr.get([ir.ArrayAttr.get([ir.IntegerAttr.get(integer, i) for i in group]) for group in groups])


def pad_channels(value: ir.Value, channels: int, element: ir.Type) -> ir.Value:
    """NCHW with zero channels appended."""
    shape = list(ir.ShapedType(value.type).shape)
    return pad_nchw(value, (0, 0, 0, 0), channels - shape[1], element)


def pad_nchw(value: ir.Value, pads: Pads, extra_channels: int, element: ir.Type) -> ir.Value:
    """``tensor.pad`` of an NCHW tensor by zeros."""
    batch, channels, height, width = ir.ShapedType(value.type).shape
    top, left, bottom, right = pads
    shape = [batch, channels + extra_channels, top + height + bottom, left + width + right]
    return _pad(value, [0, 0, top, left], [0, extra_channels, bottom, right], shape, element)


def _pad(
    value: ir.Value, low: Sequence[int], high: Sequence[int], shape: Sequence[int], element: ir.Type
) -> ir.Value:
    op = ir.Operation.create(
        "tensor.pad",
        results=[d.tensor_type(shape, element)],
        operands=[value],
        attributes={
            "static_low": ir.DenseI64ArrayAttr.get(list(low)),
            "static_high": ir.DenseI64ArrayAttr.get(list(high)),
            "operandSegmentSizes": ir.DenseI32ArrayAttr.get([1, 0, 0]),
        },
        regions=1,
    )
    block = op.regions[0].blocks.append(*[ir.IndexType.get()] * len(shape))
    with ir.InsertionPoint(block):
        ir.Operation.create("tensor.yield", operands=[d.float_constant(0.0, element)])
    return op.result


def crop_channels(value: ir.Value, channels: int, element: ir.Type) -> ir.Value:
    """The first ``channels`` channels of an NCHW tensor."""
    batch, _, height, width = ir.ShapedType(value.type).shape
    return _crop(value, [batch, channels, height, width], element)


def crop_columns(value: ir.Value, columns: int, element: ir.Type) -> ir.Value:
    """The first ``columns`` columns of a matrix."""
    rows, known = ir.ShapedType(value.type).shape
    return value if known == columns else _crop(value, [rows, columns], element)


def _crop(value: ir.Value, sizes: Sequence[int], element: ir.Type) -> ir.Value:
    rank = len(sizes)
    return ir.Operation.create(
        "tensor.extract_slice",
        results=[d.tensor_type(sizes, element)],
        operands=[value],
        attributes={
            "static_offsets": ir.DenseI64ArrayAttr.get([0] * rank),
            "static_sizes": ir.DenseI64ArrayAttr.get(list(sizes)),
            "static_strides": ir.DenseI64ArrayAttr.get([1] * rank),
            "operandSegmentSizes": ir.DenseI32ArrayAttr.get([1, 0, 0, 0]),
        },
    ).result

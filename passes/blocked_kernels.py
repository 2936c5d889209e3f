"""Emit the kernels of the blocked layout: each is one dispatch over tensors ``[N, C/B, H + halo, W + halo, B]``."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from iree.compiler import ir

from dlas.passes import dispatch as d
from dlas.passes import vectors as v
from dlas.passes.channels_last_kernels import ChannelsLastKernels
from dlas.passes.constants import make_constant
from dlas.passes.conv import ConvShape
from dlas.passes.edge_kernels import EdgeKernels
from dlas.passes.elementwise import Access
from dlas.passes.kernel_frame import (
    IDENTITY,
    Blocked,
    Epilogue,
    ResultSpec,
    Root,
    Tile,
    binary,
    dims,
    fused_multiply_add,
    multiply_add,
    tensor_bytes,
)
from dlas.passes.matmul import MatmulSite
from dlas.passes.packing import pack_lanes, pack_weights
from dlas.passes.plan import Choice
from dlas.passes.planar_conv_kernels import PlanarConvKernels
from dlas.passes.polyphase_kernels import PolyphaseKernels
from dlas.passes.repack_kernels import RepackKernels
from dlas.passes.reshape import crop_columns, pad_columns
from dlas.passes.separable_kernels import SeparableKernels
from dlas.passes.sparse_kernels import SparseKernels
from dlas.passes.sparse_linear_kernels import SparseLinearKernels
from dlas.passes.strassen_matmul_kernels import StrassenMatmulKernels
from dlas.passes.winograd_kernels import WinogradKernels


class KernelEmitter(
    EdgeKernels,
    RepackKernels,
    ChannelsLastKernels,
    WinogradKernels,
    StrassenMatmulKernels,
    PolyphaseKernels,
    SeparableKernels,
    SparseKernels,
    PlanarConvKernels,
    SparseLinearKernels,
):
    """Emits dispatches at the current insertion point and keeps the record of each distinct kernel."""

    def packed_conv(
        self,
        shape: ConvShape,
        data: Blocked | ir.Value,
        weights: np.ndarray,
        choice: Choice,
        layer: str,
        epilogue: Epilogue,
        results: Sequence[ResultSpec],
        any_depth: bool = False,
    ) -> list[Blocked]:
        """GSPC: the weights are packed to ``[g, K_PG/T_O, C_PG/T_I, K_h, K_w, T_I, T_O]`` here, at compile time.

        ``data`` is blocked, or NCHW (already padded) where the input has too few channels to fill a block: the
        kernel broadcasts its elements, so any layout of the input will do.

        ``any_depth``: it is one kernel for any number of input channel blocks (of a pointwise convolution, one group).
        """
        block, t_o = self.block, choice.knobs["t_o"]
        tile_blocks = t_o // block
        direct = not isinstance(data, Blocked)
        groups, packed = pack_weights(shape, weights, choice.knobs["merge"], None if direct else block, t_o)
        tiles_per_group = packed.shape[0] // groups
        c_blocks, k_h, k_w, t_i = packed.shape[1:5]
        filter_ = make_constant(packed.reshape(*packed.shape[:5], tile_blocks, block), self.element)
        (s_h, s_w), (d_h, d_w) = shape.steps, shape.dilation
        # Where the kernel has one column, the load takes the stride: rows of pixels side by side vectorise.
        step = s_w if k_w == 1 else 1
        columns = shape.out_w if k_w == 1 else (shape.out_w - 1) * s_w + (k_w - 1) * d_w + 1
        reductions = [("c", c_blocks), ("y", k_h), ("x", k_w), ("i", t_i)]
        kept = [(name, extent) for name, extent in reductions if extent > 1 or name == "i"]
        axis = {name: 4 + i for i, (name, _) in enumerate(kept)}
        expr = {name: ir.AffineExpr.get_dim(position) for name, position in axis.items()}
        k, h, w, o = dims(*IDENTITY)
        row = h * s_h + expr["y"] * d_h if "y" in axis else h * s_h
        column = w * s_w + expr["x"] * d_w if "x" in axis else w
        n_dims = 4 + len(kept)
        input_value = data.value if isinstance(data, Blocked) else data
        assert not any_depth or (groups == 1 and "c" in axis and not direct)

        def emit(b: d.DispatchBody, bindings: Sequence[ir.Value], tile: Tile, init: ir.Value) -> ir.Value:
            depth: d.Size = b.numbers[0] if any_depth else c_blocks
            rows = v.scaled(tile.rows.count, s_h, (k_h - 1) * d_h + 1 - s_h)
            offsets: list[d.Size]
            sizes: list[d.Size]
            if isinstance(data, Blocked):
                top = v.scaled(tile.rows.first, s_h, data.halo[0] - shape.pads[0])
                left = data.halo[1] - shape.pads[1]
                first: d.Size = 0
                if not any_depth:
                    group = ir.AffineExpr.get_floor_div(ir.AffineExpr.get_dim(0), tiles_per_group)
                    first = b.affine(group * c_blocks, tile.index)
                offsets = [tile.image, first, top, left, 0]
                sizes = [1, depth, rows, columns, block]
                slice_shape = ([depth] if "c" in axis else []) + [rows, columns, block]
                exprs = ([expr["c"]] if "c" in axis else []) + [row, column, expr["i"]]
            else:
                offsets = [tile.image, 0, v.scaled(tile.rows.first, s_h, 0), 0]
                sizes = [1, t_i, rows, columns]
                slice_shape = sizes[1:]
                exprs = [expr["i"], row, column]
            strides = [1, 1, 1, step, 1] if isinstance(data, Blocked) else [1, 1, 1, step]
            x = b.load(bindings[0], offsets, sizes, slice_shape, strides)
            filter_sizes = [1, depth, k_h, k_w, t_i, tile_blocks, block]
            filter_shape = [depth if name == "c" else extent for name, extent in kept if name != "i"]
            filter_shape += [t_i, tile_blocks, block]
            wt = b.load(bindings[1], [tile.index, 0, 0, 0, 0, 0, 0], filter_sizes, filter_shape)
            filter_map = [expr[name] for name, _ in kept] + [k, o]
            return d.generic(
                [x, wt],
                [init],
                [d.affine_map(n_dims, exprs), d.affine_map(n_dims, filter_map), d.affine_map(n_dims, [k, h, w, o])],
                "pppp" + "r" * len(kept),
                multiply_add if t_i > 1 else fused_multiply_add,
                {"dlas.role": ir.StringAttr.get("root")},
            )[0]

        extents = {
            "c": 0 if any_depth else c_blocks,
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
            root=Root(
                [input_value, filter_],
                emit,
                varying={0: 1, 1: 1} if any_depth else {},
                numbers=[c_blocks] if any_depth else [],
            ),
            epilogue=epilogue,
            results=results,
            extents=extents,
            flops=shape.flops,
        )

    def wide_conv(
        self,
        shape: ConvShape,
        data: ir.Value,
        weights: np.ndarray,
        choice: Choice,
        layer: str,
        epilogue: Epilogue,
        results: Sequence[ResultSpec],
    ) -> list[ir.Value]:
        """A small-group convolution on NCHW tensors, ``data`` already padded; lanes run along the output row.

        Weights become ``[K/T_O, C_PG, K_h, K_w, T_O]``; loops are (o, h, w | i, y, x). Returns NCHW results.
        """
        t_o, per_group = choice.knobs["t_o"], shape.c_per_group
        tiles, tiles_per_group = shape.c_out // t_o, shape.k_per_group // t_o
        (s_h, s_w), (d_h, d_w) = shape.steps, shape.dilation
        packed = weights.reshape(tiles, t_o, per_group, shape.k_h, shape.k_w).transpose(0, 2, 3, 4, 1)
        filter_ = make_constant(np.ascontiguousarray(packed), self.element)
        vectors = {
            (i, j): make_constant(operand.constant, self.element)
            for i, op in enumerate(epilogue.ops)
            for j, operand in enumerate(op.operands)
            if operand.access is Access.CHANNEL and operand.constant is not None
        }
        taps = [(name, extent) for name, extent in (("y", shape.k_h), ("x", shape.k_w)) if extent > 1]
        o, h, w, i = dims(0, 1, 2, 3)
        axis = {name: ir.AffineExpr.get_dim(4 + position) for position, (name, _) in enumerate(taps)}
        row = h * s_h + axis["y"] * d_h if "y" in axis else h * s_h
        column = w * s_w + axis["x"] * d_w if "x" in axis else w * s_w
        n_dims = 4 + len(taps)
        columns = ir.ShapedType(data.type).shape[3]
        identity = d.affine_map(3, dims(0, 1, 2))
        types = [d.tensor_type([shape.batch, shape.c_out, shape.out_h, shape.out_w], self.element)] * len(results)

        def emit(b: d.DispatchBody, tile: Tile) -> None:
            count = tile.rows.count
            rows = v.scaled(count, s_h, (shape.k_h - 1) * d_h + 1 - s_h)
            first = b.affine(
                ir.AffineExpr.get_floor_div(ir.AffineExpr.get_dim(0), tiles_per_group) * per_group, tile.index
            )
            top = v.scaled(tile.rows.first, s_h, 0)
            x = b.load(
                b.inputs[0], [tile.image, first, top, 0], [1, per_group, rows, columns], [per_group, rows, columns]
            )
            sizes = [1, per_group, shape.k_h, shape.k_w, t_o]
            kept = [extent for _, extent in taps]
            wt = b.load(b.inputs[1], [tile.index, 0, 0, 0, 0], sizes, [per_group, *kept, t_o])
            lanes = {
                key: b.load(binding, [tile.block], [t_o], [t_o])
                for key, binding in zip(vectors, b.inputs[2:], strict=True)
            }
            place = [tile.image, tile.block, tile.rows.first, 0]
            out_sizes = [1, t_o, count, shape.out_w]
            outs = [b.load(binding, place, out_sizes, out_sizes[1:]) for binding in b.outputs]
            init = d.fill(d.float_constant(0.0, self.element), outs[0], "init")
            values = d.generic(
                [wt, x],  # in this order the outer products are rows of pixels
                [init],
                [
                    d.affine_map(n_dims, [i, *axis.values(), o]),
                    d.affine_map(n_dims, [i, row, column]),
                    d.affine_map(n_dims, [o, h, w]),
                ],
                "ppp" + "r" * (1 + len(taps)),
                multiply_add,
                {"dlas.role": ir.StringAttr.get("root")},
            )
            if epilogue.ops:
                assert epilogue.source is not None
                sources = {epilogue.source: (values[0], identity)}
                values = self.emit_epilogue(epilogue, sources, lanes, outs, results, lane_dims=(0,), rank=3)
            for value, binding in zip(values, b.outputs, strict=True):
                b.store(value, binding, place, out_sizes)

        inputs = [data, filter_, *vectors.values()]
        values = self.dispatch(
            batch=shape.batch,
            tiles=tiles,
            tile_blocks=t_o,
            height=shape.out_h,
            inputs=inputs,
            types=types,
            emit=emit,
            flops=2 * shape.macs,
        )
        moved = sum(tensor_bytes(value.type) for value in (*inputs, *values))
        extents = {"w": shape.out_w, "y": shape.k_h, "x": shape.k_w, "epilogue": int(bool(epilogue.ops))}
        self.record(values[0].owner.operation, shape.kind, choice, layer, extents, shape.flops, moved)
        return values

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
        filter_ = make_constant(pack_lanes(weights, block), self.element)

        def emit(b: d.DispatchBody, bindings: Sequence[ir.Value], tile: Tile, init: ir.Value) -> ir.Value:
            k, h, w, o, y, x, i = dims(*range(7))
            lane = ir.AffineExpr.get_floor_div(o, per_group) * per_group + i if per_group > 1 else o
            source = self._window_slice(b, bindings[0], data, tile, shape)
            sizes = [1, k_h, k_w, per_group, block]
            wt = b.load(bindings[1], [tile.block, 0, 0, 0, 0], sizes, sizes)
            row, column = h * shape.steps[0] + y * shape.dilation[0], w * shape.steps[1] + x * shape.dilation[1]
            return d.generic(
                [source, wt],
                [init],
                [
                    d.affine_map(7, [k, row, column, lane]),
                    d.affine_map(7, [k, y, x, i, o]),
                    d.affine_map(7, [k, h, w, o]),
                ],
                "pppprrr",
                multiply_add,
                {
                    "dlas.role": ir.StringAttr.get("root"),
                    "dlas.lanes": ir.DenseI64ArrayAttr.get([shape.steps[1], shape.dilation[1], per_group]),
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
            extents={"y": k_h, "x": k_w, "i": per_group, "h": shape.out_h, "w": shape.out_w, "stride": shape.steps[1]},
            flops=shape.flops,
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
            row, column = h * shape.steps[0] + y * shape.dilation[0], w * shape.steps[1] + x * shape.dilation[1]
            return d.generic(
                [source, window],
                [start],
                [d.affine_map(6, [k, row, column, o]), d.affine_map(6, [y, x]), d.affine_map(6, [k, h, w, o])],
                "pppprr",
                lambda arguments: [binary(combine, arguments[0], arguments[2])],
                {
                    "dlas.role": ir.StringAttr.get("root"),
                    "dlas.lanes": ir.DenseI64ArrayAttr.get([shape.steps[1], shape.dilation[1], 0]),
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
            extents={"y": k_h, "x": k_w, "h": shape.out_h, "w": shape.out_w, "stride": shape.steps[1]},
            flops=shape.macs,
        )

    def _window_slice(
        self, b: d.DispatchBody, binding: ir.Value, data: Blocked, tile: Tile, shape: ConvShape
    ) -> ir.Value:
        stride = shape.stride[0]
        rows = v.scaled(tile.rows.count, stride, (shape.k_h - 1) * shape.dilation[0] + 1 - stride)
        columns = (shape.out_w - 1) * shape.stride[1] + (shape.k_w - 1) * shape.dilation[1] + 1
        top = v.scaled(tile.rows.first, stride, data.halo[0] - shape.pads[0])
        offsets = [tile.image, tile.block, top, data.halo[1] - shape.pads[1], 0]
        sizes = [1, 1, rows, columns, self.block]
        return b.load(binding, offsets, sizes, sizes[1:])

    def elementwise(
        self,
        shape: tuple[int, ...],
        choice: Choice,
        layer: str,
        epilogue: Epilogue,
        results: Sequence[ResultSpec],
        any_blocks: bool = False,
    ) -> list[Blocked]:
        """Elementwise ops on blocked tensors that no other kernel takes; ``any_blocks``: see :meth:`windowed`."""
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
            any_blocks=any_blocks,
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
        full = [(value, pad_columns(value, tiles * t_o, self.element)) for value in epilogue.full_plain]
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

        def emit(b: d.DispatchBody, place: Tile) -> None:
            column = place.block
            bindings = iter(b.inputs)
            x = b.load(next(bindings), [0, 0], [site.m, site.k], [site.m, site.k])
            wt = b.load(next(bindings), [place.index, 0, 0], [1, site.k, t_o], [site.k, t_o])
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
                multiply_add if site.k > 1 else fused_multiply_add,
                {"dlas.role": ir.StringAttr.get("root")},
            )
            sources[site.result] = (values[0], identity)
            if epilogue.ops:
                values = self.emit_epilogue(epilogue, sources, lanes, outs, results, lane_dims=(1,), rank=2)
            for value, binding in zip(values, b.outputs, strict=True):
                b.store(value, binding, [0, column], tile)

        values = self.dispatch(
            batch=1,
            tiles=tiles,
            tile_blocks=t_o,
            height=1,  # rows stay together
            inputs=inputs,
            types=types,
            emit=emit,
            flops=2 * site.m * site.n * site.k,
        )
        moved = sum(tensor_bytes(value.type) for value in (*inputs, *values))
        extents = {"w": site.m, "i": site.k, "epilogue": int(bool(epilogue.ops))}
        self.record(values[0].owner.operation, "matmul", choice, layer, extents, 2 * site.m * site.n * site.k, moved)
        return [crop_columns(value, site.n, self.element) for value in values]

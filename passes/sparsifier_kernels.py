"""Kernels for pruned weights that no schedule of ours takes, from the loops of MLIR's sparsifier.

After the layout passes, whatever still has ``dlas.sparse`` is looked at: 3-D convolutions, layers of f64 and f16, and
what the layout assignment left to IREE. The weights become CSR with a column for every distance in the flattened
input, so that kernels of all sizes, strides, dilations and groups are one product (:mod:`dlas.passes.sparsifier`):

    before: %y = linalg.conv_3d_ncdhw_fcdhw {dlas.sparse} ins(%x, %w)                        NxCxDxHxW to NxKxOxPxQ
    after:  %f = %x, split by the phases of its strides, flattened and padded                          Nx(C*D*H*W+)
            %r = dispatch(%f, positions, coordinates, values)                                  [N*K, O*tiles, pixels]
              for k in rows of the workgroup: for p: for j in positions[k] .. positions[k + 1]:
                out[k, p] += values[j] * f[n, start + coordinates[j] + p]
            %y = %r without the pixels between rows

A tile has all columns of the input's rows: those that are no pixels of the result are computed, and cut off. f16 is
computed in f32. What the layer starts from, if not from zero, is added behind it. The policy says whether it pays.
"""

from __future__ import annotations

import time
from collections.abc import Sequence
from math import prod
from typing import Protocol

import numpy as np
from iree.compiler import ir

from dlas.passes import dispatch as d
from dlas.passes import vectors as v
from dlas.passes.blocked_layout import LayoutReport
from dlas.passes.constants import make_constant
from dlas.passes.generics import element_type, layer_of, shape_of
from dlas.passes.kernel_frame import KernelFrame
from dlas.passes.plan import Choice, Refusal
from dlas.passes.raise_loops import Plan, Raising
from dlas.passes.reshape import reshape_expand
from dlas.passes.row_kernels import reshaped
from dlas.passes.sparsifier import sparsified_loops
from dlas.passes.sparsifier_site import SparseProduct, SparsifierSite


class SparsifierPolicy(Protocol):
    """What chooses the schedule."""

    def sparsifier(self, product: SparseProduct) -> Choice | Refusal:
        """Of a product with a CSR matrix, or why dense code is faster."""


class SparsifierKernels:
    """The pass, for one function."""

    def __init__(self, policy: SparsifierPolicy) -> None:
        self.policy = policy

    def run(self, function: ir.Operation) -> LayoutReport:
        """Rewrites ``function`` (``func.func`` or ``util.func``) in place."""
        start = time.perf_counter()
        emitter = SparsifierEmitter()
        report = LayoutReport(kernels=emitter.kernels)
        for op in [view.operation for view in function.regions[0].blocks[0].operations]:
            site = SparsifierSite.analyze(op)
            if site is None:
                continue
            choice = site if isinstance(site, Refusal) else self.policy.sparsifier(site.product)
            if not isinstance(site, Refusal) and not isinstance(choice, Refusal):
                with ir.InsertionPoint(op), op.location:
                    result = emitter.emit(site, choice, layer_of(op))
                if not isinstance(result, Refusal):
                    op.results[0].replace_all_uses_with(result)
                    report.choices.append((layer_of(op), op.name, choice))
                    op.erase()
                    continue
                choice = result
            assert isinstance(choice, Refusal)
            report.refused.append((layer_of(op), op.name, choice.reason))
        report.seconds = time.perf_counter() - start
        return report


class SparsifierEmitter(KernelFrame):
    """Emits the kernels, and what is in front of and behind them."""

    def __init__(self) -> None:
        super().__init__(block=1)

    def emit(self, site: SparsifierSite, choice: Choice, layer: str) -> ir.Value | Refusal:
        """The layer's result at the insertion point; a refusal where the sparsifier's loops are not as expected."""
        rows, pixels, lanes = (choice.knobs[name] for name in ("rows", "pixels", "lanes"))
        element = ir.F64Type.get() if site.bits == 64 else ir.F32Type.get()
        loops = ir.Module.parse(sparsified_loops(rows, site.reach, pixels, str(element)))
        plan = Plan.analyze(loops.body.operations[0].operation, lanes * choice.knobs["vectors"])
        if isinstance(plan, Refusal):
            return plan
        vector = ir.VectorType.get([lanes], element)
        channels, steps, window = len(site.weights), site.out[0] * site.tiles, site.reach - 1 + pixels
        plane, width = site.plane[1] * site.plane[2], site.tile_rows * site.plane[2]
        last = (site.out[0] - 1) * plane + (site.tiles - 1) * width
        data = _flattened(site, last + window, element)
        result = d.tensor_type([site.batch * channels, steps, pixels], element)
        blocks = channels // rows

        def body(b: d.DispatchBody) -> None:
            number = ir.AffineExpr.get_dim(0)
            step = ir.AffineExpr.get_mod(number, steps)
            tile, depth = ir.AffineExpr.get_mod(step, site.tiles), ir.AffineExpr.get_floor_div(step, site.tiles)
            block = ir.AffineExpr.get_floor_div(number, steps)
            first = b.affine(ir.AffineExpr.get_mod(block, blocks) * rows)
            place = [b.affine(block * rows), b.affine(step), 0]
            x, positions, coordinates, values = b.inputs
            image = b.affine(ir.AffineExpr.get_floor_div(block, blocks))
            start = b.affine(depth * plane + tile * width)
            nonzeros = shape_of(constants[1])[0]
            arguments = list(plan.function.regions[0].blocks[0].arguments)
            loaded = [
                b.load(positions, [first], [rows + 1], [rows + 1]),
                b.load(coordinates, [0], [nonzeros], [nonzeros]),
                b.load(values, [0], [nonzeros], [nonzeros]),
                b.load(x, [image, start], [1, window], [window]),
                _zeroed(b.load(b.outputs[0], place, [rows, 1, pixels], [rows, pixels]), vector),
            ]
            out = Raising(plan, vector, choice.knobs["vectors"], dict(zip(arguments, loaded, strict=True))).run()
            b.store(out, b.outputs[0], place, [rows, 1, pixels])

        constants = _constants(site, element)
        value = d.create_dispatch(site.batch * blocks * steps, [data, *constants], [result], body)[0]
        nonzeros = len(site.csr[1])
        flops = 2 * nonzeros * site.batch * prod(site.out)
        moved = sum(prod(shape_of(each)) * site.bits // 8 for each in (data, value)) + nonzeros * (4 + site.bits // 8)
        self.record(value.owner.operation, "sparse", choice, layer, {}, flops, moved)
        return _unflattened(site, value)


def _constants(site: SparsifierSite, element: ir.Type) -> list[ir.Value]:
    """Positions, coordinates and values; one more that nothing reads where all weights are zero."""
    positions, columns, values = site.csr
    if not len(columns):
        columns, values = np.zeros(1, np.int64), np.zeros(1, site.weights.dtype)
    index = ir.IntegerType.get_signless(32)
    return [
        make_constant(positions, index),
        make_constant(columns, index),
        make_constant(values.astype(np.float64 if site.bits == 64 else np.float32), element),
    ]


def _zeroed(out: ir.Value, vector: ir.VectorType) -> ir.Value:
    """Zeros in a tensor of a workgroup's."""
    rows, pixels = shape_of(out)
    lanes = vector.shape[0]
    zero = v.constant_vector(0.0, vector)

    def write(k: ir.Value, p: ir.Value, carried: list[ir.Value]) -> list[ir.Value]:
        place = v.affine(ir.AffineExpr.get_dim(0) * lanes, p)
        return [v.write(zero, carried[0], [k, place], v.Indices())]

    return v.loops([rows, pixels // lanes], [out], write)[0]


def _flattened(site: SparsifierSite, size: int, element: ir.Type) -> ir.Value:
    """The input as ``[N, size]``: channels, phases of the strides, and planes of those, one after the other."""
    data = site.op.operands[0]
    if site.is_matmul:
        data = _transposed(data, (1, 0))
        rows = shape_of(data)[1]
        data = _padded(data, [0, prod(site.extents) - rows])
    data = _converted(reshaped(data, [site.batch, site.channels, *site.extents]), element)
    if prod(site.strides) > 1:
        whole = [p * s for p, s in zip(site.plane, site.strides, strict=True)]
        data = _padded(data, [0, 0, *(w - e for w, e in zip(whole, site.extents, strict=True))])
        split = [n for p, s in zip(site.plane, site.strides, strict=True) for n in (p, s)]
        shape = [site.batch, site.channels, *split]
        data = reshape_expand(data, shape, [[0], [1], [2, 3], [4, 5], [6, 7]])
        data = _transposed(data, (0, 1, 3, 5, 7, 2, 4, 6))
    data = reshaped(data, [site.batch, prod(shape_of(data)) // site.batch])
    return _padded(data, [0, max(0, size - shape_of(data)[1])])


def _unflattened(site: SparsifierSite, value: ir.Value) -> ir.Value:
    """The layer's result from the kernel's."""
    rows, steps, _ = shape_of(value)
    depth, height, width = site.out
    value = _cropped(value, [rows, steps, site.tile_pixels])
    value = reshaped(value, [rows, depth, site.tiles * site.tile_rows, site.plane[2]])
    value = _cropped(value, [rows, depth, height, width])
    shape = shape_of(site.op.results[0])
    if site.is_matmul:
        value = _transposed(_cropped(reshaped(value, [rows, height * width]), [rows, shape[0]]), (1, 0))
    value = _converted(reshaped(value, shape), element_type(site.op.results[0]))
    return value if site.starts_from_zero else _sum(value, site.op.operands[2])


def _sum(x: ir.Value, y: ir.Value) -> ir.Value:
    """Element by element."""
    rank = len(shape_of(x))
    identity = d.affine_map(rank, [ir.AffineExpr.get_dim(i) for i in range(rank)])
    out = d.empty(shape_of(x), element_type(x))

    def body(arguments: Sequence[ir.Value]) -> list[ir.Value]:
        return [v.emit("arith.addf", arguments[:2], element_type(x))]

    return d.generic([x, y], [out], [identity] * 3, "p" * rank, body)[0]


def _transposed(value: ir.Value, order: Sequence[int]) -> ir.Value:
    """Dimension ``i`` of the result is dimension ``order[i]``."""
    shape, rank = shape_of(value), len(order)
    place = [ir.AffineExpr.get_dim(order.index(i)) for i in range(rank)]
    identity = [ir.AffineExpr.get_dim(i) for i in range(rank)]
    out = d.empty([shape[i] for i in order], element_type(value))
    maps = [d.affine_map(rank, place), d.affine_map(rank, identity)]
    return d.generic([value], [out], maps, "p" * rank, lambda arguments: [arguments[0]])[0]


def _converted(value: ir.Value, element: ir.Type) -> ir.Value:
    """The same numbers in another float type."""
    known = element_type(value)
    if known == element:
        return value
    name = "arith.extf" if ir.FloatType(known).width < ir.FloatType(element).width else "arith.truncf"
    rank = len(shape_of(value))
    identity = d.affine_map(rank, [ir.AffineExpr.get_dim(i) for i in range(rank)])
    out = d.empty(shape_of(value), element)
    return d.generic(
        [value], [out], [identity, identity], "p" * rank, lambda arguments: [v.emit(name, [arguments[0]], element)]
    )[0]


def _padded(value: ir.Value, high: Sequence[int]) -> ir.Value:
    """Zeros behind the last elements of each dimension."""
    if not any(high):
        return value
    shape = [n + h for n, h in zip(shape_of(value), high, strict=True)]
    op = ir.Operation.create(
        "tensor.pad",
        results=[d.tensor_type(shape, element_type(value))],
        operands=[value],
        attributes={
            "static_low": ir.DenseI64ArrayAttr.get([0] * len(shape)),
            "static_high": ir.DenseI64ArrayAttr.get(list(high)),
            "operandSegmentSizes": ir.DenseI32ArrayAttr.get([1, 0, 0]),
        },
        regions=1,
    )
    block = op.regions[0].blocks.append(*[ir.IndexType.get()] * len(shape))
    with ir.InsertionPoint(block):
        ir.Operation.create("tensor.yield", operands=[d.float_constant(0.0, element_type(value))])
    return op.result


def _cropped(value: ir.Value, sizes: Sequence[int]) -> ir.Value:
    """The first elements of each dimension."""
    if shape_of(value) == tuple(sizes):
        return value
    return v.extract_slice(value, [0] * len(sizes), sizes)

"""Form GPU kernels of pruned convolutions: a thread per output pixel and channel walks the non-zeros of its filter.

The weights of a convolution with ``dlas.sparse`` "any" or "direct" become CSR constants whose columns are rewritten to
positions in the padded input. Those are distances from the corner of a pixel's window, the same for every pixel, so any
kernel size, stride, dilation and number of groups is the same kernel. The elementwise ops behind the convolution join
it. All tensors stay in NCHW: neighbouring threads then load neighbouring pixels.

    before: y = conv(pad(x), w);  z = relu(y + bias + residual)
    after:  forall workgroup (n, k, tile): forall thread t:
              p = tile * threads + t;  corner = p / OW * S_h * W + p % OW * S_w
              acc = 0;  for j in row k:  acc += values[j] * x[n, offsets[j] + corner]
              z[n, k, p] = relu(acc + bias[k] + residual[n, k, p])
"""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

import numpy as np
from iree.compiler import ir

from dlas.passes import dispatch as d
from dlas.passes import vectors as v
from dlas.passes.blocked_layout import LayoutReport
from dlas.passes.constants import make_constant
from dlas.passes.conv import CONV_OPS, ConvShape, ConvSite
from dlas.passes.elementwise import Access, Elementwise
from dlas.passes.generics import layer_of
from dlas.passes.kernel_frame import Epilogue, KernelFrame, ResultSpec, tensor_bytes
from dlas.passes.plan import Choice, Refusal
from dlas.passes.planar import compress
from dlas.passes.reshape import reshape_collapse, reshape_expand
from dlas.passes.sparse_weights import SPARSE

# Tensors that one kernel writes: the sum as well as its normalised form, say.
_MAX_RESULTS = 3

THREADS = "[#gpu.thread<linear_dim_0>]"
"""The mapping of the loop over a workgroup's pixels."""


class PixelPolicy(Protocol):
    """What chooses schedules."""

    def sparse(self, shape: ConvShape, nonzeros: int) -> Choice | Refusal:
        """Of a convolution by its non-zero weights; or why it is better left as it is."""


@dataclass(frozen=True)
class Plan:
    """A convolution that becomes a kernel.

    Attributes:
        site: the convolution.
        data: its input, padding included.
        choice: its schedule.
        tail: elementwise ops that join it, in program order.
        results: the values that others read.
        last: the last op of all.
    """

    site: ConvSite
    data: ir.Value
    choice: Choice
    tail: tuple[Elementwise, ...]
    results: tuple[ir.Value, ...]
    last: ir.Operation


class PixelKernels:
    """The pass, for one function."""

    def __init__(self, policy: PixelPolicy) -> None:
        self.policy = policy

    def run(self, function: ir.Operation) -> LayoutReport:
        """Rewrites ``function`` (``func.func`` or ``util.func``) in place."""
        start = time.perf_counter()
        rewriter = _Rewriter(self.policy, function)
        rewriter.run()
        rewriter.report.seconds = time.perf_counter() - start
        return rewriter.report


class _Rewriter:
    def __init__(self, policy: PixelPolicy, function: ir.Operation) -> None:
        self.policy = policy
        self.ops: list[ir.Operation] = [view.operation for view in function.regions[0].blocks[0].operations]
        self.position = {op: i for i, op in enumerate(self.ops)}
        self.emitter = _Emitter(block=1)
        self.report = LayoutReport(kernels=self.emitter.kernels)
        self.claimed: set[ir.Operation] = set()

    def run(self) -> None:
        plans = []
        for op in self.ops:
            if op.name not in CONV_OPS:
                if SPARSE in op.attributes:
                    reason = "only convolutions have a sparse kernel on GPUs"
                    self.report.refused.append((layer_of(op), op.name, reason))
                continue
            plan = self._analyze(op)
            if isinstance(plan, Refusal):
                self.report.refused.append((layer_of(op), op.name, plan.reason))
            else:
                self.claimed |= {site.op for site in plan.tail}
                plans.append(plan)
        # The hash of an operation depends on its operands: no operand changes before all kernels are there.
        replaced: list[tuple[ir.Value, ir.Value]] = []
        for plan in plans:
            with ir.InsertionPoint.after(plan.last), plan.last.location:
                replaced += zip(plan.results, self.emitter.sparse_conv(plan), strict=True)
        for old, new in replaced:
            old.replace_all_uses_with(new)
        for op in reversed(self.ops):
            if op.results and not any(True for result in op.results for _ in result.uses):
                op.erase()

    def _analyze(self, op: ir.Operation) -> Plan | Refusal:
        site = ConvSite.analyze(op)
        if isinstance(site, Refusal):
            return site
        if SPARSE not in op.attributes:
            return Refusal("no zeros among the weights: GPUs have schedules for pruned convolutions only")
        algorithm = ir.StringAttr(op.attributes[SPARSE]).value
        if algorithm not in ("any", "direct"):
            return Refusal(f"sparse algorithm {algorithm!r} has no kernel (direct has)")
        choice = self.policy.sparse(site.shape, int(np.count_nonzero(site.weights)))
        if isinstance(choice, Refusal):
            return choice
        data = op.operands[0]
        if op.name == "linalg.conv_2d_ngchw_gfchw":  # the canonical form expands the channels to groups
            data = data.owner.operation.operands[0]
        tail = self._tail(site.result)
        members = [site.op for site in tail]
        results = self._live([site.result, *(op.results[0] for op in members)], members)
        if not results:
            return Refusal("nothing reads its result")
        last = members[-1] if members else site.result.owner.operation
        return Plan(site, data, choice, tuple(tail), tuple(results), last)

    def _tail(self, root: ir.Value) -> list[Elementwise]:
        """Elementwise users, each the first user of what the kernel computes so far."""
        tail: list[Elementwise] = []
        computed = [root]
        shape = tuple(ir.ShapedType(root.type).shape)
        while True:
            members = [site.op for site in tail]
            users = [op for op in self._users(computed) if op not in members]
            if not users or users[0] in self.claimed:
                return tail
            site = Elementwise.analyze(users[0])
            if isinstance(site, Refusal) or site.shape != shape:
                return tail
            if len(self._live([*computed, site.op.results[0]], [*members, site.op])) > _MAX_RESULTS:
                return tail
            tail.append(site)
            computed.append(site.op.results[0])

    def _users(self, values: Sequence[ir.Value]) -> list[ir.Operation]:
        """Ops of the function that use any of the values, in program order."""
        found = set()
        for value in values:
            for use in value.uses:
                op: ir.Operation = use.owner.operation
                while op not in self.position:  # inside a region of an op of the function
                    op = op.parent
                found.add(op)
        return sorted(found, key=self.position.__getitem__)

    def _live(self, computed: Sequence[ir.Value], members: Sequence[ir.Operation]) -> list[ir.Value]:
        return [value for value in computed if any(op not in members for op in self._users([value]))]


@dataclass(frozen=True)
class _Bindings:
    """What a thread reads: slices of the workgroup's.

    Attributes:
        x: the image, flattened.
        positions, offsets, values: the filter.
        full, plane: operands of the tail by value: ``[k_w, pixels]``, ``[k_w]``.
        channel: its constants per channel by (op, operand): ``[k_w]``.
    """

    x: ir.Value
    positions: ir.Value
    offsets: ir.Value
    values: ir.Value
    full: dict[ir.Value, ir.Value]
    plane: dict[ir.Value, ir.Value]
    channel: dict[tuple[int, int], ir.Value]


class _Emitter(KernelFrame):
    """Emits the kernels."""

    def sparse_conv(self, plan: Plan) -> list[ir.Value]:
        """The kernel of a plan at the insertion point; the values that stand for ``plan.results``."""
        shape, knobs = plan.site.shape, plan.choice.knobs
        _, _, height, width = ir.ShapedType(plan.data.type).shape
        batch, channels, pixels = shape.batch, shape.c_out, shape.out_h * shape.out_w
        extent = shape.c_in * height * width
        taps = [
            y * shape.dilation[0] * width + x * shape.dilation[1] for y in range(shape.k_h) for x in range(shape.k_w)
        ]
        places = np.arange(shape.c_in)[:, None] * height * width + np.array(taps)
        csr = compress(shape, plan.site.weights, shape.c_per_group, places)
        integer = ir.IntegerType.get_signless(32)
        # IREE has no tensors without elements.
        filter_ = [
            make_constant(csr.positions, integer),
            make_constant(csr.offsets if csr.offsets.size else np.zeros(1, np.int32), integer),
            make_constant(csr.values if csr.values.size else np.zeros(1, np.float32), self.element),
        ]
        epilogue = Epilogue(plan.tail, plan.site.result)
        computed = {site.op.results[0] for site in plan.tail} | {plan.site.result}
        full: dict[ir.Value, ir.Value] = {}
        plane: dict[ir.Value, ir.Value] = {}
        channel: dict[tuple[int, int], ir.Value] = {}
        for i, site in enumerate(plan.tail):
            for j, operand in enumerate(site.operands):
                if operand.access is Access.FULL and operand.value not in computed:
                    full[operand.value] = reshape_collapse(operand.value, [batch, channels, pixels], [[0], [1], [2, 3]])
                elif operand.access is Access.PLANE:
                    plane[operand.value] = reshape_collapse(operand.value, [batch, channels], [[0], [1, 2, 3]])
                elif operand.access is Access.CHANNEL:
                    channel[i, j] = make_constant(np.ascontiguousarray(operand.constant, np.float32), self.element)
        inputs = [reshape_collapse(plan.data, [batch, extent], [[0], [1, 2, 3]]), *filter_]
        inputs += [*full.values(), *plane.values(), *channel.values()]
        results = [ResultSpec(value) for value in plan.results]
        threads, k_w = knobs["threads"], knobs["k_w"]
        tiles = -(-pixels // threads)

        def body(b: d.DispatchBody) -> None:
            dim, other = ir.AffineExpr.get_dim(0), ir.AffineExpr.get_dim(1)
            div, mod = ir.AffineExpr.get_floor_div, ir.AffineExpr.get_mod
            blocks = channels // k_w
            image: d.Size = b.affine(div(dim, tiles * blocks)) if batch > 1 else 0
            first_k: d.Size = b.affine(mod(div(dim, tiles), blocks) * k_w) if blocks > 1 else 0
            first = b.affine(mod(dim, tiles) * threads)
            count: d.Size = min(threads, pixels)
            if tiles > 1 and pixels % threads:
                count = v.affine_min([ir.AffineExpr.get_constant(threads), dim * -1 + pixels], first)
            bound = iter(b.inputs)
            x = b.load(next(bound), [image, 0], [1, extent], [extent])
            arrays = [b.load(next(bound), [0], size, size) for size in map(_shape, filter_)]
            place, sizes = [image, first_k, first], [1, k_w, count]
            slices = _Bindings(
                x,
                arrays[0],
                arrays[1],
                arrays[2],
                full={key: b.load(next(bound), place, sizes, sizes[1:]) for key in full},
                plane={key: b.load(next(bound), place[:2], [1, k_w], [k_w]) for key in plane},
                channel={key: b.load(next(bound), [first_k], [k_w], [k_w]) for key in channel},
            )
            outs = [b.load(binding, place, sizes, sizes[1:]) for binding in b.outputs]
            column = (k_w, 1)

            def thread(t: ir.Value, outs: list[ir.Value]) -> list[ir.Value]:
                pixel = v.affine(dim + other, first, t)
                corner = v.affine(
                    div(dim, shape.out_w) * (shape.stride[0] * width) + mod(dim, shape.out_w) * shape.stride[1], pixel
                )
                own = [v.extract_slice(out, [0, t], column) for out in outs]

                def one(k: ir.Value, own: list[ir.Value]) -> list[ir.Value]:
                    row = k if first_k == 0 else v.affine(dim + other, first_k, k)
                    values = self._pixel(slices, row, k, t, corner, epilogue, results)
                    return [
                        v.emit("tensor.insert", [value, target, k, d.index_constant(0)], target.type)
                        for value, target in zip(values, own, strict=True)
                    ]

                return v.loop(k_w, own, one)

            values = _forall(count, outs, thread, column)
            for value, binding in zip(values, b.outputs, strict=True):
                b.store(value, binding, place, sizes)

        types = [d.tensor_type([batch, channels, pixels], self.element)] * len(results)
        values = d.create_dispatch(batch * (channels // k_w) * tiles, inputs, types, body)
        moved = sum(tensor_bytes(value.type) for value in (*inputs, *values))
        operations = 2 * csr.values.size * batch * pixels
        self.record(values[0].owner.operation, "sparse", plan.choice, plan.site.layer, {}, operations, moved)
        out_shape = (batch, channels, shape.out_h, shape.out_w)
        return [reshape_expand(value, out_shape, [[0], [1], [2, 3]]) for value in values]

    def _pixel(
        self,
        slices: _Bindings,
        row: ir.Value,
        k: ir.Value,
        t: ir.Value,
        corner: ir.Value,
        epilogue: Epilogue,
        results: Sequence[ResultSpec],
    ) -> list[ir.Value]:
        """One pixel of output channel ``row``, the ``k``-th of the workgroup, through the epilogue."""
        low = _integer(slices.positions, row)
        high = _integer(slices.positions, v.plus(row, 1))

        def nonzero(j: ir.Value, sums: list[ir.Value]) -> list[ir.Value]:
            weight = v.emit("tensor.extract", [slices.values, j], self.element)
            value = v.emit("tensor.extract", [slices.x, v.add(_integer(slices.offsets, j), corner)], self.element)
            return [v.mark(v.emit("math.fma", [weight, value, sums[0]], self.element), "root")]

        (accumulated,) = v.loop_between(low, high, [d.float_constant(0.0, self.element)], nonzero)
        if not epilogue.ops:
            return [accumulated]
        known = {key: v.emit("tensor.extract", [value, k, t], self.element) for key, value in slices.full.items()}
        known |= {key: v.emit("tensor.extract", [value, k], self.element) for key, value in slices.plane.items()}
        assert epilogue.source is not None
        known[epilogue.source] = accumulated
        lanes = {key: v.emit("tensor.extract", [value, k], self.element) for key, value in slices.channel.items()}
        return self.apply_epilogue(epilogue, known, lanes, results)


def _shape(value: ir.Value) -> list[int]:
    return list(ir.ShapedType(value.type).shape)


def _integer(source: ir.Value, place: v.Index) -> ir.Value:
    """An i32 of a 1-D tensor as an index."""
    number = v.emit("tensor.extract", [source, place], ir.IntegerType.get_signless(32))
    return v.emit("arith.index_castui", [number], ir.IndexType.get())


def _forall(count: d.Size, outs: Sequence[ir.Value], body: v.Body, column: tuple[int, int]) -> list[ir.Value]:
    """``scf.forall`` over the threads of a workgroup; each makes one column of the results."""
    dynamic = [] if isinstance(count, int) else [count]
    bound = count if isinstance(count, int) else ir.ShapedType.get_dynamic_size()
    forall = ir.Operation.create(
        "scf.forall",
        results=[out.type for out in outs],
        operands=[*dynamic, *outs],
        attributes={
            "staticLowerBound": ir.DenseI64ArrayAttr.get([0]),
            "staticUpperBound": ir.DenseI64ArrayAttr.get([bound]),
            "staticStep": ir.DenseI64ArrayAttr.get([1]),
            "mapping": ir.Attribute.parse(THREADS),
            "operandSegmentSizes": ir.DenseI32ArrayAttr.get([0, len(dynamic), 0, len(outs)]),
        },
        regions=1,
    )
    block = forall.regions[0].blocks.append(ir.IndexType.get(), *(out.type for out in outs))
    with ir.InsertionPoint(block):
        thread, *shared = block.arguments
        columns = body(thread, shared)
        parallel = ir.Operation.create("scf.forall.in_parallel", regions=1)
    with ir.InsertionPoint(parallel.regions[0].blocks.append()):
        for value, target in zip(columns, shared, strict=True):
            v.parallel_insert_slice(value, target, [0, thread], column)
    return list(forall.results)

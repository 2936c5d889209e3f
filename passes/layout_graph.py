"""Read a function as a layout problem: its convolutions, pooling, reductions and elementwise ops with their
implementations, and everything else, which reads and writes NCHW."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import replace
from typing import Protocol, TypeVar

import numpy as np
from iree.compiler import ir

from dlas.errors import ScheduleError
from dlas.passes.channel_shuffle import ShuffleSite
from dlas.passes.channels_last import ChannelsLastSite
from dlas.passes.concat import ConcatSite
from dlas.passes.conv import CONV_OPS, ConvShape, ConvSite
from dlas.passes.elementwise import Access, Elementwise
from dlas.passes.generics import defining_op, layer_of, shape_of
from dlas.passes.knob_request import KnobRequest
from dlas.passes.layout_assignment import (
    NCHW,
    PLANAR,
    Assignment,
    Implementation,
    LayoutOp,
    LayoutProblem,
    block_of,
    blocked,
)
from dlas.passes.matmul import MatmulSite
from dlas.passes.plan import Choice, Grid, Refusal
from dlas.passes.sparse_weights import SPARSE
from dlas.passes.window import POOL_OPS, ReduceSite, WindowSite

Site = ConvSite | WindowSite | ReduceSite | Elementwise | ConcatSite | ShuffleSite | MatmulSite | ChannelsLastSite
_THROUGH = ("tensor.pad", "tensor.expand_shape", "tensor.collapse_shape")


class LayoutPolicy(Protocol):
    """What the layout pass asks of the schedules: which there are for an op, and what they and transforms cost."""

    block: int
    """Channels of a block, B (f32 lanes of a vector register)."""

    blocks: Sequence[int]
    """Channels of the blocks that there is a choice of, the largest (``block``) first."""

    def of_block(self, block: int) -> LayoutPolicy:
        """The policy for kernels on blocks of so many channels, one of ``blocks``."""

    def implementations(self, shape: ConvShape) -> Sequence[Implementation] | Refusal:
        """The ways to compute a convolution, or why there is none."""

    def planar(self, shape: ConvShape) -> Implementation | Refusal:
        """The way to compute a convolution on planes, or why there is none."""

    def prefers_planes(self, shape: ConvShape) -> bool:
        """Whether planes may be worth their transforms for this convolution's sake."""

    def sparse(self, shape: ConvShape, nonzeros: int, algorithm: str) -> Implementation | Refusal:
        """The way to compute a convolution by so many non-zero weights, or why it is none."""

    def asked(
        self, shape: ConvShape, request: KnobRequest, nonzeros: int, algorithm: str | None
    ) -> Implementation | Refusal:
        """A convolution as a transform script asks for it (``algorithm``: ``dlas.sparse``), or why that cannot be."""

    def asked_matmul(
        self, m: int, n: int, k: int, request: KnobRequest, nonzeros: int, algorithm: str | None
    ) -> Implementation | Refusal:
        """The same for ``[m, k] x [k, n]``."""

    def asked_separable(
        self, first: ConvShape, before: Choice, shape: ConvShape, request: KnobRequest
    ) -> Choice | Refusal:
        """The same for :meth:`separable`."""

    def separable(self, first: ConvShape, before: Choice, shape: ConvShape) -> Choice | Refusal:
        """The schedule of a convolution by lanes (``before``) and the pointwise one behind it as one kernel, or why
        not."""

    def matmul(self, m: int, n: int, k: int) -> Choice | Refusal:
        """The schedule of ``[m, k] x [k, n]``."""

    def matmul_ways(self, m: int, n: int, k: int, nonzeros: int) -> Sequence[Implementation] | Refusal:
        """The ways to compute it with so many non-zero weights, the dense one first; or why it is the only one."""

    def plain(self, kind: str, height: int, width: int) -> Choice:
        """The schedule of a kernel without multiply-accumulates."""

    def grid(self, tiles: int, rows: int, flops: int, moved: int) -> Grid:
        """How a kernel's tiles, and the rows of each, are dealt out to workgroups."""

    def transform_cycles(self, shape: Sequence[int], source: str, target: str) -> float:
        """Cycles to bring an activation from one layout to another."""

    def window_cycles(self, shape: ConvShape, layout: str) -> float:
        """Cycles of pooling; ``shape`` gives the window as a depthwise convolution would."""

    def channels_last_cycles(self, shape: Sequence[int], layout: str) -> float:
        """Cycles of a transpose between channels-last and another layout."""

    def stream_cycles(self, elements: int, layout: str, *, fused: bool = False) -> float:
        """Cycles to read and write so many elements in all, in a kernel of its own or ``fused`` into one."""


class LayoutGraph:
    """The function's ops that have a say in layouts.

    Args:
        ops: of the function, in order.
        policy: says what implementations there are.

    Attributes:
        sites: what each op is; those left out read and write NCHW.
        refused: convolutions that no implementation takes.
        planar: the convolutions that may be computed on planes.
    """

    def __init__(self, ops: Sequence[ir.Operation], policy: LayoutPolicy) -> None:
        self.policy = policy
        self.sites: dict[ir.Operation, Site] = {}
        self.refused: dict[ir.Operation, Refusal] = {}
        self.planar: list[tuple[ir.Operation, ConvSite]] = []
        self._numbers: dict[ir.Value, int] = {}
        self._shapes: list[tuple[int, ...]] = []
        self._nodes: dict[ir.Operation, int] = {}
        self._ops: dict[int, ir.Operation] = {}  # by node
        self._operands: dict[ir.Operation, set[ir.Value]] = {}  # (values of other classes are unequal in lists)
        self._producers: dict[ir.Value, int] = {}  # nodes by what they make
        self._through: dict[ir.Operation, set[ir.Operation]] = {}  # for a pad or reshape, the sites that see through it
        self.problem = LayoutProblem(
            lambda number, source, target: policy.transform_cycles(self._shapes[number], source, target)
        )
        self._has_planes = any(self._asks_for_planes(op) for op in ops)
        for op in ops:
            self._add(op)
        self._add_plain_readers()
        self.assignment: Assignment = self.problem.solve_blocks(policy.blocks)

    def chosen(self, op: ir.Operation) -> Implementation | None:
        """The implementation of an op; None for one without a say."""
        node = self._nodes.get(op)
        return None if node is None else self.assignment.ops[node].chosen

    def layout(self, value: ir.Value) -> str:
        """The layout that a value is made in."""
        producer = self._producers.get(value)
        return NCHW if producer is None else self.assignment.ops[producer].chosen.result

    def is_laid_out(self, value: ir.Value) -> bool:
        """Whether a value is made in another layout than NCHW."""
        return self.layout(value) != NCHW

    # -- building --------------------------------------------------------------------------------------------------

    def _add(self, op: ir.Operation) -> None:
        if op.name in CONV_OPS:
            self._add_conv(op)
        elif op.name in POOL_OPS:
            self._add_pool(op)
        elif op.name == "linalg.matmul":
            self._add_matmul(op)
        elif op.name == "tensor.concat":
            self._add_concat(op)
        elif op.name == "tensor.collapse_shape":
            self._add_shuffle(op)
        elif op.name == "linalg.transpose":
            self._add_transpose(op)
        elif op.name == "linalg.generic":
            self._add_generic(op)

    def _add_conv(self, op: ir.Operation) -> None:
        site, request = ConvSite.analyze(op), KnobRequest.of(op)
        if request is not None:
            self._add_asked_conv(op, _unless_refused(op, site), request)
            return
        found = site if isinstance(site, Refusal) else self.policy.implementations(site.shape)
        if isinstance(site, Refusal):
            self.refused[op] = site
            return
        ways = [] if isinstance(found, Refusal) else list(found)
        planar = self.policy.planar(site.shape)
        if self._has_planes and isinstance(planar, Implementation):
            ways.append(planar)
        algorithm = _algorithm(op)
        if algorithm is not None:
            sparse = self.policy.sparse(site.shape, int(np.count_nonzero(site.weights)), algorithm)
            if isinstance(sparse, Implementation):
                ways.append(sparse)
        if isinstance(found, Refusal) and not ways:
            more = f"; {planar.reason}" if isinstance(planar, Refusal) else ""
            self.refused[op] = Refusal(found.reason + more)
            return
        if any(way.result == PLANAR for way in ways):
            self.planar.append((op, site))
        self._node(op, site, [site.data], site.result, ways)

    def _add_asked_conv(self, op: ir.Operation, site: ConvSite, request: KnobRequest) -> None:
        """A convolution for which a transform script asks: nothing else is considered."""
        nonzeros = int(np.count_nonzero(site.weights))
        way = _unless_refused(op, self.policy.asked(site.shape, request, nonzeros, _algorithm(op)))
        if way.result == PLANAR:
            self.planar.append((op, site))
        if request.schedule == "separable_conv":
            self._settle(site.data, way.operands[0])
        self._node(op, site, [site.data], site.result, [way])

    def _settle(self, value: ir.Value, layout: str) -> None:
        """Has a value, if a depthwise convolution and the elementwise ops behind it make it, in one layout."""
        while value in self._producers:
            number = self._producers[value]
            op = self.problem.ops[number]
            kept = tuple(way for way in op.implementations if way.result == layout)
            if not kept:
                return
            self.problem.ops[number] = replace(op, implementations=kept)
            site = self.sites[self._ops[number]]
            if not isinstance(site, Elementwise):
                return
            value = next(operand.value for operand in site.operands if operand.access is Access.FULL)

    def _asks_for_planes(self, op: ir.Operation) -> bool:
        """Whether a convolution's channels fill no blocks; others follow it where transforms would cost more."""
        site = ConvSite.analyze(op) if op.name in CONV_OPS else Refusal("no convolution")
        if isinstance(site, Refusal) or not self.policy.prefers_planes(site.shape):
            return False
        return isinstance(self.policy.planar(site.shape), Implementation)

    def _add_matmul(self, op: ir.Operation) -> None:
        """A product with a choice of kernels, though not of layouts: by pruned weights, or as a script asks for it."""
        site, request, algorithm = MatmulSite.analyze(op), KnobRequest.of(op), _algorithm(op)
        if request is not None:
            site = _unless_refused(op, site)
            nonzeros = int(np.count_nonzero(site.weights))
            found = self.policy.asked_matmul(site.m, site.n, site.k, request, nonzeros, algorithm)
            self._node(op, site, [], None, [_unless_refused(op, found)])
        elif algorithm in ("any", "direct") and not isinstance(site, Refusal):
            ways = self.policy.matmul_ways(site.m, site.n, site.k, int(np.count_nonzero(site.weights)))
            if not isinstance(ways, Refusal):
                self._node(op, site, [], None, ways)

    def _add_pool(self, op: ir.Operation) -> None:
        site = WindowSite.analyze(op)
        if isinstance(site, Refusal):
            self.refused[op] = site
            return
        shape = site.shape
        self._node(
            op,
            site,
            [site.data],
            site.result,
            [
                Implementation((layout,), layout, self.policy.window_cycles(shape, layout))
                for layout in (*map(blocked, self.policy.blocks), NCHW)
            ],
        )

    def _add_concat(self, op: ir.Operation) -> None:
        if len(shape_of(op.results[0])) != 4:
            return
        found = {block: ConcatSite.analyze(op, block) for block in self.policy.blocks}
        sites = {block: site for block, site in found.items() if isinstance(site, ConcatSite)}
        if not sites:
            refusal = found[self.policy.block]
            assert isinstance(refusal, Refusal)
            self.refused[op] = refusal
            return
        # In blocks, one that appends to another copies only what it appends.
        site = next(iter(sites.values()))
        first = defining_op(site.parts[0])
        appended = site.parts[1:] if first is not None and first.name == "tensor.concat" else site.parts
        elements_ = sum(math.prod(shape_of(part)) for part in appended)  # whole blocks
        costs = {**{blocked(block): elements_ for block in sites}, NCHW: math.prod(site.shape)}
        ways = [
            Implementation((way,) * len(site.parts), way, self.policy.stream_cycles(2 * elements, way))
            for way, elements in costs.items()
        ]
        self._node(op, site, site.parts, site.result, ways)

    def _add_shuffle(self, op: ir.Operation) -> None:
        found = {block: ShuffleSite.analyze(op, block) for block in self.policy.blocks}
        sites = {block: site for block, site in found.items() if isinstance(site, ShuffleSite)}
        if not sites:
            refusal = found[self.policy.block]
            if isinstance(refusal, Refusal):
                self.refused[op] = refusal
            return
        site = next(iter(sites.values()))
        elements = 2 * math.prod(shape_of(site.result))
        ways = [
            Implementation((layout,), layout, self.policy.stream_cycles(elements, layout))
            for layout in (*map(blocked, sites), NCHW)
        ]
        self._node(op, site, [site.data], site.result, ways)
        for inner in site.between:
            self._through.setdefault(inner, set()).add(op)

    def _add_transpose(self, op: ir.Operation) -> None:
        """To or from channels-last, which is as good a layout to read and write blocks in as any."""
        site = ChannelsLastSite.analyze(op)
        if isinstance(site, Refusal):
            return
        layouts = (*map(blocked, self.policy.blocks), NCHW)
        costs = {layout: self.policy.channels_last_cycles(site.shape, layout) for layout in layouts}
        if site.to_last:
            ways = [Implementation((layout,), NCHW, cycles) for layout, cycles in costs.items()]
            self._node(op, site, [site.data], None, ways)
        else:
            ways = [Implementation((), layout, cycles) for layout, cycles in costs.items()]
            self._node(op, site, [], site.result, ways)

    def _add_generic(self, op: ir.Operation) -> None:
        reduce = ReduceSite.analyze(op)
        if isinstance(reduce, ReduceSite):
            shape = ir.ShapedType(reduce.data.type).shape
            elements = math.prod(shape)  # in whole blocks
            layouts = [*self._whole_blocks(shape[1]), NCHW]
            ways = [Implementation((layout,), NCHW, self.policy.stream_cycles(elements, layout)) for layout in layouts]
            self._node(op, reduce, [reduce.data], None, ways)
            return
        site = Elementwise.analyze(op)
        if isinstance(site, Refusal) or len(site.shape) != 4:
            return
        full = list(dict.fromkeys(o.value for o in site.operands if o.access is Access.FULL))
        planes = list(dict.fromkeys(o.value for o in site.operands if o.access is Access.PLANE))
        if not full:
            return
        layouts = [*(self._whole_blocks(site.shape[1]) if planes else map(blocked, self.policy.blocks)), NCHW]
        if self.planar:
            layouts.append(PLANAR)
        stored = {layout: _stored(site.shape, layout) for layout in layouts}
        ways = [
            Implementation(
                (layout,) * len(full) + (NCHW,) * len(planes),
                layout,
                self.policy.stream_cycles(elements * (len(full) + 1), layout),
                fused_cycles=self.policy.stream_cycles(elements * (len(full) - 1), layout, fused=True),
            )
            for layout, elements in stored.items()
        ]
        self._node(op, site, [*full, *planes], op.results[0], ways)

    def _whole_blocks(self, channels: int) -> list[str]:
        """The layouts whose blocks so many channels fill."""
        return [blocked(block) for block in self.policy.blocks if channels % block == 0]

    def _node(
        self,
        op: ir.Operation,
        site: Site,
        operands: Sequence[ir.Value],
        result: ir.Value | None,
        implementations: Sequence[Implementation],
    ) -> None:
        for value in op.operands:
            for through in _between(value, set(operands)):
                self._through.setdefault(through, set()).add(op)
        numbers = tuple(self._number(value) for value in operands)
        target = None if result is None else self._number(result)
        if result is not None:
            self._producers[result] = len(self.problem.ops)
        self.sites[op], self._operands[op] = site, set(operands)
        self._nodes[op] = len(self.problem.ops)
        self._ops[len(self.problem.ops)] = op
        self.problem.ops.append(LayoutOp(layer_of(op), op.name, numbers, target, tuple(implementations)))

    def _number(self, value: ir.Value) -> int:
        if value not in self._numbers:
            self._numbers[value] = len(self._shapes)
            self._shapes.append(tuple(ir.ShapedType(value.type).shape))
        return self._numbers[value]

    def _add_plain_readers(self) -> None:
        """One reader in NCHW for each value of the problem that anything else reads."""
        for value in self._producers:
            if self._needs_plain(value):
                way = Implementation((NCHW,), NCHW, 0.0)
                self.problem.ops.append(LayoutOp("", "", (self._numbers[value],), None, (way,)))

    def _needs_plain(self, value: ir.Value, source: ir.Value | None = None) -> bool:
        """Whether anything but sites reads a value; ``source`` is what it was before pads and reshapes."""
        source = value if source is None else source
        for use in value.uses:
            user = use.owner.operation
            if user in self._operands:
                if source not in self._operands[user]:
                    return True
            elif user not in self._through or self._needs_plain(user.results[0], source):
                return True
        return False


def _stored(shape: Sequence[int], layout: str) -> int:
    """Elements of a tensor in a layout, whose last block is whole."""
    batch, channels, height, width = shape
    block = block_of(layout) or 1
    return batch * -(-channels // block) * block * height * width


def _algorithm(op: ir.Operation) -> str | None:
    """``dlas.sparse`` of an op, None where its weights are dense."""
    return op.attributes[SPARSE].value if SPARSE in op.attributes else None


Found = TypeVar("Found")


def _unless_refused(op: ir.Operation, found: Found | Refusal) -> Found:
    """What a transform script asks for.

    Raises:
        ScheduleError: it is refused.
    """
    if isinstance(found, Refusal):
        raise ScheduleError(found.reason, where=f"layer {layer_of(op)}", hint="a transform script asks for it")
    return found


def _between(start: ir.Value, ends: set[ir.Value]) -> Iterator[ir.Operation]:
    """The pads and reshapes from a value back to one of ``ends``; none if it does not come from there."""
    passed = []
    while start not in ends:
        op = getattr(start.owner, "operation", None)
        if op is None or op.name not in _THROUGH:
            return
        passed.append(op)
        start = op.operands[0]
    yield from passed

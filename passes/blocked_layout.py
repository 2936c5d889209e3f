"""Lay a model's activations out in channel blocks, nChw{B}c, and form one kernel per fused group of ops.

The pass walks the function once. A convolution or pooling op that the policy takes becomes the root of a group; the
elementwise ops behind it join its kernel as long as they are the first users of what the group computes. Values
between groups stay blocked, with a halo as wide as their padded consumers need: the producer writes the border, so
``tensor.pad`` costs nothing but the border. Where a blocked value meets an op that this pass does not take, an unpack
is inserted, and the op is left to IREE.

    before: conv(pad(x)) -> +bias -> relu -> conv(pad(.)) -> ...                     NCHW, one op each
    after:  kernel(x) -> kernel(.) -> ... -> unpack          [N, C/B, H+halo, W+halo, B] in between
"""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

from iree.compiler import ir

from dlas.passes.blocked_kernels import KernelEmitter
from dlas.passes.conv import CONV_OPS, ConvShape, ConvSite, pad_amounts
from dlas.passes.elementwise import Access, Elementwise
from dlas.passes.kernel_frame import Blocked, Epilogue, ResultSpec
from dlas.passes.matmul import MatmulSite
from dlas.passes.plan import Choice, Kernel, Refusal
from dlas.passes.reshape import Pads, reshape_collapse, reshape_expand
from dlas.passes.window import POOL_OPS, ReduceSite, WindowSite

ConvPolicy = Callable[[ConvShape], "Choice | Refusal"]
PlainPolicy = Callable[[str, int, int], Choice]
MatmulPolicy = Callable[[int, int, int], "Choice | Refusal"]
Root = ConvSite | WindowSite | ReduceSite | MatmulSite
_NO_PADS: Pads = (0, 0, 0, 0)
_MAX_RESULTS = 3


@dataclass
class LayoutReport:
    """What the pass did: the kernels it formed, by key, and what it left to IREE and why."""

    kernels: dict[str, Kernel] = field(default_factory=dict)
    refused: list[tuple[str, str, str]] = field(default_factory=list)  # (layer, op, reason)
    seconds: float = 0.0


@dataclass
class _Group:
    root: Root | None
    choice: Choice
    epilogue: list[Elementwise]
    last: ir.Operation
    results: list[ir.Value]
    plain: bool = False  # the results are not blocked

    @property
    def source(self) -> ir.Value | None:
        return self.root.result if self.root is not None else None


class BlockedLayout:
    """The pass, for one function.

    Args:
        block: channels of a block, B (f32 lanes of a vector register).
        conv_policy: the schedule of a convolution, or why it gets none.
        plain_policy: the schedule of a kernel without multiply-accumulates, from (kind, height, width).
        matmul_policy: the schedule of a matrix product, from (m, n, k).
        alone_policy: the schedule of a convolution whose input and results are NCHW at the model's edge, if there is
            a better one than packing both; None: always pack.
    """

    def __init__(
        self,
        block: int,
        conv_policy: ConvPolicy,
        plain_policy: PlainPolicy,
        matmul_policy: MatmulPolicy,
        alone_policy: ConvPolicy | None = None,
    ) -> None:
        self.block, self.conv_policy, self.plain_policy = block, conv_policy, plain_policy
        self.matmul_policy, self.alone_policy = matmul_policy, alone_policy

    def run(self, function: ir.Operation) -> LayoutReport:
        """Rewrites ``function`` (``func.func`` or ``util.func``) in place."""
        start = time.perf_counter()
        rewriter = _Rewriter(self, function)
        rewriter.run()
        rewriter.report.seconds = time.perf_counter() - start
        return rewriter.report


class _Rewriter:
    def __init__(self, config: BlockedLayout, function: ir.Operation) -> None:
        self.config = config
        self.ops: list[ir.Operation] = [view.operation for view in function.regions[0].blocks[0].operations]
        self.position = {op: i for i, op in enumerate(self.ops)}
        self.emitter = KernelEmitter(config.block)
        self.report = LayoutReport(kernels=self.emitter.kernels)
        self.blocked: dict[ir.Value, Blocked] = {}  # values that exist (also) in the blocked layout
        self.planes: dict[ir.Value, ir.Value] = {}  # [N, C, 1, 1] values that exist as [N, C/B, B]
        self.will_be_blocked: set[ir.Value] = set()
        # The hash of an operation depends on its operands: no operand of an op in a dict changes before the last step.
        self.replaced: list[tuple[ir.Value, ir.Value]] = []
        self.claimed: dict[ir.Operation, _Group] = {}
        self.elementwise: dict[ir.Operation, Elementwise | Refusal] = {}
        self.convs = {op: self._analyze_conv(op) for op in self.ops if op.name in CONV_OPS}
        self.demands = self._halo_demands()

    # -- analysis --------------------------------------------------------------------------------------------------

    def _halo_demands(self) -> dict[ir.Value, tuple[Pads, float]]:
        """For each value with padded users, the halo that covers all they read, with the first padding's value."""
        demands: dict[ir.Value, tuple[Pads, float]] = {}
        for op in self.ops:
            amounts = pad_amounts(op) if op.name == "tensor.pad" else None
            if amounts is None:
                continue
            value, pads = amounts
            _widen(demands, op.operands[0], pads, value)
        for found in self.convs.values():
            if not isinstance(found, Refusal):
                _widen(demands, found[0].data, _read_pads(*found), 0.0)
        return demands

    def _analyze_conv(self, op: ir.Operation) -> tuple[ConvSite, Choice] | Refusal:
        site = ConvSite.analyze(op)
        choice = site if isinstance(site, Refusal) else self.config.conv_policy(site.shape)
        if isinstance(site, Refusal) or isinstance(choice, Refusal):
            assert isinstance(choice, Refusal)
            return choice
        return site, choice

    def _analyze_elementwise(self, op: ir.Operation) -> Elementwise | Refusal:
        if op not in self.elementwise:
            self.elementwise[op] = Elementwise.analyze(op)
        return self.elementwise[op]

    def _users(self, values: Sequence[ir.Value]) -> list[ir.Operation]:
        """Ops of the function that use any of the values, in program order."""
        found = set()
        for value in values:
            for use in value.uses:
                op: ir.Operation | None = use.owner.operation
                while op is not None and op not in self.position:  # inside a region of an op of the function
                    op = op.parent
                if op is not None:  # else emitted by this pass
                    found.add(op)
        return sorted(found, key=self.position.__getitem__)

    def _grow(self, root: Root | None, choice: Choice, first: ir.Operation) -> _Group:
        """Takes elementwise users into the group while each is the first user of what the group computes."""
        epilogue: list[Elementwise] = []
        if root is None:
            site = self._analyze_elementwise(first)
            assert isinstance(site, Elementwise)
            epilogue.append(site)
            computed = [first.results[0]]
        else:
            computed = [root.result]
        shape = tuple(ir.ShapedType(computed[0].type).shape)
        last = first if root is None else self.position_of(root.result)
        while True:
            members = {site.op for site in epilogue}
            users = [op for op in self._users(computed) if op not in members]
            if not users:
                break
            op = users[0]
            site = self._analyze_elementwise(op)
            if (
                op in self.claimed
                or not isinstance(site, Elementwise)
                or site.shape != shape
                or not self._operands_ready(site, computed)
                or len(self._live(computed + [op.results[0]], members | {op})) > _MAX_RESULTS
            ):
                break
            epilogue.append(site)
            computed.append(op.results[0])
            last = op
        members = {site.op for site in epilogue}
        return _Group(root, choice, epilogue, last, self._live(computed, members))

    def position_of(self, value: ir.Value) -> ir.Operation:
        """The op of the function that defines ``value``."""
        return value.owner.operation

    def _live(self, computed: Sequence[ir.Value], members: set[ir.Operation]) -> list[ir.Value]:
        return [v for v in computed if any(op not in members for op in self._users([v]))]

    def _operands_ready(self, site: Elementwise, computed: Sequence[ir.Value]) -> bool:
        """Whether the op's other operands are blocked, or cheap to bring there."""
        for operand in site.operands:
            if operand.access is Access.FULL and operand.value not in computed and len(site.shape) == 4:
                if operand.value not in self.will_be_blocked:
                    return False
            elif operand.access is Access.PLANE and site.shape[1] % self.config.block:
                return False
        return True

    # -- rewriting -------------------------------------------------------------------------------------------------

    def run(self) -> None:
        for op in self.ops:
            group = self.claimed.get(op) or self._new_group(op)
            if group is not None and group.last == op:
                with ir.InsertionPoint.after(op), op.location:
                    self._emit(group)
        self._unpack_leftovers()
        for old, new in self.replaced:
            old.replace_all_uses_with(new)
        self._erase_dead()

    def _new_group(self, op: ir.Operation) -> _Group | None:
        group = None
        if op.name in CONV_OPS:
            group = self._conv_group(op)
        elif op.name in POOL_OPS:
            group = self._pool_group(op)
        elif op.name == "linalg.matmul":
            group = self._matmul_group(op)
        elif op.name == "linalg.generic":
            group = self._generic_group(op)
        if group is not None and not group.results:  # nothing reads what it computes
            return None
        if group is not None:
            members = [site.op for site in group.epilogue]
            if group.root is not None:
                members += [group.root.op, self.position_of(group.root.result)]
            for member in members:
                self.claimed[member] = group
            if not group.plain and not isinstance(group.root, (ReduceSite, MatmulSite)):
                self.will_be_blocked.update(group.results)
        return group

    def _conv_group(self, op: ir.Operation) -> _Group | None:
        found = self.convs[op]
        if isinstance(found, Refusal):
            self._refuse(op, found)
            return None
        site, choice = found
        group = self._grow(site, choice, op)
        if self.config.alone_policy is not None and self._stands_alone(site, group):
            alone = self.config.alone_policy(site.shape)
            if isinstance(alone, Choice):
                group.choice, group.plain = alone, True
        return group

    def _stands_alone(self, site: ConvSite, group: _Group) -> bool:
        """Whether nothing before or behind the group, and no operand of its epilogue, is blocked."""
        if site.data in self.will_be_blocked or any(
            operand.access in (Access.FULL, Access.PLANE) and operand.value in self.will_be_blocked
            for member in group.epilogue
            for operand in member.operands
        ):
            return False
        return all(op.name in ("func.return", "util.return") for op in self._users(group.results))

    def _matmul_group(self, op: ir.Operation) -> _Group | None:
        site = MatmulSite.analyze(op)
        choice = site if isinstance(site, Refusal) else self.config.matmul_policy(site.m, site.n, site.k)
        if isinstance(site, Refusal) or isinstance(choice, Refusal):
            assert isinstance(choice, Refusal)
            self._refuse(op, choice)
            return None
        return self._grow(site, choice, op)

    def _pool_group(self, op: ir.Operation) -> _Group | None:
        site = WindowSite.analyze(op)
        if isinstance(site, Refusal):
            self._refuse(op, site)
            return None
        if site.data not in self.will_be_blocked:
            return None
        _, _, height, width = ir.ShapedType(site.result.type).shape
        return self._grow(site, self.config.plain_policy("pooling", height, width), op)

    def _generic_group(self, op: ir.Operation) -> _Group | None:
        reduce = ReduceSite.analyze(op)
        if isinstance(reduce, ReduceSite):
            shape = ir.ShapedType(reduce.data.type).shape
            if reduce.data not in self.will_be_blocked or shape[1] % self.config.block:
                return None
            choice = self.config.plain_policy("reduce", shape[2], shape[3])
            return _Group(reduce, choice, [], op, [reduce.result])
        site = self._analyze_elementwise(op)
        if (
            not isinstance(site, Elementwise)
            or len(site.shape) != 4
            or not any(
                operand.access is Access.FULL and operand.value in self.will_be_blocked for operand in site.operands
            )
        ):
            return None
        if site.shape[2] * site.shape[3] == 1 or not self._operands_ready(site, []):
            return None
        return self._grow(None, self.config.plain_policy("elementwise", site.shape[2], site.shape[3]), op)

    def _refuse(self, op: ir.Operation, refusal: Refusal) -> None:
        self.report.refused.append((_layer(op), op.name, refusal.reason))

    def _emit(self, group: _Group) -> None:
        layer = _layer(group.root.op if group.root is not None else group.epilogue[0].op)
        if isinstance(group.root, ReduceSite):
            self._emit_reduce(group.root, group.choice, layer)
            return
        if isinstance(group.root, MatmulSite):
            self._emit_matmul(group.root, group, layer)
            return
        if group.plain and isinstance(group.root, ConvSite):
            self._emit_wide(group.root, group, layer)
            return
        full: dict[ir.Value, Blocked] = {}
        plane: dict[ir.Value, ir.Value] = {}
        computed = {site.op.results[0] for site in group.epilogue} | ({group.source} if group.source else set())
        for site in group.epilogue:
            for operand in site.operands:
                if operand.value in computed:
                    continue
                if operand.access is Access.FULL:
                    full[operand.value] = self._blocked(operand.value)
                elif operand.access is Access.PLANE:
                    plane[operand.value] = self._plane(operand.value)
        epilogue = Epilogue(group.epilogue, group.source, full, plane)
        results = [ResultSpec(value, *self.demands.get(value, (_NO_PADS, 0.0))) for value in group.results]
        if isinstance(group.root, ConvSite):
            out = self._emit_conv(group.root, group.choice, layer, epilogue, results)
        elif isinstance(group.root, WindowSite):
            out = self._emit_pool(group.root, group.choice, layer, epilogue, results)
        else:
            out = self.emitter.elementwise(group.epilogue[0].shape, group.choice, layer, epilogue, results)
        for result, blocked in zip(results, out, strict=True):
            self.blocked[result.value] = blocked

    def _emit_conv(
        self, site: ConvSite, choice: Choice, layer: str, epilogue: Epilogue, results: Sequence[ResultSpec]
    ) -> list[Blocked]:
        if choice.knobs.get("direct"):
            data = self._padded(site, layer)
            return self.emitter.packed_conv(site.shape, data, site.weights, choice, layer, epilogue, results)
        blocked = self._blocked(site.data, _read_pads(site, choice), 0.0)
        emit = {
            "lane_conv": self.emitter.lane_conv,
            "winograd_conv": self.emitter.winograd_conv,
            "winograd_lane_conv": self.emitter.winograd_lane_conv,
            "packed_conv": self.emitter.packed_conv,
        }[choice.schedule]
        return emit(site.shape, blocked, site.weights, choice, layer, epilogue, results)

    def _padded(self, site: ConvSite, layer: str) -> ir.Value:
        """The NCHW input with the convolution's padding around it."""
        if not any(site.shape.pads):
            return site.data
        choice = self.config.plain_policy("pad", site.shape.in_h, site.shape.in_w)
        return self.emitter.pad(site.data, site.shape.pads, choice, layer)

    def _emit_wide(self, site: ConvSite, group: _Group, layer: str) -> None:
        data = self._padded(site, layer)
        epilogue = Epilogue(group.epilogue, site.result)
        results = [ResultSpec(value) for value in group.results]
        new = self.emitter.wide_conv(site.shape, data, site.weights, group.choice, layer, epilogue, results)
        self.replaced += zip((result.value for result in results), new, strict=True)

    def _emit_pool(
        self, site: WindowSite, choice: Choice, layer: str, epilogue: Epilogue, results: Sequence[ResultSpec]
    ) -> list[Blocked]:
        batch, channels, out_h, out_w = ir.ShapedType(site.result.type).shape
        _, _, in_h, in_w = ir.ShapedType(site.data.type).shape
        shape = ConvShape(
            batch=batch,
            c_in=channels,
            c_out=channels,
            groups=channels,
            in_h=in_h,
            in_w=in_w,
            out_h=out_h,
            out_w=out_w,
            k_h=site.kernel[0],
            k_w=site.kernel[1],
            stride=site.stride,
            dilation=site.dilation,
            pads=site.pad[1],
        )
        data = self._blocked(site.data, site.pad[1], site.pad[0])
        return self.emitter.pool(shape, data, site.combine, site.init, choice, layer, epilogue, results)

    def _emit_matmul(self, site: MatmulSite, group: _Group, layer: str) -> None:
        computed = {site.result} | {member.op.results[0] for member in group.epilogue}
        full = {
            operand.value: None
            for member in group.epilogue
            for operand in member.operands
            if operand.access is Access.FULL and operand.value not in computed
        }
        epilogue = Epilogue(group.epilogue, site.result, full_plain=list(full))
        results = [ResultSpec(value) for value in group.results]
        new = self.emitter.matmul(site, group.choice, layer, epilogue, results)
        self.replaced += zip((result.value for result in results), new, strict=True)

    def _emit_reduce(self, site: ReduceSite, choice: Choice, layer: str) -> None:
        plane = self.emitter.reduce(self._blocked(site.data), site.combine, site.init, choice, layer)
        shape = list(ir.ShapedType(site.result.type).shape)
        flat = reshape_collapse(plane, shape[:2], [[0], [1, 2]])
        result = flat if len(shape) == 2 else reshape_expand(flat, shape, [[0], [1, 2, 3]])
        self.replaced.append((site.result, result))

    def _blocked(self, value: ir.Value, pads: Pads = _NO_PADS, pad_value: float = 0.0) -> Blocked:
        """The blocked form of a value, with at least this halo."""
        halo, fill = self.demands.get(value, (pads, pad_value))
        if any(pads) and (fill != pad_value or any(h < p for h, p in zip(halo, pads, strict=True))):
            halo, fill = pads, pad_value
        known = self.blocked.get(value)
        if known is None:
            height, width = ir.ShapedType(value.type).shape[2:]
            known = self.emitter.pack(value, halo, fill, self.config.plain_policy("pack", height, width), "")
            self.blocked[value] = known
        fits = all(h >= p for h, p in zip(known.halo, pads, strict=True))
        if fits and (known.halo_value == pad_value or not any(pads)):
            return known
        height, width = known.shape[2:]
        return self.emitter.copy(known, pads, pad_value, self.config.plain_policy("copy", height, width), "")

    def _plane(self, value: ir.Value) -> ir.Value:
        if value not in self.planes:
            batch, channels = ir.ShapedType(value.type).shape[:2]
            flat = reshape_collapse(value, [batch, channels], [[0], [1, 2, 3]])
            blocks = channels // self.config.block
            self.planes[value] = reshape_expand(flat, [batch, blocks, self.config.block], [[0], [1, 2]])
        return self.planes[value]

    def _unpack_leftovers(self) -> None:
        """Gives ops that stay in NCHW the unpacked form of the blocked values they use."""
        for value, blocked in list(self.blocked.items()):
            if value not in self.will_be_blocked:
                continue
            users = [op for op in self._users_now(value) if op not in self.claimed and not self._is_dead(op)]
            if not users:
                continue
            height, width = blocked.shape[2:]
            with ir.InsertionPoint.after(blocked.value.owner.operation), ir.Location.unknown():
                plain = self.emitter.unpack(blocked, self.config.plain_policy("unpack", height, width), "")
            for op in users:
                for i, operand in enumerate(op.operands):
                    if operand == value:
                        op.operands[i] = plain

    def _users_now(self, value: ir.Value) -> list[ir.Operation]:
        return list({use.owner.operation for use in value.uses})

    def _is_dead(self, op: ir.Operation) -> bool:
        """A pad or reshape whose every user is inside a kernel now."""
        if op.name not in ("tensor.pad", "tensor.expand_shape", "tensor.collapse_shape"):
            return False
        return all(user in self.claimed or self._is_dead(user) for user in self._users_now(op.results[0]))

    def _erase_dead(self) -> None:
        for op in reversed(self.ops):
            if op.results and not any(True for result in op.results for _ in result.uses):
                op.erase()


def _read_pads(site: ConvSite, choice: Choice) -> Pads:
    """The halo that the kernel of a convolution reads: its padding, and what whole Winograd tiles reach beyond it."""
    return site.shape.tile_pads(choice.knobs["m"]) if "winograd" in choice.schedule else site.shape.pads


def _widen(demands: dict[ir.Value, tuple[Pads, float]], value: ir.Value, pads: Pads, fill: float) -> None:
    known, known_fill = demands.get(value, (_NO_PADS, fill))
    if fill == known_fill:
        demands[value] = (tuple(map(max, known, pads)), fill)  # type: ignore[assignment]


def _layer(op: ir.Operation) -> str:
    return str(ir.StringAttr(op.attributes["dlas.layer"]).value) if "dlas.layer" in op.attributes else ""

"""Lay a model's activations out in channel blocks, nChw{B}c, and form one kernel per fused group of ops.

The layouts are settled first, for the whole function (:mod:`dlas.passes.layout_graph`). Then the pass walks it once. A
convolution or pooling op with a schedule becomes the root of a group; the elementwise ops behind it join its kernel as
long as they have its layout and are the first users of what the group computes. Values
between groups stay blocked, with a halo as wide as their padded consumers need: the producer writes the border, so
``tensor.pad`` costs nothing but the border. Where a blocked value meets an op that this pass does not take, an unpack
is inserted, and the op is left to IREE.

    before: conv(pad(x)) -> +bias -> relu -> conv(pad(.)) -> ...                     NCHW, one op each
    after:  kernel(x) -> kernel(.) -> ... -> unpack          [N, C/B, H+halo, W+halo, B] in between
"""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import dataclass, field, replace

from iree.compiler import ir

from dlas.errors import ScheduleError
from dlas.passes.channel_shuffle import ShuffleSite
from dlas.passes.channels_last import ChannelsLastSite
from dlas.passes.concat import ConcatSite
from dlas.passes.conv import CONV_OPS, ConvSite, pad_amounts
from dlas.passes.elementwise import Access, Elementwise, Operand
from dlas.passes.generics import layer_of
from dlas.passes.hidden_rows import FirstConv
from dlas.passes.kernel_frame import Blocked, Epilogue, ResultSpec
from dlas.passes.knob_request import KnobRequest
from dlas.passes.layout_assignment import NCHW, PLANAR, Assignment, block_of
from dlas.passes.layout_assignment import blocked as blocked_name
from dlas.passes.layout_forms import NO_PADS, LayoutForms, per_plane, planar_site
from dlas.passes.layout_graph import LayoutGraph, LayoutPolicy
from dlas.passes.matmul import MatmulSite
from dlas.passes.plan import Choice, Kernel, Refusal
from dlas.passes.planar import Phases
from dlas.passes.reshape import Pads, reshape_collapse, reshape_expand
from dlas.passes.window import POOL_OPS, ReduceSite, WindowSite

Root = ConvSite | WindowSite | ReduceSite | MatmulSite | ShuffleSite | ChannelsLastSite
_MANY = 4  # kernels that differ in one number: as one, they are compiled once, and no slower
_MAX_RESULTS = 3


@dataclass
class LayoutReport:
    """What the pass did: the kernels it formed, by key, and what it left to IREE and why."""

    kernels: dict[str, Kernel] = field(default_factory=dict)
    refused: list[tuple[str, str, str]] = field(default_factory=list)  # (layer, op, reason)
    assignments: list[Assignment] = field(default_factory=list)  # one per function
    padded: list[tuple[str, str]] = field(default_factory=list)  # (layer, groups that were padded)
    # (depthwise or grouped layer, pointwise layer behind it, why each has a kernel of its own)
    apart: list[tuple[str, str, str]] = field(default_factory=list)
    # (layer, op, its schedule) for each convolution and linear layer, in order
    choices: list[tuple[str, str, Choice]] = field(default_factory=list)
    seconds: float = 0.0


@dataclass
class _Group:
    root: Root | None
    choice: Choice
    epilogue: list[Elementwise]
    last: ir.Operation
    results: list[ir.Value]
    layout: str  # of the results; NCHW, too, for those of matrix products and reductions
    block: int  # channels of the blocks that its kernel works on

    @property
    def source(self) -> ir.Value | None:
        return self.root.result if self.root is not None else None


class BlockedLayout:
    """The pass, for one function; ``policy`` says what implementations of an op there are and what they cost."""

    def __init__(self, policy: LayoutPolicy) -> None:
        self.policy, self.block = policy, policy.block

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
        self.graph = LayoutGraph(self.ops, config.policy)
        # The hash of an operation depends on its operands: no operand of an op in a dict changes before the last step.
        self.replaced: list[tuple[ir.Value, ir.Value]] = []
        self.claimed: dict[ir.Operation, _Group] = {}
        self.elementwise: dict[ir.Operation, Elementwise | Refusal] = {}
        self.joined: dict[ir.Operation, int] = {}  # concatenations in the blocked layout, with their blocks
        self.pairs: dict[ir.Value, tuple[_Group, Choice]] = {}  # groups, by result, in pointwise kernels
        self.decided: dict[ir.Operation, Choice] = {}
        self.depths = self._depths()
        self.demands = self._halo_demands()
        self.forms = LayoutForms(self.graph, config.policy, self.demands)
        self.emitter = self.forms.emitters[config.block]  # of all that is not in blocks
        self.report = LayoutReport(kernels=self.forms.kernels, assignments=[self.graph.assignment])

    # -- analysis --------------------------------------------------------------------------------------------------

    def _depths(self) -> dict[object, set[int]]:
        """The numbers of input channels of pointwise convolutions that are equal but for them."""
        depths: dict[object, set[int]] = {}
        for op, site in self.graph.sites.items():
            chosen = self.graph.chosen(op)
            if isinstance(site, ConvSite) and chosen is not None and chosen.choice is not None:
                kernel = self._but_for_depth(site, chosen.choice)
                if kernel is not None:
                    depths.setdefault(kernel, set()).add(site.shape.c_in)
        return depths

    def _but_for_depth(self, site: ConvSite, choice: Choice) -> object | None:
        """What makes the kernel of a pointwise convolution beside its input channels; None for other kernels."""
        shape = site.shape
        if (
            shape.kind != "pointwise"
            or shape.batch != 1
            or choice.schedule != "packed_conv"
            or choice.knobs.get("direct")
            or shape.c_in <= choice.knobs["block"]
        ):
            return None
        return shape.c_out, shape.out_h, shape.out_w, shape.stride, shape.pads, tuple(sorted(choice.knobs.items()))

    def _halo_demands(self) -> dict[ir.Value, tuple[Pads, float]]:
        """For each value with padded users, the halo that covers all they read, with the first padding's value."""
        demands: dict[ir.Value, tuple[Pads, float]] = {}
        for op in self.ops:
            amounts = pad_amounts(op) if op.name == "tensor.pad" else None
            if amounts is None:
                continue
            value, pads = amounts
            _widen(demands, op.operands[0], pads, value)
        for op, site in self.graph.sites.items():
            chosen, is_blocked = self.graph.chosen(op), self._block(op) is not None
            if isinstance(site, ConvSite) and chosen is not None and chosen.choice is not None and is_blocked:
                _widen(demands, site.data, _read_pads(site, chosen.choice), 0.0)
        for op in reversed(self.ops):  # the parts of a concatenation have its halo
            concat = self.graph.sites.get(op)
            if isinstance(concat, ConcatSite) and self._block(op) is not None and concat.result in demands:
                for part in concat.parts:
                    _widen(demands, part, *demands[concat.result])
        return demands

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

    def _grow(self, root: Root | None, choice: Choice, first: ir.Operation, layout: str) -> _Group:
        """Takes elementwise users into the group while each is the first user of what the group computes.

        ``layout``: of the results.
        """
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
                or not self._joins(site, computed, layout)
                or len(self._live(computed + [op.results[0]], members | {op})) > _MAX_RESULTS
            ):
                break
            epilogue.append(site)
            computed.append(op.results[0])
            last = op
        members = {site.op for site in epilogue}
        block = block_of(layout) or self.config.block
        return _Group(root, choice, epilogue, last, self._live(computed, members), layout, block)

    def position_of(self, value: ir.Value) -> ir.Operation:
        """The op of the function that defines ``value``."""
        return value.owner.operation

    def _live(self, computed: Sequence[ir.Value], members: set[ir.Operation]) -> list[ir.Value]:
        return [v for v in computed if any(op not in members for op in self._users([v]))]

    def _joins(self, site: Elementwise, computed: Sequence[ir.Value], layout: str) -> bool:
        """Whether an elementwise op can be part of a kernel that makes ``computed`` in a layout."""
        if len(site.shape) == 2:
            return True
        others = [o for o in site.operands if o.access is not Access.FULL or o.value not in computed]
        if layout == NCHW:  # such kernels read constants besides
            return all(operand.access in (Access.CHANNEL, Access.SCALAR) for operand in others)
        chosen = self.graph.chosen(site.op)
        if chosen is None or chosen.result != layout:
            return False
        # Behind the last kernel of those that it reads from: equal blocks of a network become equal kernels.
        made_here = [o.value for o in others if o.access is Access.FULL and self.graph.is_laid_out(o.value)]
        return all(self._is_taken(self.position_of(value)) for value in made_here)

    # -- rewriting -------------------------------------------------------------------------------------------------

    def run(self) -> None:
        for op in self.ops:
            if op.name == "tensor.concat":
                self._join(op)
            group = self.claimed.get(op) or self._new_group(op)
            if group is not None and group.last == op:
                with ir.InsertionPoint.after(op), op.location:
                    self._emit(group)
        decided = sorted(self.decided, key=self.position.__getitem__)
        self.report.choices += [(layer_of(op), op.name, self.decided[op]) for op in decided]
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
        elif op.name == "tensor.collapse_shape":
            group = self._shuffle_group(op)
        elif op.name == "linalg.transpose":
            group = self._transpose_group(op)
        if group is not None and not group.results:  # nothing reads what it computes
            return None
        if group is not None:
            if isinstance(group.root, ConvSite | MatmulSite):
                self.decided[group.root.op] = group.choice
            members = [site.op for site in group.epilogue]
            if group.root is not None:
                members += [group.root.op, self.position_of(group.root.result)]
            if isinstance(group.root, ShuffleSite):
                members += group.root.between
            for member in members:
                self.claimed[member] = group
        return group

    def _join(self, op: ir.Operation) -> None:
        """A concatenation in the blocked layout: the parts are put side by side in one tensor.

        A chain, in which each concatenation appends to the one before, fills one tensor with room for the last.
        """
        site = self.graph.sites.get(op)
        if op in self.graph.refused:
            self._refuse(op, self.graph.refused[op])
        block = self._block(op)
        if not isinstance(site, ConcatSite) or block is None:
            return
        self.joined[op] = block
        halo, fill = self.demands.get(site.result, (NO_PADS, 0.0))
        before, emitter = self.forms.blocked.get((site.parts[0], block)), self.forms.emitters[block]
        appends = self.joined.get(self.position_of(site.parts[0])) == block if before is not None else False
        with ir.InsertionPoint.after(op), op.location:
            if before is not None and appends and before.halo == halo and before.room > before.blocks:
                target, parts, first = before.value, site.parts[1:], before.blocks
            else:
                shape = (1, self._room(site, block) * block, *site.shape[2:])
                target, parts, first = emitter.room(shape, halo), site.parts, 0
            for part in parts:
                blocked = self.forms.in_blocks(part, block, halo, fill)
                target = emitter.put(target, blocked, halo, first)
                first += blocked.blocks
        self.forms.keep(Blocked(target, site.shape, block, halo, fill), site.result)

    def _room(self, site: ConcatSite, block: int) -> int:
        """Channel blocks of the last concatenation of the chain that starts here."""
        while True:
            following = [
                later
                for op in self._users([site.result])
                if isinstance(later := self.graph.sites.get(op), ConcatSite)
                and later.parts[0] == site.result
                and self._block(op) == block
            ]
            if len(following) != 1:
                return site.shape[1] // block
            site = following[0]

    def _conv_group(self, op: ir.Operation) -> _Group | None:
        chosen = self.graph.chosen(op)
        if chosen is None or chosen.choice is None:
            self._refuse(op, self.graph.refused.get(op, Refusal("left to IREE by the layout assignment")))
            return None
        site = self.graph.sites[op]
        assert isinstance(site, ConvSite)
        return self._grow(site, chosen.choice, op, chosen.result)

    def _matmul_group(self, op: ir.Operation) -> _Group | None:
        site = MatmulSite.analyze(op)
        chosen = self.graph.chosen(op)
        if chosen is not None and chosen.choice is not None and isinstance(site, MatmulSite):
            return self._grow(site, chosen.choice, op, NCHW)
        choice = site if isinstance(site, Refusal) else self.config.policy.matmul(site.m, site.n, site.k)
        if isinstance(site, Refusal) or isinstance(choice, Refusal):
            assert isinstance(choice, Refusal)
            self._refuse(op, choice)
            return None
        return self._grow(site, choice, op, NCHW)

    def _pool_group(self, op: ir.Operation) -> _Group | None:
        site = self.graph.sites.get(op)
        if not isinstance(site, WindowSite):
            self._refuse(op, self.graph.refused[op])
            return None
        block = self._block(op)
        if block is None:
            return None
        choice = self.config.policy.of_block(block).plain("pooling", site.shape.out_h, site.shape.out_w)
        group = self._grow(site, choice, op, blocked_name(block))
        if group.epilogue and site.result in group.results:
            # The window's own result beside the epilogue's would be a copy, which no schedule makes vectors of.
            return _Group(site, group.choice, [], op, [site.result], group.layout, block)
        return group

    def _shuffle_group(self, op: ir.Operation) -> _Group | None:
        if op in self.graph.refused:
            self._refuse(op, self.graph.refused[op])
        site = self.graph.sites.get(op)
        block = self._block(op)
        if not isinstance(site, ShuffleSite) or block is None:
            return None
        _, _, height, width = ir.ShapedType(site.result.type).shape
        choice = self.config.policy.of_block(block).plain("shuffle", height, width)
        return _Group(site, choice, [], op, [site.result], blocked_name(block), block)

    def _transpose_group(self, op: ir.Operation) -> _Group | None:
        site, chosen = self.graph.sites.get(op), self.graph.chosen(op)
        if not isinstance(site, ChannelsLastSite) or chosen is None:
            return None
        layout = chosen.operands[0] if site.to_last else chosen.result
        block = block_of(layout)
        if block is None:
            return None
        choice = self.config.policy.of_block(block).plain("channels_last", *site.shape[2:])
        if site.to_last:
            return _Group(site, choice, [], op, [site.result], NCHW, block)
        return self._grow(site, choice, op, layout)

    def _generic_group(self, op: ir.Operation) -> _Group | None:
        site = self.graph.sites.get(op)
        chosen = self.graph.chosen(op)
        if chosen is not None and chosen.result == PLANAR and isinstance(site, Elementwise):
            return self._grow(None, self.config.policy.plain("planes", *site.shape[2:]), op, PLANAR)
        block = self._block(op)
        if site is None or block is None:
            return None
        policy = self.config.policy.of_block(block)
        if isinstance(site, ReduceSite):
            _, _, height, width = ir.ShapedType(site.data.type).shape
            return _Group(site, policy.plain("reduce", height, width), [], op, [site.result], NCHW, block)
        assert isinstance(site, Elementwise)
        return self._grow(None, policy.plain("elementwise", *site.shape[2:]), op, blocked_name(block))

    def _block(self, op: ir.Operation) -> int | None:
        """Channels of the blocks in which an op reads its operands; None: it reads none."""
        chosen = self.graph.chosen(op)
        found = () if chosen is None else (block for name in chosen.operands if (block := block_of(name)) is not None)
        return next(iter(found), None)

    def _refuse(self, op: ir.Operation, refusal: Refusal) -> None:
        self.report.refused.append((layer_of(op), op.name, refusal.reason))

    def _emit(self, group: _Group) -> None:
        layer = layer_of(group.root.op if group.root is not None else group.epilogue[0].op)
        if isinstance(group.root, ReduceSite):
            self._emit_reduce(group.root, group, layer)
            return
        emitter, forms = self.forms.emitters[group.block], self.forms
        if isinstance(group.root, ChannelsLastSite) and group.root.to_last:
            data = forms.in_blocks(group.root.data, group.block)
            self.replaced.append((group.root.result, emitter.to_channels_last(data, group.choice, layer)))
            return
        if isinstance(group.root, ShuffleSite):
            result = ResultSpec(group.root.result, *self.demands.get(group.root.result, (NO_PADS, 0.0)))
            data = forms.in_blocks(group.root.data, group.block)
            forms.keep(emitter.shuffle(data, group.root.groups, group.choice, layer, result), result.value)
            return
        if isinstance(group.root, MatmulSite):
            self._emit_matmul(group.root, group, layer)
            return
        if group.layout == PLANAR:
            self._emit_planar(group, layer)
            return
        if group.layout == NCHW and isinstance(group.root, ConvSite):
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
                    full[operand.value] = forms.in_blocks(operand.value, group.block)
                elif operand.access is Access.PLANE:
                    plane[operand.value] = forms.plane(operand.value, group.block)
        epilogue = Epilogue(group.epilogue, group.source, full, plane)
        results = [ResultSpec(value, *self.demands.get(value, (NO_PADS, 0.0))) for value in group.results]
        if isinstance(group.root, ConvSite):
            fused = self._separable(group)
            if fused is not None:  # the pointwise convolution's kernel computes it
                self.pairs[group.results[0]] = group, fused
                return
            out = self._emit_conv(group.root, group, layer, epilogue, results)
        elif isinstance(group.root, ChannelsLastSite):
            source, shape_ = group.root.data, group.root.shape
            out = emitter.from_channels_last(source, shape_, group.choice, layer, epilogue, results)
        elif isinstance(group.root, WindowSite):
            out = self._emit_pool(group.root, group, layer, epilogue, results)
        else:
            shape = group.epilogue[0].shape
            grows = shape[0] == 1 and any(blocked.room > blocked.blocks for blocked in full.values())
            out = emitter.elementwise(shape, group.choice, layer, epilogue, results, any_blocks=grows)
        for result, blocked in zip(results, out, strict=True):
            forms.keep(blocked, result.value)

    def _emit_conv(
        self, site: ConvSite, group: _Group, layer: str, epilogue: Epilogue, results: Sequence[ResultSpec]
    ) -> list[Blocked]:
        choice, emitter = group.choice, self.forms.emitters[group.block]
        if site.data in self.pairs:
            self.decided[site.op] = self.pairs[site.data][1]
            return self._emit_separable(site, layer, epilogue, results)
        request = KnobRequest.of(site.op)
        if request is not None and request.schedule == "separable_conv":
            reason = "separable_conv: no depthwise or grouped convolution comes before it whose result it alone reads"
            raise ScheduleError(reason, where=f"layer {site.layer}", hint="a transform script asks for it")
        if choice.schedule == "polyphase_conv":
            return emitter.polyphase_conv(site.shape, site.data, site.weights, choice, layer, epilogue, results)
        if choice.knobs.get("direct"):
            data = self._padded(site, layer)
            return emitter.packed_conv(site.shape, data, site.weights, choice, layer, epilogue, results)
        blocked = self.forms.in_blocks(site.data, group.block, _read_pads(site, choice), 0.0)
        if len(self.depths.get(self._but_for_depth(site, choice), ())) >= _MANY:
            # Which of its layers its time is of cannot be told.
            choice = replace(choice, problem="")
            return emitter.packed_conv(
                site.shape, blocked, site.weights, choice, layer, epilogue, results, any_depth=True
            )
        emit = {
            "lane_conv": emitter.lane_conv,
            "winograd_conv": emitter.winograd_conv,
            "winograd_lane_conv": emitter.winograd_lane_conv,
            "strassen_conv": emitter.strassen_conv,
            "packed_conv": emitter.packed_conv,
        }[choice.schedule]
        return emit(site.shape, blocked, site.weights, choice, layer, epilogue, results)

    def _separable(self, group: _Group) -> Choice | None:
        """The choice of one kernel for a depthwise or grouped convolution and the pointwise one that alone reads it."""
        root = group.root
        if not isinstance(root, ConvSite) or root.shape.kind not in ("depthwise", "grouped"):
            return None
        for op in self._users(group.results):
            site = self.graph.sites.get(op)
            if isinstance(site, ConvSite) and site.shape.kind == "pointwise" and site.data in group.results:
                choice = self._separable_with(root, group, op, site)
                if isinstance(choice, Choice):
                    return choice
                self.report.apart.append((root.layer, site.layer, choice.reason))
        return None

    def _separable_with(self, root: ConvSite, group: _Group, op: ir.Operation, site: ConvSite) -> Choice | Refusal:
        shape, chosen, first = site.shape, self.graph.chosen(op), f"the {root.shape.kind} convolution"
        computed = {root.result, *(site.op.results[0] for site in group.epilogue)}
        others = [o for site in group.epilogue for o in site.operands if o.value not in computed]
        if len(group.results) > 1 or len(self._users(group.results)) > 1:
            return Refusal(f"{first}'s result is read elsewhere, too")
        if any(operand.access not in (Access.CHANNEL, Access.SCALAR) for operand in others):
            return Refusal("the elementwise ops between them read more than constants")
        if shape.stride != (1, 1) or any(shape.pads):
            return Refusal("the pointwise convolution has a stride or padding")
        if self._block(op) != group.block:
            return Refusal(f"blocks of {group.block} and of {self._block(op)} channels")
        if root.shape.c_out % group.block:
            return Refusal(f"{root.shape.c_out} channels between them do not fill blocks of {group.block}")
        if group.choice.schedule not in ("lane_conv", "winograd_lane_conv"):
            return Refusal(f"{first}'s schedule is {group.choice.schedule}")
        if chosen is None or chosen.choice is None:
            return Refusal("the pointwise convolution has no schedule")
        if chosen.choice.schedule not in ("packed_conv", "strassen_conv") or chosen.choice.knobs.get("direct"):
            return Refusal(f"the pointwise convolution's schedule is {chosen.choice.schedule}")
        request = KnobRequest.of(op)
        if request is not None and request.schedule == "separable_conv":
            asked = self.config.policy.of_block(group.block).asked_separable(root.shape, group.choice, shape, request)
            if isinstance(asked, Refusal):
                hint = "a transform script asks for it"
                raise ScheduleError(asked.reason, where=f"layer {site.layer}", hint=hint)
            return asked
        if request is not None or group.choice.asked:
            return Refusal("a transform script asks for a kernel each")
        return self.config.policy.of_block(group.block).separable(root.shape, group.choice, shape)

    def _emit_separable(
        self, site: ConvSite, layer: str, epilogue: Epilogue, results: Sequence[ResultSpec]
    ) -> list[Blocked]:
        """The kernel of a pointwise convolution and of the one before it."""
        group, choice = self.pairs[site.data]
        root = group.root
        assert isinstance(root, ConvSite)
        data = self.forms.in_blocks(root.data, group.block, _read_pads(root, group.choice), 0.0)
        before = Epilogue(group.epilogue, group.source)
        first = FirstConv(root.shape, data, root.weights, before, ResultSpec(group.results[0]))
        both = f"{root.layer}, {layer}"
        emitter = self.forms.emitters[group.block]
        return emitter.separable_conv(first, site.shape, site.weights, choice, both, epilogue, results)

    def _padded(self, site: ConvSite, layer: str) -> ir.Value:
        """The NCHW input with the convolution's padding around it."""
        if not any(site.shape.pads):
            return site.data
        choice = self.config.policy.plain("pad", site.shape.in_h, site.shape.in_w)
        return self.emitter.pad(site.data, site.shape.pads, choice, layer)

    def _emit_wide(self, site: ConvSite, group: _Group, layer: str) -> None:
        data = self._padded(site, layer)
        epilogue = Epilogue(group.epilogue, site.result)
        results = [ResultSpec(value) for value in group.results]
        new = self.emitter.wide_conv(site.shape, data, site.weights, group.choice, layer, epilogue, results)
        self.replaced += zip((result.value for result in results), new, strict=True)

    def _emit_planar(self, group: _Group, layer: str) -> None:
        """A convolution on planes with its epilogue, or elementwise ops."""
        computed = {member.op.results[0] for member in group.epilogue} | ({group.source} if group.source else set())
        others = [o for member in group.epilogue for o in member.operands if o.value not in computed]
        full = {o.value: self.forms.on_planes(o.value) for o in others if o.access is Access.FULL}
        gates = {o.value: per_plane(o.value) for o in others if o.access is Access.PLANE}
        epilogue = Epilogue(group.epilogue, group.source, plane=gates)
        results = [ResultSpec(value, *self.demands.get(value, (NO_PADS, 0.0))) for value in group.results]
        plane = self.forms.geometry.plane(*ir.ShapedType(group.results[0].type).shape[2:])
        if isinstance(group.root, ConvSite):
            shape = group.root.shape
            phases = self._split_result(group.root, group, others)
            if phases is not None:
                data = self.forms.in_phases(group.root.data, phases, layer)
                emit_phases = self.emitter.pointwise_phases
                split = emit_phases(shape, data, phases, group.root.weights, group.choice, layer, epilogue, results[0])
                self.forms.keep_phases(results[0].value, phases, split)
                return
            data = self.forms.planar_input(group.root, group.choice, layer)
            weights = group.root.weights
            emit = {"sparse_conv": self.emitter.sparse_conv, "planar_conv": self.emitter.planar_conv}[
                group.choice.schedule
            ]
            out = emit(shape, data, weights, group.choice, layer, epilogue, full, results, plane)
        else:
            shape_ = tuple(ir.ShapedType(group.results[0].type).shape)
            out = self.emitter.planes(shape_, group.choice, layer, epilogue, full, results, plane)
        self.forms.planar.update((result.value, planar) for result, planar in zip(results, out, strict=True))

    def _split_result(self, site: ConvSite, group: _Group, others: Sequence[Operand]) -> Phases | None:
        """The phases of a pointwise convolution's result, where they are all that is read of it.

        It computes them from those of its input, which has fewer channels to split.
        """
        shape, value = site.shape, group.results[0]
        if group.choice.schedule != "planar_conv" or shape.kind != "pointwise" or 2 * shape.c_in > shape.c_out:
            return None
        if shape.stride != (1, 1) or any(shape.pads):
            return None
        if len(group.results) > 1 or any(o.access not in (Access.CHANNEL, Access.SCALAR) for o in others):
            return None
        readers = self._users([value])
        while len(readers) == 1 and readers[0].name in ("tensor.pad", "tensor.expand_shape"):
            readers = self._users(readers[0].results)
        reader = self.graph.sites.get(readers[0]) if len(readers) == 1 else None
        chosen = self.graph.chosen(readers[0]) if isinstance(reader, ConvSite) else None
        if not isinstance(reader, ConvSite) or reader.data != value or chosen is None or chosen.choice is None:
            return None
        planar = planar_site(reader, chosen.choice) if chosen.result == PLANAR else None
        return None if planar is None or planar.in_place else self.forms.geometry.phases(planar)

    def _emit_pool(
        self, site: WindowSite, group: _Group, layer: str, epilogue: Epilogue, results: Sequence[ResultSpec]
    ) -> list[Blocked]:
        data = self.forms.in_blocks(site.data, group.block, site.pad[1], site.pad[0])
        emitter = self.forms.emitters[group.block]
        return emitter.pool(site.shape, data, site.combine, site.init, group.choice, layer, epilogue, results)

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
        if group.choice.schedule == "sparse_matmul":
            packed = self.forms.packed_rows(site.data, group.choice)
            new = self.emitter.sparse_matmul(site, packed, group.choice, layer, epilogue, results)
        elif group.choice.schedule == "sparse_matvec":
            new = self.emitter.sparse_matvec(site, group.choice, layer, epilogue, results)
        elif group.choice.schedule == "strassen_matmul":
            sums = self.forms.strassen_sums(site.data, group.choice, layer)
            new = self.emitter.strassen_matmul(site, sums, group.choice, layer, epilogue, results)
        else:
            new = self.emitter.matmul(site, group.choice, layer, epilogue, results)
        self.replaced += zip((result.value for result in results), new, strict=True)

    def _emit_reduce(self, site: ReduceSite, group: _Group, layer: str) -> None:
        data, emitter = self.forms.in_blocks(site.data, group.block), self.forms.emitters[group.block]
        plane = emitter.reduce(data, site.combine, site.init, group.choice, layer)
        shape = list(ir.ShapedType(site.result.type).shape)
        flat = reshape_collapse(plane, shape[:2], [[0], [1, 2]])
        result = flat if len(shape) == 2 else reshape_expand(flat, shape, [[0], [1, 2, 3]])
        self.replaced.append((site.result, result))

    def _unpack_leftovers(self) -> None:
        """Gives ops that stay in NCHW the unpacked form of the blocked or planar values they use."""
        for value in self.forms.values():
            form = self.forms.made(value)
            if form is None:
                continue
            users = [op for op in self._users_now(value) if not self._is_taken(op) and not self._is_dead(op)]
            if not users:
                continue
            with ir.InsertionPoint.after(form.value.owner.operation), ir.Location.unknown():
                plain = self.forms.in_nchw(form)
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
        return all(self._is_taken(user) or self._is_dead(user) for user in self._users_now(op.results[0]))

    def _is_taken(self, op: ir.Operation) -> bool:
        """Whether an op reads the blocked form of its operands."""
        return op in self.claimed or op in self.joined

    def _erase_dead(self) -> None:
        for op in reversed(self.ops):
            if op.results and not any(True for result in op.results for _ in result.uses):
                op.erase()


def _read_pads(site: ConvSite, choice: Choice) -> Pads:
    """The halo that the kernel of a convolution reads: its padding, and what whole Winograd tiles reach beyond it."""
    return site.shape.tile_pads(choice.knobs["m"]) if "winograd" in choice.schedule else site.shape.pads


def _widen(demands: dict[ir.Value, tuple[Pads, float]], value: ir.Value, pads: Pads, fill: float) -> None:
    known, known_fill = demands.get(value, (NO_PADS, fill))
    if fill == known_fill:
        demands[value] = (tuple(map(max, known, pads)), fill)  # type: ignore[assignment]

"""Give the groups of a convolution whole channel blocks, by padding each between the pointwise layers around it.

A group whose channels fill no block would be merged with others into one, block-diagonally, most of it zeros. Where the
convolution reads what an ordinary convolution makes, and ordinary convolutions read what it makes, with nothing but
elementwise ops between, the channels in between are nobody else's: each group gets as many more as fill its last block.
The padded channels are copies of the group's last one, so that no epilogue makes of them what a real channel would not
be, and the weights that read them are zero. In IREE's context, before the layout is assigned.

    before: pointwise to 16 x 9 -> elementwise -> 16 groups of 9 -> elementwise -> pointwise from 16 x 9
    after:  pointwise to 16 x 16 -> elementwise -> 16 groups of 16 -> elementwise -> pointwise from 16 x 16
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass, field, replace

import numpy as np
from iree.compiler import ir

from dlas.passes import dispatch as d
from dlas.passes.constants import make_constant
from dlas.passes.conv import USEFUL, ConvShape, ConvSite
from dlas.passes.elementwise import Access, Elementwise
from dlas.passes.layout_graph import LayoutPolicy, layer_of
from dlas.passes.plan import Refusal

_GAIN = 0.97
"""The estimate must be at most this part of what it is without padding."""


@dataclass(frozen=True)
class _Padding:
    """``groups`` groups of ``per_group`` channels each become groups of ``padded``."""

    groups: int
    per_group: int
    padded: int

    @property
    def channels(self) -> int:
        return self.groups * self.padded

    def apply(self, array: np.ndarray, axis: int, *, copies: bool) -> np.ndarray:
        """Pads an axis, with copies of each group's last channel or with zeros."""
        shape = array.shape
        split = array.reshape(*shape[:axis], self.groups, self.per_group, *shape[axis + 1 :])
        widths = [(0, 0)] * split.ndim
        widths[axis + 1] = (0, self.padded - self.per_group)
        padded = np.pad(split, widths, mode="edge") if copies else np.pad(split, widths)
        return padded.reshape(*shape[:axis], self.channels, *shape[axis + 1 :])


@dataclass
class _Region:
    """Values that share their channels, and the ops at its borders."""

    values: list[ir.Value] = field(default_factory=list)
    elementwise: list[Elementwise] = field(default_factory=list)
    makers: list[ConvSite] = field(default_factory=list)
    readers: list[ConvSite] = field(default_factory=list)


@dataclass(frozen=True)
class PadGroupsPlan:
    """What is to be padded around one grouped convolution."""

    site: ConvSite
    before: _Region
    after: _Region
    inner: _Padding
    outer: _Padding

    @classmethod
    def analyze(cls, site: ConvSite, policy: LayoutPolicy) -> PadGroupsPlan | Refusal:
        """Plans the padding of a grouped convolution; refuses where it does not pay, or channels have other users."""
        shape, block = site.shape, policy.block
        if shape.groups == 1 or shape.c_per_group == shape.k_per_group == 1:
            return Refusal("one group, or depthwise")
        if shape.c_per_group % block == shape.k_per_group % block == 0:
            return Refusal("the groups fill blocks")
        before = _region_before(site) if shape.c_per_group % block else _Region()
        after = _region_after(site) if shape.k_per_group % block else _Region()
        for region in (before, after):
            if isinstance(region, Refusal):
                return region
        assert isinstance(before, _Region) and isinstance(after, _Region)
        without = sum(_cycles(policy, each.shape) for each in (site, *before.makers, *after.readers))
        plans = [
            cls(
                site,
                before,
                after,
                _Padding(shape.groups, shape.c_per_group, _whole(shape.c_per_group, size, blocks)),
                _Padding(shape.groups, shape.k_per_group, _whole(shape.k_per_group, size, blocks)),
            )
            for size in policy.blocks
            for blocks in (1, 2)  # two: pairs of vectors reuse what they read
        ]
        best = min(plans, key=lambda plan: plan.cycles(policy))
        if best.cycles(policy) > _GAIN * without:
            return Refusal("by the estimates it would not pay")
        return best

    def cycles(self, policy: LayoutPolicy) -> float:
        """Estimated cycles of all convolutions whose channels change, after the rewrite."""
        return sum(_cycles(policy, shape) for _, shape in self.padded_shapes())

    def padded_shapes(self) -> Iterator[tuple[ConvSite, ConvShape]]:
        """The convolutions with their shapes after the rewrite."""
        shape = self.site.shape
        yield self.site, replace(shape, c_in=self.inner.channels, c_out=self.outer.channels)
        for maker in self.before.makers:
            yield maker, replace(maker.shape, c_out=self.inner.channels)
        for reader in self.after.readers:
            yield reader, replace(reader.shape, c_in=self.outer.channels)

    def rewrite(self) -> None:
        """Pads weights, constants and types in place."""
        for site, shape in list(self.padded_shapes()):
            share = site.shape.useful * site.shape.macs / shape.macs
            site.op.attributes[USEFUL] = ir.FloatAttr.get(ir.F64Type.get(site.op.context), share)
        self._pad_group()
        for maker in self.before.makers:
            _set_weights(maker.op, self.inner.apply(maker.weights, 0, copies=True))
            _widen(maker.op.results[0], 1, self.inner.channels)
            _set_init(maker.op)
        for reader in self.after.readers:
            _set_weights(reader.op, self.outer.apply(reader.weights, 1, copies=False))
            for value in _path(reader.op.operands[0], reader.data):
                _widen(value, 1, self.outer.channels)
        for region, padding in ((self.before, self.inner), (self.after, self.outer)):
            for member in region.elementwise:
                _pad_elementwise(member, padding)

    def _pad_group(self) -> None:
        op, inner, outer = self.site.op, self.inner, self.outer
        shape = self.site.shape
        grouped = self.site.weights.reshape(shape.groups, shape.k_per_group, shape.c_per_group, shape.k_h, shape.k_w)
        weights = np.pad(grouped, [(0, 0), (0, 0), (0, inner.padded - inner.per_group), (0, 0), (0, 0)])
        weights = np.pad(weights, [(0, 0), (0, outer.padded - outer.per_group), (0, 0), (0, 0), (0, 0)], mode="edge")
        _set_weights(op, weights)
        for value in _path(op.operands[0], self.site.data):
            if ir.ShapedType(value.type).rank == 5:
                _widen(value, 2, inner.padded)
                expand = value.owner.operation
                sizes = list(ir.ShapedType(value.type).shape)
                expand.attributes["static_output_shape"] = ir.DenseI64ArrayAttr.get(sizes, op.context)
            else:
                _widen(value, 1, inner.channels)
        _widen(op.results[0], 2, outer.padded)
        _set_init(op)
        _widen(self.site.result, 1, outer.channels)


def pad_groups(function: ir.Operation, policy: LayoutPolicy) -> list[tuple[str, bool, str]]:
    """Pads the groups of every convolution of the function that gains by it.

    Returns (layer, whether it was done, what or why not) for each grouped convolution.
    """
    notes = []
    for op in [view.operation for view in function.regions[0].blocks[0].operations]:
        site = ConvSite.analyze(op) if op.name == "linalg.conv_2d_ngchw_gfchw" else Refusal("not grouped")
        plan = site if isinstance(site, Refusal) else PadGroupsPlan.analyze(site, policy)
        if isinstance(plan, PadGroupsPlan):
            plan.rewrite()
            shape, inner, outer = plan.site.shape, plan.inner, plan.outer
            padded = f"{inner.per_group} to {outer.per_group} channels padded to {inner.padded} to {outer.padded}"
            notes.append((layer_of(op), True, f"{shape.groups} groups of {padded}"))
        elif not isinstance(site, Refusal):
            notes.append((layer_of(op), False, plan.reason))
    return notes


# -- analysis ----------------------------------------------------------------------------------------------------------


def _region_before(site: ConvSite) -> _Region | Refusal:
    """What the convolution's input shares its channels with, back to ordinary convolutions."""
    region, waiting = _Region(), [site.data]
    while waiting:
        value = waiting.pop()
        if value in set(region.values):
            continue
        region.values.append(value)
        maker = _maker(value)
        if isinstance(maker, ConvSite):
            region.makers.append(maker)
        elif isinstance(maker, Elementwise):
            region.elementwise.append(maker)
            waiting += _full(maker)
        else:
            return maker
    inside = {member.op for member in region.elementwise} | set(_users_through(site))
    if any(use.owner.operation not in inside for value in region.values for use in value.uses):
        return Refusal("something else reads the convolution's input")
    return region


def _region_after(site: ConvSite) -> _Region | Refusal:
    """What the convolution's result shares its channels with, up to ordinary convolutions."""
    region, waiting = _Region(), [site.result]
    while waiting:
        value = waiting.pop()
        if value in set(region.values):
            continue
        region.values.append(value)
        for user in _beyond_pads(value):
            member = Elementwise.analyze(user)
            if isinstance(member, Elementwise) and _is_channelwise(member):
                if user not in {known.op for known in region.elementwise}:
                    region.elementwise.append(member)
                    waiting.append(user.results[0])
                continue
            reader = ConvSite.analyze(user)
            if not isinstance(reader, ConvSite) or reader.shape.groups != 1 or reader.data not in {value}:
                return Refusal(f"{user.name} reads the convolution's result")
            region.readers.append(reader)
    known = set(region.values)
    if any(operand not in known for member in region.elementwise for operand in _full(member)):
        return Refusal("another value is combined with the convolution's result")
    return region if region.readers else Refusal("no convolution reads the result")


def _maker(value: ir.Value) -> ConvSite | Elementwise | Refusal:
    op = getattr(value.owner, "operation", None)
    if op is None:
        return Refusal("the input comes from outside")
    member = Elementwise.analyze(op)
    if isinstance(member, Elementwise) and _is_channelwise(member):
        return member
    site = ConvSite.analyze(op)
    if isinstance(site, ConvSite) and site.shape.groups == 1:
        return site
    return Refusal(f"{op.name} makes the convolution's input")


def _is_channelwise(member: Elementwise) -> bool:
    return len(member.shape) == 4 and all(operand.access is not Access.PLANE for operand in member.operands)


def _full(member: Elementwise) -> list[ir.Value]:
    return [operand.value for operand in member.operands if operand.access is Access.FULL]


def _users_through(site: ConvSite) -> list[ir.Operation]:
    """The ops by which a convolution reads its input: the first pad or reshape, or itself."""
    return [site.op, *(value.owner.operation for value in _path(site.op.operands[0], site.data))]


def _beyond_pads(value: ir.Value) -> list[ir.Operation]:
    found: list[ir.Operation] = []
    for use in value.uses:
        user = use.owner.operation
        found += _beyond_pads(user.results[0]) if user.name == "tensor.pad" else [user]
    return found


def _path(start: ir.Value, end: ir.Value) -> list[ir.Value]:
    """The values from ``start`` back to, and without, ``end``."""
    found = []
    while start not in {end}:
        found.append(start)
        start = start.owner.operation.operands[0]
    return found


def _cycles(policy: LayoutPolicy, shape: ConvShape) -> float:
    ways = policy.implementations(shape)
    planar = policy.planar(shape)
    found = [] if isinstance(ways, Refusal) else [way.cycles for way in ways]
    return min(found if isinstance(planar, Refusal) else [*found, planar.cycles], default=math.inf)


def _whole(channels: int, block: int, blocks: int) -> int:
    """``channels``, if they fill no blocks, rounded up to a multiple of so many blocks."""
    return -(-channels // (block * blocks)) * block * blocks if channels % block else channels


# -- rewriting ---------------------------------------------------------------------------------------------------------


def _widen(value: ir.Value, axis: int, extent: int) -> None:
    shape = list(ir.ShapedType(value.type).shape)
    shape[axis] = extent
    value.set_type(d.tensor_type(shape, ir.ShapedType(value.type).element_type))


def _set_weights(op: ir.Operation, weights: np.ndarray) -> None:
    with ir.InsertionPoint(op), op.location:
        op.operands[1] = make_constant(weights, ir.ShapedType(op.operands[1].type).element_type)


def _set_init(op: ir.Operation) -> None:
    """A zero-filled init of the result's new type."""
    type = ir.ShapedType(op.results[0].type)
    with ir.InsertionPoint(op), op.location:
        output = d.empty(type.shape, type.element_type)
        zero = d.float_constant(0.0, type.element_type)
        filled = d.fill(zero, output, "init")
        del filled.owner.operation.attributes["dlas.role"]
        op.operands[2] = filled


def _pad_elementwise(member: Elementwise, padding: _Padding) -> None:
    op = member.op
    maps = [attribute.value for attribute in op.attributes["indexing_maps"]]
    for position, operand in enumerate(member.operands):
        if operand.access is Access.FULL or not isinstance(operand.value.type, ir.RankedTensorType):
            continue
        assert operand.constant is not None
        type = ir.ShapedType(operand.value.type)
        channel = [
            isinstance(e, ir.AffineDimExpr) and ir.AffineDimExpr(e).position == 1 for e in maps[position].results
        ]
        shape = [padding.channels if c else extent for c, extent in zip(channel, type.shape, strict=True)]
        if operand.access is Access.CHANNEL:
            padded = padding.apply(operand.constant, 0, copies=True).reshape(shape)
        else:
            padded = np.broadcast_to(operand.constant, shape)
        with ir.InsertionPoint(op), op.location:
            op.operands[position] = make_constant(padded, type.element_type)
    _widen(op.results[0], 1, padding.channels)
    type = ir.ShapedType(op.results[0].type)
    with ir.InsertionPoint(op), op.location:
        op.operands[len(op.operands) - 1] = d.empty(type.shape, type.element_type)

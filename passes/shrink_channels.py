"""``dlas-shrink-channels``: channels that structured pruning left at zero are taken out of the model.

    before: %a = conv(%x, %w0 : tensor<64x...>)        with 20 rows of %w0 all zero
            %b = relu(%a + bias)                       where these channels are zero as well
            %c = conv(%b, %w1 : tensor<32x64x...>)
    after:  the same with 44 channels of %a, %b and of the input of %w1: dense, smaller layers

Values that must have the same channels (operands and results of elementwise operations, residual sums among them, of
pads, pooling, depthwise convolutions and global means) are a set. It is made by convolutions and read by convolutions
and matrix products; it loses the channels that are zero wherever these read it, and their weights the rows and columns.
Sets that anything else makes or reads stay whole, and so do channels that a bias holds at another number: behind a zero
padding, no smaller convolution has the same result.

The groups of a grouped convolution have to stay equal. Where one makes or reads a set, each of its groups loses as many
channels as the one that can lose fewest; the others keep some zeros. Groups that fill blocks of channels go on filling
them: 15 channels of 16 would be several times slower, since schedules would merge groups block-diagonally.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from dlas.passes.constants import bindings, make_constant, read_constant, read_scalar
from dlas.passes.fold_constants import evaluate_loops
from dlas.passes.generics import (
    Generic,
    defining_op,
    element_type,
    erase_dead,
    layer_of,
    shape_of,
    single_user,
    users,
    walk,
    walk_body,
)
from dlas.passes.plan import Refusal
from dlas.passes.registry import Note, Pass, register

_BLOCK = 8
"""Channels of a block, on most targets; those with larger ones merge groups at no loss."""

_CONV = "linalg.conv_2d_nchw_fchw"
_GROUPED = "linalg.conv_2d_ngchw_gfchw"
_DEPTHWISE = "linalg.depthwise_conv_2d_nchw_chw"
_POOLS = ("linalg.pooling_nchw_max", "linalg.pooling_nchw_sum")
_MATMUL = "linalg.matmul"
_RESHAPES = ("tensor.expand_shape", "tensor.collapse_shape")


@dataclass
class _Set:
    """Values with the same channels.

    Attributes:
        values: in program order.
        makers: convolutions that make some of them; for a grouped one, the reshape that merges its groups.
        ties: operations from values of the set to values of it.
        readers: convolutions and matrix products that read them; for a grouped one, the reshape that splits its groups.
        blocked: why the set has to stay whole, if it has.
    """

    values: list[Any] = field(default_factory=list)
    makers: list[Any] = field(default_factory=list)
    ties: list[Any] = field(default_factory=list)
    readers: list[Any] = field(default_factory=list)
    blocked: str = ""

    def block(self, reason: str) -> None:
        """Notes why the set has to stay whole; the first reason stays."""
        self.blocked = self.blocked or reason


@dataclass(frozen=True)
class Plan:
    """The channels that a set keeps."""

    members: _Set
    keep: np.ndarray
    channels: int

    @classmethod
    def analyze(cls, members: _Set) -> Plan | Refusal | None:
        """The plan; None where no channel of a maker is all zeros."""
        dead = [_zero_rows(op) for op in members.makers]
        if not dead or not any(rows.any() for rows in dead):
            return None
        if members.blocked:
            return Refusal(members.blocked)
        numbers = _numbers(members)
        zero, held = np.ones(len(dead[0]), bool), np.zeros(len(dead[0]), bool)
        for value in members.values:
            number = numbers[value]
            held |= ~np.isnan(number) & (number != 0)
            if any(user not in members.ties for user in users(value)):
                zero &= number == 0
        if not zero.any():
            count = int(held.sum())
            return Refusal(
                f"{count} channels are held at another number than zero" if count else "not all makers agree"
            )
        groups = _groups(members)
        most = max(groups, default=1)
        if any(most % count for count in groups):
            return Refusal(f"layers of {', '.join(map(str, sorted(set(groups))))} groups have the same channels")
        # In each group something has to be left, and equally much in all.
        zeros = zero.reshape(most, -1)
        part, counts = zeros.shape[1], zeros.sum(1)
        # Whole blocks: what the parts of each layer's groups have to be multiples of.
        steps = [(_step(part * most // count), most // count) for count in groups]
        step = max((step // math.gcd(step, parts) for step, parts in steps), default=1)
        kept = -(-max(part - int(counts.min()), 1) // step) * step
        lost = part - kept
        if not lost and not groups:
            return Refusal("one channel has to be left")
        if not lost:
            told = ", ".join(map(str, counts))
            multiple = f", and multiples of {step}" if step > 1 else ""
            return Refusal(f"groups of {part} channels, {told} of them zeros, have to stay equal{multiple}")
        zeros &= zeros.cumsum(1) > zeros.sum(1, keepdims=True) - lost
        return cls(members, np.flatnonzero(~zero), len(zero))


@register("dlas-shrink-channels", context="torch-mlir")
@dataclass(frozen=True)
class ShrinkChannels(Pass):
    """See the module's docstring."""

    def run(self, module: Any) -> list[Note]:
        notes = []
        for function in walk(module, "func.func"):
            for members in _sets(function):
                plan = Plan.analyze(members)
                layers = ", ".join(dict.fromkeys(layer_of(_conv_of(op)) for op in members.makers))
                if isinstance(plan, Refusal):
                    notes.append(Note(self.name, layers, False, plan.reason))
                elif plan is not None:
                    _shrink(plan)
                    notes.append(Note(self.name, layers, True, f"{plan.channels} to {len(plan.keep)} channels"))
        erase_dead(module)
        return notes


# -- analysis ----------------------------------------------------------------------------------------------------------


def _channels_of(value: Any) -> int:
    """The extent of dimension 1 of a static float tensor with channels; 0 for anything else."""
    ir = bindings(value)
    if not isinstance(value.type, ir.RankedTensorType) or str(element_type(value)) != "f32":
        return 0
    shape = shape_of(value)
    return shape[1] if len(shape) in (2, 4) and min(shape) > 0 else 0


def _tied(op: Any) -> list[Any] | None:
    """The operands whose channels are those of the result; None for an operation that ties nothing."""
    if len(op.results) != 1 or not _channels_of(op.results[0]):
        return None
    if op.name in (*_POOLS, _DEPTHWISE):
        return [op.operands[0]]
    if op.name == "tensor.pad":
        return [op.operands[0]] if _keeps_zeros(op) else None
    if op.name in _RESHAPES:
        before, after = shape_of(op.operands[0]), shape_of(op.results[0])
        same = before[:2] == after[:2] and np.prod(before[2:]) == np.prod(after[2:]) == 1
        return [op.operands[0]] if same else None
    generic = Generic.read(op)
    if generic is None or len(generic.indices[-1]) < 2:
        return None
    if walk_body(op, "linalg.index") or walk_body(op, "tensor.extract"):
        return None
    image, channel = generic.indices[-1][:2]
    if image != 0 or channel is None or generic.iterators[channel] != "parallel":
        return None
    tied = []
    for value, index in zip(generic.inputs, generic.indices, strict=False):
        if not _channels_of(value) or read_constant(value) is not None:
            continue
        if len(index) < 2 or index[1] != channel:
            return None
        tied.append(value)
    return tied or None


def _keeps_zeros(pad: Any) -> bool:
    """Whether a channel of zeros is one behind a pad of height and width, or behind the maximum that reads it."""
    if shape_of(pad.operands[0])[:2] != shape_of(pad.results[0])[:2]:
        return False
    number = read_scalar(list(pad.regions[0].blocks[0].operations)[-1].operation.operands[0])
    if number is None:
        return False
    return number == 0 or number < 0 and all(user.name == _POOLS[0] for user in users(pad.results[0]))


def _merged_groups(op: Any) -> Any | None:
    """The grouped convolution whose groups an operation merges to the channels of its result."""
    conv = defining_op(op.operands[0]) if op.name == "tensor.collapse_shape" else None
    if conv is None or conv.name != _GROUPED or len(users(conv.results[0])) != 1 or not _channels_of(op.results[0]):
        return None
    return conv


def _split_groups(op: Any) -> Any | None:
    """The grouped convolution for whose groups an operation splits the channels of its operand."""
    if op.name != "tensor.expand_shape" or not _channels_of(op.operands[0]):
        return None
    user = single_user(op.results[0])
    return user if user is not None and user.name == _GROUPED and user.operands[0] == op.results[0] else None


def _conv_of(maker: Any) -> Any:
    """The convolution of a maker."""
    return _merged_groups(maker) or maker


def _groups(members: _Set) -> list[int]:
    """The groups of the grouped convolutions around a set."""
    convolutions = [_merged_groups(op) for op in members.makers] + [_split_groups(op) for op in members.readers]
    counts = [shape_of(conv.operands[1])[0] for conv in convolutions if conv is not None]
    return counts


def _step(per_group: int) -> int:
    """What the channels of a group stay a multiple of."""
    return math.gcd(per_group, _BLOCK)


def _sets(function: Any) -> list[_Set]:
    """The sets of the function's values, with all that makes and reads them."""
    parent: dict[Any, Any] = {}

    def find(value: Any) -> Any:
        while parent.setdefault(value, value) != value:
            value = parent[value]
        return value

    made = [(op, _tied(op)) for op in walk(function) if op.results]
    made = [
        (op, operands)
        for op, operands in made
        if operands is not None or op.name == _CONV or _merged_groups(op) is not None
    ]
    for op, operands in made:
        for operand in operands or []:
            parent[find(operand)] = find(op.results[0])
    inside = {op.results[0] for op, _ in made}
    sets: dict[Any, _Set] = {}
    for op, operands in made:
        members = sets.setdefault(find(op.results[0]), _Set())
        members.values.append(op.results[0])
        (members.makers if operands is None else members.ties).append(op)
        for operand in operands or []:
            if operand not in inside:
                members.block(f"{_what(operand)} has the same channels")
        op = op if operands is not None else _conv_of(op)
        if op.name.startswith("linalg.") and not _is_fresh(op.operands[len(op.operands) - 1]):
            members.block(f"{_what(op.results[0])} starts from a tensor of the model")
        if op.name in (_CONV, _GROUPED, _DEPTHWISE) and read_constant(op.operands[1]) is None:
            members.block(f"the weights of {_what(op.results[0])} are no constant")
    for members in sets.values():
        for value in members.values:
            for use in value.uses:
                user = use.owner.operation
                if user in members.ties:
                    continue
                reader = _split_groups(user) or user
                reads = reader.name in (_CONV, _GROUPED, _MATMUL) and use.operand_number == 0
                if reads and read_constant(reader.operands[1]) is not None:
                    members.readers.append(user)
                else:
                    members.block(f"{layer_of(user) or user.name} ({user.name}) reads them")
    return list(sets.values())


def _is_fresh(init: Any) -> bool:
    """Whether an init is ``tensor.empty``, split into groups or not, or a fill of it."""
    op = defining_op(init)
    for name, position in (("linalg.fill", 1), ("tensor.expand_shape", 0)):
        if op is not None and op.name == name:
            op = defining_op(op.operands[position])
    return op is not None and op.name == "tensor.empty"


def _starts_at(op: Any) -> float:
    """The number that the init of an operation is filled with; NaN where it is not."""
    fill = defining_op(op.operands[len(op.operands) - 1])
    number = read_scalar(fill.operands[0]) if fill is not None and fill.name == "linalg.fill" else None
    return float("nan") if number is None else float(number)


def _zero_rows(maker: Any) -> np.ndarray:
    """For each output channel of a convolution, whether its weights are constant and all zero."""
    channels, conv = shape_of(maker.results[0])[1], _conv_of(maker)
    if read_constant(conv.operands[1]) is None:
        return np.zeros(channels, bool)
    return np.asarray(~_constant(conv.operands[1]).reshape(channels, -1).any(1))


def _constant(value: Any) -> np.ndarray:
    array = read_constant(value)
    assert array is not None
    return array


def _what(value: Any) -> str:
    op = defining_op(value)
    return "an input" if op is None else layer_of(op) or op.name


def _numbers(members: _Set) -> dict[Any, np.ndarray]:
    """For each value, the number that a channel has everywhere; NaN where it has none."""
    numbers: dict[Any, np.ndarray] = {}
    for value in members.values:
        op, count = value.owner.operation, shape_of(value)[1]
        if op.name == "linalg.generic":
            numbers[value] = _evaluated(op, numbers, count)
            continue
        # Zeros stay zeros, which is all that may pass here, where nothing else is in the sums and maxima.
        made = op in members.makers
        zero = _zero_rows(op) if made else numbers[op.operands[0]] == 0
        op = _conv_of(op) if made else op
        kept = (
            op.name in ("tensor.pad", *_RESHAPES) or _starts_at(op) == 0 or op.name == _POOLS[0] and _starts_at(op) < 0
        )
        numbers[value] = np.where(zero & kept, 0.0, np.nan)
    return numbers


def _evaluated(op: Any, numbers: dict[Any, np.ndarray], count: int) -> np.ndarray:
    """An elementwise operation on one element of each channel; of a sum, zeros."""
    generic = Generic.read(op)
    assert generic is not None
    known = [numbers.get(value) for value in generic.inputs]
    body = list(generic.body_ops())
    names = [inner.name for inner in body]
    if "reduction" in generic.iterators:
        sums = names == ["arith.addf"] and len(known) == 1 and known[0] is not None and _starts_at(op) == 0
        return np.where(known[0] == 0, 0.0, np.nan) if sums else np.full(count, np.nan)
    if names == ["arith.mulf"]:  # one factor of zero is enough
        factors = [
            n for n, argument in zip(known, generic.body.arguments, strict=False) if argument in body[0].operands
        ]
        zero = np.any([number == 0 for number in factors if number is not None], axis=0)
        known = [None if number is None else np.where(zero, 0.0, number) for number in known]
    channel = generic.indices[-1][1]
    extents = [count if loop == channel else 1 for loop in range(generic.rank)]
    arrays, unknown = [], np.zeros(count, bool)
    for value, index, number in zip(generic.inputs, generic.indices, known, strict=False):
        array = read_constant(value)
        if number is not None:
            unknown |= np.isnan(number)
            array = np.nan_to_num(number).reshape([count if loop == channel else 1 for loop in index])
        sizes = [1 if loop is None else extents[loop] for loop in index]
        if array is None or any(found not in (1, size) for found, size in zip(array.shape, sizes, strict=True)):
            return np.full(count, np.nan)
        arrays.append(array)
    with np.errstate(all="ignore"):
        result = evaluate_loops(generic, arrays, tuple(extents))
    return np.full(count, np.nan) if result is None else np.where(unknown, np.nan, result.reshape(count))


# -- rewriting ---------------------------------------------------------------------------------------------------------


def _shrink(plan: Plan) -> None:
    members, keep = plan.members, plan.keep
    for op in (*members.makers, *members.ties):
        if op.name in (_CONV, _DEPTHWISE):
            _take(op, 1, 0, keep)
        generic = Generic.read(op)
        if generic is not None:
            channel = generic.indices[-1][1]
            for position, (value, index) in enumerate(zip(generic.inputs, generic.indices, strict=False)):
                if read_constant(value) is not None and channel in index and shape_of(value)[index.index(channel)] > 1:
                    _take(op, position, index.index(channel), keep)
        if op.name.startswith("linalg."):
            position = len(op.operands) - 1
            op.operands[position] = _smaller_init(op, op.operands[position], len(keep))
        if op.name == "tensor.expand_shape":
            shape = [*shape_of(op.results[0])]
            shape[1] = len(keep)
            op.attributes["static_output_shape"] = bindings(op).DenseI64ArrayAttr.get(shape, op.context)
        if (conv := _merged_groups(op)) is not None:
            _shrink_groups(conv, keep, 1)
        _set_channels(op.results[0], len(keep))
    for op in members.readers:
        conv = _split_groups(op)
        if conv is None:
            _take(op, 1, 1 if op.name == _CONV else 0, keep)
            continue
        _shrink_groups(conv, keep, 2)
        _set_channels(op.results[0], shape_of(conv.operands[1])[2], 2)
        shape = bindings(op).DenseI64ArrayAttr.get(list(shape_of(op.results[0])), op.context)
        op.attributes["static_output_shape"] = shape


def _shrink_groups(conv: Any, keep: np.ndarray, axis: int) -> None:
    """Keeps these channels of all groups, as many of each, along an axis of the weights: outputs (1) or inputs (2)."""
    weights = _constant(conv.operands[1])
    groups, per_group = weights.shape[0], weights.shape[axis]
    within = keep.reshape(groups, -1) % per_group
    index = within.reshape([groups if i == 0 else within.shape[1] if i == axis else 1 for i in range(weights.ndim)])
    with bindings(conv).InsertionPoint(conv), conv.location:
        smaller = np.take_along_axis(weights, index, axis)
        conv.operands[1] = make_constant(np.ascontiguousarray(smaller), element_type(conv.operands[1]))
    if axis == 1:
        conv.operands[2] = _smaller_init(conv, conv.operands[2], within.shape[1], 2)
        _set_channels(conv.results[0], within.shape[1], 2)


def _take(op: Any, position: int, axis: int, keep: np.ndarray) -> None:
    """Some indices of a constant operand."""
    value = op.operands[position]
    with bindings(op).InsertionPoint(op), op.location:
        op.operands[position] = make_constant(_constant(value).take(keep, axis), element_type(value))


def _smaller_init(op: Any, init: Any, channels: int, dimension: int = 1) -> Any:
    """``tensor.empty``, or a fill of it, with so many channels."""
    maker, ir = init.owner.operation, bindings(op)
    with ir.InsertionPoint(op), op.location:
        if maker.name == "tensor.expand_shape":  # of one
            copy = ir.Operation.create("tensor.empty", results=[init.type])
        else:
            copy = maker.clone().operation
        if maker.name == "linalg.fill":
            copy.operands[1] = _smaller_init(copy, copy.operands[1], channels, dimension)
    _set_channels(copy.results[0], channels, dimension)
    return copy.results[0]


def _set_channels(value: Any, channels: int, dimension: int = 1) -> None:
    ir = bindings(value)
    shape = [*shape_of(value)]
    shape[dimension] = channels
    with value.owner.location:
        value.set_type(ir.RankedTensorType.get(shape, element_type(value)))

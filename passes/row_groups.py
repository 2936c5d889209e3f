"""Groups of ops that work along rows: softmax, layer norm, and whatever else maps and reduces the last dimension.

A group is one program over ``rows`` rows of ``columns`` elements. Its members are ``linalg.generic`` ops: maps over
all elements, maps over one number per row, and reductions of a row to one number. Leading dimensions are one: a value
may be ``[12, 128, 128]`` for one member and, reshaped, ``[1, 12, 128, 128]`` for the next.

    softmax:     m = max(x);  e = exp(x - m);  s = sum(e);  y = e / s
    layer norm:  m = sum(x) / n;  c = x - m;  v = sum(c * c) / n;  y = c * rsqrt(v + eps) * scale + shift
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from enum import Enum
from math import prod

from iree.compiler import ir

from dlas.passes.constants import read_scalar
from dlas.passes.generics import Generic, defining_op, shape_of, users
from dlas.passes.plan import Refusal

# Reductions by their op, with the value that changes nothing.
NEUTRAL: dict[str, float | bool] = {
    "arith.addf": 0.0,
    "arith.mulf": 1.0,
    "arith.maximumf": float("-inf"),
    "arith.minimumf": float("inf"),
    "arith.maxnumf": float("-inf"),
    "arith.minnumf": float("inf"),
    "arith.andi": True,
    "arith.ori": False,
}
_RESHAPES = ("tensor.expand_shape", "tensor.collapse_shape")
_MAX_RESULTS = 3


class Extent(Enum):
    """What a value has one number for."""

    FULL = "element"
    ROW = "row"
    COLUMN = "column"
    SCALAR = "program"


@dataclass(frozen=True)
class Place:
    """Where an operand is read.

    Attributes:
        value: the value; reshapes within the group are looked through.
        extent: what it has one number for.
        row: of a value from outside, its row for row ``r``: the sum of ``r // divisor % modulus * stride``.
        rows: of a value from outside, its number of rows.
    """

    value: ir.Value
    extent: Extent
    row: tuple[tuple[int, int, int], ...] = ()
    rows: int = 1


@dataclass(frozen=True)
class RowOp:
    """A member of a group.

    Attributes:
        op: the ``linalg.generic``.
        operands: where each of its inputs is read.
        extent: of its result, FULL or ROW.
        combine: of a reduction, the op that combines two elements; "" for a map.
        init: of a reduction, what it starts from.
    """

    op: ir.Operation
    operands: tuple[Place, ...]
    extent: Extent
    combine: str = ""
    init: float | bool = 0.0

    @property
    def result(self) -> ir.Value:
        return self.op.results[0]

    @property
    def reduced(self) -> ir.Value:
        """Of a reduction, the value in the body that is combined with the accumulator."""
        block = self.op.regions[0].blocks[0]
        combine = _yielded(self.op).owner.operation
        accumulator = block.arguments[len(self.operands)]
        return combine.operands[1] if combine.operands[0] == accumulator else combine.operands[0]


@dataclass
class RowGroup:
    """Ops that become one kernel.

    Attributes:
        rows, columns: what they all work on.
        ops: in program order.
        results: what is read outside, in the shape that it is read in: (value, alias).
    """

    rows: int
    columns: int
    ops: list[RowOp]
    results: list[tuple[ir.Value, ir.Value]] = field(default_factory=list)

    @property
    def computed(self) -> dict[ir.Value, RowOp]:
        return {op.result: op for op in self.ops}

    @property
    def inputs(self) -> list[Place]:
        """What the members read from outside, each place once."""
        computed = self.computed
        places = [place for op in self.ops for place in op.operands if place.value not in computed]
        return [place for place in dict.fromkeys(places) if place.extent is not Extent.SCALAR]


def without_reshapes(value: ir.Value) -> ir.Value:
    """The value that a value is a reshape of: the same numbers in the same order."""
    while True:
        op = defining_op(value)
        if op is None or op.name not in _RESHAPES:
            return value
        value = op.operands[0]


class RowGroups:
    """Finds the groups of a function.

    Args:
        ops: its ops in order.
    """

    def __init__(self, ops: Sequence[ir.Operation]) -> None:
        self.ops, self.claimed = ops, set[ir.Operation]()
        self.position = {op: i for i, op in enumerate(ops)}

    def find(self) -> Iterator[tuple[ir.Operation, RowGroup | Refusal]]:
        """A group, or why there is none, for each reduction of a last dimension that no earlier group has."""
        for op in self.ops:
            if op in self.claimed or op.name != "linalg.generic" or not _reduces_last(op):
                continue
            group = self._grow(op)
            if isinstance(group, RowGroup):
                self.claimed.update(member.op for member in group.ops)
            yield op, group

    def _grow(self, seed: ir.Operation) -> RowGroup | Refusal:
        extents = Generic.read(seed).loop_extents()  # type: ignore[union-attr]
        if min(extents) < 1:
            return Refusal("dynamic shape")
        rows, columns = prod(extents[:-1]), extents[-1]
        members: dict[ir.Operation, RowOp] = {}
        known: dict[ir.Value, Extent] = {}
        first = _analyze(seed, rows, columns, known)
        if isinstance(first, Refusal):
            return first
        members[seed] = first
        known[first.result] = first.extent
        # Forwards to what reads the group, then backwards to what only the group reads, until nothing changes.
        whole = dict(members) if self._fits(members) and self._is_whole(members) else {}
        changed = True
        while changed:
            changed = False
            for op in self._candidates(members, known):
                site = _analyze(op, rows, columns, known)
                if isinstance(site, Refusal) or not self._fits({**members, op: site}):
                    continue
                members[op] = site
                known[site.result] = site.extent
                changed = True
                if self._is_whole(members):
                    whole = dict(members)
        if not whole:
            return Refusal("what it computes is not f32, or is read too early or too often")
        known = {site.result: site.extent for site in whole.values()}
        ordered = sorted(whole, key=self.position.__getitem__)
        final = [_analyze(op, rows, columns, known) for op in ordered]  # operands found later are inside now
        group = RowGroup(rows, columns, [op for op in final if isinstance(op, RowOp)])
        assert len(group.ops) == len(final)
        group.results = _results(group)
        return group

    def _candidates(self, members: dict[ir.Operation, RowOp], known: dict[ir.Value, Extent]) -> list[ir.Operation]:
        found: set[ir.Operation] = set()
        for value in known:
            for _, op in outside_users(value):
                found.add(op)
        inside = set(found)
        for site in members.values():
            for place in site.operands:
                op = defining_op(place.value)
                if op is not None and place.value not in known:
                    inside.add(op)
        return sorted(
            (
                op
                for op in inside
                if op in self.position
                and op not in members
                and op not in self.claimed
                and op.name == "linalg.generic"
                and len(op.results) == 1
            ),
            key=self.position.__getitem__,
        )

    def _fits(self, members: dict[ir.Operation, RowOp]) -> bool:
        """Whether the members can stand where the last of them does: whoever reads their results comes later."""
        last = max(self.position[op] for op in members)
        readers = [user for site in members.values() for _, user in outside_users(site.result) if user not in members]
        return all(self.position.get(user, -1) > last for user in readers)

    def _is_whole(self, members: dict[ir.Operation, RowOp]) -> bool:
        """Whether what is read outside can be results of a kernel."""
        results = set()
        for site in members.values():
            for alias, user in outside_users(site.result):
                if user not in members:
                    if not _is_f32(site.result):
                        return False
                    results.add(alias)
        return 1 <= len(results) <= _MAX_RESULTS


def _results(group: RowGroup) -> list[tuple[ir.Value, ir.Value]]:
    members = {site.op for site in group.ops}
    results = [
        (site.result, alias) for site in group.ops for alias, user in outside_users(site.result) if user not in members
    ]
    return list(dict.fromkeys(results))


def outside_users(value: ir.Value) -> list[tuple[ir.Value, ir.Operation]]:
    """Who reads a value or a reshape of it, with the form that it reads."""
    found = []
    for op in users(value):
        if op.name in _RESHAPES:
            found += outside_users(op.results[0])
        else:
            found.append((value, op))
    return found


def _is_f32(value: ir.Value) -> bool:
    return str(ir.ShapedType(value.type).element_type) == "f32"


def _reduces_last(op: ir.Operation) -> bool:
    generic = Generic.read(op)
    if generic is None or generic.rank < 1:
        return False
    return generic.iterators == ("parallel",) * (generic.rank - 1) + ("reduction",)


def _yielded(op: ir.Operation) -> ir.Value:
    return list(op.regions[0].blocks[0].operations)[-1].operation.operands[0]


def _analyze(op: ir.Operation, rows: int, columns: int, known: dict[ir.Value, Extent]) -> RowOp | Refusal:
    """Reads a map or reduction of a group; ``known`` are the values that the group computes."""
    generic = Generic.read(op)
    if generic is None:
        return Refusal("not a linalg.generic with one result and plain maps")
    extents = generic.loop_extents()
    if any(
        inner.regions or inner.name in ("linalg.index", "tensor.extract", "cf.assert") for inner in generic.body_ops()
    ):
        return Refusal("the body is not elementwise")
    if str(ir.ShapedType(op.results[0].type).element_type) not in ("f32", "i1"):
        return Refusal(f"result of type {op.results[0].type} (f32 has a schedule)")
    rank = generic.rank
    if _reduces_last(op):
        if prod(extents[:-1]) != rows or extents[-1] != columns:
            return Refusal(f"reduces {extents} beside {rows} rows of {columns}")
        return _analyze_reduction(op, generic, rows, columns, known)
    if not generic.is_elementwise:
        return Refusal("neither a map nor a reduction of the last dimension")
    if rank and prod(extents[:-1]) == rows and extents[-1] == columns:
        full = True
    elif prod(extents) == rows:
        full = False
    else:
        return Refusal(f"works on {extents} beside {rows} rows of {columns}")
    if not full and not any(known.get(without_reshapes(value)) is Extent.ROW for value in generic.inputs):
        return Refusal("one number per row, of nothing that the group computes")
    lead = extents[:-1] if full else extents
    places = []
    for value, index in zip(generic.inputs, generic.indices, strict=False):
        place = _place(value, index, lead, columns if full else None, known)
        if isinstance(place, Refusal):
            return place
        places.append(place)
    return RowOp(op, tuple(places), Extent.FULL if full else Extent.ROW)


def _analyze_reduction(
    op: ir.Operation, generic: Generic, rows: int, columns: int, known: dict[ir.Value, Extent]
) -> RowOp | Refusal:
    rank, extents = generic.rank, generic.loop_extents()
    lead = tuple(range(rank - 1))
    if generic.indices[-1] not in (lead, (*lead, None)):
        return Refusal("permuted result of a reduction")
    combine = getattr(generic.yielded.owner, "operation", None)
    accumulator = generic.body.arguments[len(generic.inputs)]
    if combine is None or combine.name not in NEUTRAL or len(list(accumulator.uses)) != 1:
        return Refusal("the reduction is not a sum, product, minimum, maximum, and, or or")
    if accumulator not in list(combine.operands):
        return Refusal("the reduction does more to its accumulator than combine it")
    fill = defining_op(generic.output)
    init = read_scalar(fill.operands[0]) if fill is not None and fill.name == "linalg.fill" else None
    if init is None:
        return Refusal("unknown initial value")
    places = []
    for value, index in zip(generic.inputs, generic.indices, strict=False):
        place = _place(value, index, extents[:-1], columns, known)
        if isinstance(place, Refusal):
            return place
        places.append(place)
    return RowOp(op, tuple(places), Extent.ROW, combine.name, init)


def _place(
    value: ir.Value,
    index: tuple[int | None, ...],
    lead: tuple[int, ...],
    columns: int | None,
    known: dict[ir.Value, Extent],
) -> Place | Refusal:
    """Where a member with the loops ``lead`` (and columns) reads an operand."""
    if not isinstance(value.type, ir.ShapedType):
        return Place(value, Extent.SCALAR)
    shape = shape_of(value)
    inner = without_reshapes(value)
    along = columns is not None and columns > 1 and len(index) > 0 and index[-1] == len(lead)
    rest = index[:-1] if along else index
    if columns is not None and len(lead) in rest and columns > 1:
        return Refusal(f"operand of type {value.type} has its columns elsewhere")
    # The loop dimensions that the operand has, unit ones aside, must come in order: then rows are counted.
    used = [(dim, extent) for dim, extent in zip(rest, shape, strict=False) if dim is not None and extent != 1]
    if [dim for dim, _ in used] != sorted({dim for dim, _ in used}):
        return Refusal(f"operand of type {value.type} is permuted")
    if any(lead[dim] != extent for dim, extent in used if dim < len(lead)):
        return Refusal(f"operand of type {value.type} does not have the group's shape")
    whole = prod(extent for _, extent in used) == prod(lead)
    if inner in known:
        extent = known[inner]
        if not whole or extent is not (Extent.FULL if along else Extent.ROW):
            return Refusal(f"reads {value.type} of the group in another order")
        return Place(inner, extent)
    if str(ir.ShapedType(value.type).element_type) not in ("f32", "i1"):
        return Refusal(f"operand of type {value.type} (f32 has a schedule)")
    if not used and not along:
        return Refusal(f"operand of type {value.type} is one number in a tensor")
    if not used:
        return Place(value, Extent.COLUMN)
    row: list[tuple[int, int, int]] = []
    stride = 1
    for dim, size in reversed(used):
        row.append((prod(lead[dim + 1 :]), size, stride))
        stride *= size
    if whole:
        row = [(1, prod(lead), 1)]
    return Place(value, Extent.FULL if along else Extent.ROW, tuple(row), stride)

"""Emit a :class:`~dlas.passes.row_groups.RowGroup` as vector code: softmax, layer norm and their like, row by row.

A row is passed over as often as its reductions depend on each other. What an earlier pass computed is kept in the row
of a result where it is expensive (``exp``), and computed again where it is not.

    for r:
      pass 0:  for c/W:  m = max(m, x[r, c])
      pass 1:  for c/W:  y[r, c] = e = exp(x[r, c] - m);  s = s + e
      pass 2:  for c/W:  y[r, c] = y[r, c] / s
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from math import prod

from iree.compiler import ir

from dlas.passes import dispatch as d
from dlas.passes import vectors as v
from dlas.passes.generics import shape_of
from dlas.passes.kernel_frame import KernelFrame, clone_body, like, tensor_bytes, type_like
from dlas.passes.plan import Choice
from dlas.passes.reshape import reshape_collapse, reshape_expand
from dlas.passes.row_groups import NEUTRAL, Extent, Place, RowGroup, RowOp

_UNEQUAL = 13  # arith's "unordered or unequal"


class RowKernels(KernelFrame):
    """The part of the emitter for programs along rows."""

    def row_program(self, group: RowGroup, choice: Choice, layer: str) -> list[ir.Value]:
        """A kernel of its own for a group; returns its results as ``[rows, columns]`` or ``[rows]``."""
        rows, columns, at_a_time = group.rows, group.columns, choice.knobs["rows"]
        places = group.inputs
        inputs = [flat_operand(place, columns, self.element) for place in places]
        program = Program(self, group, choice.knobs["width"])
        tile = {Extent.FULL: [at_a_time, columns], Extent.ROW: [at_a_time]}
        extents = [program.computed[value].extent for value in program.results]
        types = [d.tensor_type([rows, *tile[extent][1:]], self.element) for extent in extents]

        def body(b: d.DispatchBody) -> None:
            first = first_of_tile(b.workgroup, at_a_time, rows)
            operands = {}
            for place, binding, value in zip(places, b.inputs, inputs, strict=True):
                sizes = list(shape_of(value))
                operands[place] = b.load(binding, [0] * len(sizes), sizes, sizes)
            offsets = {Extent.FULL: [first, 0], Extent.ROW: [first]}
            outs = [
                b.load(binding, offsets[extent], tile[extent], tile[extent])
                for binding, extent in zip(b.outputs, extents, strict=True)
            ]
            outs = program.emit(operands, outs, at_a_time, first)
            for out, binding, extent in zip(outs, b.outputs, extents, strict=True):
                b.store(out, binding, offsets[extent], tile[extent])

        values = d.create_dispatch(-(-rows // at_a_time), inputs, types, body)
        moved = sum(tensor_bytes(value.type) for value in (*inputs, *values))
        flops = len(group.ops) * rows * columns
        self.record(values[0].owner.operation, "rows", choice, layer, {}, flops, moved)
        return values


def first_of_tile(index: ir.Value, size: int, extent: int) -> ir.Value:
    """The first row of a tile; the last tile ends with the last row, so that all tiles have one size."""
    first = v.affine(ir.AffineExpr.get_dim(0) * size, index)
    if extent % size == 0:
        return first
    return v.emit("arith.minsi", [first, d.index_constant(extent - size)], ir.IndexType.get())


def flat_operand(place: Place, columns: int, element: ir.Type) -> ir.Value:
    """An operand from outside as ``[rows, columns]``, ``[rows]`` or ``[columns]``; truth values as 1.0 and 0.0."""
    value = place.value
    if str(ir.ShapedType(value.type).element_type) == "i1":
        value = _numbers(value, element)
    if place.extent is Extent.FULL:
        return reshaped(value, [place.rows, columns])
    return reshaped(value, [columns if place.extent is Extent.COLUMN else place.rows])


def reshaped(value: ir.Value, shape: Sequence[int]) -> ir.Value:
    """The same numbers in another shape."""
    known, shape = list(shape_of(value)), list(shape)
    if known == shape:
        return value
    if len(known) > 1:
        value = reshape_collapse(value, [prod(known)], [list(range(len(known)))])
    if len(shape) == 1:
        return value
    if not known:
        return reshape_expand(value, shape, [])
    return reshape_expand(value, shape, [list(range(len(shape)))])


def _numbers(value: ir.Value, element: ir.Type) -> ir.Value:
    shape = shape_of(value)
    identity = d.affine_map(len(shape), [ir.AffineExpr.get_dim(i) for i in range(len(shape))])

    def body(arguments: Sequence[ir.Value]) -> list[ir.Value]:
        return [v.emit("arith.uitofp", [arguments[0]], element)]

    return d.generic([value], [d.empty(shape, element)], [identity, identity], "p" * len(shape), body)[0]


@dataclass
class Program:
    """A group's code for some rows.

    Attributes:
        frame: the emitter.
        group: what to compute.
        width: lanes of a step along the row.
        in_place: the input that is in the rows of the first result before they are written.
    """

    frame: KernelFrame
    group: RowGroup
    width: int
    in_place: Place | None = None

    def __post_init__(self) -> None:
        self.computed = self.group.computed
        self.stage = self._stages()
        self.last = max((self.stage[value] for value in self.computed), default=0)
        self.results = list(dict.fromkeys(value for value, _ in self.group.results))
        self.kept = self._kept()

    # -- which pass computes what --------------------------------------------------------------------------------

    def _stages(self) -> dict[ir.Value, int]:
        """The pass that each value is there in: that of a reduction comes after the one that does it."""
        stage: dict[ir.Value, int] = {}
        for op in self.group.ops:
            of_operands = max((stage.get(place.value, 0) for place in op.operands), default=0)
            stage[op.result] = of_operands + (1 if op.combine else 0)
        return stage

    def _kept(self) -> dict[ir.Value, int]:
        """Values to keep between passes: (value, result whose row keeps it until the result itself is written)."""
        needed = self._last_reads()
        full = [i for i, value in enumerate(self.results) if self.computed[value].extent is Extent.FULL]
        kept: dict[ir.Value, int] = {self.results[i]: i for i in full}
        free = [i for i in full if self.stage[self.results[i]] > 0]
        for op in self.group.ops:
            value = op.result
            if op.extent is not Extent.FULL or value in kept or not _is_expensive(op):
                continue
            if str(ir.ShapedType(value.type).element_type) != "f32" or needed.get(value, 0) <= self.stage[value]:
                continue
            home = next((i for i in free if self.stage[self.results[i]] >= needed[value]), None)
            if home is not None:
                kept[value] = home
                free.remove(home)
        return kept

    def _last_reads(self) -> dict[ir.Value, int]:
        """The last pass in which each value of type FULL is needed, directly or to compute another again."""
        needed: dict[ir.Value, int] = {value: self.stage[value] for value in self.results}
        for op in reversed(self.group.ops):
            if op.combine:
                when = self.stage[op.result] - 1
            else:
                when = needed.get(op.result, self.stage[op.result])
                if _is_expensive(op) or op.result in self.results:
                    when = self.stage[op.result]  # kept, so its operands are read once
            for place in op.operands:
                needed[place.value] = max(needed.get(place.value, 0), when)
        return needed

    def may_overwrite(self, place: Place) -> bool:
        """Whether the only result can take the place of an input: no pass after the first that writes reads it."""
        first = min(self.stage[value] for value in self.kept)
        return len(self.results) == 1 and self._last_reads()[place.value] <= first

    # -- emission ------------------------------------------------------------------------------------------------

    def emit(
        self, operands: Mapping[Place, ir.Value], outs: Sequence[ir.Value], rows: int, first: ir.Value
    ) -> list[ir.Value]:
        """The loop over ``rows`` rows.

        Args:
            operands: a tensor for each of the group's inputs (see :func:`flat_operand`), but for ``in_place``.
            outs: a tile for each result.
            rows: of the tile.
            first: the row of the whole that row 0 of the tile is.
        """

        def row(r: ir.Value, carried: list[ir.Value]) -> list[ir.Value]:
            return _Row(self, operands, r, first).emit(carried)

        return _marked(v.loop(rows, list(outs), row))


def _marked(values: list[ir.Value]) -> list[ir.Value]:
    """Gives the op that made them the role that carries the kernel's identity."""
    values[0].owner.attributes["dlas.role"] = ir.StringAttr.get("rows")
    return values


def _is_expensive(op: RowOp) -> bool:
    names = [view.operation.name for view in op.op.regions[0].blocks[0].operations]
    return any(name.startswith("math.") for name in names)


@dataclass
class _Row:
    """The code of one row: ``at`` is its place in the tile, ``first + at`` the row of the whole."""

    program: Program
    operands: Mapping[Place, ir.Value]
    at: ir.Value
    first: ir.Value
    scalars: dict[ir.Value, ir.Value] = field(default_factory=dict)  # one number per row

    def __post_init__(self) -> None:
        d0, d1 = ir.AffineExpr.get_dim(0), ir.AffineExpr.get_dim(1)
        self.row = v.affine(d0 + d1, self.first, self.at)

    def emit(self, outs: list[ir.Value]) -> list[ir.Value]:
        for stage in range(self.program.last + 1):
            self._row_maps(stage)
            outs = self._pass(stage, outs)
        for i, value in enumerate(self.program.results):
            if self.program.computed[value].extent is Extent.ROW:
                outs[i] = v.emit("tensor.insert", [self.scalars[value], outs[i], self.at], outs[i].type)
        return outs

    def _row_maps(self, stage: int) -> None:
        """What has one number per row, before the pass that may need it."""
        for op in self.program.group.ops:
            if op.extent is Extent.ROW and not op.combine and self.program.stage[op.result] == stage:
                block = op.op.regions[0].blocks[0]
                arguments = {
                    argument: self.scalar(place) for argument, place in zip(block.arguments, op.operands, strict=False)
                }
                self.scalars[op.result] = clone_body(block, arguments, _element(op.result))

    def scalar(self, place: Place) -> ir.Value:
        if place.value in self.scalars:
            return self.scalars[place.value]
        if place.extent is Extent.SCALAR:
            return place.value.owner.operation.clone().operation.results[0]
        number = self._read_scalar(place)
        self.scalars[place.value] = number
        return number

    def _read_scalar(self, place: Place) -> ir.Value:
        source = self.operands[place]
        number = v.emit("tensor.extract", [source, self.row_of(place)], self.program.frame.element)
        return _truth(number, place)

    def row_of(self, place: Place) -> ir.Value:
        d0 = ir.AffineExpr.get_dim(0)
        total: ir.AffineExpr | None = None
        for divisor, modulus, stride in place.row:
            term = ir.AffineExpr.get_mod(ir.AffineExpr.get_floor_div(d0, divisor), modulus) * stride
            if (divisor, modulus) == (1, self.program.group.rows):
                term = d0 * stride
            total = term if total is None else total + term
        assert total is not None
        return v.affine(total, self.row)

    def _pass(self, stage: int, outs: list[ir.Value]) -> list[ir.Value]:
        program = self.program
        reductions = [op for op in program.group.ops if op.combine and program.stage[op.result] == stage + 1]
        written = [value for value in program.kept if program.stage[value] == stage]
        if not reductions and not written:
            return outs
        totals: dict[ir.Value, ir.Value] = {}
        for piece in pieces(program.group.columns, program.width):
            neutral = [_same_lanes(NEUTRAL[op.combine], _element(op.result), piece[2]) for op in reductions]
            carried = self._steps(piece, stage, reductions, written, [*outs, *neutral])
            outs, partial = carried[: len(outs)], carried[len(outs) :]
            for op, lanes in zip(reductions, partial, strict=True):
                number = fold(op.combine, lanes)
                known = totals.get(op.result)
                totals[op.result] = number if known is None else v.emit(op.combine, [known, number], number.type)
        for op in reductions:
            number = totals[op.result]
            if op.init != NEUTRAL[op.combine]:
                number = v.emit(op.combine, [number, _constant(op.init, number.type)], number.type)
            self.scalars[op.result] = number
        return outs

    def _steps(
        self,
        piece: tuple[int, int, int],
        stage: int,
        reductions: Sequence[RowOp],
        written: Sequence[ir.Value],
        carried: Sequence[ir.Value],
    ) -> list[ir.Value]:
        """The loop over a piece of the row; what it carries are the results, then the reductions' lanes."""
        start, count, width = piece
        results = len(carried) - len(reductions)

        def step(number: ir.Value, carried: list[ir.Value]) -> list[ir.Value]:
            column = v.affine(ir.AffineExpr.get_dim(0) * width + start, number)
            lanes = _Step(self, stage, column, width, carried[:results])
            sums = [
                v.emit(op.combine, [total, lanes.reduced(op)], total.type)
                for op, total in zip(reductions, carried[results:], strict=True)
            ]
            for value in written:
                lanes.keep(value)
            return [*lanes.outs, *sums]

        return v.loop(count, carried, step)


@dataclass
class _Step:
    """Some columns of a row in one pass."""

    row: _Row
    stage: int
    column: ir.Value
    width: int
    outs: list[ir.Value]
    values: dict[ir.Value, ir.Value] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self.program = self.row.program
        self.index = v.Indices()

    def keep(self, value: ir.Value) -> None:
        home = self.program.kept[value]
        lanes = self.value(value)
        out = v.write(lanes, self.outs[home], [self.row.at, self.column], self.index)
        out.owner.attributes["dlas.role"] = ir.StringAttr.get("rows")
        self.outs[home] = out

    def value(self, value: ir.Value) -> ir.Value:
        """A value that the group computes."""
        if value not in self.values:
            self.values[value] = self._computed(value)
        return self.values[value]

    def _computed(self, value: ir.Value) -> ir.Value:
        program = self.program
        op = program.computed[value]
        if op.extent is Extent.ROW:
            number = self.row.scalars[value]
            return like(number, self._type(number.type))
        if value in program.kept and program.stage[value] < self.stage:
            return self._read(self.outs[program.kept[value]], [self.row.at, self.column])
        block = op.op.regions[0].blocks[0]
        return clone_body(block, self._arguments(op), self._type(_element(value)))

    def reduced(self, op: RowOp) -> ir.Value:
        """What a reduction combines with its accumulator."""
        block = op.op.regions[0].blocks[0]
        value = op.reduced
        return clone_body(block, self._arguments(op), self._type(value.type), value)

    def _arguments(self, op: RowOp) -> dict[ir.Value, ir.Value]:
        block = op.op.regions[0].blocks[0]
        return {
            argument: self._operand(place)
            for argument, place in zip(block.arguments, op.operands, strict=False)
            if list(argument.uses)
        }

    def _operand(self, place: Place) -> ir.Value:
        program = self.program
        if place.value in program.computed:
            return self.value(place.value)
        if place.extent in (Extent.SCALAR, Extent.ROW):
            number = self.row.scalar(place)
            return like(number, self._type(number.type))
        if place.value not in self.values:
            self.values[place.value] = self._input(place)
        return self.values[place.value]

    def _input(self, place: Place) -> ir.Value:
        if place == self.program.in_place:
            return self._read(self.outs[0], [self.row.at, self.column])
        at = [self.column] if place.extent is Extent.COLUMN else [self.row.row_of(place), self.column]
        return _truth(self._read(self.row.operands[place], at), place)

    def _read(self, source: ir.Value, at: Sequence[ir.Value]) -> ir.Value:
        element = self.program.frame.element
        return v.read(source, at, self._type(element), d.float_constant(0.0, element), self.index)

    def _type(self, element: ir.Type) -> ir.VectorType:
        return ir.VectorType.get([self.width], element)


def pieces(extent: int, width: int) -> list[tuple[int, int, int]]:
    """``extent`` as (start, count, width): steps of ``width`` lanes, then ever narrower ones for what is left."""
    found = []
    start = 0
    while start < extent:
        count = (extent - start) // width
        if count:
            found.append((start, count, width))
            start += count * width
        width //= 2
    return found


def fold(combine: str, lanes: ir.Value) -> ir.Value:
    """All lanes of a vector combined, half with half."""
    vector = ir.VectorType(lanes.type)
    width = vector.shape[0]
    while width > 1:
        width //= 2
        low, high = (_part(lanes, start, width) for start in (0, width))
        lanes = v.emit(combine, [low, high], low.type)
    return ir.Operation.create(
        "vector.extract",
        results=[vector.element_type],
        operands=[lanes],
        attributes={"static_position": ir.DenseI64ArrayAttr.get([0])},
    ).result


def _part(lanes: ir.Value, start: int, width: int) -> ir.Value:
    integer = ir.IntegerType.get_signless(64)
    attributes = {
        name: ir.ArrayAttr.get([ir.IntegerAttr.get(integer, number)])
        for name, number in (("offsets", start), ("sizes", width), ("strides", 1))
    }
    return ir.Operation.create(
        "vector.extract_strided_slice",
        results=[ir.VectorType.get([width], ir.VectorType(lanes.type).element_type)],
        operands=[lanes],
        attributes=attributes,
    ).result


def _same_lanes(number: float | bool, element: ir.Type, width: int) -> ir.Value:
    """A vector of one number."""
    return like(_constant(number, element), ir.VectorType.get([width], element))


def _constant(number: float | bool, element: ir.Type) -> ir.Value:
    if isinstance(element, ir.IntegerType):
        attribute: ir.Attribute = ir.IntegerAttr.get(element, int(number))
        return ir.Operation.create("arith.constant", results=[element], attributes={"value": attribute}).result
    return d.float_constant(float(number), element)


def _truth(number: ir.Value, place: Place) -> ir.Value:
    """A number read for a truth value as such; see :func:`flat_operand`."""
    if str(ir.ShapedType(place.value.type).element_type) != "i1":
        return number
    zero = number.type
    element = zero.element_type if isinstance(zero, ir.VectorType) else zero
    return ir.Operation.create(
        "arith.cmpf",
        results=[type_like(ir.IntegerType.get_signless(1), number.type)],
        operands=[number, like(d.float_constant(0.0, element), number.type)],
        attributes={"predicate": ir.IntegerAttr.get(ir.IntegerType.get_signless(64), _UNEQUAL)},
    ).result


def _element(value: ir.Value) -> ir.Type:
    return ir.ShapedType(value.type).element_type

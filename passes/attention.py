"""Batched matrix products of activations, where their operands come from, and what attention is made of them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from math import prod

from iree.compiler import ir

from dlas.passes.constants import is_zero_scalar, read_scalar
from dlas.passes.convolutions import groups_of, is_plain
from dlas.passes.generics import Generic, defining_op, shape_of, users
from dlas.passes.plan import Refusal
from dlas.passes.row_groups import Extent, Place, RowGroup, outside_users, without_reshapes

BATCH, ROW, COLUMN = "batch", "row", "column"


@dataclass(frozen=True)
class Axis:
    """What one dimension of a tensor is to a batch of matrices.

    Attributes:
        kind: BATCH, ROW or COLUMN.
        extent: of the dimension.
        stride: of a BATCH dimension, matrices from one index to the next.
    """

    kind: str
    extent: int
    stride: int = 0


@dataclass(frozen=True)
class View:
    """A batch of matrices: ``scale`` times what lies in ``source``, with one :class:`Axis` per dimension of it."""

    source: ir.Value
    axes: tuple[Axis, ...]
    scale: float = 1.0

    @classmethod
    def behind(cls, value: ir.Value) -> View:
        """The operand ``[batch, rows, columns]`` of a product before it was moved there and multiplied by numbers."""
        batch, rows, columns = shape_of(value)
        view = cls(value, (Axis(BATCH, batch, 1), Axis(ROW, rows), Axis(COLUMN, columns)))
        while True:
            op = defining_op(view.source)
            if op is None:
                return view
            factor = _factor(op)
            axes = view.axes if factor is not None else _axes_before(op, view.axes)
            if axes is None:
                return view
            view = cls(op.operands[0], axes, view.scale * (1.0 if factor is None else factor))

    @classmethod
    def ahead(cls, value: ir.Value) -> View:
        """Where the only user of the result ``[batch, rows, columns]`` of a product moves it, as far as it does."""
        batch, rows, columns = shape_of(value)
        view = cls(value, (Axis(BATCH, batch, 1), Axis(ROW, rows), Axis(COLUMN, columns)))
        best = view
        while True:
            readers = users(view.source)
            if len(readers) != 1:
                return best
            op = readers[0]
            if op.name == "linalg.transpose" and op.operands[0] == view.source:
                order = list(ir.DenseI64ArrayAttr(op.attributes["permutation"]))
                best = view = cls(op.results[0], tuple(view.axes[i] for i in order))
            elif op.name == "tensor.expand_shape":
                axes = _split(groups_of(op), shape_of(op.results[0]), view.axes)
                if axes is None:
                    return best
                view = cls(op.results[0], axes)
            else:
                return best

    @property
    def order(self) -> str:
        """``rc`` where a row's columns come last, ``cr`` where a column's rows do."""
        return "".join(axis.kind[0] for axis in self.axes if axis.kind != BATCH)

    @property
    def is_dense(self) -> bool:
        """Whether the matrices lie one after another, row by row."""
        kinds = [axis.kind for axis in self.axes if axis.extent > 1]
        batches = [axis.stride for axis in self.axes if axis.kind == BATCH and axis.extent > 1]
        last = [axis.kind for axis in self.axes if axis.extent > 1 or axis.kind == COLUMN][-1:]
        return (
            kinds == sorted(kinds, key=(BATCH, ROW, COLUMN).index)
            and batches == sorted(batches, reverse=True)
            and last == [COLUMN]
        )


def _factor(op: ir.Operation) -> float | None:
    """The number that an op multiplies its only input by, None if it does anything else."""
    generic = Generic.read(op)
    if generic is None or not generic.is_elementwise or len(generic.inputs) != 1:
        return None
    body = list(generic.body_ops())
    if generic.indices[0] != generic.indices[-1] or len(body) != 1 or body[0].name != "arith.mulf":
        return None
    numbers = [read_scalar(operand) for operand in body[0].operands if operand != generic.body.arguments[0]]
    return None if len(numbers) != 1 or numbers[0] is None else float(numbers[0])


def _axes_before(op: ir.Operation, axes: Sequence[Axis]) -> tuple[Axis, ...] | None:
    """The axes of a movement's operand from those of its result; None if it does not just move matrices about."""
    if op.name == "linalg.transpose":
        order = list(ir.DenseI64ArrayAttr(op.attributes["permutation"]))
        return tuple(axes[order.index(i)] for i in range(len(axes)))
    if op.name == "tensor.collapse_shape":
        return _split(groups_of(op), shape_of(op.operands[0]), axes)
    if op.name == "tensor.expand_shape":
        return _merge(groups_of(op), axes)
    return None


def _split(groups: Sequence[Sequence[int]], shape: Sequence[int], axes: Sequence[Axis]) -> tuple[Axis, ...] | None:
    """The axes of the wide side of a reshape from those of its narrow side."""
    wide: list[Axis] = []
    for axis, group in zip(axes, groups, strict=True):
        extents = [shape[i] for i in group]
        if axis.kind == BATCH:
            wide += [Axis(BATCH, extent, axis.stride * prod(extents[i + 1 :])) for i, extent in enumerate(extents)]
            continue
        if sum(extent > 1 for extent in extents) > 1:
            return None
        at = next((i for i, extent in enumerate(extents) if extent > 1), len(extents) - 1)
        wide += [axis if i == at else Axis(BATCH, 1, 0) for i in range(len(extents))]
    return tuple(wide)


def _merge(groups: Sequence[Sequence[int]], axes: Sequence[Axis]) -> tuple[Axis, ...] | None:
    """The axes of the narrow side of a reshape from those of its wide side."""
    narrow: list[Axis] = []
    for group in groups:
        parts = [axes[i] for i in group if axes[i].extent > 1] or [
            next((axes[i] for i in group if axes[i].kind != BATCH), axes[group[-1]])
        ]
        if any(axes[i].kind != BATCH and axes[i] not in parts for i in group):
            return None  # a row or column of extent 1 would be lost
        if len(parts) > 1 and any(
            axis.kind != BATCH or axis.stride != after.stride * after.extent
            for axis, after in zip(parts, [*parts[1:], replace(parts[-1], extent=1)], strict=True)
        ):
            return None
        narrow.append(replace(parts[-1], extent=prod(part.extent for part in parts)))
    return tuple(narrow)


@dataclass(frozen=True)
class BatchProduct:
    """``result[b, m, n] = sum over k of left[b, m, k] * right[b, k, n]``."""

    op: ir.Operation
    left: View
    right: View
    batch: int
    m: int
    n: int
    k: int

    @property
    def result(self) -> ir.Value:
        return self.op.results[0]

    @classmethod
    def analyze(cls, op: ir.Operation) -> BatchProduct | Refusal:
        """Reads a product; refuses other types, dynamic shapes, transposed maps and a non-zero init."""
        if op.name != "linalg.batch_matmul":
            return Refusal(f"{op.name} is not a batched matrix product")
        types = [ir.RankedTensorType(operand.type) for operand in op.operands]
        if any(str(type.element_type) != "f32" for type in types):
            return Refusal(f"batched matrix product of {types[0].element_type} (f32 has a schedule)")
        if not all(type.has_static_shape for type in types):
            return Refusal("dynamic shape")
        if not is_plain(op):
            return Refusal("transposed or broadcast operands")
        fill = defining_op(op.operands[2])
        if fill is None or fill.name != "linalg.fill" or not is_zero_scalar(fill.operands[0]):
            return Refusal("the accumulator does not start from zero")
        (batch, m, k), n = types[0].shape, types[1].shape[2]
        return cls(op, View.behind(op.operands[0]), View.behind(op.operands[1]), batch, m, n, k)


@dataclass(frozen=True)
class AttentionSite:
    """``context = program(queries * keys) * values``: two batched products with a program along rows between them.

    Attributes:
        scores: the first product.
        program: the group of ops between them: scale, mask and softmax.
        place: where the program reads the scores.
        context: the second product.
    """

    scores: BatchProduct
    program: RowGroup
    place: Place
    context: BatchProduct

    @classmethod
    def analyze(cls, group: RowGroup, products: dict[ir.Operation, BatchProduct]) -> AttentionSite | None:
        """The site around a group; None if there are not two products that read and write only through it."""
        if len(group.results) != 1:
            return None
        result, alias = group.results[0]
        readers = users(alias)
        if len(readers) != 1 or readers[0] not in products or readers[0].operands[0] != alias:
            return None
        context = products[readers[0]]
        if without_reshapes(context.op.operands[1]) == result:
            return None
        members = {site.op for site in group.ops}
        for place in group.inputs:
            maker = defining_op(without_reshapes(place.value))
            if place.extent is not Extent.FULL or maker not in products:
                continue
            scores = products[maker]
            if all(op in members for _, op in outside_users(scores.result)) and place.rows == group.rows:
                return cls(scores, group, place, context)
        return None

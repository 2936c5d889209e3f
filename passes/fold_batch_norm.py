"""``dlas-fold-batch-norm``: a batch norm goes into the weights before it, or becomes one scale and shift.

    before: %c = linalg.conv_2d_nchw_fchw ins(%x, %w) outs(%zero)
            %n = (%c - mean) * rsqrt(var + eps) * gamma + beta        (one to five elementwise generics)
    after:  %c = linalg.conv_2d_nchw_fchw ins(%x, %w * s) outs(%zero)
            %n = linalg.generic(%c, %h) maps (d0,d1,d2,d3), (d1): arith.addf

with ``s = gamma / sqrt(var + eps)`` and ``h = beta - mean * s``, computed in float64. Any run of elementwise
generics that multiplies by and adds constants (per channel, or one number) is such a scale and shift, whoever wrote
it: a bias, a batch norm of torch or ONNX, ``x / 6``. Where the values come from something else than a convolution or
a matmul with constant weights and this single use (pre-activation networks), what is left is ONE generic
``x * s + h`` with 1-D constants, map ``(d0,d1,d2,d3) -> (d1)``.

Refused, with a note: weights that are not constant, a convolution with several users, a scale or a weight that is not
finite (``var + eps <= 0``), and batch statistics computed from the data (training mode).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

from dlas.passes.constants import bindings, make_constant, make_scalar, numpy_dtype, read_constant, read_scalar
from dlas.passes.convolutions import Product, producer_of, scaled_weights
from dlas.passes.fold_constants import to_loops
from dlas.passes.generics import (
    Generic,
    binary,
    build_elementwise,
    cast,
    element_type,
    erase_dead,
    layer_of,
    replace,
    shape_of,
    single_user,
    walk,
)
from dlas.passes.registry import Note, Pass, register

_WIDTHS: dict[str, int] = {"f16": 16, "f32": 32, "f64": 64}


@dataclass(frozen=True)
class Affine:
    """``scale * x + shift``, both with one axis per loop (extent 1 where they do not vary), in float64."""

    scale: np.ndarray
    shift: np.ndarray

    @property
    def is_constant(self) -> bool:
        return not self.scale.any()

    @classmethod
    def constant(cls, value: np.ndarray | float) -> Affine:
        return cls(np.zeros(()), np.asarray(value, dtype=np.float64))

    def then(self, outer: Affine) -> Affine:
        """``outer`` of this."""
        return Affine(outer.scale * self.scale, outer.scale * self.shift + outer.shift)


def affine_of(generic: Generic) -> tuple[Any, Affine] | None:
    """The data operand of an elementwise generic and what is done to it, None if that is not a scale and shift."""
    if not generic.is_elementwise or _width(generic.op.results[0]) == 0:
        return None
    extents = generic.loop_extents()
    data: Any = None
    values: dict[Any, Affine] = {}
    for argument, value, index in zip(generic.body.arguments, generic.inputs, generic.indices, strict=False):
        array = read_constant(value)
        if array is not None and array.dtype.kind == "f":
            values[argument] = Affine.constant(to_loops(array.astype(np.float64), index, generic.rank))
            continue
        if not _reads_in_order(index, extents) or shape_of(value) != shape_of(generic.op.results[0]):
            return None
        if _width(value) == 0:
            return None
        if data is not None and data != value:
            return None
        data = value
        values[argument] = Affine(np.ones(()), np.zeros(()))
    if data is None:
        return None
    for op in generic.body_ops():
        result = _step(op, values)
        if result is None:
            return None
        values[op.results[0]] = result
    affine = _lookup(generic.yielded, values)
    return None if affine is None or affine.is_constant else (data, affine)


def _width(value: Any) -> int:
    """The bits of a tensor's float elements; 0 for an element type that is not computed with here."""
    return _WIDTHS.get(str(element_type(value)), 0)


def _reads_in_order(index: tuple[int | None, ...], extents: tuple[int, ...]) -> bool:
    return len(index) == len(extents) and all(
        dim == position or (dim is None and extents[position] == 1) for position, dim in enumerate(index)
    )


def _lookup(value: Any, values: dict[Any, Affine]) -> Affine | None:
    if value in values:
        return values[value]
    number = read_scalar(value)
    return None if number is None else Affine.constant(float(number))


def _step(op: Any, values: dict[Any, Affine]) -> Affine | None:
    """One scalar operation on scales and shifts; None where the result is none."""
    operands = [_lookup(operand, values) for operand in op.operands]
    if not operands or len(op.results) != 1 or any(operand is None for operand in operands):
        return None
    left, right = operands[0], operands[-1]
    assert left is not None and right is not None
    with np.errstate(all="ignore"):
        match op.name:
            case "arith.addf":
                return Affine(left.scale + right.scale, left.shift + right.shift)
            case "arith.subf":
                return Affine(left.scale - right.scale, left.shift - right.shift)
            case "arith.negf":
                return Affine(-left.scale, -left.shift)
            case "arith.mulf" if right.is_constant:
                return Affine(left.scale * right.shift, left.shift * right.shift)
            case "arith.mulf" if left.is_constant:
                return Affine(right.scale * left.shift, right.shift * left.shift)
            case "arith.divf" if right.is_constant:
                return Affine(left.scale / right.shift, left.shift / right.shift)
            case "math.sqrt" if left.is_constant:
                return Affine.constant(np.sqrt(left.shift))
            case "math.rsqrt" if left.is_constant:
                return Affine.constant(1.0 / np.sqrt(left.shift))
            case "arith.truncf" | "arith.extf":
                # What a half-precision network rounds between two operations of a run stays unrounded.
                return left
    return None


@dataclass(frozen=True)
class Plan:
    """A run of scale-and-shift generics and where it goes.

    Attributes:
        ops: the generics, first to last, each the only user of the one before.
        position: the operand of the first that is read (a position: the value may be replaced by an earlier rewrite).
        scale, shift: of the whole run, 1-D over ``axis`` (or 0-D: one number).
        axis: the dimension that scale and shift vary along, None if they are numbers.
        product: the operation whose weights take the scale, None if they do not.
        refusal: why there is no product although a weighted operation makes ``data``; "" otherwise.
    """

    ops: tuple[Any, ...]
    position: int
    scale: np.ndarray
    shift: np.ndarray
    axis: int | None
    product: Product | None
    refusal: str

    @classmethod
    def analyze(cls, op: Any) -> Plan | str | None:
        """The plan of the run that starts at ``op``; a refusal's reason; None if ``op`` does not scale and shift."""
        generic = Generic.read(op)
        found = None if generic is None else affine_of(generic)
        if generic is None or found is None:
            return None
        data, total = found
        ops = [op]
        while (user := single_user(ops[-1].results[0])) is not None:
            following = Generic.read(user)
            step = None if following is None else affine_of(following)
            if step is None or step[0] != ops[-1].results[0]:
                break
            total = total.then(step[1])
            ops.append(user)
        shape = shape_of(op.results[0])
        scale, shift = (np.reshape(part, part.shape or (1,) * len(shape)) for part in (total.scale, total.shift))
        axes = [i for i in range(len(shape)) if max(scale.shape[i], shift.shape[i]) > 1]
        if len(axes) > 1:
            return None
        if not _fits(scale, op) or not _fits(shift, op):
            return "its scale or shift is not finite (variance plus epsilon must be positive)"
        axis = axes[0] if axes else None
        product, refusal = _product_for(data, axis, scale, bool(np.all(scale == 1)))
        if product is not None and axis is None:
            axis = product.axis
        extent = 1 if axis is None else shape[axis]
        scale, shift = (np.broadcast_to(part.reshape(-1), (extent,)) for part in (scale, shift))
        return cls(tuple(ops), generic.inputs.index(data), scale, shift, axis, product, refusal)


def _fits(array: np.ndarray, op: Any) -> bool:
    dtype = numpy_dtype(element_type(op.results[0]))
    if dtype is None:
        return False
    with np.errstate(over="ignore"):
        return bool(np.isfinite(array.astype(dtype)).all())


def _product_for(data: Any, axis: int | None, scale: np.ndarray, shift_only: bool) -> tuple[Product | None, str]:
    product = producer_of(data)
    if product is None:
        return None, ""
    if axis not in (None, product.axis):
        return None, "it does not vary along the output channels"
    if shift_only:
        return product, ""
    uses = len(list(product.value.uses))
    if uses != 1 or not product.is_private:
        return None, f"the result of {product.op.name} has several uses"
    weights = scaled_weights(product.op, np.broadcast_to(scale.reshape(-1), (product.channels,)))
    if weights is None:
        return None, f"the weights of {product.op.name} are not constant"
    if not _fits(weights, product.op):
        return None, "the scaled weights are not finite"
    return product, ""


@register("dlas-fold-batch-norm", context="torch-mlir")
@dataclass(frozen=True)
class FoldBatchNorm(Pass):
    """See the module's docstring.

    Attributes:
        into_weights: fold scales into weights; otherwise only join runs into one scale and shift.
    """

    into_weights: bool = True

    def run(self, module: Any) -> list[Note]:
        notes: list[Note] = []
        plans: list[Plan] = []
        planned: set[Any] = set()
        for op in walk(module, "linalg.generic"):
            if op in planned:
                continue
            plan = _batch_statistics(op) or Plan.analyze(op)
            if isinstance(plan, str):
                notes.append(Note(self.name, layer_of(op), False, plan))
            elif plan is not None:
                planned.update(plan.ops)
                plans.append(plan)
        for plan in plans:
            notes += self._rewrite(plan)
        erase_dead(module)
        return notes

    def _rewrite(self, plan: Plan) -> list[Note]:
        layer = layer_of(plan.ops[-1])
        notes = []
        scale = plan.scale
        first = plan.ops[0]
        if plan.refusal:
            notes.append(Note(self.name, layer, False, plan.refusal))
        if plan.product is not None and self.into_weights and not (scale == 1).all():
            op = plan.product.op
            with bindings(op).InsertionPoint(op), op.location:
                weights = scaled_weights(op, scale)
                assert weights is not None
                op.operands[1] = make_constant(weights, element_type(op.operands[1]))
            scale = np.ones_like(scale)
            notes.append(Note(self.name, layer, True, f"folded into the weights of {op.name} {layer_of(op)}".rstrip()))
        elif len(plan.ops) == 1 and (plan.axis is None or _is_canonical(first)):
            return notes
        else:
            notes.append(Note(self.name, layer, True, f"{len(plan.ops)} operations became one scale and shift"))
        with bindings(first).InsertionPoint(first):
            # The bias belongs to the kernel of the convolution: it keeps that layer's name.
            named = plan.product.op if plan.product is not None else plan.ops[-1]
            data = first.operands[plan.position]
            kind = plan.ops[-1].results[0].type
            result = scale_and_shift(data, scale, plan.shift, plan.axis, kind, layer_from=named)
        replace(plan.ops[-1], result)
        for op in reversed(plan.ops[:-1]):
            op.erase()
        return notes


def scale_and_shift(
    data: Any, scale: np.ndarray, shift: np.ndarray, axis: int | None, result_type: Any, *, layer_from: Any
) -> Any:
    """One generic ``data * scale + shift`` (the parts that do nothing left out) at the current insertion point.

    It computes in the wider of the element types of ``data`` and the result.
    """
    result_kind = bindings(result_type).RankedTensorType(result_type).element_type
    data_kind = element_type(data)
    grows = _WIDTHS[str(result_kind)] > _WIDTHS[str(data_kind)]
    kind = result_kind if grows else data_kind
    inputs: list[tuple[Any, tuple[int | None, ...]]] = [(data, tuple(range(len(shape_of(data)))))]
    steps: list[tuple[str, Any]] = []
    with layer_from.location:
        for name, array, neutral in (("arith.mulf", scale, 1.0), ("arith.addf", shift, 0.0)):
            if (array == neutral).all():
                continue
            if axis is None:
                steps.append((name, make_scalar(array.item(), kind)))
            else:
                inputs.append((make_constant(array, kind), (axis,)))
                steps.append((name, None))
    if not steps and result_kind == data_kind:
        return data

    def body(arguments: Any) -> Any:
        value, *rest = arguments
        if grows:
            value = cast("arith.extf", value, kind)
        for name, scalar in steps:
            value = binary(name, value, scalar if scalar is not None else rest.pop(0))
        return value if kind == result_kind else cast("arith.truncf", value, result_kind)

    return build_elementwise(inputs, result_type, body, layer_from=layer_from)


def _is_canonical(op: Any) -> bool:
    """Whether one generic is already ``x * s + h`` (or a part of it) with 1-D constants."""
    generic = Generic.read(op)
    assert generic is not None
    names = [step.name for step in generic.body_ops()]
    if names not in (["arith.mulf"], ["arith.addf"], ["arith.mulf", "arith.addf"]):
        return False
    if len(generic.inputs) != len(names) + 1:
        return False
    return generic.indices[0] == tuple(range(generic.rank)) and all(len(index) == 1 for index in generic.indices[1:-1])


def _batch_statistics(op: Any) -> str:
    """The reason to refuse a normalisation by statistics of the data; "" for anything else."""
    generic = Generic.read(op)
    if generic is None or not generic.is_elementwise or generic.rank < 3 or len(generic.inputs) < 2:
        return ""
    per_channel = [value for value, index in zip(generic.inputs, generic.indices, strict=False) if index == (1,)]
    roots = any(step.name in ("math.rsqrt", "math.sqrt") for step in generic.body_ops())
    if roots and any(read_constant(value) is None for value in per_channel):
        return "its mean and variance are computed from the data (training mode)"
    return ""

"""``dlas-bias-to-epilogue``: convolutions start from zero, and what they started from is added after them.

    before: %init = linalg.broadcast ins(%bias : tensor<C>) outs(%e : tensor<NxCxHxW>) dimensions = [0, 2, 3]
            %y = linalg.conv_2d_nchw_fchw ins(%x, %w) outs(%init)
    after:  %zero = linalg.fill ins(%cst) outs(%e)
            %c = linalg.conv_2d_nchw_fchw ins(%x, %w) outs(%zero)
            %y = linalg.generic(%c, %bias) maps (d0,d1,d2,d3), (d1): arith.addf

A broadcast init const-folds to a constant of the activation's size, is packed at run time, and hides that the
convolution and its epilogue are one kernel. For a grouped convolution the add comes after the collapse_shape, on NCHW.
An init that is a whole tensor is added with identity maps.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

from dlas.passes.constants import bindings, is_zero_scalar, make_constant, read_constant, read_scalar
from dlas.passes.convolutions import CONVOLUTIONS, WEIGHTED, Product, groups_of, product_of
from dlas.passes.generics import (
    Generic,
    binary,
    build_elementwise,
    build_zero_init,
    copy_layer,
    defining_op,
    element_type,
    erase_dead,
    layer_of,
    redirect,
    shape_of,
    uses_of,
    walk,
)
from dlas.passes.registry import Note, Pass, register


@dataclass(frozen=True)
class Plan:
    """How one convolution's init becomes an addition.

    Attributes:
        op: the convolution.
        vector: the bias as a 1-D value, or as an array, None if the init is a whole tensor.
        product: where the output channels are one dimension (None: the bias stays in the convolution's own shape).
    """

    op: Any
    vector: Any | np.ndarray | None
    product: Product | None

    @classmethod
    def analyze(cls, op: Any) -> Plan | None:
        """The plan for one convolution; None if it starts from zero already."""
        init = op.operands[2]
        source = defining_op(init)
        if source is not None and source.name == "linalg.fill" and is_zero_scalar(source.operands[0]):
            return None
        axes = WEIGHTED[op.name].result_axes
        return cls(op, _vector_of(init, axes), product_of(op))


def _vector_of(init: Any, axes: tuple[int, ...]) -> Any | np.ndarray | None:
    """The 1-D tensor (a value, or an array if it is constant) that an init repeats along all other dimensions."""
    shape = shape_of(init)
    channels = int(np.prod([shape[axis] for axis in axes]))
    array = read_constant(init)
    if array is not None:
        return _vector_of_array(array, axes)
    op = defining_op(init)
    if op is None:
        return None
    if op.name == "linalg.fill":
        number = read_scalar(op.operands[0])
        return None if number is None else np.full(channels, float(number))
    if op.name == "tensor.expand_shape":
        narrow = [axis for axis, part in enumerate(groups_of(op)) if set(part) & set(axes)]
        # The other way round: these dimensions, and no others, must become `axes`.
        if len(narrow) != 1 or [axis for axis in groups_of(op)[narrow[0]] if axis not in axes and shape[axis] != 1]:
            return None
        return _vector_of(op.operands[0], (narrow[0],))
    if len(axes) != 1:
        return None
    if op.name == "linalg.broadcast":
        kept = sorted(set(range(len(shape))) - set(bindings(op).DenseI64ArrayAttr(op.attributes["dimensions"])))
        source = op.operands[0]
        return _constant_or(source) if kept == [axes[0]] else None
    generic = Generic.read(op)
    if generic is None or not generic.is_elementwise or len(generic.inputs) != 1 or list(generic.body_ops()):
        return None
    if generic.indices[0] != (axes[0],) or generic.yielded != generic.body.arguments[0]:
        return None
    return _constant_or(generic.inputs[0])


def _constant_or(value: Any) -> Any:
    array = read_constant(value)
    return value if array is None else array


def _vector_of_array(array: np.ndarray, axes: tuple[int, ...]) -> np.ndarray | None:
    picked = array[tuple(slice(None) if axis in axes else slice(0, 1) for axis in range(array.ndim))]
    return picked.reshape(-1) if (array == picked).all() else None


@register("dlas-bias-to-epilogue", context="torch-mlir")
@dataclass(frozen=True)
class BiasToEpilogue(Pass):
    """See the module's docstring."""

    def run(self, module: Any) -> list[Note]:
        notes: list[Note] = []
        for op in walk(module, *CONVOLUTIONS):
            plan = Plan.analyze(op)
            if plan is not None:
                notes.append(Note(self.name, layer_of(op), True, self._rewrite(plan)))
        erase_dead(module)
        return notes

    @staticmethod
    def _rewrite(plan: Plan) -> str:
        op, init = plan.op, plan.op.operands[2]
        ir = bindings(op)
        with ir.InsertionPoint(op):
            zero = _zero_like(init, op)
        op.operands[2] = zero
        if plan.vector is None or plan.product is None:
            _add_whole(op, init)
            return "the init tensor is added after the convolution"
        if isinstance(plan.vector, np.ndarray) and not plan.vector.any():
            return "an init of zeros became a fill"
        value = plan.product.value
        uses, rank = uses_of(value), len(shape_of(value))
        with ir.InsertionPoint.after(defining_op(value)):
            bias = plan.vector
            if isinstance(bias, np.ndarray):
                with op.location:
                    bias = make_constant(bias, element_type(value))
            result = build_elementwise(
                [(value, tuple(range(rank))), (bias, (plan.product.axis,))],
                value.type,
                lambda arguments: binary("arith.addf", *arguments),
                layer_from=op,
            )
        redirect(uses, result)
        return "the bias is added after the convolution"


def _zero_like(init: Any, op: Any) -> Any:
    """Zeros of the type of ``init`` (its extents are taken from the operation that makes it where they are dynamic)."""
    if min(shape_of(init)) >= 0:
        return build_zero_init(init.type, layer_from=op)
    source = defining_op(init)
    if source is not None and source.name == "tensor.expand_shape":
        copy = source.clone()
        copy.operands[0] = _zero_like(source.operands[0], op)
        copy.move_after(defining_op(copy.operands[0]))
        return copy.results[0]
    destination = source.operands[-1] if source is not None and source.name.startswith("linalg.") else init
    return build_zero_init(init.type, layer_from=op, destination=destination)


def _add_whole(op: Any, init: Any) -> None:
    result = op.results[0]
    uses = uses_of(result)
    index = tuple(range(len(shape_of(result))))
    with bindings(op).InsertionPoint.after(op):
        total = build_elementwise(
            [(result, index), (init, index)],
            result.type,
            lambda arguments: binary("arith.addf", *arguments),
            layer_from=op,
        )
    copy_layer(op, defining_op(total))
    redirect(uses, total)

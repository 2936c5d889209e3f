"""The named linalg operations with weights, and where their output channels are."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

from dlas.passes.constants import bindings, read_constant
from dlas.passes.generics import defining_op, shape_of, single_user


@dataclass(frozen=True)
class Weighted:
    """Where a named operation has its output channels.

    Attributes:
        result_axes: dimensions of the result that count output channels, outermost first.
        weight_axes: the same dimensions in the weights (operand 1).
    """

    result_axes: tuple[int, ...]
    weight_axes: tuple[int, ...]


WEIGHTED: dict[str, Weighted] = {
    "linalg.conv_1d_ncw_fcw": Weighted((1,), (0,)),
    "linalg.conv_2d_nchw_fchw": Weighted((1,), (0,)),
    "linalg.conv_3d_ncdhw_fcdhw": Weighted((1,), (0,)),
    "linalg.conv_2d_ngchw_gfchw": Weighted((1, 2), (0, 1)),
    "linalg.conv_2d_ngchw_fgchw": Weighted((1, 2), (1, 0)),
    "linalg.conv_2d_nhwc_hwcf": Weighted((3,), (3,)),
    "linalg.conv_2d_nhwc_fhwc": Weighted((3,), (0,)),
    "linalg.depthwise_conv_1d_ncw_cw": Weighted((1,), (0,)),
    "linalg.depthwise_conv_2d_nchw_chw": Weighted((1,), (0,)),
    "linalg.depthwise_conv_2d_nhwc_hwc": Weighted((3,), (2,)),
    "linalg.depthwise_conv_2d_nhwc_hwcm": Weighted((3, 4), (2, 3)),
    "linalg.matmul": Weighted((1,), (1,)),
}
"""Operations whose result scales with the weights of one output channel at a time."""

CONVOLUTIONS: tuple[str, ...] = tuple(name for name in WEIGHTED if "conv" in name)


@dataclass(frozen=True)
class Product:
    """A weighted operation and the value it makes for the rest of the model.

    Attributes:
        op: the operation.
        value: its result, or that of the reshape that joins its groups and channels.
        axis: the dimension of ``value`` that counts output channels.
        is_private: whether nothing else reads the values between ``op`` and ``value``.
    """

    op: Any
    value: Any
    axis: int
    is_private: bool = True

    @property
    def channels(self) -> int:
        """The number of output channels."""
        return shape_of(self.value)[self.axis]


def groups_of(op: Any) -> list[list[int]]:
    """The reassociation of an expand_shape or collapse_shape."""
    ir = bindings(op)
    return [[index.value for index in ir.ArrayAttr(part)] for part in ir.ArrayAttr(op.attributes["reassociation"])]


def axes_through(op: Any, axes: tuple[int, ...]) -> tuple[int, ...] | None:
    """Where the dimensions ``axes`` of the operand of a reshape are in its result.

    Dimensions may be joined with each other, and with dimensions of extent 1; None for any other reshape.
    """
    wide = op.operands[0] if op.name == "tensor.collapse_shape" else op.results[0]
    shape = shape_of(wide)
    found: list[int] = []
    for narrow_axis, part in enumerate(groups_of(op)):
        real = [axis for axis in part if shape[axis] != 1] or part[:1]
        if op.name == "tensor.collapse_shape":
            inside = [axis for axis in part if axis in axes]
            if not inside:
                continue
            if any(axis not in inside for axis in real):
                return None
            found.append(narrow_axis)
        elif narrow_axis in axes:
            if len(real) != 1:
                return None
            found += real
    return tuple(found)


def product_of(op: Any) -> Product | None:
    """The first value in which the output channels of ``op`` are one dimension; None if there is none.

    For a grouped convolution that is what its single user, a collapse_shape, makes.
    """
    axes = WEIGHTED[op.name].result_axes
    if len(axes) == 1:
        return Product(op, op.results[0], axes[0])
    user = single_user(op.results[0])
    if user is None or user.name != "tensor.collapse_shape":
        return None
    joined = axes_through(user, axes)
    return Product(op, user.results[0], joined[0]) if joined is not None and len(joined) == 1 else None


def producer_of(value: Any) -> Product | None:
    """The weighted operation that makes ``value``, seen through reshapes that keep the channels apart."""
    reshapes: list[Any] = []
    op = defining_op(value)
    while op is not None and op.name in ("tensor.collapse_shape", "tensor.expand_shape"):
        reshapes.append(op)
        op = defining_op(op.operands[0])
    if op is None or op.name not in WEIGHTED:
        return None
    axes = WEIGHTED[op.name].result_axes
    for reshape in reversed(reshapes):
        moved = axes_through(reshape, axes)
        if moved is None:
            return None
        axes = moved
    private = all(len(list(reshape.operands[0].uses)) == 1 for reshape in reshapes)
    return Product(op, value, axes[0], private) if len(axes) == 1 else None


def is_plain(op: Any) -> bool:
    """Whether a matmul or batch_matmul reads its operands row by column; True for the other operations."""
    if op.name not in _PLAIN_MAPS or "indexing_maps" not in op.attributes:
        return True
    return [str(part) for part in bindings(op).ArrayAttr(op.attributes["indexing_maps"])] == _PLAIN_MAPS[op.name]


_PLAIN_MAPS: dict[str, list[str]] = {
    "linalg.matmul": [f"affine_map<(d0, d1, d2) -> ({dims})>" for dims in ("d0, d2", "d2, d1", "d0, d1")],
    "linalg.batch_matmul": [
        f"affine_map<(d0, d1, d2, d3) -> ({dims})>" for dims in ("d0, d1, d3", "d0, d3, d2", "d0, d1, d2")
    ],
}


def scaled_weights(op: Any, scale: np.ndarray) -> np.ndarray | None:
    """The weights of ``op`` in float64 with every output channel times its scale; None if they are not constant."""
    weights = read_constant(op.operands[1])
    if weights is None or weights.dtype.kind != "f" or not is_plain(op):
        return None
    axes = WEIGHTED[op.name].weight_axes
    per_axis = scale.reshape([weights.shape[axis] for axis in axes])
    order = sorted(range(len(axes)), key=lambda position: axes[position])
    shape = [weights.shape[axis] if axis in axes else 1 for axis in range(weights.ndim)]
    return weights.astype(np.float64) * np.transpose(per_axis, order).reshape(shape)

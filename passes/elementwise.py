"""Elementwise ``linalg.generic`` ops over ``[N, C, H, W]`` or ``[M, N]``, as data that a fused kernel can clone."""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum

import numpy as np
from iree.compiler import ir

from dlas.passes.constants import read_constant
from dlas.passes.plan import Refusal


class Access(Enum):
    """How an elementwise op reads an operand of the blocked kernel."""

    FULL = "full"  # every element
    CHANNEL = "channel"  # a constant per index of dimension 1
    PLANE = "plane"  # one value per image and channel, [N, C, 1, 1]
    SCALAR = "scalar"  # the same constant everywhere


@dataclass(frozen=True)
class Operand:
    """One input of an elementwise op: the value, its access, and the numbers if it is constant."""

    value: ir.Value
    access: Access
    constant: np.ndarray | None = None


@dataclass(frozen=True)
class Elementwise:
    """A fully parallel ``linalg.generic`` with one result of rank 2 or 4 and shape ``shape``."""

    op: ir.Operation
    operands: tuple[Operand, ...]
    shape: tuple[int, ...]

    @classmethod
    def analyze(cls, op: ir.Operation) -> Elementwise | Refusal:
        """Reads an op; refuses reductions, other ranks, permuted operands and bodies that read the output."""
        if op.name != "linalg.generic" or len(op.results) != 1:
            return Refusal("not an elementwise linalg.generic")
        type = ir.ShapedType(op.results[0].type)
        if type.rank not in (2, 4) or not type.has_static_shape:
            return Refusal("not a static result of rank 2 or 4")
        if any("parallel" not in str(kind) for kind in op.attributes["iterator_types"]):
            return Refusal("not parallel")
        shape = tuple(type.shape)
        maps = [attr.value for attr in op.attributes["indexing_maps"]]
        if not _is_identity(maps[-1], shape):
            return Refusal("permuted result")
        block = op.regions[0].blocks[0]
        inputs = list(op.operands)[: len(maps) - 1]
        if any(True for _ in block.arguments[len(inputs)].uses):
            return Refusal("the body reads its output")
        if any(inner.operation.name in ("linalg.index", "tensor.extract") for inner in block.operations):
            return Refusal("the body is not elementwise")
        operands = []
        for value, map_ in zip(inputs, maps, strict=False):
            operand = _operand(value, map_, shape)
            if operand is None:
                return Refusal(f"operand of type {value.type} read through {map_}")
            operands.append(operand)
        if str(type.element_type) != "f32" or any(str(_element(operand.value)) != "f32" for operand in operands):
            return Refusal("not f32")
        return cls(op, tuple(operands), shape)


def _element(value: ir.Value) -> ir.Type:
    return ir.ShapedType(value.type).element_type if isinstance(value.type, ir.ShapedType) else value.type


def _is_identity(map_: ir.AffineMap, shape: tuple[int, ...]) -> bool:
    results = list(map_.results)
    return len(results) == len(shape) and all(_is_dim(expr, i, shape[i]) for i, expr in enumerate(results))


def _is_dim(expr: ir.AffineExpr, position: int, extent: int) -> bool:
    if isinstance(expr, ir.AffineDimExpr):
        return ir.AffineDimExpr(expr).position == position
    return extent == 1 and _is_zero(expr)


def _is_zero(expr: ir.AffineExpr) -> bool:
    return isinstance(expr, ir.AffineConstantExpr) and ir.AffineConstantExpr(expr).value == 0


def _operand(value: ir.Value, map_: ir.AffineMap, shape: tuple[int, ...]) -> Operand | None:
    if not isinstance(value.type, ir.RankedTensorType):
        return Operand(value, Access.SCALAR)
    constant = read_constant(_through_reshape(value))
    if constant is not None and (constant.size == 1 or 0 in constant.strides and (constant == constant.flat[0]).all()):
        return Operand(value, Access.SCALAR, constant.reshape(-1)[:1])
    dims = [ir.AffineDimExpr(e).position if isinstance(e, ir.AffineDimExpr) else None for e in map_.results]
    if any(d is None and not _is_zero(e) for d, e in zip(dims, map_.results, strict=True)):
        return None
    used = [d for d in dims if d is not None and shape[d] != 1]
    extents = list(ir.ShapedType(value.type).shape)
    rank = len(shape)
    if used == [d for d in range(rank) if shape[d] != 1] and len(dims) == rank and constant is None:
        return Operand(value, Access.FULL)
    if constant is not None:
        if used not in ([1], []) or constant.size != shape[1]:
            return None
        return Operand(value, Access.CHANNEL, constant.reshape(-1))
    if set(used) <= {0, 1} and rank == len(extents) == 4 and extents[2:] == [1, 1] and extents[:2] == list(shape[:2]):
        return Operand(value, Access.PLANE)
    return None


def _through_reshape(value: ir.Value) -> ir.Value:
    owner = getattr(value.owner, "operation", None)
    if owner is not None and owner.name in ("tensor.expand_shape", "tensor.collapse_shape"):
        return owner.operands[0]
    return value

"""Constant tensors of a module as numpy arrays, and back.

Works on either bindings (torch-mlir's or IREE's): the ``ir`` module is found from the object it is given.
Weights live in ``arith.constant`` as ``DenseElementsAttr`` (raw bytes in the context and in bytecode); those that come
as ``dense_resource`` are converted when a model is imported (:mod:`dlas.passes.resources`), because the Python
bindings cannot read a resource.
"""

from __future__ import annotations

import importlib
import math
from typing import Any

import numpy as np

# numpy has no bfloat16 and the buffer protocol of the bindings has neither that nor the 8-bit floats.
_DTYPES: dict[str, np.dtype] = {
    "f16": np.dtype(np.float16),
    "f32": np.dtype(np.float32),
    "f64": np.dtype(np.float64),
    "i8": np.dtype(np.int8),
    "i16": np.dtype(np.int16),
    "i32": np.dtype(np.int32),
    "i64": np.dtype(np.int64),
    "ui8": np.dtype(np.uint8),
}


def bindings(thing: Any) -> Any:
    """The ``ir`` module (``torch_mlir.ir`` or ``iree.compiler.ir``) that an operation, value or attribute is of."""
    package = type(thing).__module__.split("._mlir_libs")[0].removesuffix(".ir")
    if package.startswith("torch_mlir"):
        package = "torch_mlir"
    elif package.startswith("iree.compiler"):
        package = "iree.compiler"
    return importlib.import_module(f"{package}.ir")


def numpy_dtype(element_type: Any) -> np.dtype | None:
    """The numpy dtype of an MLIR element type, or None where there is none that the bindings can exchange."""
    return _DTYPES.get(str(element_type))


def constant_attribute(value: Any) -> Any | None:
    """The elements attribute of the ``arith.constant`` that defines ``value``, or None."""
    owner = getattr(value.owner, "operation", None)  # a block argument's owner is a block
    if owner is None or owner.name != "arith.constant":
        return None
    return owner.attributes["value"]


def read_attribute(attribute: Any) -> np.ndarray | None:
    """An elements attribute as a read-only array in its own shape (a splat has stride 0); None if not readable."""
    ir = bindings(attribute)
    if not isinstance(attribute, ir.DenseElementsAttr):
        return None
    dtype = numpy_dtype(ir.ShapedType(attribute.type).element_type)
    if dtype is None:
        return None
    shape = tuple(ir.ShapedType(attribute.type).shape)
    array = np.asarray(memoryview(attribute)).reshape(shape)
    return array.view(dtype) if array.dtype != dtype else array


def read_constant(value: Any) -> np.ndarray | None:
    """The array of a tensor value that an ``arith.constant`` defines; None if it is anything else."""
    attribute = constant_attribute(value)
    return None if attribute is None else read_attribute(attribute)


def read_scalar(value: Any) -> float | int | None:
    """The number of a scalar value that an ``arith.constant`` defines; None if it is anything else."""
    attribute = constant_attribute(value)
    if attribute is None:
        return None
    ir = bindings(attribute)
    if isinstance(attribute, (ir.FloatAttr, ir.IntegerAttr, ir.BoolAttr)):
        return attribute.value
    return None


def is_zero_scalar(value: Any) -> bool:
    """Whether a scalar value is the constant zero."""
    number = read_scalar(value)
    return number is not None and number == 0


def constant_bytes(root: Any) -> int:
    """Bytes of all tensors, but splats, that ``arith.constant`` ops inside ``root`` define: a model's weights."""
    ir = bindings(root)
    total = 0

    def visit(op: Any) -> Any:
        nonlocal total
        attribute = op.attributes["value"] if op.name == "arith.constant" else None
        if isinstance(attribute, ir.DenseElementsAttr) and not attribute.is_splat:
            kind = ir.ShapedType(attribute.type)
            total += math.prod(kind.shape) * getattr(kind.element_type, "width", 64) // 8
        return ir.WalkResult.ADVANCE

    root.walk(visit)
    return total


def make_constant(array: np.ndarray, like: Any) -> Any:
    """A new ``arith.constant`` at the current insertion point with the array's shape and the element type of ``like``.

    Args:
        array: any float or integer array; it is converted to the element type.
        like: an MLIR element type that :func:`numpy_dtype` knows.
    """
    ir = bindings(like)
    dtype = numpy_dtype(like)
    if dtype is None:
        raise ValueError(f"no numpy dtype for {like}")
    data = np.ascontiguousarray(array, dtype=dtype).reshape(array.shape)
    kind = ir.RankedTensorType.get(list(data.shape), like)
    if _is_splat(data):
        attribute = ir.DenseElementsAttr.get_splat(kind, _scalar_attribute(ir, like, data.flat[0]))
    else:
        attribute = ir.DenseElementsAttr.get(data, type=like if _needs_type(like) else None, shape=list(data.shape))
    return ir.Operation.create("arith.constant", results=[kind], attributes={"value": attribute}).result


def _is_splat(data: np.ndarray) -> bool:
    """Whether all elements have the same bits (0.0 and -0.0 do not)."""
    if data.size == 0 or data.flat[0] != data.flat[-1]:
        return False
    raw = data.reshape(-1).view(f"u{data.dtype.itemsize}")
    return bool((raw == raw[0]).all())


def make_scalar(number: float | int, element_type: Any) -> Any:
    """A new scalar ``arith.constant`` at the current insertion point."""
    ir = bindings(element_type)
    attribute = _scalar_attribute(ir, element_type, number)
    return ir.Operation.create("arith.constant", results=[element_type], attributes={"value": attribute}).result


def _needs_type(element_type: Any) -> bool:
    # numpy's signed integers come back as signless ones by default, floats as themselves; ui8 must be said.
    return str(element_type).startswith("ui")


def _scalar_attribute(ir: Any, element_type: Any, number: Any) -> Any:
    if str(element_type).lstrip("bf").isdigit():
        return ir.FloatAttr.get(element_type, float(number))
    return ir.IntegerAttr.get(element_type, int(number))

"""The tensor types that cross the runtime's border, and the conversions between numpy, torch, DLPack and them."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import ml_dtypes
import numpy as np

from dlas.errors import InputError

if TYPE_CHECKING:
    from dlas.runtime.artifact import TensorSpec


@dataclass(frozen=True)
class ElementType:
    """One element type: its numpy dtype, the name of IREE's ``HalElementType`` and its name in MLIR."""

    dtype: np.dtype
    hal: str
    mlir: str


_TABLE: tuple[tuple[Any, str, str], ...] = (
    (np.bool_, "BOOL_8", "i1"),
    (np.int8, "INT_8", "i8"),
    (np.uint8, "INT_8", "i8"),
    (np.int16, "INT_16", "i16"),
    (np.uint16, "INT_16", "i16"),
    (np.int32, "INT_32", "i32"),
    (np.uint32, "INT_32", "i32"),
    (np.int64, "INT_64", "i64"),
    (np.uint64, "INT_64", "i64"),
    (np.float16, "FLOAT_16", "f16"),
    (ml_dtypes.bfloat16, "BFLOAT_16", "bf16"),
    (np.float32, "FLOAT_32", "f32"),
    (np.float64, "FLOAT_64", "f64"),
)

ELEMENT_TYPES: dict[str, ElementType] = {
    np.dtype(scalar).name: ElementType(np.dtype(scalar), hal, mlir) for scalar, hal, mlir in _TABLE
}
"""Element types by numpy dtype name. Integers are signless in MLIR: the sign lives in the artifact's dtype."""

_BFLOAT16 = np.dtype(ml_dtypes.bfloat16)


def is_torch_tensor(value: object) -> bool:
    """True for a torch tensor; never imports torch (a tensor cannot exist before its package was imported)."""
    torch = sys.modules.get("torch")
    return torch is not None and isinstance(value, torch.Tensor)


def to_numpy(value: Any, where: str) -> np.ndarray:
    """A numpy array over `value`: an array, a numpy scalar, a torch tensor or any object with ``__dlpack__``.

    Shares memory with `value` where that is possible. Raises InputError, saying `where`, for everything else.
    """
    if isinstance(value, np.ndarray):
        return value
    try:
        if is_torch_tensor(value):
            torch = sys.modules["torch"]
            if value.dtype == torch.bfloat16:
                return value.view(torch.int16).numpy(force=True).view(_BFLOAT16)
            return value.numpy(force=True)
        if isinstance(value, np.generic):
            return np.asarray(value)
        if hasattr(value, "__dlpack__"):
            return np.from_dlpack(value)
    except (BufferError, RuntimeError, TypeError, ValueError) as error:
        raise InputError(
            f"a {type(value).__module__}.{type(value).__qualname__} that cannot be read as an array: "
            f"{first_line(error)}",
            where=where,
            hint="pass a dense tensor in host memory",
        ) from error
    raise InputError(
        f"found a {type(value).__qualname__}",
        where=where,
        hint="pass a numpy array, a torch tensor or an object with __dlpack__",
    )


def to_torch(array: np.ndarray) -> Any:
    """A torch tensor over the memory of `array` (writable, of a dtype of :data:`ELEMENT_TYPES`)."""
    import torch

    if array.dtype == _BFLOAT16:
        return torch.from_numpy(array.view(np.int16)).view(torch.bfloat16)
    return torch.from_numpy(array)


def check_inputs(values: Sequence[Any], specs: Sequence[TensorSpec], dtypes: Sequence[np.dtype]) -> list[np.ndarray]:
    """`values` as arrays of exactly the shapes of `specs` and the given `dtypes`.

    Raises InputError, naming the input, what was found and what is expected; nothing is cast or broadcast.
    """
    if len(values) != len(specs):
        raise InputError(
            f"{_count(len(values), 'input')} given, {len(specs)} expected",
            hint="the model takes " + (", ".join(str(spec) for spec in specs) or "no inputs"),
        )
    arrays = []
    for position, (value, spec, dtype) in enumerate(zip(values, specs, dtypes, strict=True)):
        array = value if type(value) is np.ndarray else to_numpy(value, _where(position, spec))
        if array.shape != spec.shape:
            raise InputError(
                f"found shape {list(array.shape)}, expected {list(spec.shape)}", where=_where(position, spec)
            )
        if array.dtype != dtype:
            raise InputError(
                f"found dtype {array.dtype}, expected {spec.dtype}",
                where=_where(position, spec),
                hint="inputs are never cast; convert it first",
            )
        arrays.append(array)
    return arrays


def first_line(error: BaseException) -> str:
    """The first line of an error's text, without the C++ source location that IREE's runtime puts before it."""
    lines = str(error).strip().splitlines()
    text = lines[0] if lines else type(error).__name__
    head, mark, tail = text.partition(".c:")
    return tail.partition(": ")[2] if mark and tail[:1].isdigit() and "/" in head else text


def _where(position: int, spec: TensorSpec) -> str:
    return f"input {position} ({spec.name})"


def _count(number: int, noun: str) -> str:
    return f"{number} {noun}" if number == 1 else f"{number} {noun}s"

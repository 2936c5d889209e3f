"""The passes by name, and the notes they leave.

A pass is a frozen dataclass whose fields are its options (``dlas opt --pass-pipeline='name{field=value}'``) and whose
``run(module)`` rewrites the module in place and returns :class:`Note` objects: what was done, and what was refused and
why, as data. A pass belongs to one of the two MLIR contexts: ``torch-mlir`` (what to compute) or ``iree`` (layout,
schedules, code generation); ``module`` is a ``torch_mlir.ir.Module`` or an ``iree.compiler.ir.Module`` accordingly.

The form that the torch-mlir passes leave behind ("canonical linalg") is written down in
:mod:`dlas.passes.canonical`.
"""

from __future__ import annotations

import dataclasses
import importlib
from collections.abc import Callable, Iterable, Sequence
from typing import Any, ClassVar, Literal, TypeVar, get_type_hints

from dlas.errors import UsageError

ContextName = Literal["torch-mlir", "iree"]
CONTEXTS: tuple[ContextName, ...] = ("torch-mlir", "iree")


@dataclasses.dataclass(frozen=True)
class Note:
    """What a pass did to, or refused for, one operation.

    Attributes:
        pass_name: the pass.
        layer: the source layer (``dlas.layer``) of the operation, "" if it has none.
        done: True for a rewrite, False for a refusal.
        text: what was done, or why it was refused.
    """

    pass_name: str
    layer: str
    done: bool
    text: str

    def __str__(self) -> str:
        return f"{self.pass_name}: {'done' if self.done else 'refused'}: {self.layer or '-'}: {self.text}"


class Pass:
    """What a registered class derives from; :func:`register` sets its name and context."""

    name: ClassVar[str]
    context: ClassVar[ContextName]

    def run(self, module: Any) -> list[Note]:
        """Rewrite ``module`` in place."""
        raise NotImplementedError(f"{type(self).__name__}.run")


PassClass = TypeVar("PassClass", bound=type[Pass])

_PASSES: dict[str, Any] = {}

# Modules whose import registers passes. A name here that does not exist is a bug, so nothing is caught.
_MODULES = [
    "dlas.passes.name_layers",
    "dlas.passes.fold_constants",
    "dlas.passes.bias_to_epilogue",
    "dlas.passes.lift_conv_1d",
    "dlas.passes.fold_batch_norm",
    "dlas.passes.flatten_batch_matmul",
    "dlas.passes.flatten_rows",
    "dlas.passes.trim_inputs",
    "dlas.passes.trim_results",
    "dlas.passes.group_reshapes",
    "dlas.passes.shrink_channels",
    "dlas.passes.sparse_weights",
    "dlas.passes.sparse_gemm",
]


def add_modules(*names: str) -> None:
    """Make the registry import further modules that register passes (before the first look-up of a name)."""
    for name in names:
        if name not in _MODULES:
            _MODULES.append(name)


def register(name: str, *, context: ContextName) -> Callable[[PassClass], PassClass]:
    """Class decorator: put a pass in the table under ``name``."""

    def add(cls: PassClass) -> PassClass:
        if not dataclasses.is_dataclass(cls):
            raise TypeError(f"pass {name!r} is not a dataclass")
        if _PASSES.get(name, cls).__qualname__ != cls.__qualname__:
            raise ValueError(f"two passes are named {name!r}: {_PASSES[name].__qualname__} and {cls.__qualname__}")
        cls.name, cls.context = name, context
        _PASSES[name] = cls
        return cls

    return add


def passes(context: ContextName | None = None) -> dict[str, Any]:
    """The registered pass classes by name, all or those of one context."""
    for module in _MODULES:
        importlib.import_module(module)
    return {name: cls for name, cls in _PASSES.items() if context in (None, cls.context)}


def is_registered(name: str) -> bool:
    """Whether ``name`` is one of ours (and not a native MLIR pass)."""
    return name in passes()


def create(name: str, options: dict[str, str] | None = None) -> Pass:
    """The pass ``name`` with options given as text.

    Raises:
        UsageError: unknown pass, unknown option or a value that is not of the option's type.
    """
    table = passes()
    if name not in table:
        raise UsageError(f"unknown pass {name!r}", hint="known passes: " + ", ".join(sorted(table)))
    cls = table[name]
    fields = {field.name: field for field in dataclasses.fields(cls)}
    types = get_type_hints(cls)
    values: dict[str, Any] = {}
    for key, text in (options or {}).items():
        field_name = key.replace("-", "_")
        if field_name not in fields:
            known = ", ".join(sorted(fields)) or "none"
            raise UsageError(f"unknown option {key!r}", where=f"pass {name}", hint=f"options: {known}")
        values[field_name] = _parse_value(name, key, text, types[field_name])
    try:
        return cls(**values)
    except (TypeError, ValueError) as error:
        raise UsageError(str(error), where=f"pass {name}") from error


def _to_bool(text: str) -> bool:
    if text not in ("true", "false", "1", "0"):
        raise ValueError(text)
    return text in ("true", "1")


_PARSERS: dict[Any, tuple[str, Callable[[str], Any]]] = {
    bool: ("true or false", _to_bool),
    int: ("an integer", int),
    float: ("a number", float),
    str: ("text", str),
    tuple[int, ...]: ("integers separated by ':'", lambda text: tuple(int(part) for part in text.split(":"))),
}


def _parse_value(pass_name: str, key: str, text: str, kind: Any) -> Any:
    wanted, parse = _PARSERS.get(kind, _PARSERS[str])
    try:
        return parse(text)
    except ValueError as error:
        raise UsageError(f"option {key}={text!r} is not {wanted}", where=f"pass {pass_name}") from error


def run_passes(names: Iterable[str] | Sequence[Pass], module: Any) -> list[Note]:
    """Run passes (names or instances) in order on ``module``, all of them of one context; the notes of all."""
    notes: list[Note] = []
    for item in names:
        instance = create(item) if isinstance(item, str) else item
        with module.context:
            notes += instance.run(module)
    return notes

"""The imported model, and modules to bytecode and back."""

from __future__ import annotations

import io
from dataclasses import dataclass, field, replace
from typing import Any

from dlas.compiler.diagnostics import first_diagnostic
from dlas.errors import FrontendError, UnsupportedOpError
from dlas.passes.canonical import canonicalise_module
from dlas.passes.generics import walk
from dlas.passes.name_layers import layer_from_location
from dlas.passes.registry import Note, run_passes
from dlas.passes.sparse_weights import DensifySparseWeights, TypeSparseWeights
from dlas.runtime.artifact import TensorSpec

FUNCTION = "main"


@dataclass(frozen=True)
class ImportedModel:
    """A model as linalg on tensors.

    Attributes:
        bytecode: MLIR bytecode of a module with one function, ``@main``; every operation's location is a NameLoc of
            its source layer. Parses in either context (``ir.Module.parse(bytecode)``).
        inputs, outputs: names, shapes (-1 for a dynamic extent) and numpy dtypes, in the order of the function.
        name: the model's name, for reports.
        notes: what the passes that ran did and refused.
    """

    bytecode: bytes = field(repr=False)
    inputs: tuple[TensorSpec, ...]
    outputs: tuple[TensorSpec, ...]
    name: str
    notes: tuple[Note, ...] = field(default=(), repr=False)

    def parse(self) -> Any:
        """The module, in a torch-mlir context of its own. Hold on to it: its operations do not keep it alive."""
        with new_context():
            return _ir().Module.parse(self.bytecode)


def canonicalise(imported: ImportedModel) -> ImportedModel:
    """The model in the form of :mod:`dlas.passes.canonical`, with the notes of the passes that brought it there.

    Raises:
        FrontendError: the model is wrong in a way that only shows when its constants and shapes are folded.
    """
    module = imported.parse()
    try:
        notes = canonicalise_module(module)
    except _ir().MLIRError as error:
        raise FrontendError(first_diagnostic(error), where=imported.name) from error
    return replace(imported, bytecode=to_bytecode(module), notes=imported.notes + tuple(notes))


def without_sparse_types(imported: ImportedModel) -> bytes:
    """The bytecode of a canonical model for IREE's context, which has no ``sparse_tensor``."""
    if not any(note.done and note.pass_name == TypeSparseWeights.name for note in imported.notes):
        return imported.bytecode
    module = imported.parse()
    run_passes([DensifySparseWeights()], module)
    return to_bytecode(module)


def _ir() -> Any:
    from torch_mlir import ir

    return ir


def new_context() -> Any:
    """A torch-mlir context with every upstream dialect and torch."""
    from torch_mlir import ir
    from torch_mlir.dialects import torch as torch_dialect

    context = ir.Context()
    torch_dialect.register_dialect(context)
    return context


def to_bytecode(module: Any) -> bytes:
    """A module as MLIR bytecode."""
    buffer = io.BytesIO()
    module.operation.write_bytecode(buffer)
    return buffer.getvalue()


_NUMPY_NAMES: dict[str, str] = {
    "f16": "float16", "f32": "float32", "f64": "float64", "bf16": "bfloat16",
    "i1": "bool", "i8": "int8", "i16": "int16", "i32": "int32", "i64": "int64",
    "ui8": "uint8", "si8": "int8", "si16": "int16", "si32": "int32", "si64": "int64",
}  # fmt: skip


def tensor_spec(name: str, mlir_type: Any) -> TensorSpec:
    """The spec of a function's argument or result.

    Raises:
        FrontendError: it is not a ranked tensor of an element type that has a numpy name.
    """
    ir = _ir()
    if not isinstance(mlir_type, ir.RankedTensorType):
        raise FrontendError(f"{mlir_type} is not a ranked tensor", where=name, hint="inputs and outputs are tensors")
    element = str(mlir_type.element_type)
    if element not in _NUMPY_NAMES:
        raise FrontendError(
            f"element type {element}", where=name, hint="supported: " + ", ".join(sorted(set(_NUMPY_NAMES)))
        )
    shape = tuple(-1 if mlir_type.is_dynamic_dim(dim) else mlir_type.get_dim_size(dim) for dim in range(mlir_type.rank))
    return TensorSpec(name, shape, _NUMPY_NAMES[element])


def finish(
    module: Any,
    name: str,
    input_names: list[str] | None = None,
    output_names: list[str] | None = None,
) -> ImportedModel:
    """Bytecode and signature of a lowered module with one public function, which becomes ``@main``.

    Raises:
        FrontendError: not exactly one public function, or one that takes or gives something else than tensors.
        UnsupportedOpError: an operation of a dialect that the compiler does not read.
    """
    ir = _ir()
    functions = [op.operation for op in module.body.operations if op.operation.name == "func.func"]
    public = [op for op in functions if _visibility(op) != "private"]
    if len(public) != 1:
        names = ", ".join("@" + op.attributes["sym_name"].value for op in public) or "none"
        raise FrontendError(f"{len(public)} public functions ({names})", where=name, hint="it needs exactly one")
    _check_dialects(module, name)
    function = public[0]
    kind = function.attributes["function_type"].value
    with module.context:
        function.attributes["sym_name"] = ir.StringAttr.get(FUNCTION)
    inputs = _specs("input", list(kind.inputs), input_names)
    outputs = _specs("output", list(kind.results), output_names)
    return ImportedModel(to_bytecode(module), inputs, outputs, name)


def _check_dialects(module: Any, name: str) -> None:
    """Refuse what torch-mlir lowers to operations of its own (sorts, scans, scatters), which IREE cannot read."""
    for op in walk(module):
        if op.name.partition(".")[0] not in _DIALECTS:
            layer = layer_from_location(op.location)
            raise UnsupportedOpError(
                f"this layer lowers to {op.name}, which is not linalg", where=f"layer {layer}" if layer else name,
                hint="rewrite it with operations that lower to linalg, or cut the model before it",
            )  # fmt: skip


_DIALECTS = frozenset({"builtin", "func", "arith", "math", "linalg", "tensor", "scf", "cf", "complex", "ml_program"})


def _visibility(op: Any) -> str:
    return op.attributes["sym_visibility"].value if "sym_visibility" in op.attributes else "public"


def _specs(kind: str, types: list[Any], names: list[str] | None) -> tuple[TensorSpec, ...]:
    if names is None or len(names) != len(types):
        names = [f"{kind}{i}" for i in range(len(types))]
    return tuple(tensor_spec(name, mlir_type) for name, mlir_type in zip(names, types, strict=True))

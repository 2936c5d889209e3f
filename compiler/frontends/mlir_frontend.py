"""MLIR text, bytecode and modules: linalg on tensors, or the torch dialect."""

from __future__ import annotations

from typing import Any

from dlas.errors import FrontendError
from dlas.passes.resources import inline_resources

from .lowering import BACKEND_TO_LINALG, FX_TO_BACKEND, ONNX_TO_BACKEND, lower
from .model import ImportedModel, finish, new_context, to_bytecode


def import_mlir_module(module: Any, name: str) -> ImportedModel:
    """Import a module object of torch-mlir's or IREE's bindings; the module itself is left as it is."""
    return import_mlir_bytes(to_bytecode(module), name, where=name)


def import_mlir_bytes(source: bytes, name: str, *, where: str) -> ImportedModel:
    """Import MLIR text or bytecode.

    Raises:
        FrontendError: it does not parse, or has not exactly one public function on tensors.
        UnsupportedOpError: an operation of the torch dialect does not lower.
    """
    from torch_mlir import ir

    with new_context():
        try:
            module = ir.Module.parse(source)
        except ir.MLIRError as error:
            first = error.error_diagnostics[0] if error.error_diagnostics else None
            what = f"{first.message} at {str(first.location)[4:-1]}" if first else str(error).splitlines()[0]
            raise FrontendError(f"does not parse as MLIR: {what}", where=where) from error
        inline_resources(module)
        stages = _stages(module)
        if stages:
            lower(module, *stages, model=name)
        return finish(module, name)


def _stages(module: Any) -> tuple[str, ...]:
    """The pipelines that take the module to linalg: none if nothing of it is in the torch dialect."""
    from dlas.passes.generics import walk

    names = {op.name for op in walk(module) if op.name.startswith("torch.")}
    functions = walk(module, "func.func")
    if not names and not any("!torch." in str(op.attributes["function_type"]) for op in functions):
        return ()
    if any("torch.onnx_meta.opset_version" in op.attributes for op in functions):
        return (ONNX_TO_BACKEND, BACKEND_TO_LINALG)
    return (FX_TO_BACKEND, BACKEND_TO_LINALG)

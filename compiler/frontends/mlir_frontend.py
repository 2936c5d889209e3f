"""MLIR text, bytecode and modules: linalg on tensors, or the torch dialect."""

from __future__ import annotations

from typing import Any

from dlas.compiler.diagnostics import first_diagnostic
from dlas.errors import FrontendError
from dlas.passes.generics import walk
from dlas.passes.resources import inline_resources

from .lowering import BACKEND_TO_LINALG, FX_TO_BACKEND, ONNX_TO_BACKEND, lower
from .model import ImportedModel, finish, new_context, to_bytecode

_GENERALISE = """
module attributes {transform.with_named_sequence} {
  transform.named_sequence @generalise(%module: !transform.any_op) {
    %ops = transform.structured.match ops{["linalg.elementwise"]} in %module : (!transform.any_op) -> !transform.any_op
    %generic = transform.structured.generalize %ops : (!transform.any_op) -> !transform.any_op
    transform.yield
  }
}
"""


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
            raise FrontendError(f"does not parse as MLIR: {first_diagnostic(error)}", where=where) from error
        inline_resources(module)
        stages = _stages(module)
        if stages:
            lower(module, *stages, model=name)
        _generalise_elementwise(module)
        return finish(module, name)


def _generalise_elementwise(module: Any) -> None:
    """Makes ``linalg.generic`` of ``linalg.exp``, ``linalg.add`` and their kin, which IREE does not know.

    before: linalg.exp ins(%x) outs(%init)
    after:  linalg.generic ins(%x) outs(%init) { math.exp }
    """
    from torch_mlir import ir
    from torch_mlir.dialects.transform import interpreter
    from torch_mlir.passmanager import PassManager

    PassManager.parse("builtin.module(linalg-morph-ops{named-to-category=true})").run(module.operation)
    script = ir.Module.parse(_GENERALISE)
    interpreter.apply_named_sequence(module, script.body.operations[0], script)


def _stages(module: Any) -> tuple[str, ...]:
    """The pipelines that take the module to linalg: none if nothing of it is in the torch dialect."""
    names = {op.name for op in walk(module) if op.name.startswith("torch.")}
    functions = walk(module, "func.func")
    if not names and not any("!torch." in str(op.attributes["function_type"]) for op in functions):
        return ()
    if any("torch.onnx_meta.opset_version" in op.attributes for op in functions):
        return (ONNX_TO_BACKEND, BACKEND_TO_LINALG)
    return (FX_TO_BACKEND, BACKEND_TO_LINALG)

"""From the torch dialect to linalg on tensors, with errors that name the operation and its layer."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

from dlas.errors import FrontendError, UnsupportedOpError
from dlas.passes.name_layers import layer_from_location

FX_TO_BACKEND = (
    "func.func(torch-match-quantized-custom-ops),"
    "torchdynamo-export-to-torch-backend-pipeline{extra-library=}"
)  # fmt: skip
ONNX_TO_BACKEND = "torch-onnx-to-torch-backend-pipeline"
BACKEND_TO_LINALG = "torch-backend-to-linalg-on-tensors-backend-pipeline{allow-non-finites=true}"

_OPERATOR_NAME = re.compile(r'name = "((?:torch|onnx|quantized|tensorrt|_c10d_functional)\.[\w.]+)"')
_OP_NAME = re.compile(r'"?((?:torch|onnx|tm_tensor|linalg|tensor)\.[\w.]+)"?')


def lower(module: Any, *pipelines: str, model: str, operators: Mapping[str, str] | None = None) -> None:
    """Run pass pipelines on a torch-dialect module in place.

    Args:
        module: what the importer made.
        pipelines: of torch-mlir's passes, in order.
        model: the model's name, for errors.
        operators: what the model itself calls the operator of each layer, if that is not torch's name.

    Raises:
        UnsupportedOpError: an operation does not lower; the error names it, its layer and what to do.
    """
    from torch_mlir import ir
    from torch_mlir.passmanager import PassManager

    context = module.context
    diagnostics: list[tuple[str, str | None]] = []

    def collect(diagnostic: Any) -> bool:
        if diagnostic.severity == ir.DiagnosticSeverity.ERROR:
            notes = "\n".join(note.message for note in diagnostic.notes)
            diagnostics.append((f"{diagnostic.message}\n{notes}", layer_from_location(diagnostic.location)))
        return True

    # Without this the bindings keep diagnostics to themselves, and drop those of a pass that goes on after them.
    emitted, context.emit_error_diagnostics = context.emit_error_diagnostics, True
    handler = context.attach_diagnostic_handler(collect)
    try:
        with context:
            for pipeline in pipelines:
                PassManager.parse(f"builtin.module({pipeline})").run(module.operation)
    except (ir.MLIRError, RuntimeError) as error:
        raise _explain(diagnostics, model, error, operators or {}) from error
    finally:
        handler.detach()
        context.emit_error_diagnostics = emitted


def _explain(
    diagnostics: list[tuple[str, str | None]], model: str, error: Exception, operators: Mapping[str, str]
) -> FrontendError:
    """The first diagnostic that names an operation, in one sentence."""
    for text, layer in diagnostics:
        match = _OPERATOR_NAME.search(text) or _OP_NAME.search(text)
        if match is None:
            continue
        name = match.group(1)
        own = operators.get(layer or "")
        if own is not None and not name.endswith(f".{own}"):
            name = f"{own} ({name})"
        where = f"layer {layer}" if layer else model
        summary = text.splitlines()[0]
        reason = "" if "failed to legalize" in summary else f": {_shorten(summary)}"
        return UnsupportedOpError(
            f"{name} does not lower to linalg{reason}",
            where=where,
            hint="rewrite this layer with operations that do, or cut the model before it",
        )
    text = diagnostics[0][0].splitlines()[0] if diagnostics else str(error).splitlines()[0]
    return FrontendError(f"the model does not lower to linalg: {_shorten(text)}", where=model)


def _shorten(text: str, limit: int = 200) -> str:
    return text if len(text) <= limit else text[: limit - 3] + "..."

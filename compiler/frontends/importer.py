"""``import_model``: find out what kind of model it is, and import it."""

from __future__ import annotations

import importlib.util
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from dlas.errors import FrontendError

from .mlir_frontend import import_mlir_bytes, import_mlir_module
from .model import ImportedModel

ZOO_PREFIX = "zoo:"
SUPPORTED = (
    "torch.nn.Module, torch.export.ExportedProgram, onnx.ModelProto, an MLIR module, a path to .pt2, .onnx, .mlir or "
    ".mlirbc, or zoo:NAME[,key=value...]"
)


def import_model(
    model: Any, example_inputs: Sequence[Any] | None = None, *, dynamic: bool = False, name: str | None = None
) -> ImportedModel:
    """Import a model to linalg on tensors.

    Args:
        model: see :data:`SUPPORTED`.
        example_inputs: for a ``torch.nn.Module``, the positional inputs that fix shapes and dtypes.
        dynamic: leave the first extent of every input dynamic.
        name: the model's name in reports (default: its class, file or zoo name).

    Raises:
        FrontendError: the model cannot be read or imported; UnsupportedOpError for an operation that does not lower.
        InputError: the example inputs do not fit the model.
        UsageError: an unknown zoo name.
    """
    if isinstance(example_inputs, (list, tuple)) is False and example_inputs is not None:
        example_inputs = (example_inputs,)
    if isinstance(model, (str, Path)):
        return _import_named(model, example_inputs, dynamic, name)
    if _is_mlir_module(model):
        return import_mlir_module(model, name or "module")
    module_of = type(model).__module__
    if module_of.startswith("onnx"):
        from .onnx_frontend import import_onnx

        return import_onnx(model, name or model.graph.name or "onnx", dynamic=dynamic)
    if importlib.util.find_spec("torch") is not None:
        import torch

        from . import torch_frontend

        if isinstance(model, torch.export.ExportedProgram):
            return torch_frontend.import_program(model, name or "program")
        if isinstance(model, torch.nn.Module):
            inputs = None if example_inputs is None else tuple(example_inputs)
            return torch_frontend.import_module(model, inputs, name or type(model).__name__, dynamic=dynamic)
    raise FrontendError(f"{type(model).__name__} is not a model", hint=f"supported: {SUPPORTED}")


def _is_mlir_module(model: Any) -> bool:
    return type(model).__name__ == "Module" and "_mlir_libs" in type(model).__module__


def _import_named(
    model: str | Path, example_inputs: Sequence[Any] | None, dynamic: bool, name: str | None
) -> ImportedModel:
    text = str(model)
    if text.startswith(ZOO_PREFIX):
        from dlas.compiler.frontends import zoo

        from .torch_frontend import import_module

        module, inputs = zoo.build(text.removeprefix(ZOO_PREFIX))
        chosen = inputs if example_inputs is None else tuple(example_inputs)
        return import_module(module, chosen, name or text.removeprefix(ZOO_PREFIX), dynamic=dynamic)
    path = Path(text)
    if not path.is_file():
        what = "is a folder" if path.is_dir() else "no such file"
        raise FrontendError(what, where=text, hint=f"supported: {SUPPORTED}")
    name = name or path.stem
    match path.suffix:
        case ".pt2":
            from .torch_frontend import import_program, load_pt2

            return import_program(load_pt2(path), name)
        case ".onnx":
            from .onnx_frontend import import_onnx, load_onnx

            return import_onnx(load_onnx(path), name, dynamic=dynamic)
        case ".mlir" | ".mlirbc":
            return import_mlir_bytes(path.read_bytes(), name, where=text)
    raise FrontendError(
        f"unknown kind of file {path.suffix or 'without a suffix'}", where=text, hint=f"supported: {SUPPORTED}"
    )

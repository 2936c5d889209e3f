"""ONNX models and files, through torch-mlir's ONNX importer."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import onnx
from google.protobuf.message import DecodeError, EncodeError
from torch_mlir.extras import onnx_importer

from dlas.errors import FrontendError

from .lowering import BACKEND_TO_LINALG, ONNX_TO_BACKEND, lower
from .model import ImportedModel, finish, new_context
from .onnx_rewrites import prepare


def load_onnx(path: Path) -> onnx.ModelProto:
    """A model file with its external data.

    Raises:
        FrontendError: not an ONNX model, or its external data is missing.
    """
    try:
        model = onnx.load(path, load_external_data=False)
    except (DecodeError, ValueError, OSError) as error:
        raise FrontendError(f"not an ONNX model: {_first_line(error)}", where=str(path)) from error
    if not model.graph.node or not model.opset_import:
        raise FrontendError("not an ONNX model, or an empty one", where=str(path))
    try:
        onnx.load_external_data_for_model(model, str(path.parent))
    except (onnx.checker.ValidationError, OSError, ValueError) as error:
        raise FrontendError(
            f"external data cannot be read: {_first_line(error)}", where=str(path),
            hint="keep the data file beside the model",
        ) from error  # fmt: skip
    return model


def import_onnx(model: onnx.ModelProto, name: str, *, dynamic: bool = False) -> ImportedModel:
    """Import a model; the proto itself is left as it is.

    Raises:
        FrontendError: the model breaks ONNX's rules, or has dynamic shapes although ``dynamic`` is False.
        UnsupportedOpError: an operation does not lower.
    """
    model = prepare(model, name, dynamic=dynamic)
    context = new_context()
    try:
        info = onnx_importer.ModelInfo(model)
        module = info.create_module(context=context)
        onnx_importer.NodeImporter.define_function(info.main_graph, module.operation).import_all()
    except (onnx_importer.OnnxImportError, KeyError, ValueError, TypeError, AssertionError, EncodeError) as error:
        raise FrontendError(f"torch-mlir cannot import the graph: {_first_line(error)}", where=name) from error
    operators = {node.name: node.op_type for node in model.graph.node}
    lower(module, ONNX_TO_BACKEND, BACKEND_TO_LINALG, model=name, operators=operators)
    inputs = list(info.main_graph.input_map)
    return finish(module, name, inputs, [output.name for output in model.graph.output])


def _first_line(error: Exception) -> str:
    lines: list[Any] = str(error).strip().splitlines()
    return lines[0] if lines else type(error).__name__

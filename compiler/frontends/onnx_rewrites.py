"""What an ONNX graph needs before torch-mlir's importer can take it: names, shapes and constants where it looks."""

from __future__ import annotations

import onnx
from onnx import shape_inference, version_converter

from dlas.errors import FrontendError

# torch-mlir's conversion is written against the operators' newer forms (batch norm's is that of opset 15): older
# models are converted up to this. Below the second figure most operators are unknown to it, so conversion must work.
_MIN_OPSET, _OLDEST_OPSET = 15, 13


def prepare(model: onnx.ModelProto, name: str, *, dynamic: bool) -> onnx.ModelProto:
    """A copy of ``model`` of opset 15 or newer, with initialised inputs elided, nodes named and shapes inferred.

    Raises:
        FrontendError: the model breaks ONNX's rules, or an input has a dynamic extent and ``dynamic`` is False.
    """
    copy = onnx.ModelProto()
    copy.CopyFrom(model)
    opset = next((item.version for item in copy.opset_import if item.domain in ("", "ai.onnx")), None)
    if opset is None:
        raise FrontendError("the model imports no version of the ONNX operators", where=name)
    if opset < _MIN_OPSET:
        try:
            copy = version_converter.convert_version(copy, _MIN_OPSET)
        except (RuntimeError, ValueError, version_converter.ConvertError) as error:
            if opset < _OLDEST_OPSET:
                raise FrontendError(
                    f"opset {opset} cannot be converted to {_MIN_OPSET}: {_first_line(error)}",
                    where=name,
                    hint=f"export the model with opset {_MIN_OPSET} or newer",
                ) from error
    _freeze_inputs(copy.graph)
    _fix_extents(copy.graph, name, dynamic)
    _name_nodes(copy.graph)
    try:
        return shape_inference.infer_shapes(copy, data_prop=True)
    except shape_inference.InferenceError as error:
        raise FrontendError(f"shape inference failed: {_first_line(error)}", where=name) from error


def _freeze_inputs(graph: onnx.GraphProto) -> None:
    """Inputs with an initialiser are constants (old exporters list every weight as an input)."""
    initialised = {tensor.name for tensor in graph.initializer}
    kept = [value for value in graph.input if value.name not in initialised]
    del graph.input[:]
    graph.input.extend(kept)


def _fix_extents(graph: onnx.GraphProto, name: str, dynamic: bool) -> None:
    """A named batch extent becomes 1 unless the caller wants it dynamic; other dynamic extents are an error."""
    for value in graph.input:
        if value.type.WhichOneof("value") != "tensor_type":
            raise FrontendError(f"input {value.name!r} is not a tensor", where=name)
        for position, dim in enumerate(value.type.tensor_type.shape.dim):
            if dim.WhichOneof("value") == "dim_value" and dim.dim_value > 0:
                continue
            if dynamic:
                continue
            if position != 0:
                raise FrontendError(
                    f"input {value.name!r} has a dynamic extent at dimension {position}", where=name,
                    hint="fix it in the model, or import with dynamic=True",
                )  # fmt: skip
            dim.dim_value = 1
    if not dynamic:
        # Shapes recorded with the old batch name would contradict the inferred ones.
        del graph.value_info[:]
        for value in graph.output:
            if value.type.WhichOneof("value") == "tensor_type":
                for dim in value.type.tensor_type.shape.dim:
                    if dim.WhichOneof("value") == "dim_param":
                        dim.Clear()


def _name_nodes(graph: onnx.GraphProto) -> None:
    """Every node gets a unique name: its own, made unique, or its operator and first output."""
    taken: set[str] = set()
    for node in graph.node:
        base = node.name or f"{node.op_type}:{node.output[0] if node.output else ''}"
        name, number = base, 1
        while name in taken:
            number += 1
            name = f"{base}#{number}"
        taken.add(name)
        node.name = name


def _first_line(error: Exception) -> str:
    lines = str(error).strip().splitlines()
    return lines[0] if lines else type(error).__name__

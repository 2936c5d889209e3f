"""Inputs and float64 outputs of an ONNX file, by the reference evaluator of the onnx package."""

from __future__ import annotations

import logging
from pathlib import Path

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper
from onnx.reference import ReferenceEvaluator

from dlas.errors import UsageError

logger = logging.getLogger(__name__)


def random_inputs(path: Path) -> dict[str, np.ndarray]:
    """Seeded inputs of an ONNX file: standard normal floats, zeros for integers and booleans (any index is valid).

    Raises:
        UsageError: an input without a static shape.
    """
    graph = onnx.load(path, load_external_data=False).graph
    constants = {tensor.name for tensor in graph.initializer}
    generator = np.random.default_rng(1)
    inputs: dict[str, np.ndarray] = {}
    for value in graph.input:
        if value.name in constants:
            continue
        tensor = value.type.tensor_type
        dims = tensor.shape.dim
        if not tensor.HasField("shape") or not all(dim.HasField("dim_value") for dim in dims):
            raise UsageError(f"input {value.name!r} has no static shape", where=str(path), hint="fix its shape first")
        shape = tuple(dim.dim_value for dim in dims)
        dtype = helper.tensor_dtype_to_np_dtype(tensor.elem_type)
        floating = np.issubdtype(dtype, np.floating)
        inputs[value.name] = (generator.standard_normal(shape) if floating else np.zeros(shape)).astype(dtype)
    return inputs


def reference_outputs(path: Path, inputs: dict[str, np.ndarray]) -> list[np.ndarray] | None:
    """The outputs with every float32 widened to float64; None (logged) where the evaluator cannot run the model."""
    model = onnx.load(path)
    _widen_graph(model.graph)
    wide = {name: x.astype(np.float64) if x.dtype == np.float32 else x for name, x in inputs.items()}
    try:
        return [np.asarray(y) for y in ReferenceEvaluator(model).run(None, wide)]
    except Exception as error:  # the evaluator's operators raise errors of any kind
        logger.warning("%s: no float64 reference: %s", path, error)
        return None


def _widen_graph(graph: onnx.GraphProto) -> None:
    for tensor in graph.initializer:
        _widen_tensor(tensor)
    for value in (*graph.input, *graph.output, *graph.value_info):
        if value.type.tensor_type.elem_type == TensorProto.FLOAT:
            value.type.tensor_type.elem_type = TensorProto.DOUBLE
    for node in graph.node:
        for attribute in node.attribute:
            if attribute.HasField("t"):
                _widen_tensor(attribute.t)
            elif node.op_type == "Cast" and attribute.name == "to" and attribute.i == TensorProto.FLOAT:
                attribute.i = TensorProto.DOUBLE
            elif attribute.HasField("g"):
                _widen_graph(attribute.g)


def _widen_tensor(tensor: onnx.TensorProto) -> None:
    if tensor.data_type == TensorProto.FLOAT:
        tensor.CopyFrom(numpy_helper.from_array(numpy_helper.to_array(tensor).astype(np.float64), tensor.name))

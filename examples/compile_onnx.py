"""Compile an ONNX model and compare it with ONNX's reference evaluator.

python examples/compile_onnx.py [MODEL.onnx]      (without a model: a small one is made)
"""

from __future__ import annotations

import sys
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper
from onnx.reference import ReferenceEvaluator

import dlas
from dlas.compiler.explain import random_inputs


def make_model(path: Path) -> Path:
    """A grouped convolution, ReLU and a mean over height and width."""
    weights = np.random.default_rng(0).standard_normal((32, 8, 3, 3), np.float32) / 8
    nodes = [
        helper.make_node("Conv", ["x", "weights"], ["features"], name="conv", group=4, pads=[1, 1, 1, 1]),
        helper.make_node("Relu", ["features"], ["positive"], name="relu"),
        helper.make_node("GlobalAveragePool", ["positive"], ["y"], name="pool"),
    ]
    x = helper.make_tensor_value_info("x", TensorProto.FLOAT, [1, 32, 16, 16])
    y = helper.make_tensor_value_info("y", TensorProto.FLOAT, [1, 32, 1, 1])
    graph = helper.make_graph(nodes, "grouped", [x], [y], [numpy_helper.from_array(weights, "weights")])
    onnx.save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)]), path)
    return path


def main() -> None:
    with TemporaryDirectory() as folder:
        path = Path(sys.argv[1]) if len(sys.argv) > 1 else make_model(Path(folder) / "grouped.onnx")
        artifact = dlas.compile(path)
        inputs = random_inputs(artifact.inputs)
        feed = {spec.name: array for spec, array in zip(artifact.inputs, inputs, strict=True)}
        expected = ReferenceEvaluator(onnx.load(path)).run(None, feed)

    results = dlas.load(artifact)(*inputs)
    results = results if isinstance(results, tuple) else (results,)
    for spec, result, reference in zip(artifact.outputs, results, expected, strict=True):
        print(f"{spec}: largest difference to the reference {np.abs(result - reference).max():.1e}")


if __name__ == "__main__":
    main()

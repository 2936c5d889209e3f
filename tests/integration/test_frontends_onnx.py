"""ONNX operators through the frontend, canonicalisation and plain IREE, against ONNX's reference evaluator."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

onnx = pytest.importorskip("onnx")
pytest.importorskip("torch_mlir.ir")
pytest.importorskip("iree.compiler")

import iree.runtime as rt  # noqa: E402
from iree.compiler import api, ir  # noqa: E402
from onnx import TensorProto, helper, numpy_helper  # noqa: E402
from onnx.reference import ReferenceEvaluator  # noqa: E402

from dlas.compiler.frontends import canonicalise, import_model  # noqa: E402

RNG = np.random.default_rng(0)
FLAGS = (
    "--iree-hal-target-device=local",
    "--iree-hal-local-target-device-backends=llvm-cpu",
    "--iree-llvmcpu-target-cpu=host",
)


def weights(*shape: int) -> np.ndarray:
    return RNG.standard_normal(shape).astype(np.float32)


def batch_norm(channels: int) -> dict[str, np.ndarray]:
    positive = RNG.uniform(0.5, 1.5, channels).astype(np.float32)
    return {"s": weights(channels), "o": weights(channels), "m": weights(channels), "v": positive}


def node(kind: str, inputs: str, outputs: str, **attributes: Any) -> onnx.NodeProto:
    return helper.make_node(kind, inputs.split(), outputs.split(), **attributes)


def model(nodes: list[onnx.NodeProto], shape: tuple[Any, ...], opset: int = 17, **constants: Any) -> onnx.ModelProto:
    """From one input ``x`` to one output ``y``."""
    graph = helper.make_graph(
        nodes,
        "graph",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, shape)],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, None)],
        [numpy_helper.from_array(np.asarray(value), name) for name, value in constants.items()],
    )
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", opset)], ir_version=8)


IMAGE = (1, 4, 7, 7)
CASES: dict[str, Callable[[], onnx.ModelProto]] = {
    "grouped, asymmetric padding, batch norm": lambda: model(
        [
            node("Conv", "x w b", "c", group=2, pads=[1, 0, 2, 1], strides=[2, 1]),
            node("BatchNormalization", "c s o m v", "n", epsilon=1e-3),
            node("Relu", "n", "y"),
        ],
        IMAGE,
        w=weights(6, 2, 3, 3),
        b=weights(6),
        **batch_norm(6),
    ),
    "grouped, dilated": lambda: model(
        [node("Conv", "x w", "y", group=2, dilations=[2, 1])], IMAGE, w=weights(2, 2, 3, 3)
    ),
    "depthwise, same padding": lambda: model(
        [node("Conv", "x w", "y", group=4, auto_pad="SAME_UPPER", strides=[2, 2])], IMAGE, w=weights(4, 1, 3, 3)
    ),
    "depthwise with two outputs a channel": lambda: model(
        [node("Conv", "x w b", "y", group=4)], IMAGE, w=weights(8, 1, 3, 3), b=weights(8)
    ),
    "batch norm first": lambda: model(
        [node("BatchNormalization", "x s o m v", "n"), node("Relu", "n", "y")], IMAGE, **batch_norm(4)
    ),
    "transposed": lambda: model(
        [node("ConvTranspose", "x w", "c", strides=[2, 2]), node("BatchNormalization", "c s o m v", "y")],
        IMAGE,
        w=weights(4, 3, 3, 3),
        **batch_norm(3),
    ),
    "gemm": lambda: model(
        [node("Flatten", "x", "f"), node("Gemm", "f w b", "y", transB=1, alpha=0.5, beta=2.0)],
        (2, 4, 3),
        w=weights(5, 12),
        b=weights(5),
    ),
    "matmul of rank three": lambda: model(
        [node("MatMul", "x w", "t"), node("Add", "t b", "y")], (2, 3, 6), w=weights(6, 5), b=weights(5)
    ),
    "shape computed from the input": lambda: model(
        [
            node("Shape", "x", "s"),
            node("Gather", "s zero", "n"),
            node("Unsqueeze", "n axis", "u"),
            node("Concat", "u rest", "t", axis=0),
            node("Reshape", "x t", "y"),
        ],
        (2, 4, 3),
        zero=np.array(0),
        axis=np.array([0]),
        rest=np.array([-1]),
    ),
    "axes as a constant input": lambda: model(
        [node("ReduceMean", "x a", "y", keepdims=0)], IMAGE, opset=18, a=np.array([2, 3])
    ),
    "limits as constant inputs": lambda: model([node("Clip", "x l h", "y")], IMAGE, l=np.float32(0), h=np.float32(6)),
    "pooling": lambda: model(
        [
            node("MaxPool", "x", "p", kernel_shape=[3, 3], strides=[2, 2], pads=[1, 1, 1, 1]),
            node("GlobalAveragePool", "p", "y"),
        ],
        IMAGE,
    ),
    "split and concat": lambda: model(
        [node("Split", "x", "a b", axis=1), node("Concat", "b a", "y", axis=1)], IMAGE, opset=13
    ),
    "hard swish": lambda: model([node("HardSwish", "x", "y")], IMAGE),
    "old opset": lambda: model(
        [node("BatchNormalization", "x s o m v", "n"), node("Relu", "n", "y")], IMAGE, opset=8, **batch_norm(4)
    ),
    "batch by name": lambda: model([node("Softmax", "x", "y", axis=-1)], ("batch", 5)),
}


@pytest.mark.parametrize("name", CASES)
def test_against_reference(name: str):
    proto = CASES[name]()
    imported = canonicalise(import_model(proto))
    x = weights(*imported.inputs[0].shape)
    session = api.Session()
    session.set_flags(*FLAGS)
    with session.context, ir.Location.unknown():
        module = ir.Module.parse(imported.bytecode)
        invocation = session.invocation()
        invocation.import_module(module.operation)
        assert invocation.execute()
        output = api.Output.open_membuffer()
        invocation.output_vm_bytecode(output)
        data = bytes(output.map_memory())
    config = rt.Config("local-sync")
    result = rt.load_vm_module(rt.VmModule.copy_buffer(config.vm_instance, data), config).main(x).to_host()
    # The evaluator takes a batch norm of an opset below 14 for one in training; the cases mean the same at 15.
    proto.opset_import[0].version = max(15, proto.opset_import[0].version)
    expected = ReferenceEvaluator(proto).run(None, {"x": x})[0]
    bound = 64 * np.finfo(np.float32).eps * max(1.0, float(np.abs(expected).max()))
    np.testing.assert_allclose(result, expected, rtol=0, atol=bound)
    assert imported.outputs[0].shape == expected.shape

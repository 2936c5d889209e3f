"""import_model and canonicalise: every kind of model, layer names, the signature, and each refusal's words."""

from __future__ import annotations

import copy
from pathlib import Path

import numpy as np
import pytest

torch = pytest.importorskip("torch")
onnx = pytest.importorskip("onnx")
ir = pytest.importorskip("torch_mlir.ir")

from onnx import TensorProto, helper, numpy_helper  # noqa: E402
from torch import nn  # noqa: E402
from torch.nn import functional as F  # noqa: E402

from dlas.compiler.frontends import ImportedModel, canonicalise, import_model  # noqa: E402
from dlas.errors import FrontendError, InputError, UnsupportedOpError, UsageError  # noqa: E402
from dlas.passes.constants import read_constant, read_scalar  # noqa: E402
from dlas.passes.generics import walk  # noqa: E402


class Block(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.conv = nn.Conv2d(4, 4, 3, padding=1, groups=2)
        self.bn = nn.BatchNorm2d(4)

    def forward(self, x):
        return F.relu(self.bn(self.conv(x))) + x


class Net(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.stem = nn.Conv2d(3, 4, 1, bias=False)
        self.blocks = nn.Sequential(Block(), Block())
        self.fc = nn.Linear(4, 5)

    def forward(self, x):
        return self.fc(self.blocks(self.stem(x)).mean((2, 3)))


X = torch.zeros(1, 3, 6, 6)
TEXT = """
func.func @net(%x: tensor<2x3xf32>) -> tensor<2x3xf32> {
  %0 = math.exp %x : tensor<2x3xf32>
  return %0 : tensor<2x3xf32>
}
"""


def net() -> nn.Module:
    torch.manual_seed(0)
    return Net().eval()


def specs(imported: ImportedModel) -> tuple[list[str], list[str]]:
    return [str(spec) for spec in imported.inputs], [str(spec) for spec in imported.outputs]


def ops(imported: ImportedModel, *names: str) -> list[tuple[str, str]]:
    """Name and layer of the linalg operations called ``names`` (without the dialect)."""
    module = imported.parse()  # operations do not keep their module alive
    found = walk(module, *(f"linalg.{name}" for name in names))
    return [(op.name.removeprefix("linalg."), op.attributes["dlas.layer"].value) for op in found]


def constants(imported: ImportedModel) -> list[np.ndarray]:
    """The constant tensors, copied out of the module."""
    module = imported.parse()
    arrays = [read_constant(op.results[0]) for op in walk(module, "arith.constant")]
    return [array.copy() for array in arrays if array is not None]


def root_fill(value):
    """The fill that makes a value, seen through reshapes."""
    op = value.owner
    while op.name == "tensor.expand_shape":
        op = op.operands[0].owner
    assert op.name == "linalg.fill"
    return op


def relu_model(
    *, opset: int = 17, shape: tuple[int | str, ...] = (1, 4), op: str = "Relu", **attributes: object
) -> onnx.ModelProto:
    graph = helper.make_graph(
        [helper.make_node(op, ["x"], ["y"], name="head/act", **attributes)],
        "little",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, shape)],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, None)],
    )
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", opset)], ir_version=8)


# -- kinds of models ------------------------------------------------------------------------------------------------


def test_module_signature_and_layers():
    imported = import_model(net(), (X,))
    assert imported.name == "Net"
    assert specs(imported) == (["x: float32[1, 3, 6, 6]"], ["output0: float32[1, 5]"])
    canonical = canonicalise(imported)
    assert ops(canonical, "conv_2d_nchw_fchw", "conv_2d_ngchw_gfchw", "matmul") == [
        ("conv_2d_nchw_fchw", "stem"),
        ("conv_2d_ngchw_gfchw", "blocks.0.conv"),
        ("conv_2d_ngchw_gfchw", "blocks.1.conv"),
        ("matmul", "fc"),
    ]
    layers = {layer for _, layer in ops(canonical, "generic")}
    # The bias of a convolution, with what its batch norm left, belongs to it; a function is named after its caller.
    blocks = {f"blocks.{i}.{name}" for i in (0, 1) for name in ("conv", "relu", "add")}
    assert layers == {*blocks, "mean", "fc"}


def test_one_tensor_and_numpy_are_example_inputs_too():
    assert import_model(net(), X).inputs == import_model(net(), (X.numpy(),)).inputs


def test_exported_program_and_pt2_agree(tmp_path: Path):
    program = torch.export.export(net(), (X,))
    nodes, state = len(program.graph.nodes), set(program.state_dict)
    imported = import_model(program)
    # Importing leaves the user's program as it was.
    assert (len(program.graph.nodes), set(program.state_dict)) == (nodes, state)
    torch.export.save(program, tmp_path / "little.pt2")
    loaded = import_model(tmp_path / "little.pt2")
    assert loaded.name == "little"
    assert specs(loaded) == specs(imported)
    assert ops(canonicalise(loaded), "generic", "matmul") == ops(canonicalise(imported), "generic", "matmul")


class InPlace(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.conv = nn.Conv2d(3, 4, 3, padding=1)
        self.bn = nn.BatchNorm2d(4)
        self.act = nn.ReLU6(inplace=True)
        self.fc = nn.Linear(4, 5)

    def forward(self, x):
        y = self.act(self.bn(self.conv(x)))
        y += F.max_pool2d(y, 3, 1, 1)
        return self.fc(F.adaptive_avg_pool2d(torch.cat([y, y], 2), 1).flatten(1))


def test_convolution_nets_are_imported_without_decompositions(monkeypatch: pytest.MonkeyPatch):
    def fail(*_: object) -> None:
        raise AssertionError("torch traced the model again")

    torch.manual_seed(0)
    program = torch.export.export(InPlace().eval(), (X,))
    targets = [node.target for node in program.graph.nodes]
    with monkeypatch.context() as patched:
        patched.setattr(torch.export.ExportedProgram, "run_decompositions", fail)
        imported = canonicalise(import_model(program))
    assert [node.target for node in program.graph.nodes] == targets
    # What torch's decompositions come to is the same.
    monkeypatch.setattr("dlas.compiler.frontends.torch_frontend._without_decompositions", lambda program: None)
    decomposed = canonicalise(import_model(program))
    kinds = ("conv_2d_nchw_fchw", "generic", "pooling_nchw_max", "matmul", "fill")
    assert [name for name, _ in ops(imported, *kinds)] == [name for name, _ in ops(decomposed, *kinds)]
    for array, other in zip(constants(imported), constants(decomposed), strict=True):
        np.testing.assert_array_equal(array, other)


def test_non_persistent_buffer():
    class Table(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.register_buffer("table", torch.arange(4.0), persistent=False)

        def forward(self, x):
            return x + self.table

    model = Table().eval()
    imported = import_model(model, (torch.zeros(2, 4),))
    assert "table" not in model.state_dict()
    assert any(np.array_equal(array, np.arange(4.0)) for array in constants(imported))


def test_onnx_file_with_external_data(tmp_path: Path):
    weights = np.arange(20, dtype=np.float32).reshape(4, 5)
    graph = helper.make_graph(
        [helper.make_node("MatMul", ["x", "w"], ["t"], name="fc"), helper.make_node("Relu", ["t"], ["y"])],
        "little",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, ("batch", 4))],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, ("batch", 5))],
        [numpy_helper.from_array(weights, "w")],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
    path = tmp_path / "little.onnx"
    onnx.save(model, path, save_as_external_data=True, location="weights.bin", size_threshold=0)
    imported = import_model(path)
    # A batch of any size is imported as one.
    assert specs(imported) == (["x: float32[1, 4]"], ["y: float32[1, 5]"])
    canonical = canonicalise(imported)
    assert ops(canonical, "matmul", "generic") == [("matmul", "fc"), ("generic", "Relu:y")]
    (tmp_path / "weights.bin").unlink()
    with pytest.raises(FrontendError, match=r"little.onnx: external data cannot be read"):
        import_model(path)


def test_onnx_dynamic_batch_stays_dynamic():
    imported = import_model(relu_model(shape=("batch", 4)), dynamic=True)
    assert imported.inputs[0].shape == (-1, 4)


def test_torch_dynamic_batch():
    imported = canonicalise(import_model(net(), (X,), dynamic=True))
    assert (imported.inputs[0].shape, imported.outputs[0].shape) == ((-1, 3, 6, 6), (-1, 5))
    # Biases are additions here too.
    module = imported.parse()
    convolutions = walk(module, "linalg.conv_2d_ngchw_gfchw")
    assert len(convolutions) == 2
    assert {str(read_scalar(root_fill(op.operands[2]).operands[0])) for op in convolutions} == {"0.0"}


def test_mlir_text_bytecode_and_module(tmp_path: Path):
    (tmp_path / "little.mlir").write_text(TEXT)
    text = import_model(tmp_path / "little.mlir")
    assert specs(text) == (["input0: float32[2, 3]"], ["output0: float32[2, 3]"])
    (tmp_path / "little.mlirbc").write_bytes(text.bytecode)
    assert specs(import_model(tmp_path / "little.mlirbc")) == specs(text)
    assert specs(import_model(text.parse())) == specs(text)
    iree = pytest.importorskip("iree.compiler.ir")
    with iree.Context():
        assert specs(import_model(iree.Module.parse(TEXT))) == specs(text)


def test_mlir_resources_become_readable(tmp_path: Path):
    (tmp_path / "weights.mlir").write_text("""
    func.func @main(%x: tensor<3xf32>) -> (tensor<3xf32>, tensor<2xi64>) {
      %w = arith.constant dense_resource<w> : tensor<3xf32>
      %i = arith.constant dense_resource<"i.0"> : tensor<2xi64>
      %0 = arith.addf %x, %w : tensor<3xf32>
      return %0, %i : tensor<3xf32>, tensor<2xi64>
    }
    {-# dialect_resources: { builtin: {
      w: "0x040000000000803F0000004000004040",
      "i.0": "0x080000000700000000000000FFFFFFFFFFFFFFFF"
    } } #-}
    """)
    arrays = constants(import_model(tmp_path / "weights.mlir"))
    assert [array.tolist() for array in arrays] == [[1.0, 2.0, 3.0], [7, -1]]


def test_mlir_resources_of_bf16_are_inlined(tmp_path: Path):
    (tmp_path / "weights.mlir").write_text("""
    func.func @main(%x: tensor<2xbf16>) -> tensor<2xbf16> {
      %w = arith.constant dense_resource<w> : tensor<2xbf16>
      %0 = arith.addf %x, %w : tensor<2xbf16>
      return %0 : tensor<2xbf16>
    }
    {-# dialect_resources: { builtin: { w: "0x04000000803F0040" } } #-}
    """)
    imported = import_model(tmp_path / "weights.mlir")
    with ir.Context():
        assert "dense<[1.000000e+00, 2.000000e+00]> : tensor<2xbf16>" in str(ir.Module.parse(imported.bytecode))


def test_mlir_named_elementwise_operations_become_generics(tmp_path: Path):
    """IREE's linalg has none of them; what it has stays named."""
    (tmp_path / "named.mlir").write_text("""
    func.func @main(%x: tensor<3x3xf32>) -> tensor<3x3xf32> {
      %zero = arith.constant 0.0 : f32
      %init = tensor.empty() : tensor<3x3xf32>
      %e = linalg.exp ins(%x : tensor<3x3xf32>) outs(%init : tensor<3x3xf32>) -> tensor<3x3xf32>
      %s = linalg.add ins(%x, %e : tensor<3x3xf32>, tensor<3x3xf32>) outs(%init : tensor<3x3xf32>) -> tensor<3x3xf32>
      %f = linalg.fill ins(%zero : f32) outs(%init : tensor<3x3xf32>) -> tensor<3x3xf32>
      %m = linalg.matmul ins(%s, %x : tensor<3x3xf32>, tensor<3x3xf32>) outs(%f : tensor<3x3xf32>) -> tensor<3x3xf32>
      return %m : tensor<3x3xf32>
    }
    """)
    module = import_model(tmp_path / "named.mlir").parse()
    names = [op.name for op in walk(module) if op.name.startswith("linalg.") and op.name != "linalg.yield"]
    assert names == ["linalg.generic", "linalg.generic", "linalg.fill", "linalg.matmul"]


def test_mlir_that_shows_wrong_when_it_is_folded(tmp_path: Path):
    """It verifies until the unknown extent turns out to be the 3 of the other type."""
    (tmp_path / "shapes.mlir").write_text("""
    func.func @main(%x: tensor<?x3xf32>, %y: tensor<2x2xf32>) -> tensor<2x2xf32> {
      %0 = linalg.matmul ins(%x, %x : tensor<?x3xf32>, tensor<?x3xf32>) outs(%y : tensor<2x2xf32>) -> tensor<2x2xf32>
      return %0 : tensor<2x2xf32>
    }
    """)
    imported = import_model(tmp_path / "shapes.mlir")
    with pytest.raises(FrontendError, match=r"^shapes: 'linalg.matmul' op inferred .* at line 3, column 12$"):
        canonicalise(imported)


def test_mlir_torch_dialect_is_lowered(tmp_path: Path):
    (tmp_path / "raw.mlir").write_text("""
    func.func @main(%x: !torch.vtensor<[2,3],f32>) -> !torch.vtensor<[2,3],f32> {
      %0 = torch.aten.relu %x : !torch.vtensor<[2,3],f32> -> !torch.vtensor<[2,3],f32>
      return %0 : !torch.vtensor<[2,3],f32>
    }
    """)
    imported = import_model(tmp_path / "raw.mlir")
    assert specs(imported) == (["input0: float32[2, 3]"], ["output0: float32[2, 3]"])


def test_zoo_spec():
    imported = import_model("zoo:wrn-40-2,groups=N")
    assert imported.name == "wrn-40-2,groups=N"
    assert imported.inputs[0].shape == (1, 3, 32, 32)
    with pytest.raises(UsageError, match="wrn-41"):
        import_model("zoo:wrn-41")


def test_canonical_bytecode_parses_in_irees_context():
    iree = pytest.importorskip("iree.compiler.ir")
    with iree.Context():
        module = iree.Module.parse(canonicalise(import_model(net(), (X,))).bytecode)
        assert 'dlas.layer = "blocks.1.conv"' in module.operation.get_asm(large_elements_limit=4)


# -- the canonical form ---------------------------------------------------------------------------------------------


def test_weights_and_biases_are_plain_constants():
    module = canonicalise(import_model(net(), (X,))).parse()
    for op in walk(module, "linalg.conv_2d_nchw_fchw", "linalg.conv_2d_ngchw_gfchw", "linalg.matmul"):
        assert read_constant(op.operands[1]) is not None
        assert op.operands[2].owner.name == "linalg.fill"
    left = {op.name for op in walk(module)} & {"linalg.broadcast", "linalg.transpose", "math.sqrt", "cf.assert"}
    assert not left


def test_canonicalising_twice_changes_nothing():
    once = canonicalise(import_model(net(), (X,)))
    twice = canonicalise(once)
    assert str(twice.parse()) == str(once.parse())
    assert twice.notes == once.notes


def test_notes_say_what_happened():
    notes = canonicalise(import_model(net(), (X,))).notes
    folded = [note for note in notes if note.pass_name == "dlas-fold-batch-norm" and "folded into" in note.text]
    assert [note.layer for note in folded] == ["blocks.0.bn", "blocks.1.bn"]
    assert all(note.done for note in notes)


def test_shared_convolution_is_not_folded():
    class Shared(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.conv, self.bn = nn.Conv2d(3, 4, 1, bias=False), nn.BatchNorm2d(4)

        def forward(self, x):
            y = self.conv(x)
            return self.bn(y) * y

    model = Shared().eval()
    model.bn.running_var.uniform_(0.5, 1.5)
    refused = [note for note in canonicalise(import_model(model, (X,))).notes if not note.done]
    assert [(note.layer, note.text) for note in refused] == [
        ("bn", "the result of linalg.conv_2d_nchw_fchw has several uses")
    ]


# -- refusals -------------------------------------------------------------------------------------------------------


def test_training_mode():
    model = net()
    model.blocks[1].bn.train()
    with pytest.raises(
        FrontendError, match=r"layer blocks.1.bn: BatchNorm2d is in training mode \(call model.eval\(\)"
    ):
        import_model(model, (X,))


def test_missing_and_wrong_example_inputs():
    with pytest.raises(FrontendError, match=r"Net: a torch module needs example inputs"):
        import_model(net())
    with pytest.raises(InputError, match=r"does not take the example inputs \(float32\[1, 5, 6, 6\]\)"):
        import_model(net(), (torch.zeros(1, 5, 6, 6),))


def test_operation_that_does_not_lower():
    class Median(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.head = nn.Sequential(nn.ReLU(), Inner())

        def forward(self, x):
            return self.head(x)

    class Inner(nn.Module):
        def forward(self, x):
            return torch.linalg.svdvals(x)

    with pytest.raises(
        UnsupportedOpError, match=r"layer head.1\S*: torch.aten._linalg_svd does not lower to linalg \(rewr"
    ):
        import_model(Median().eval(), (torch.zeros(4, 4),))


def test_onnx_operator_that_does_not_lower():
    with pytest.raises(UnsupportedOpError, match=r"layer head/act: onnx.LpPool does not lower to linalg \(rewrite"):
        import_model(relu_model(op="LpPool", shape=(2, 2), kernel_shape=[1]))


def test_operation_that_only_torch_mlir_knows():
    class Sorted(nn.Module):
        def forward(self, x):
            return torch.sort(x, 1)[0]

    with pytest.raises(
        UnsupportedOpError, match=r"layer sort: this layer lowers to tm_tensor.sort, which is not linalg"
    ):
        import_model(Sorted().eval(), (torch.zeros(2, 3),))


def test_model_that_writes_a_buffer():
    class Counter(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.register_buffer("count", torch.zeros(1))

        def forward(self, x):
            self.count.add_(1)
            return x + self.count

    with pytest.raises(FrontendError, match=r"Counter: the model writes its buffer 'count'"):
        import_model(Counter().eval(), (torch.zeros(1),))


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("broken.onnx", b"not a model at all", "broken.onnx: not an ONNX model"),
        ("empty.onnx", b"", "empty.onnx: not an ONNX model"),
        ("broken.pt2", b"PK\x03\x04nothing", "broken.pt2: not a saved ExportedProgram"),
        ("broken.mlir", b"func.func @main(", "broken.mlir: does not parse as MLIR: .* at line 1, column 16$"),
        ("two.mlir", b"func.func @a() { return }\nfunc.func @b() { return }", r"two: 2 public functions \(@a, @b\)"),
        ("scalar.mlir", b"func.func @a(%x: f32) { return }", "input0: f32 is not a ranked tensor"),
        ("model.tflite", b"TFL3", "model.tflite: unknown kind of file .tflite"),
    ],
)
def test_files_that_are_no_models(tmp_path: Path, name: str, content: bytes, message: str):
    (tmp_path / name).write_bytes(content)
    with pytest.raises(FrontendError, match=message):
        import_model(tmp_path / name)


def test_truncated_onnx(tmp_path: Path):
    data = relu_model().SerializeToString()
    for cut in (1, len(data) // 3, len(data) // 2, len(data) - 1):
        (tmp_path / "cut.onnx").write_bytes(data[:cut])
        with pytest.raises(FrontendError):
            import_model(tmp_path / "cut.onnx")


def test_missing_file_and_other_objects(tmp_path: Path):
    with pytest.raises(FrontendError, match=r"nowhere.onnx: no such file \(supported: torch.nn.Module"):
        import_model("nowhere.onnx")
    with pytest.raises(FrontendError, match="is a folder"):
        import_model(tmp_path)
    with pytest.raises(FrontendError, match="dict is not a model"):
        import_model({"model": 1})


def test_onnx_dynamic_extent_that_is_no_batch():
    with pytest.raises(FrontendError, match=r"input 'x' has a dynamic extent at dimension 1"):
        import_model(relu_model(shape=(1, "length")))


def test_onnx_proto_is_left_alone():
    model = relu_model(shape=("batch", 4))
    before = copy.deepcopy(model)
    import_model(model)
    assert model == before

"""torch.compile(backend="dlas"), with a plain torch-mlir + IREE compilation in the place of dlas.compile."""

from __future__ import annotations

import io
import subprocess
import sys
from collections.abc import Iterator

import pytest

torch = pytest.importorskip("torch")
fx = pytest.importorskip("torch_mlir.fx")
tools = pytest.importorskip("iree.compiler.tools")

from torch import nn  # noqa: E402

import dlas  # noqa: E402
from dlas.errors import DlasError, UnsupportedOpError, UsageError  # noqa: E402
from dlas.runtime import Artifact, TensorSpec, torch_backend  # noqa: E402

pytestmark = pytest.mark.filterwarnings("error:dlas runs a graph eagerly")


class Compilations(list):
    """The example inputs of each compilation."""


@pytest.fixture
def compilations(monkeypatch: pytest.MonkeyPatch) -> Iterator[Compilations]:
    made = Compilations()

    def compile_program(program, example_inputs=None, target="x86_64", options=None) -> Artifact:
        made.append(tuple(example_inputs))
        for node in program.graph.nodes:
            if "cumsum" in str(node.target):
                raise UnsupportedOpError("torch.aten.cumsum does not lower to linalg")
        module = fx.export_and_import(program, output_type="linalg-on-tensors", func_name="main")
        bytecode = io.BytesIO()
        module.operation.write_bytecode(bytecode)
        vmfb = tools.compile_str(
            bytecode.getvalue(), target_backends=["llvm-cpu"], extra_args=["--iree-llvmcpu-target-cpu=host"]
        )
        outputs = [node.meta["val"] for node in program.graph.output_node().args[0]]
        return Artifact(vmfb, _specs(example_inputs), _specs(outputs), {}, (), {})

    monkeypatch.setitem(vars(dlas), "compile", compile_program)
    torch.compiler.reset()
    yield made
    torch.compiler.reset()


def _specs(tensors) -> tuple[TensorSpec, ...]:
    return tuple(TensorSpec(f"t{i}", tuple(t.shape), str(t.dtype)[6:]) for i, t in enumerate(tensors))


class Small(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.conv = nn.Conv2d(3, 8, 3, padding=1)
        self.norm = nn.BatchNorm2d(8)
        self.head = nn.Linear(8, 4)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.head(torch.relu(self.norm(self.conv(x))).mean((2, 3)))


def small() -> nn.Module:
    torch.manual_seed(0)
    return Small().eval()


def test_a_module_runs_compiled_with_its_parameters_inside(compilations: Compilations) -> None:
    model, x = small(), torch.randn(2, 3, 8, 8)
    compiled = torch.compile(model, backend="dlas")
    for context in (torch.no_grad(), torch.inference_mode()):
        with context:
            torch.testing.assert_close(compiled(x), model(x), rtol=1e-4, atol=1e-5)
            torch.testing.assert_close(compiled(x + 1), model(x + 1), rtol=1e-4, atol=1e-5)
    assert all([tuple(t.shape) for t in inputs] == [(2, 3, 8, 8)] for inputs in compilations)
    assert compilations


def test_several_outputs_constants_and_dtypes(compilations: Compilations) -> None:
    def f(x: torch.Tensor, i: torch.Tensor) -> dict[str, object]:
        return {"sum": x + i, "above": x > 0, "twice": [i * 2, i * 2], "size": x.shape[0], "none": None}

    x, i = torch.randn(3, 4), torch.arange(4)
    result, expected = torch.compile(f, backend="dlas")(x, i), f(x, i)
    assert result.keys() == expected.keys()
    assert (result["size"], result["none"]) == (3, None)
    for key in ("sum", "above", "twice"):
        torch.testing.assert_close(result[key], expected[key])
    assert len(compilations) == 1


def test_graph_breaks_leave_the_rest_to_python(compilations: Compilations) -> None:
    def f(x: torch.Tensor) -> torch.Tensor:
        y = x * 2
        torch._dynamo.graph_break()
        return y + 1

    x = torch.randn(5)
    torch.testing.assert_close(torch.compile(f, backend="dlas")(x), f(x))
    assert len(compilations) == 2


def test_an_unsupported_op_runs_eagerly_with_one_warning_that_names_it(compilations: Compilations) -> None:
    compiled, x = torch.compile(lambda x: x.cumsum(0) * 2, backend="dlas"), torch.randn(5)
    with pytest.warns(RuntimeWarning, match=r"dlas runs a graph eagerly: torch\.aten\.cumsum does not lower"):
        torch.testing.assert_close(compiled(x), x.cumsum(0) * 2)
    torch.testing.assert_close(compiled(x), x.cumsum(0) * 2)  # no second warning
    assert len(compilations) == 1


def test_in_place_changes_of_an_input_run_eagerly(compilations: Compilations) -> None:
    x = torch.zeros(3)
    with pytest.warns(RuntimeWarning, match="it changes .* in place"):
        torch.compile(lambda x: x.add_(1) * 2, backend="dlas")(x)
    assert x.tolist() == [1, 1, 1]
    with pytest.warns(RuntimeWarning, match="it changes .*running_mean.* in place"), torch.no_grad():
        torch.compile(small().train(), backend="dlas")(torch.randn(2, 3, 8, 8))
    assert not compilations


def test_changed_parameters_are_seen(compilations: Compilations) -> None:
    model, x = small(), torch.randn(2, 3, 8, 8)
    compiled = torch.compile(model, backend="dlas")
    with torch.no_grad():
        compiled(x)
        model.head.bias.add_(1)
        torch.testing.assert_close(compiled(x), model(x), rtol=1e-4, atol=1e-5)
        model.load_state_dict({name: value * 2 for name, value in model.state_dict().items()})
        torch.testing.assert_close(compiled(x), model(x), rtol=1e-4, atol=1e-5)
        model.head.weight = nn.Parameter(model.head.weight * 3)
        torch.testing.assert_close(compiled(x), model(x), rtol=1e-4, atol=1e-5)


def test_two_modules_of_a_class_keep_their_own_parameters(compilations: Compilations) -> None:
    one, other, x = nn.Linear(4, 4).eval(), nn.Linear(4, 4).eval(), torch.randn(2, 4)
    compiled = torch.compile(lambda layer, x: layer(x), backend="dlas")
    with torch.no_grad():
        for _ in range(2):
            for layer in (one, other):
                torch.testing.assert_close(compiled(layer, x), layer(x))
    assert len(compilations) <= 3


def test_other_shapes_are_compiled_anew(compilations: Compilations, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch_backend, "MAX_COMPILATIONS", 3)
    model = nn.Linear(4, 4).eval()
    compiled = torch.compile(model, backend="dlas", dynamic=True)
    with torch.no_grad():
        for rows in (2, 3, 4, 2, 3, 4):
            x = torch.randn(rows, 4)
            torch.testing.assert_close(compiled(x), model(x))
        assert len(compilations) == 3
        with pytest.warns(RuntimeWarning, match="compiled 3 times, it is not compiled again"):
            compiled(torch.randn(7, 4))
        torch.testing.assert_close(compiled(x), model(x))
    assert len(compilations) == 3


def test_gradients_fail_with_a_clear_error(compilations: Compilations) -> None:
    model, x = small(), torch.randn(2, 3, 8, 8)
    y = torch.compile(model, backend="dlas")(x)
    torch.testing.assert_close(y, model(x), rtol=1e-4, atol=1e-5)
    assert y.requires_grad
    with pytest.raises(DlasError, match="it compiles inference only"):
        y.sum().backward()


def test_options(compilations: Compilations) -> None:
    x = torch.randn(3)
    options = {"target": "x86_64", "threads": 1, "device": "local-task"}
    torch.testing.assert_close(torch.compile(lambda x: x + 1, backend="dlas", options=options)(x), x + 1)
    for wrong, message in [({"thread": 1}, "unknown option 'thread'"), ({"threads": 0}, "threads=0")]:
        torch.compiler.reset()
        with pytest.raises((UsageError, torch._dynamo.exc.BackendCompilerFailed), match=message):
            torch.compile(lambda x: x + 1, backend="dlas", options=wrong)(x)


def test_tensors_elsewhere_run_eagerly(compilations: Compilations) -> None:
    with pytest.warns(RuntimeWarning, match="its tensors are on meta"):
        assert torch.compile(lambda x: x + 1, backend="dlas")(torch.ones(3, device="meta")).device.type == "meta"


def test_importing_the_module_registers_the_name() -> None:
    script = "import dlas.runtime.torch_backend, torch; torch._dynamo.lookup_backend('dlas')"
    command = [sys.executable, "-c", f"import sys; sys.path[:] = {sys.path!r}; {script}"]
    subprocess.run(command, check=True, timeout=120)


def test_the_whole_stack() -> None:
    pytest.importorskip("dlas.compiler.api")
    torch.compiler.reset()
    model, x = small(), torch.randn(2, 3, 8, 8)
    with torch.no_grad():
        torch.testing.assert_close(torch.compile(model, backend="dlas")(x), model(x), rtol=1e-4, atol=1e-5)

"""Models of other element types than f32, left to IREE's own code generation: as exact as their type."""

from __future__ import annotations

import copy
from typing import Any

import pytest

torch = pytest.importorskip("torch")
pytest.importorskip("torch_mlir.ir")
pytest.importorskip("iree.compiler")

from torch import nn  # noqa: E402

import dlas  # noqa: E402
from dlas.compiler.pipeline import Options, compile_model  # noqa: E402


def convolutions() -> tuple[nn.Module, Any]:
    model = nn.Sequential(
        nn.Conv2d(16, 32, 3, padding=1, groups=2), nn.BatchNorm2d(32), nn.ReLU(), nn.Conv2d(32, 32, 1),
        nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(32, 10),
    )  # fmt: skip
    return model, torch.randn(1, 16, 8, 8)


def linear() -> tuple[nn.Module, Any]:
    return nn.Sequential(nn.Linear(16, 32), nn.LayerNorm(32), nn.ReLU(), nn.Linear(32, 4)), torch.randn(3, 16)


@pytest.mark.parametrize("build", [convolutions, linear])
@pytest.mark.parametrize(("dtype", "schedules"), [(torch.bfloat16, True), (torch.float64, True), (torch.float16, True)])
def test_a_model_of_another_type(build: Any, dtype: Any, schedules: bool) -> None:
    torch.manual_seed(0)
    model, x = build()
    model, x = model.to(dtype).eval(), x.to(dtype)
    result = dlas.load(dlas.compile(model, (x,), options=dlas.Options(schedules=schedules)))(x)
    with torch.no_grad():
        expected = copy.deepcopy(model).double()(x.double())
    assert result.dtype == dtype
    error = (result.double() - expected).abs().max() / expected.abs().max()
    assert error <= 8 * torch.finfo(dtype).eps, f"relative error {error:.2e}"  # each layer rounds its result


def test_convolutions_of_f16_are_refused_with_their_type() -> None:
    model, x = convolutions()
    compilation = compile_model(model.half().eval(), (x.half(),), "x86_64", Options())
    reasons = {reason for _, op, reason in compilation.layout.refused if "conv" in op}
    assert reasons == {"f16 convolutions have no schedule (f32 has)"}


class HalfWeights(nn.Module):
    """Weights kept in bf16 to save memory, computed with in f32."""

    def __init__(self) -> None:
        super().__init__()
        self.features = convolutions()[0]
        self.scale = nn.Parameter(torch.rand(10).bfloat16())

    def forward(self, x: Any) -> Any:
        return self.features(x) * self.scale.float()


def test_f32_layers_keep_their_schedules_beside_bf16_weights() -> None:
    torch.manual_seed(1)
    model, x = HalfWeights().eval(), torch.randn(1, 16, 8, 8)
    artifact = dlas.compile(model, (x,))
    assert {"grouped", "pointwise", "matmul"} <= {record.kind for record in artifact.kernels if record.schedule}
    with torch.no_grad():
        expected = copy.deepcopy(model).double()(x.double())
    error = (dlas.load(artifact)(x).double() - expected).abs().max() / expected.abs().max()
    assert error <= 1e-4

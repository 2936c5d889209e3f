"""1-D convolutions get the schedules of 2-D ones, and compute what torch computes in float64."""

from __future__ import annotations

import copy
from collections.abc import Callable
from typing import Any

import pytest

torch = pytest.importorskip("torch")
pytest.importorskip("torch_mlir.ir")
pytest.importorskip("iree.compiler")

from torch import nn  # noqa: E402

import dlas  # noqa: E402
from dlas.compiler.frontends import canonicalise, import_model  # noqa: E402


def check(model: nn.Module, x: torch.Tensor, dtype: torch.dtype = torch.float32) -> Any:
    """Compiles, compares with float64 and returns the artifact."""
    model, x = model.to(dtype).eval(), x.to(dtype)
    artifact = dlas.compile(model, (x,), target="x86_64-v3")  # the same choices on every host
    result = torch.as_tensor(dlas.load(artifact)(x)).double()
    with torch.no_grad():
        expected = copy.deepcopy(model).double()(x.double())
    error = (result - expected).abs().max() / expected.abs().max().clamp(min=1.0)
    assert error <= 32 * torch.finfo(dtype).eps, f"relative error {error:.2e}"
    return artifact


def left_to_iree(artifact: Any) -> list[str]:
    """The windowed operations without a schedule."""
    return [record.kind for record in artifact.kernels if record.schedule is None and "conv" in record.kind]


def prune(model: nn.Module, share: float) -> nn.Module:
    """A share of the weights of each layer becomes zero."""
    with torch.no_grad():
        for parameter in model.parameters():
            if parameter.dim() > 1:
                flat = parameter.flatten()
                flat[torch.randperm(flat.numel())[: round(share * flat.numel())]] = 0.0
    return model


# c, k, kernel, stride, padding, dilation, groups, length, batch
LAYERS = [
    (3, 5, 3, 1, 1, 1, 1, 17, 1),
    (4, 16, 7, 2, 3, 1, 1, 61, 2),
    (16, 24, 3, 1, 2, 2, 1, 33, 1),
    (16, 32, 1, 1, 0, 1, 1, 29, 2),
    (32, 32, 5, 3, 0, 1, 4, 40, 1),
    (24, 24, 3, 1, 1, 1, 3, 19, 1),
    (32, 32, 3, 1, 4, 4, 32, 50, 1),
    (9, 9, 3, 2, 1, 1, 9, 23, 2),
    (8, 16, 4, 2, 1, 1, 2, 31, 1),
]


@pytest.mark.parametrize("case", LAYERS)
def test_a_layer(case: tuple[int, ...]) -> None:
    c, k, kernel, stride, padding, dilation, groups, length, batch = case
    torch.manual_seed(sum(case))
    conv = nn.Conv1d(c, k, kernel, stride, padding, dilation, groups)
    artifact = check(nn.Sequential(conv, nn.BatchNorm1d(k), nn.ReLU()), torch.randn(batch, c, length))
    assert not left_to_iree(artifact)
    kinds = {"conv", "pointwise", "grouped", "depthwise"}
    assert [record.layer for record in artifact.kernels if record.kind in kinds] == ["0"]


@pytest.mark.parametrize("case", LAYERS)
def test_a_pruned_layer(case: tuple[int, ...]) -> None:
    c, k, kernel, stride, padding, dilation, groups, length, batch = case
    torch.manual_seed(sum(case))
    conv = prune(nn.Conv1d(c, k, kernel, stride, padding, dilation, groups), 0.9)
    check(nn.Sequential(conv, nn.ReLU()), torch.randn(batch, c, length))


def test_many_zeros_are_walked() -> None:
    torch.manual_seed(0)
    conv = prune(nn.Conv1d(64, 64, 3, padding=1), 0.95)
    artifact = check(nn.Sequential(conv, nn.ReLU()), torch.randn(1, 64, 512))
    assert [record.schedule for record in artifact.kernels if record.layer == "0"][-1] == "sparse_conv"


class Residual(nn.Module):
    def __init__(self, channels: int) -> None:
        super().__init__()
        self.first = nn.Sequential(nn.Conv1d(channels, channels, 3, padding=1), nn.BatchNorm1d(channels), nn.ReLU())
        self.second = nn.Conv1d(channels, channels, 3, padding=1)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return torch.relu(self.second(self.first(x)) + x)


class Gated(nn.Module):
    """Channels times a gate of their means, and what goes in beside it."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.conv = nn.Conv1d(channels, channels, 5, padding=2)
        self.gate = nn.Conv1d(channels, channels, 1)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        y = self.conv(x)
        return torch.cat([y * torch.sigmoid(self.gate(y.mean(-1, keepdim=True))), x], dim=1).mean(-1)


def network(activation: type[nn.Module] = nn.GELU) -> nn.Module:
    """Every kind of layer in one chain."""
    return nn.Sequential(
        nn.Conv1d(4, 16, 7, stride=2, padding=3, bias=False), nn.BatchNorm1d(16), nn.ReLU(), nn.MaxPool1d(3, 2, 1),
        Residual(16),
        nn.Conv1d(16, 32, 3, padding=2, dilation=2), nn.BatchNorm1d(32), nn.ReLU(),
        nn.Conv1d(32, 32, 3, padding=1, groups=32), nn.BatchNorm1d(32), nn.ReLU6(),
        nn.Conv1d(32, 32, 3, padding=1, groups=4), activation(), nn.AvgPool1d(2),
        nn.Conv1d(32, 64, 1), nn.BatchNorm1d(64), nn.ReLU(), nn.AdaptiveAvgPool1d(1), nn.Flatten(), nn.Linear(64, 10),
    )  # fmt: skip


@pytest.mark.parametrize(
    "build", [network, lambda: nn.Sequential(nn.Conv1d(4, 16, 3), Gated(16)), lambda: nn.ConvTranspose1d(4, 6, 3, 2)]
)
def test_networks(build: Callable[[], nn.Module]) -> None:
    torch.manual_seed(1)
    assert not left_to_iree(check(build(), torch.randn(2, 4, 61)))


RESHAPED: list[tuple[Callable[[], nn.Module], tuple[int, ...]]] = [
    (lambda: nn.Sequential(nn.Conv2d(8, 8, 3, groups=2, bias=False), nn.Flatten()), (1, 8, 6, 6)),
    (lambda: nn.Sequential(nn.Unflatten(1, (8, 6, 6)), nn.Conv2d(8, 8, 3, groups=2)), (1, 288)),
    (lambda: nn.Conv1d(8, 8, 3, groups=2, bias=False), (1, 8, 21)),
]


@pytest.mark.parametrize(("build", "shape"), RESHAPED)
def test_groups_next_to_reshapes(build: Callable[[], nn.Module], shape: tuple[int, ...]) -> None:
    torch.manual_seed(3)
    assert not left_to_iree(check(build(), torch.randn(shape)))


def test_another_type() -> None:
    torch.manual_seed(2)
    check(network(nn.ReLU), torch.randn(1, 4, 40), torch.float64)


def test_a_chain_is_reshaped_at_its_ends() -> None:
    text = str(canonicalise(import_model(network().eval(), (torch.randn(1, 4, 61),))).parse())
    assert text.count("tensor.expand_shape") == 2  # of the input and of the groups
    assert "conv_1d" not in text
    names = [record.kind for record in check(network(), torch.randn(1, 4, 61)).kernels]
    assert "pack" not in names and "unpack" not in names

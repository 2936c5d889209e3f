"""Pruned layers that no schedule of ours takes get the loops of MLIR's sparsifier, and compute what float64 does."""

from __future__ import annotations

import copy
from typing import Any

import pytest

torch = pytest.importorskip("torch")
pytest.importorskip("torch_mlir.ir")
pytest.importorskip("iree.compiler")

from torch import nn  # noqa: E402

import dlas  # noqa: E402
from dlas.compiler.explain import explain  # noqa: E402
from dlas.compiler.pipeline import Options, compile_model  # noqa: E402


def prune(model: nn.Module, share: float) -> nn.Module:
    """A share of the weights of each layer becomes zero."""
    with torch.no_grad():
        for parameter in model.parameters():
            if parameter.dim() > 1:
                flat = parameter.flatten()
                flat[torch.randperm(flat.numel())[: round(share * flat.numel())]] = 0.0
    return model.eval()


def check(model: nn.Module, x: torch.Tensor) -> Any:
    """Compiles (for the same choices on every host), compares with float64 and returns the compilation."""
    compilation = compile_model(model, (x,), "x86_64-v3", Options())
    result = torch.as_tensor(dlas.load(compilation.artifact)(x))
    with torch.no_grad():
        expected = copy.deepcopy(model).double()(x.double())
    assert result.dtype == x.dtype and result.shape == expected.shape
    error = (result.double() - expected).abs().max() / expected.abs().max().clamp(min=1.0)
    assert error <= 32 * torch.finfo(x.dtype).eps, f"relative error {error:.2e}"
    return compilation


def schedules(compilation: Any) -> list[str]:
    return [record.schedule for record in compilation.artifact.kernels if record.kind == "sparse"]


# c, k, kernel, stride, padding, dilation, extents, batch
VOLUMES = [
    (8, 12, 3, 1, 1, 1, (5, 9, 11), 2),
    (6, 9, 3, 2, 1, 1, (7, 9, 12), 1),
    (4, 8, (1, 3, 2), (1, 2, 3), (0, 1, 0), (1, 2, 1), (3, 10, 13), 1),
    (5, 7, 3, 1, 2, 2, (6, 7, 8), 2),
    (64, 64, 1, 1, 0, 1, (4, 16, 17), 1),
    (3, 4, 5, 3, 0, 1, (5, 17, 9), 1),
    (2, 3, 3, 1, 1, 1, (2, 40, 300), 1),  # several tiles, the last one shorter
]


@pytest.mark.parametrize("case", VOLUMES)
def test_volumes(case: tuple[Any, ...]) -> None:
    c, k, kernel, stride, padding, dilation, extents, batch = case
    torch.manual_seed(c + k)
    model = nn.Sequential(nn.Conv3d(c, k, kernel, stride, padding, dilation), nn.BatchNorm3d(k), nn.ReLU())
    assert schedules(check(prune(model, 0.85), torch.randn(batch, c, *extents))) == ["sparsifier"]


@pytest.mark.parametrize("share", [0.0, 0.1, 0.5, 0.99, 1.0])
def test_any_share_of_zeros(share: float) -> None:
    torch.manual_seed(7)
    conv = prune(nn.Conv3d(8, 8, 3, padding=1), share)
    with torch.no_grad():
        if share > 0:
            conv.weight[3] = 0.0  # a channel without weights
    found = schedules(check(conv, torch.randn(1, 8, 4, 6, 7)))
    assert found == (["sparsifier"] if 0 < share < 1 else found)


TYPED = [
    (nn.Conv2d(16, 24, 3, padding=1), (1, 16, 17, 19), torch.float64),
    (nn.Conv2d(16, 16, 3, padding=1, stride=(2, 1), groups=4), (2, 16, 17, 19), torch.float64),
    (nn.Conv2d(32, 32, 5, padding=2, groups=32), (1, 32, 24, 24), torch.float64),
    (nn.Conv1d(16, 24, 7, padding=3, groups=2), (1, 16, 101), torch.float64),
    (nn.Linear(96, 64), (33, 96), torch.float64),
    (nn.Linear(96, 64), (3, 17, 96), torch.float64),
    (nn.Linear(64, 32), (1100, 64), torch.float64),  # rows in several rows of pixels
    (nn.Conv2d(64, 64, 3, padding=1), (1, 64, 28, 28), torch.float16),
    (nn.Conv3d(8, 12, 3, padding=1), (1, 8, 5, 9, 11), torch.float64),
    (nn.Conv3d(8, 12, 3, padding=1), (1, 8, 5, 9, 11), torch.float16),
    (nn.Conv3d(8, 12, 3, stride=(1, 2, 1), dilation=(2, 1, 1), padding=2, groups=4), (2, 8, 5, 9, 11), torch.float32),
    (nn.Conv3d(9, 6, 3, padding=1, groups=3), (1, 9, 5, 9, 11), torch.float64),
]


@pytest.mark.parametrize("case", TYPED)
def test_types(case: tuple[nn.Module, tuple[int, ...], torch.dtype]) -> None:
    layer, shape, dtype = case
    torch.manual_seed(3)
    model = prune(nn.Sequential(copy.deepcopy(layer), nn.ReLU()), 0.9).to(dtype)
    assert schedules(check(model, torch.randn(shape).to(dtype))) == ["sparsifier"]


def test_a_refusal_says_what_was_estimated() -> None:
    torch.manual_seed(4)
    compilation = check(prune(nn.Linear(64, 32).double(), 0.1), torch.randn(1, 64).double())
    assert schedules(compilation) == []
    reasons = [reason for _, op, reason in compilation.layout.refused if op == "linalg.matmul"]
    assert any(reason.startswith("MLIR's sparsifier would be slower: 90.0% non-zeros, ") for reason in reasons)


def test_explain_names_the_fallback() -> None:
    torch.manual_seed(5)
    model = prune(nn.Sequential(nn.Conv3d(8, 8, 3), nn.ReLU()), 0.9)
    found = explain(model, (torch.randn(1, 8, 5, 6, 7),), "x86_64-v3", timed=False)
    kernel = next(kernel for kernel in found.kernels if kernel.schedule == "sparsifier")
    assert kernel.layer == "0" and kernel.fallback is None
    assert kernel.reason.startswith("the loops of MLIR's sparsifier: 10.0% non-zeros, ")
    assert not found.refused


def test_two_equal_layers_share_a_kernel_and_threads_change_nothing() -> None:
    torch.manual_seed(6)
    conv = prune(nn.Conv3d(8, 8, 3, padding=1), 0.9)
    model, x = nn.Sequential(conv, nn.ReLU(), copy.deepcopy(conv)), torch.randn(1, 8, 5, 9, 11)
    compilation = check(model, x)
    (record,) = [record for record in compilation.artifact.kernels if record.kind == "sparse"]
    assert record.calls == 2 and record.workgroups > 1
    one, two = (dlas.load(compilation.artifact, threads=threads)(x.numpy()) for threads in (1, 2))
    assert (one == two).all()

"""Functions of vectors in the epilogues of kernels, beside float64's, over the whole range of f32's."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest

torch = pytest.importorskip("torch")
pytest.importorskip("torch_mlir.ir")
pytest.importorskip("iree.compiler")

from torch import nn  # noqa: E402

import dlas  # noqa: E402

CHANNELS, WIDTH = 16, 40
INFINITE = float("inf")

FUNCTIONS = {
    "exp": torch.exp,
    "sigmoid": torch.sigmoid,
    "silu": nn.functional.silu,
}


class OfChannels(nn.Module):
    """A function of what a depthwise convolution leaves as it is."""

    def __init__(self, function: Callable[[torch.Tensor], torch.Tensor]) -> None:
        super().__init__()
        self.same = nn.Conv2d(CHANNELS, CHANNELS, 1, groups=CHANNELS, bias=False)
        nn.init.ones_(self.same.weight)
        self.function = function

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.function(self.same(x))


@pytest.fixture(scope="module", params=FUNCTIONS)
def function(request: pytest.FixtureRequest) -> tuple[Callable[[torch.Tensor], torch.Tensor], dlas.Session]:
    torch_function = FUNCTIONS[request.param]
    example = torch.zeros(1, CHANNELS, 5, WIDTH)
    artifact = dlas.compile(OfChannels(torch_function).eval(), (example,), target="x86_64-v3")
    assert [kernel.schedule for kernel in artifact.kernels if kernel.kind == "depthwise"] == ["lane_conv"]
    return torch_function, dlas.load(artifact)


@pytest.mark.parametrize("bounds", [(-86.9, 88.7), (-1.0, 1.0), (-1e-3, 1e-3)])
def test_errors_are_a_few_units_in_the_last_place(
    function: tuple[Callable[[torch.Tensor], torch.Tensor], dlas.Session], bounds: tuple[float, float]
) -> None:
    torch_function, session = function
    x = np.random.default_rng().uniform(*bounds, (1, CHANNELS, 5, WIDTH)).astype(np.float32)
    expected = torch_function(torch.from_numpy(x).double()).numpy()
    np.testing.assert_allclose(session(x), expected, rtol=3e-7)


@pytest.mark.parametrize("x", [-INFINITE, -1e30, -104.0, -87.8, 0.0, 88.73, 89.4, 104.0, 1e30, INFINITE, float("nan")])
def test_beyond_the_range(function: tuple[Callable[[torch.Tensor], torch.Tensor], dlas.Session], x: float) -> None:
    """Infinite and NaN where torch's are, 0 for what f32 has no normal number for."""
    torch_function, session = function
    values = np.full((1, CHANNELS, 5, WIDTH), x, np.float32)
    expected = torch_function(torch.from_numpy(values)).numpy()
    np.testing.assert_allclose(session(values), expected, rtol=3e-7, atol=2e-38)

"""Networks with concatenations compute what torch computes in float64, without leaving the blocked layout."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

torch = pytest.importorskip("torch")
pytest.importorskip("torch_mlir.ir")
pytest.importorskip("iree.compiler")

from torch import nn  # noqa: E402


class Dense(nn.Module):
    """A dense block behind a pooling that normalisation and concatenation both read."""

    def __init__(self, growth: int = 8, layers: int = 3) -> None:
        super().__init__()
        self.stem, self.pool = nn.Conv2d(3, 16, 3, padding=1), nn.MaxPool2d(2)
        self.layers = nn.ModuleList(
            nn.Sequential(
                nn.BatchNorm2d(16 + i * growth),
                nn.ReLU(),
                nn.Conv2d(16 + i * growth, 32, 1),
                nn.ReLU(),
                nn.Conv2d(32, growth, 3, padding=1),
            )
            for i in range(layers)
        )

    def forward(self, x: Any) -> Any:
        x = self.pool(self.stem(x))
        for layer in self.layers:
            x = torch.cat([x, layer(x)], 1)
        return x.mean((2, 3))


class Inception(nn.Module):
    """Branches that a convolution with padding reads together."""

    def __init__(self, first: int = 16, second: int = 24) -> None:
        super().__init__()
        self.stem = nn.Conv2d(3, 16, 3, padding=1)
        self.one, self.three = nn.Conv2d(16, first, 1), nn.Conv2d(16, second, 3, padding=1)
        self.five, self.last = nn.Conv2d(16, 8, 5, padding=2), nn.Conv2d(first + second + 8, 16, 3, padding=1)

    def forward(self, x: Any) -> Any:
        x = self.stem(x).relu()
        return self.last(torch.cat([self.one(x), self.three(x).relu(), self.five(x)], 1)).mean((2, 3))


MOVEMENT = {"pack", "unpack", "copy"}


@pytest.mark.parametrize("network", [Dense, Inception])
def test_concatenations_stay_blocked(network: Callable[[], nn.Module], agrees_with_float64: Callable[..., Any]) -> None:
    torch.manual_seed(0)
    compilation = agrees_with_float64(network().eval(), (torch.randn(1, 3, 18, 14),))
    assert not compilation.layout.refused
    records = compilation.artifact.kernels
    assert not MOVEMENT & {record.kind for record in records}
    assert all(record.schedule is not None for record in records if record.layer)


@pytest.mark.parametrize("cores", [1, 2, 16])
def test_layers_of_a_dense_block_share_kernels(
    cores: int, agrees_with_float64: Callable[..., Any], avx2: Callable[[int], Any]
) -> None:
    """They differ in their input channels, from 2 to 7 blocks, alone; with many cores, in the bands of rows, too."""
    torch.manual_seed(cores)
    network = Dense(layers=6)
    for layer in network.layers:
        layer[0].running_mean.normal_()
        layer[0].running_var.uniform_(0.5, 1.5)
    compilation = agrees_with_float64(network.eval(), (torch.randn(1, 3, 38, 46),), target=avx2(cores))
    records = compilation.artifact.kernels
    pointwise = [record for record in records if record.kind == "pointwise"]
    grown = [record for record in records if record.kind == "elementwise"]
    assert sum(record.calls for record in pointwise) == 6
    if cores == 1:
        assert len(pointwise) == 1 and pointwise[0].problem == ""
        assert len(grown) == 2, "the first and the last read tensors without room for more"
    # Of calls that differ, a record has the mean.
    macs = sum(32 * (16 + 8 * i) * 19 * 23 for i in range(6))
    assert sum(record.flops * record.calls for record in pointwise) == pytest.approx(2 * macs, abs=12)


def test_batches_have_kernels_of_their_own(agrees_with_float64: Callable[..., Any], avx2: Callable[[int], Any]) -> None:
    """Without room for all, images of a batch would lie apart."""

    class Widening(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.stem = nn.Conv2d(3, 16, 3, padding=1)
            self.out = nn.ModuleList(nn.Conv2d(c, 16, 1) for c in (16, 24, 32, 40))
            self.up = nn.ModuleList(nn.Conv2d(16, c, 3, padding=1) for c in (24, 32, 40))

        def forward(self, x: Any) -> Any:
            x = self.out[0](self.stem(x))
            for up, out in zip(self.up, self.out[1:], strict=True):
                x = out(up(x).relu())
            return x.mean((2, 3))

    for batch, kernels in ((1, 2), (2, 4)):  # nothing pads the last result, which is another kernel
        torch.manual_seed(batch)
        compilation = agrees_with_float64(Widening().eval(), (torch.randn(batch, 3, 9, 13),), target=avx2(1))
        assert sum(record.kind == "pointwise" for record in compilation.artifact.kernels) == kernels


@pytest.mark.parametrize(
    ("network", "batch", "reason"),
    [
        (lambda: Inception(12, 28), 1, "12 channels of a part are no whole blocks"),
        (Dense, 2, "2 images: the parts of each lie apart"),
    ],
)
def test_other_concatenations_are_left_to_iree(
    network: Callable[[], nn.Module], batch: int, reason: str, agrees_with_float64: Callable[..., Any]
) -> None:
    torch.manual_seed(0)
    compilation = agrees_with_float64(network().eval(), (torch.randn(batch, 3, 18, 14),))
    reasons = [text for _, op, text in compilation.layout.refused if op == "tensor.concat"]
    assert reasons and all(text.startswith(reason) for text in reasons)

"""Transposes between channels-last and channel blocks, as in ConvNeXt: numbers, and no transpose left to IREE."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

torch = pytest.importorskip("torch")
pytest.importorskip("torch_mlir.ir")
pytest.importorskip("iree.compiler")

from torch import nn  # noqa: E402
from torch.nn import functional as F  # noqa: E402

Check = Callable[..., Any]


class Block(nn.Module):
    """A block of ConvNeXt (Liu et al., CVPR 2022): depthwise, then along the channels of each pixel, and a residual."""

    def __init__(self, channels: int, kernel: int = 7) -> None:
        super().__init__()
        self.depthwise = nn.Conv2d(channels, channels, kernel, padding=kernel // 2, groups=channels)
        self.norm = nn.LayerNorm(channels)
        self.expand, self.project = nn.Linear(channels, 3 * channels), nn.Linear(3 * channels, channels)

    def forward(self, x):
        y = self.norm(self.depthwise(x).permute(0, 2, 3, 1))
        y = self.project(F.gelu(self.expand(y)))
        return x + y.permute(0, 3, 1, 2)


class FromImages(nn.Module):
    """Images and features whose last dimension is the channels."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.first = nn.Conv2d(channels, 2 * channels, 3, padding=1)
        self.second = nn.Conv2d(2 * channels, channels, 1)

    def forward(self, x):
        y = self.second(F.relu(self.first(x.permute(0, 3, 1, 2))))
        return y.permute(0, 2, 3, 1), F.max_pool2d(y, 2)


def transposes(compilation: Any) -> list[str]:
    """The kinds of the kernels to and from channels-last; none may be left to IREE."""
    assert not any(record.schedule is None and "transpose" in record.name for record in compilation.artifact.kernels)
    return sorted(record.kind for record in compilation.artifact.kernels if record.schedule == "channels_last")


@pytest.mark.parametrize(("channels", "size"), [(32, (9, 13)), (24, (7, 6)), (19, (5, 8))])
def test_blocks(channels: int, size: tuple[int, int], vectors: Any, agrees_with_float64: Check) -> None:
    """The residual is added where the result is packed; a padded convolution reads its halo."""
    torch.manual_seed(channels)
    behind = nn.Conv2d(channels, 16, 3, padding=1)
    network = nn.Sequential(nn.Conv2d(8, channels, 3, padding=1), Block(channels), Block(channels, 3), behind).eval()
    compilation = agrees_with_float64(network, [torch.randn(2, 8, *size)], target=vectors)
    found = transposes(compilation)
    assert set(found) == {"pack", "unpack"} and len(found) <= 4
    assert not any(record.kind == "elementwise" for record in compilation.artifact.kernels)


@pytest.mark.parametrize(("channels", "size"), [(16, (8, 11)), (20, (6, 6))])
def test_images(channels: int, size: tuple[int, int], vectors: Any, agrees_with_float64: Check) -> None:
    torch.manual_seed(channels)
    network = FromImages(channels).eval()
    compilation = agrees_with_float64(network, [torch.randn(3, *size, channels)], threads=(1, 2), target=vectors)
    assert transposes(compilation) == ["pack", "unpack"]


def test_what_is_no_channels_last(agrees_with_float64: Check) -> None:
    """Other permutations, a pixel, one channel: they are IREE's, or nothing."""

    class Other(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.conv, self.one = nn.Conv2d(16, 16, 3, padding=1), nn.Conv2d(16, 1, 1)

        def forward(self, x):
            y = self.conv(x)
            return y.permute(0, 1, 3, 2), self.one(y).permute(0, 2, 3, 1), y.mean((2, 3), True).permute(0, 2, 3, 1)

    torch.manual_seed(0)
    compilation = agrees_with_float64(Other().eval(), [torch.randn(1, 16, 6, 7)], fallbacks=True)
    assert not any(record.schedule == "channels_last" for record in compilation.artifact.kernels)

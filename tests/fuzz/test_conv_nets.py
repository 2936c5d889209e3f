"""Drawn networks of convolutions, pooling and squeeze-excite compute what torch computes in float64.

A few on every run, hundreds with ``make fuzz``.
"""

from __future__ import annotations

from typing import Any

import pytest

torch = pytest.importorskip("torch")
pytest.importorskip("torch_mlir.ir")
pytest.importorskip("iree.compiler")

from hypothesis import given, note, settings  # noqa: E402
from hypothesis import strategies as st  # noqa: E402
from torch import nn  # noqa: E402
from torch.nn import functional as F  # noqa: E402

# An example is a whole compilation.
EXAMPLES = max(4, settings().max_examples // 4)
ACTIVATIONS = (None, "relu", "relu6", "hardswish", "silu")
MAX_CHANNELS = 96


class ConvLayer(nn.Module):
    """Padding, convolution, batch norm, residual where the shape allows it, activation."""

    def __init__(
        self, conv: nn.Conv2d, padding: tuple[int, ...], norm: bool, residual: bool, activation: str | None
    ) -> None:
        super().__init__()
        self.padding, self.conv, self.residual, self.activation = padding, conv, residual, activation
        self.norm = nn.BatchNorm2d(conv.out_channels) if norm else nn.Identity()

    def forward(self, x):
        y = self.norm(self.conv(F.pad(x, self.padding) if any(self.padding) else x))
        if self.residual and y.shape == x.shape:
            y = y + x
        return y if self.activation is None else getattr(F, self.activation)(y)

    def extra_repr(self) -> str:
        return f"padding={self.padding}, residual={self.residual}, activation={self.activation}"


class Excite(nn.Module):
    """A factor per channel from the means of the channels."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.conv = nn.Conv2d(channels, channels, 1)

    def forward(self, x):
        return x * torch.sigmoid(self.conv(x.mean((2, 3), keepdim=True)))


class Head(nn.Module):
    """The last layers of a classifier, and the features that they come from."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.linear = nn.Linear(channels, 11)

    def forward(self, x):
        return self.linear(x.mean((2, 3))), x


def pairs(*values: int) -> st.SearchStrategy[tuple[int, int]]:
    """Mostly equal values in both dimensions."""
    value = st.sampled_from(values)
    return st.one_of(value.map(lambda v: (v, v)), st.tuples(value, value))


@st.composite
def conv_layers(draw: st.DrawFn, channels: int, size: tuple[int, int]) -> ConvLayer:
    """A layer for an input of ``channels`` and ``size``; the window fits into the padded image."""
    groups = draw(st.sampled_from([g for g in (1, 2, 3, 4, 8, channels) if channels % g == 0]))
    same = channels // groups
    per_group = draw(st.sampled_from([k for k in (same, same, 1, 2, 3, 4, 8, 16) if k * groups <= MAX_CHANNELS] or [1]))
    kernel = draw(pairs(1, 2, 3, 4, 5, 7))
    dilation = draw(pairs(1, 1, 2, 3))
    padding = list(draw(st.tuples(*[st.integers(0, 3)] * 4)))
    for axis in (0, 1):
        span = (kernel[axis] - 1) * dilation[axis] + 1
        low = 2 * (1 - axis)  # padding is (left, right, top, bottom)
        padding[low] += max(0, span - size[axis] - padding[low] - padding[low + 1])
    stride = draw(pairs(1, 1, 1, 2, 3))
    conv = nn.Conv2d(channels, groups * per_group, kernel, stride, 0, dilation, groups, draw(st.booleans()))
    return ConvLayer(conv, tuple(padding), draw(st.booleans()), draw(st.booleans()), draw(st.sampled_from(ACTIVATIONS)))


def shape_after(layer: nn.Module, shape: tuple[int, ...]) -> tuple[int, ...]:
    with torch.no_grad():
        return tuple(layer.eval()(torch.zeros(shape)).shape)


@st.composite
def networks(draw: st.DrawFn) -> tuple[nn.Module, torch.Tensor]:
    """A chain of one to four layers and its input."""
    torch.manual_seed(draw(st.integers(0, 2**16)))
    channels = draw(st.one_of(st.integers(1, 20), st.sampled_from([24, 32, 48, 64])))
    first = shape = (draw(st.integers(1, 3)), channels, draw(st.integers(1, 13)), draw(st.integers(1, 19)))
    layers: list[nn.Module] = []
    for _ in range(draw(st.integers(1, 4))):
        kind = draw(st.sampled_from(["conv", "conv", "conv", "max", "average", "excite"]))
        if kind == "excite":
            layer: nn.Module = Excite(shape[1])
        elif kind == "conv" or min(shape[2:]) < 3:
            layer = draw(conv_layers(shape[1], shape[2:]))
        elif kind == "max":
            layer = nn.MaxPool2d(draw(st.integers(2, 3)), draw(st.integers(1, 2)), padding=draw(st.integers(0, 1)))
        else:
            layer = nn.AvgPool2d(draw(st.integers(2, 3)), draw(st.integers(1, 2)))
        layers.append(layer)
        shape = shape_after(layer, shape)
    if draw(st.booleans()):
        layers.append(Head(shape[1]))
    network = nn.Sequential(*layers)
    with torch.no_grad():
        for module in network.modules():
            if isinstance(module, nn.BatchNorm2d):
                module.running_mean.uniform_(-1, 1)
                module.running_var.uniform_(0.5, 1.5)
                module.weight.uniform_(-1.5, 1.5)
                module.bias.uniform_(-1, 1)
    return network.eval(), torch.randn(first)


@pytest.mark.slow
@settings(max_examples=EXAMPLES)
@given(drawn=networks())
def test_networks(agrees_with_float64, drawn: Any) -> None:
    network, x = drawn
    note(f"input {tuple(x.shape)}\n{network}")
    agrees_with_float64(network, [x])

"""EfficientNet-B0 (Tan and Le, ICML 2019): inverted residuals with squeeze-and-excitation and SiLU."""

from __future__ import annotations

from collections import OrderedDict

from torch import nn

from .blocks import Head, ResidualBlock, conv

STAGES = (
    (1, 3, 1, 16, 1),
    (6, 3, 2, 24, 2),
    (6, 5, 2, 40, 2),
    (6, 3, 2, 80, 3),
    (6, 5, 1, 112, 3),
    (6, 5, 2, 192, 4),
    (6, 3, 1, 320, 1),
)
"""(expansion, kernel, stride of the first block, output channels, blocks)."""


class SqueezeExcitation(nn.Module):
    """Scales each channel by a gate computed from the channels' means."""

    def __init__(self, channels: int, squeezed: int) -> None:
        super().__init__()
        self.pool = nn.AdaptiveAvgPool2d(1)
        self.reduce = nn.Conv2d(channels, squeezed, 1)
        self.act = nn.SiLU()
        self.expand = nn.Conv2d(squeezed, channels, 1)
        self.gate = nn.Sigmoid()

    def forward(self, x):
        return x * self.gate(self.expand(self.act(self.reduce(self.pool(x)))))


class MBConv(ResidualBlock):
    """Expansion, depthwise, squeeze-and-excitation (a quarter of the block's input channels), linear projection."""

    def __init__(self, c_in: int, c_out: int, kernel: int, stride: int, expansion: int) -> None:
        super().__init__()
        hidden = c_in * expansion
        layers: OrderedDict[str, nn.Module] = OrderedDict()
        if expansion != 1:
            layers.update(expand=conv(c_in, hidden, 1), expand_bn=nn.BatchNorm2d(hidden), expand_act=nn.SiLU())
        layers.update(
            spatial=conv(hidden, hidden, kernel, stride, hidden),
            spatial_bn=nn.BatchNorm2d(hidden),
            spatial_act=nn.SiLU(),
            squeeze=SqueezeExcitation(hidden, c_in // 4),
            project=conv(hidden, c_out, 1),
            project_bn=nn.BatchNorm2d(c_out),
        )
        self.layers = nn.Sequential(layers)
        self.residual = stride == 1 and c_in == c_out

    @property
    def branch_end(self) -> nn.Module | None:
        return self.layers.get_submodule("project_bn") if self.residual else None

    def forward(self, x):
        y = self.layers(x)
        return x + y if self.residual else y


class EfficientNetB0(nn.Module):
    """(N, 3, H, W) -> (N, 1000), H and W multiples of 32."""

    def __init__(self) -> None:
        super().__init__()
        self.stem = nn.Sequential(OrderedDict(conv=conv(3, 32, 3, 2), bn=nn.BatchNorm2d(32), act=nn.SiLU()))
        blocks, channels = [], 32
        for expansion, kernel, stride, c_out, count in STAGES:
            for index in range(count):
                blocks.append(MBConv(channels, c_out, kernel, stride if index == 0 else 1, expansion))
                channels = c_out
        self.blocks = nn.Sequential(*blocks)
        self.last = nn.Sequential(OrderedDict(conv=conv(channels, 1280, 1), bn=nn.BatchNorm2d(1280), act=nn.SiLU()))
        self.head = Head(1280, 1000)

    def forward(self, x):
        return self.head(self.last(self.blocks(self.stem(x))))

"""MobileNetV1 (Howard et al., 2017) and MobileNetV2 (Sandler et al., CVPR 2018), depthwise or with fewer groups."""

from __future__ import annotations

from collections import OrderedDict

from torch import nn

from .blocks import Groups, Head, ResidualBlock, conv, group_count

V1_BLOCKS = ((64, 1), (128, 2), (128, 1), (256, 2), (256, 1), (512, 2)) + ((512, 1),) * 5 + ((1024, 2), (1024, 1))
"""(output channels, stride) of each separable block."""

V2_STAGES = ((1, 16, 1, 1), (6, 24, 2, 2), (6, 32, 3, 2), (6, 64, 4, 2), (6, 96, 3, 1), (6, 160, 3, 2), (6, 320, 1, 1))
"""(expansion, output channels, blocks, stride of the first block)."""

V1_GROUPED_CHANNELS = (32, 64, 128, 256, 512, 1024)
V2_GROUPED_CHANNELS = (32, 96, 144, 192, 384, 576, 960)


class SeparableBlock(nn.Module):
    """3x3 (depthwise, or with ``groups`` groups) - BN - ReLU - 1x1 - BN - ReLU."""

    def __init__(self, c_in: int, c_out: int, stride: int, groups: Groups) -> None:
        super().__init__()
        self.conv1 = conv(c_in, c_in, 3, stride, group_count(groups, c_in))
        self.bn1 = nn.BatchNorm2d(c_in)
        self.relu1 = nn.ReLU()
        self.conv2 = conv(c_in, c_out, 1)
        self.bn2 = nn.BatchNorm2d(c_out)
        self.relu2 = nn.ReLU()

    def forward(self, x):
        x = self.relu1(self.bn1(self.conv1(x)))
        return self.relu2(self.bn2(self.conv2(x)))


class MobileNetV1(nn.Module):
    """(N, 3, H, W) -> (N, 1000), H and W multiples of 32."""

    def __init__(self, groups: Groups = "N") -> None:
        super().__init__()
        self.stem = nn.Sequential(OrderedDict(conv=conv(3, 32, 3, 2), bn=nn.BatchNorm2d(32), relu=nn.ReLU()))
        blocks, channels = [], 32
        for c_out, stride in V1_BLOCKS:
            blocks.append(SeparableBlock(channels, c_out, stride, groups))
            channels = c_out
        self.blocks = nn.Sequential(*blocks)
        self.head = Head(channels, 1000)

    def forward(self, x):
        return self.head(self.blocks(self.stem(x)))


class InvertedResidual(ResidualBlock):
    """1x1 expansion - 3x3 (depthwise, or with ``groups`` groups) - linear 1x1 projection, plus the input."""

    def __init__(self, c_in: int, c_out: int, stride: int, expansion: int, groups: Groups) -> None:
        super().__init__()
        hidden = c_in * expansion
        layers: OrderedDict[str, nn.Module] = OrderedDict()
        if expansion != 1:
            layers.update(expand=conv(c_in, hidden, 1), expand_bn=nn.BatchNorm2d(hidden), expand_relu=nn.ReLU6())
        layers.update(
            spatial=conv(hidden, hidden, 3, stride, group_count(groups, hidden)),
            spatial_bn=nn.BatchNorm2d(hidden),
            spatial_relu=nn.ReLU6(),
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


class MobileNetV2(nn.Module):
    """(N, 3, H, W) -> (N, 1000), H and W multiples of 32.

    Against GSPC Table 5.4: parameters agree to 0.2 % in every row, MACs to 3 % (the table rounds the published
    network's 301 M up to 0.31 G).
    """

    def __init__(self, groups: Groups = "N") -> None:
        super().__init__()
        self.stem = nn.Sequential(OrderedDict(conv=conv(3, 32, 3, 2), bn=nn.BatchNorm2d(32), relu=nn.ReLU6()))
        blocks, channels = [], 32
        for expansion, c_out, count, stride in V2_STAGES:
            for index in range(count):
                blocks.append(InvertedResidual(channels, c_out, stride if index == 0 else 1, expansion, groups))
                channels = c_out
        self.blocks = nn.Sequential(*blocks)
        self.last = nn.Sequential(OrderedDict(conv=conv(channels, 1280, 1), bn=nn.BatchNorm2d(1280), relu=nn.ReLU6()))
        self.head = Head(1280, 1000)

    def forward(self, x):
        return self.head(self.last(self.blocks(self.stem(x))))

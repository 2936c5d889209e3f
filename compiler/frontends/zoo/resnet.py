"""ResNet-18/34/50 (He et al., CVPR 2016; stride on the 3x3) and ResNeXt-50 32x4d (Xie et al., CVPR 2017)."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Sequence

from torch import nn

from .blocks import Groups, Head, ResidualBlock, conv, group_count, replaceable_conv3x3

GROUPED_CHANNELS = (64, 128, 256, 512)


def _downsample(c_in: int, c_out: int, stride: int) -> nn.Module | None:
    if c_in == c_out and stride == 1:
        return None
    return nn.Sequential(OrderedDict(conv=conv(c_in, c_out, 1, stride), bn=nn.BatchNorm2d(c_out)))


class BasicBlock(ResidualBlock):
    """Two 3x3 convolutions; with groups, each is the GSPC replacement block."""

    expansion = 1

    def __init__(self, c_in: int, width: int, stride: int, groups: Groups) -> None:
        super().__init__()
        self.conv1 = replaceable_conv3x3(c_in, width, stride, groups)
        self.bn1 = nn.BatchNorm2d(width)
        self.relu1 = nn.ReLU()
        self.conv2 = replaceable_conv3x3(width, width, 1, groups)
        self.bn2 = nn.BatchNorm2d(width)
        self.downsample = _downsample(c_in, width, stride)
        self.relu2 = nn.ReLU()

    @property
    def branch_end(self) -> nn.Module | None:
        return self.bn2

    def forward(self, x):
        identity = x if self.downsample is None else self.downsample(x)
        y = self.relu1(self.bn1(self.conv1(x)))
        return self.relu2(self.bn2(self.conv2(y)) + identity)


class Bottleneck(ResidualBlock):
    """1x1, 3x3, 1x1. The pointwise that GSPC puts behind a grouped 3x3 is here already, so only the 3x3 changes."""

    expansion = 4

    def __init__(self, c_in: int, width: int, stride: int, groups: Groups, width_factor: int = 1) -> None:
        super().__init__()
        inner, c_out = width * width_factor, width * self.expansion
        self.conv1 = conv(c_in, inner, 1)
        self.bn1 = nn.BatchNorm2d(inner)
        self.relu1 = nn.ReLU()
        self.conv2 = conv(inner, inner, 3, stride, group_count(groups, inner))
        self.bn2 = nn.BatchNorm2d(inner)
        self.relu2 = nn.ReLU()
        self.conv3 = conv(inner, c_out, 1)
        self.bn3 = nn.BatchNorm2d(c_out)
        self.downsample = _downsample(c_in, c_out, stride)
        self.relu3 = nn.ReLU()

    @property
    def branch_end(self) -> nn.Module | None:
        return self.bn3

    def forward(self, x):
        identity = x if self.downsample is None else self.downsample(x)
        y = self.relu1(self.bn1(self.conv1(x)))
        y = self.relu2(self.bn2(self.conv2(y)))
        return self.relu3(self.bn3(self.conv3(y)) + identity)


class ResNet(nn.Module):
    """(N, 3, H, W) -> (N, 1000), H and W multiples of 32.

    ResNet34 against GSPC Table 5.3: parameters agree to 0.2 % in every row, MACs to 1.2 %.
    """

    def __init__(
        self,
        block: type[BasicBlock] | type[Bottleneck],
        counts: Sequence[int],
        groups: Groups = "S",
        **block_options: int,
    ) -> None:
        super().__init__()
        self.conv1 = conv(3, 64, 7, 2)
        self.bn1 = nn.BatchNorm2d(64)
        self.relu = nn.ReLU()
        self.maxpool = nn.MaxPool2d(3, 2, 1)
        channels = 64
        for stage, count in enumerate(counts):
            width, blocks = 64 << stage, []
            for index in range(count):
                stride = 2 if stage > 0 and index == 0 else 1
                blocks.append(block(channels, width, stride, groups, **block_options))
                channels = width * block.expansion
            self.add_module(f"layer{stage + 1}", nn.Sequential(*blocks))
        self.head = Head(channels, 1000)

    def forward(self, x):
        x = self.maxpool(self.relu(self.bn1(self.conv1(x))))
        return self.head(self.layer4(self.layer3(self.layer2(self.layer1(x)))))


def resnet18(groups: Groups = "S") -> ResNet:
    return ResNet(BasicBlock, (2, 2, 2, 2), groups)


def resnet34(groups: Groups = "S") -> ResNet:
    return ResNet(BasicBlock, (3, 4, 6, 3), groups)


def resnet50(groups: Groups = "S") -> ResNet:
    return ResNet(Bottleneck, (3, 4, 6, 3), groups)


def resnext50_32x4d() -> ResNet:
    return ResNet(Bottleneck, (3, 4, 6, 3), 32, width_factor=2)

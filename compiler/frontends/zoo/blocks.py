"""The convolutions that the zoo's families share, with the replaceable 3x3 of GSPC."""

from __future__ import annotations

from collections import OrderedDict
from typing import Literal, TypeAlias

from torch import nn

Groups: TypeAlias = int | Literal["S", "N"]
"""``"S"``: the standard dense convolution; an int: that many groups; ``"N"``: one group per channel (depthwise)."""


def group_count(groups: Groups, channels: int) -> int:
    """The ``groups`` argument of ``nn.Conv2d`` for a convolution that reads ``channels`` channels."""
    if groups == "S":
        return 1
    return channels if groups == "N" else groups


def conv(c_in: int, c_out: int, kernel: int, stride: int = 1, groups: int = 1) -> nn.Conv2d:
    """A convolution without bias (a batch norm follows), padded to keep the extent at stride 1."""
    return nn.Conv2d(c_in, c_out, kernel, stride, kernel // 2, groups=groups, bias=False)


def replaceable_conv3x3(c_in: int, c_out: int, stride: int, groups: Groups) -> nn.Module:
    """The 3x3 convolution that GSPC replaces by a cheaper block (Gibson et al., ASAP 2020).

    ``S``:    conv3x3(c_in -> c_out)
    ``G(g)``: conv3x3(c_in -> c_in, g groups) - BN - ReLU - conv1x1(c_in -> c_out)
    """
    if groups == "S":
        return conv(c_in, c_out, 3, stride)
    return nn.Sequential(
        OrderedDict(
            spatial=conv(c_in, c_in, 3, stride, group_count(groups, c_in)),
            bn=nn.BatchNorm2d(c_in),
            relu=nn.ReLU(),
            pointwise=conv(c_in, c_out, 1),
        )
    )


class ResidualBlock(nn.Module):
    """A block that adds a branch to its input."""

    @property
    def branch_end(self) -> nn.Module | None:
        """The last layer with weights of the branch; None where the block has no sum."""
        raise NotImplementedError


class Head(nn.Module):
    """Global average pooling and the classifier: (N, C, H, W) -> (N, classes)."""

    def __init__(self, channels: int, classes: int) -> None:
        super().__init__()
        self.pool = nn.AdaptiveAvgPool2d(1)
        self.flatten = nn.Flatten(1)
        self.fc = nn.Linear(channels, classes)

    def forward(self, x):
        return self.fc(self.flatten(self.pool(x)))

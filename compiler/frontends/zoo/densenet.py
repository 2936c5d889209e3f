"""DenseNet-161 (Huang et al., CVPR 2017): growth rate 48, 96 channels after the stem."""

from __future__ import annotations

from collections import OrderedDict

import torch
from torch import nn

from .blocks import Head, conv


class DenseLayer(nn.Module):
    """BN-ReLU-1x1-BN-ReLU-3x3, its ``growth`` channels appended to the input's."""

    def __init__(self, channels: int, growth: int) -> None:
        super().__init__()
        self.layers = nn.Sequential(
            OrderedDict(
                bn1=nn.BatchNorm2d(channels),
                relu1=nn.ReLU(),
                conv1=conv(channels, 4 * growth, 1),
                bn2=nn.BatchNorm2d(4 * growth),
                relu2=nn.ReLU(),
                conv2=conv(4 * growth, growth, 3),
            )
        )

    def forward(self, x):
        return torch.cat([x, self.layers(x)], 1)


class DenseNet161(nn.Module):
    """(N, 3, H, W) -> (N, 1000), H and W multiples of 32."""

    def __init__(self, counts: tuple[int, ...] = (6, 12, 36, 24), growth: int = 48, channels: int = 96) -> None:
        super().__init__()
        features: OrderedDict[str, nn.Module] = OrderedDict(
            conv=conv(3, channels, 7, 2), bn=nn.BatchNorm2d(channels), relu=nn.ReLU(), pool=nn.MaxPool2d(3, 2, 1)
        )
        for stage, count in enumerate(counts, start=1):
            block = []
            for _ in range(count):
                block.append(DenseLayer(channels, growth))
                channels += growth
            features[f"block{stage}"] = nn.Sequential(*block)
            if stage < len(counts):
                features[f"transition{stage}"] = nn.Sequential(
                    OrderedDict(
                        bn=nn.BatchNorm2d(channels),
                        relu=nn.ReLU(),
                        conv=conv(channels, channels // 2, 1),
                        pool=nn.AvgPool2d(2),
                    )
                )
                channels //= 2
        features.update(last_bn=nn.BatchNorm2d(channels), last_relu=nn.ReLU())
        self.features = nn.Sequential(features)
        self.head = Head(channels, 1000)

    def forward(self, x):
        return self.head(self.features(x))

"""A single convolution layer, or a chain of equal ones: the unit of the layer grids."""

from __future__ import annotations

from collections import OrderedDict

from torch import nn

from dlas.errors import UsageError

from .blocks import Groups, group_count


class ConvLayers(nn.Sequential):
    """``depth`` times conv kxk (padding k // 2, bias) - ReLU: (N, C, H, H) -> (N, C_out, H', H').

    ``c_out`` is that of every layer, 0: ``c``.

    Raises:
        UsageError: the groups do not divide the channels, or the kernel is even.
    """

    def __init__(
        self, c: int = 64, k: int = 3, stride: int = 1, depth: int = 1, groups: Groups = "S", c_out: int = 0
    ) -> None:
        count, c_out = group_count(groups, c), c_out or c
        for channels in (c, c_out):
            if channels % count:
                raise UsageError(f"groups={count} does not divide the {channels} channels", where="layer")
        if k % 2 == 0:
            raise UsageError(f"k={k} is even", where="layer", hint="k must be odd: the padding is k // 2 on every side")
        layers: OrderedDict[str, nn.Module] = OrderedDict()
        for index in range(1, depth + 1):
            layers[f"conv{index}"] = nn.Conv2d(c if index == 1 else c_out, c_out, k, stride, k // 2, groups=count)
            layers[f"relu{index}"] = nn.ReLU()
        super().__init__(layers)

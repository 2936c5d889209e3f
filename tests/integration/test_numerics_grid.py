"""Kernels in bands of rows and runs of tiles compute what whole ones do, whoever computes which part."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch
from torch import nn

import dlas
from dlas.compiler.targets import load_target


class Odd(nn.Module):
    """Layers of 39 by 33 pixels and of halves of them: bands do not divide the rows of any."""

    def __init__(self) -> None:
        super().__init__()
        self.stem = nn.Conv2d(3, 16, 3, padding=1)
        self.plain = nn.Conv2d(16, 16, 3, padding=1)
        self.grouped = nn.Conv2d(16, 16, 3, padding=1, groups=4)
        self.depthwise = nn.Conv2d(16, 16, 3, padding=1, groups=16)
        self.strided = nn.Conv2d(16, 64, 3, padding=1, stride=2)
        self.shortcut = nn.Conv2d(16, 64, 1, stride=2)
        self.pool = nn.MaxPool2d(3, 1, padding=1)
        self.wide = nn.Conv2d(64, 160, 1)

    def forward(self, x: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        x = torch.relu(self.stem(x))
        x = x + torch.relu(self.grouped(torch.relu(self.plain(x))))
        y = torch.relu(self.strided(self.depthwise(x)) + self.shortcut(x))
        return x, self.wide(self.pool(y))


@pytest.mark.parametrize(("batch", "cores"), [(1, 2), (2, 5)])
def test_bands_and_runs(batch: int, cores: int, agrees_with_float64) -> None:
    """Bands that do not divide, with borders and leftover tiles of Winograd's domain; and results do not depend on who
    computes what."""
    torch.manual_seed(cores)
    inputs, model = [torch.randn(batch, 3, 39, 33)], Odd().eval()
    host = load_target("x86_64")
    compilation = agrees_with_float64(model, inputs, target=replace(host, cores=cores))
    workgroups = {record.layer: record.workgroups for record in compilation.artifact.kernels}
    assert workgroups["plain"] > batch and workgroups["depthwise"] > batch
    whole = dlas.compile(model, tuple(inputs), target=replace(host, cores=1))
    assert all(record.workgroups <= 1 for record in whole.kernels)
    parts, together = (dlas.load(artifact, threads=2)(inputs[0].numpy()) for artifact in (compilation.artifact, whole))
    for part, one in zip(parts, together, strict=True):
        np.testing.assert_array_equal(part, one)

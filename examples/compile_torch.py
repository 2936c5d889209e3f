"""Compile a PyTorch module, run it, and see what became of its kernels.

python examples/compile_torch.py
"""

from __future__ import annotations

from pathlib import Path
from tempfile import TemporaryDirectory

import torch
from torch import nn

import dlas


def make_model() -> nn.Module:
    """A grouped, a pointwise and a depthwise convolution with batch norms, and a classifier."""
    return nn.Sequential(
        nn.Conv2d(3, 32, 3, padding=1),
        nn.BatchNorm2d(32),
        nn.ReLU(),
        nn.Conv2d(32, 32, 3, padding=1, groups=4),
        nn.ReLU(),
        nn.Conv2d(32, 64, 1),
        nn.BatchNorm2d(64),
        nn.ReLU(),
        nn.Conv2d(64, 64, 3, padding=1, groups=64),
        nn.ReLU(),
        nn.AdaptiveAvgPool2d(1),
        nn.Flatten(),
        nn.Linear(64, 10),
    )


def main() -> None:
    torch.manual_seed(0)
    model, x = make_model().eval(), torch.randn(1, 3, 32, 32)

    artifact = dlas.compile(model, example_inputs=(x,))  # for this host; target="cortex-a72" would cross-compile
    for kernel in artifact.kernels:
        print(f"{kernel.layer or 'layout':<8} {kernel.kind:<12} {kernel.schedule or 'IREE':<12} {kernel.reason}")

    with TemporaryDirectory() as folder:
        path = artifact.save(Path(folder) / "model.vmfb")  # a plain IREE module, model.json beside it describes it
        session = dlas.load(path, threads=1)

    y = session(x)  # torch in, torch out; numpy in, numpy out
    with torch.no_grad():
        error = (y - model(x)).abs().max().item()
    print(f"largest difference to PyTorch: {error:.1e}")
    report = session.benchmark(x, min_time_s=0.2)
    print(f"median {report.median_ms:.3f} ms, p10 {report.p10_ms:.3f}, p90 {report.p90_ms:.3f}, {report.runs} runs")


if __name__ == "__main__":
    main()

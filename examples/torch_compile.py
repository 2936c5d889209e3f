"""Use dlas behind torch.compile: installing dlas registers the backend, nothing needs to be imported.

python examples/torch_compile.py
"""

from __future__ import annotations

import torch
from torch import nn


class Block(nn.Module):
    """A residual block with a grouped convolution."""

    def __init__(self, channels: int, groups: int) -> None:
        super().__init__()
        self.spatial = nn.Conv2d(channels, channels, 3, padding=1, groups=groups)
        self.pointwise = nn.Conv2d(channels, channels, 1)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return torch.relu(x + self.pointwise(torch.relu(self.spatial(x))))


def main() -> None:
    torch.manual_seed(0)
    model, x = Block(32, 4).eval(), torch.randn(1, 32, 16, 16)
    fast = torch.compile(model, backend="dlas", options={"threads": 1})
    with torch.no_grad():
        y = fast(x)  # compiled here, at the first call
        error = (y - model(x)).abs().max().item()
    print(f"largest difference to eager PyTorch: {error:.1e}")


if __name__ == "__main__":
    main()

"""Seeded random weights that behave like trained ones: nothing folds away, activations stay O(1) at any depth."""

from __future__ import annotations

import torch
from torch import nn

from .blocks import ResidualBlock

BRANCH_GAIN = 0.25
"""What the end of a residual branch is scaled by: random branches at full size would amplify a float32 rounding error
a thousandfold through a deep network (training makes them small too)."""


def seed_weights(module: nn.Module, seed: int) -> None:
    """Fill every parameter and buffer of ``module`` in place from one generator.

    Convolutions are He-normal, linear layers keep the variance, and batch norms get a scale, a shift and running
    statistics away from (1, 0, 0, 1), so that folding them is real work.
    """
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for layer in module.modules():
            if isinstance(layer, nn.Conv2d | nn.Linear):
                gain = 2.0 if isinstance(layer, nn.Conv2d) else 1.0
                layer.weight.normal_(0, (gain / layer.weight[0].numel()) ** 0.5, generator=generator)
                if layer.bias is not None:
                    layer.bias.normal_(0, 0.05, generator=generator)
            elif isinstance(layer, nn.BatchNorm2d):
                layer.reset_running_stats()
                layer.weight.uniform_(0.8, 1.2, generator=generator)
                layer.bias.normal_(0, 0.1, generator=generator)
            elif isinstance(layer, nn.LayerNorm):
                layer.weight.uniform_(0.8, 1.2, generator=generator)
                layer.bias.normal_(0, 0.1, generator=generator)
            elif isinstance(layer, nn.Embedding):
                layer.weight.normal_(0, 0.02, generator=generator)
        for block in module.modules():
            end = block.branch_end if isinstance(block, ResidualBlock) else None
            if isinstance(end, nn.Conv2d | nn.BatchNorm2d):
                end.weight.mul_(BRANCH_GAIN)


def prune_weights(module: nn.Module, sparsity: float) -> None:
    """Zeros in place of this share of every convolution's and linear layer's weights, those of least magnitude."""
    if not sparsity:
        return
    for layer in module.modules():
        if isinstance(layer, nn.Conv2d | nn.Linear):
            with torch.no_grad():
                lowest = torch.argsort(layer.weight.abs().flatten(), stable=True)
                layer.weight.flatten()[lowest[: round(sparsity * lowest.numel())]] = 0.0


def calibrate_batch_norms(module: nn.Module, sample: torch.Tensor) -> None:
    """Set the running statistics of every batch norm from one forward pass of ``sample``, in place.

    In float64: another thread count sums in another order, and equal specs must give equal weights in every process.
    """
    norms = [layer for layer in module.modules() if isinstance(layer, nn.BatchNorm2d)]
    if not norms:
        return

    def observe(layer: nn.Module, inputs: tuple[torch.Tensor, ...]) -> None:
        assert isinstance(layer, nn.BatchNorm2d) and layer.running_mean is not None and layer.running_var is not None
        layer.running_mean.copy_(inputs[0].mean((0, 2, 3)))
        layer.running_var.copy_(inputs[0].var((0, 2, 3), unbiased=False) + 1e-2)

    handles = [layer.register_forward_pre_hook(observe) for layer in norms]
    try:
        with torch.no_grad():
            module.double()(sample.double())
    finally:
        module.float()
        for handle in handles:
            handle.remove()

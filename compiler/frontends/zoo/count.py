"""Parameters and multiply-accumulates of a module, by forward hooks (on the meta device too)."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import nn

from .bert import SelfAttention


def _conv_macs(layer: nn.Conv2d, output: torch.Tensor) -> int:
    return output.numel() * layer.weight[0].numel()


def _linear_macs(layer: nn.Linear, output: torch.Tensor) -> int:
    return output.numel() * layer.in_features


def _attention_macs(layer: SelfAttention, output: torch.Tensor) -> int:
    return 2 * output.numel() * output.shape[1]  # q k^T and weights v; its linear layers count themselves


MACS: dict[type[nn.Module], Callable[[Any, torch.Tensor], int]] = {
    nn.Conv2d: _conv_macs,
    nn.Linear: _linear_macs,
    SelfAttention: _attention_macs,
}
"""Multiply-accumulates of one call, by layer type; a layer of another type counts nothing."""


def count(module: nn.Module, inputs: Sequence[torch.Tensor]) -> tuple[int, int]:
    """Return (parameters, multiply-accumulates) of ``module`` called once with ``inputs``."""
    macs = 0

    def add(layer: nn.Module, _inputs: Any, output: torch.Tensor) -> None:
        nonlocal macs
        macs += MACS[type(layer)](layer, output)

    handles = [layer.register_forward_hook(add) for layer in module.modules() if type(layer) in MACS]
    try:
        with torch.no_grad():
            module(*inputs)
    finally:
        for handle in handles:
            handle.remove()
    return sum(parameter.numel() for parameter in module.parameters()), macs

"""Magnitude pruning of PyTorch models: what makes convolutions and linear layers sparse.

Masks are :mod:`torch.nn.utils.prune`'s own, so that training goes on under them, and compilation bakes them in.
"""

from __future__ import annotations

import copy
from collections.abc import Callable, Sequence
from typing import Literal, TypeAlias

import torch
from torch import nn
from torch.nn.utils import prune as torch_prune

from dlas.errors import UsageError

__all__ = ["bake_masks", "prune"]

Scope = Literal["global", "layer"]
Structure = Literal["weight", "channel"]
Layer: TypeAlias = "nn.Conv2d | nn.Linear"
_LAYERS = (nn.Conv2d, nn.Linear)


def prune(
    model: nn.Module,
    amount: float,
    scope: Scope = "global",
    structure: Structure = "weight",
    *,
    layers: Sequence[type[Layer]] | None = None,
    steps: int = 1,
    fine_tune: Callable[[nn.Module], None] | None = None,
) -> nn.Module:
    """A copy of ``model`` whose layers have masks over the weights of least magnitude (L1).

    Args:
        model: any module.
        amount: the share of weights, or of output channels, that is zero in the end: above 0, below 1.
        scope: ``global`` compares all layers with each other, ``layer`` prunes each by ``amount``.
        structure: ``weight`` prunes single weights, ``channel`` whole output channels by the mean of their magnitudes.
        layers: the kinds of layers to prune, ``Conv2d``, ``Linear`` or both; None: both for ``weight``, ``Conv2d`` for
            ``channel`` (the outputs of a last linear layer are the model's own).
        steps: how many times some more are pruned, each by the same share of what is left.
        fine_tune: trains the model in place, under its masks, after each step.

    Returns:
        The copy, with masks as :func:`torch.nn.utils.prune.custom_from_mask` makes them. What is masked stays masked.

    Raises:
        UsageError: an amount, scope, structure, kind of layer or number of steps that cannot be, or a model without
            such layers.
    """
    where = "dlas.prune"
    if not 0 < amount < 1:
        raise UsageError(f"amount={amount} is not between 0 and 1", where=where)
    if scope not in ("global", "layer"):
        raise UsageError(f"unknown scope {scope!r}", where=where, hint="use 'global' or 'layer'")
    if structure not in ("weight", "channel"):
        raise UsageError(f"unknown structure {structure!r}", where=where, hint="use 'weight' or 'channel'")
    if steps < 1:
        raise UsageError(f"steps={steps} is not positive", where=where)
    kinds: tuple[type[Layer], ...] = _LAYERS if structure == "weight" else (nn.Conv2d,)
    if layers is not None:
        kinds = tuple(layers)
    for kind in kinds:
        if not (isinstance(kind, type) and issubclass(kind, _LAYERS)):
            raise UsageError(f"cannot prune {kind!r} layers", where=where, hint="use nn.Conv2d and nn.Linear")
    model = _copied(model)
    chosen = [layer for layer in model.modules() if isinstance(layer, kinds)]
    if not chosen:
        names = " or ".join(kind.__name__ for kind in kinds)
        raise UsageError(f"the model has no {names} layer", where=where)
    for step in range(1, steps + 1):
        share = 1 - (1 - amount) ** (step / steps)
        _mask(chosen, share, scope, structure)
        if fine_tune is not None:
            fine_tune(model)
    return model


def _mask(layers: list[Layer], share: float, scope: Scope, structure: Structure) -> None:
    """Masks ``share`` of all units (weights or channels), those that are masked already first of all."""
    with torch.no_grad():
        scores = [_scores(layer, structure) for layer in layers]
        groups = [torch.cat(scores)] if scope == "global" else scores
        dropped = torch.cat([_lowest(group, round(share * group.numel())) for group in groups])
        for layer, part in zip(layers, dropped.split([score.numel() for score in scores]), strict=True):
            kept = (~part).to(layer.weight.dtype)
            shape = layer.weight.shape if structure == "weight" else (-1, *[1] * (layer.weight.ndim - 1))
            mask = kept.reshape(shape).expand_as(layer.weight).contiguous()
            if torch_prune.is_pruned(layer):
                layer.weight_mask.mul_(mask)
                layer.weight = layer.weight_orig * layer.weight_mask
            else:
                torch_prune.custom_from_mask(layer, "weight", mask)


def _scores(layer: Layer, structure: Structure) -> torch.Tensor:
    magnitudes = layer.weight.detach().abs()
    return magnitudes.flatten() if structure == "weight" else magnitudes.flatten(1).mean(1)


def _lowest(scores: torch.Tensor, count: int) -> torch.Tensor:
    """True for the ``count`` lowest scores, the first ones among equals."""
    chosen = torch.zeros_like(scores, dtype=torch.bool)
    chosen[torch.argsort(scores, stable=True)[:count]] = True
    return chosen


def bake_masks(model: nn.Module) -> nn.Module:
    """The model itself, or a copy with zeros in place of the masks of :mod:`torch.nn.utils.prune`."""
    if not torch_prune.is_pruned(model):
        return model
    model = _copied(model)
    for layer in model.modules():
        for name in _masked(layer):
            torch_prune.remove(layer, name)
    return model


def _copied(model: nn.Module) -> nn.Module:
    # A masked weight is a result with a graph behind it, which deepcopy refuses.
    for layer in model.modules():
        for name in _masked(layer):
            setattr(layer, name, getattr(layer, name).detach())
    return copy.deepcopy(model)


def _masked(layer: nn.Module) -> list[str]:
    return [
        hook._tensor_name
        for hook in layer._forward_pre_hooks.values()
        if isinstance(hook, torch_prune.BasePruningMethod)
    ]

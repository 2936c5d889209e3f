"""The model zoo: published architectures in plain torch.nn with seeded random weights.

A model is named by a spec, ``NAME[,key=value...]``, such as ``wrn-40-2,groups=4`` or ``bert-base,seq=256``. Equal
specs give equal weights and inputs in every process. Parameters and multiply-accumulates are the literature's; for
the grouped families those of the GSPC paper (Gibson et al., ASAP 2020), Tables 5.2 to 5.4.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import nn

from dlas.errors import UsageError

from .count import count
from .registry import MODELS, ModelInfo, ZooModel, is_zoo_spec, list_models, parse_spec
from .weights import calibrate_batch_norms, prune_weights, seed_weights

__all__ = ["MODELS", "ModelInfo", "build", "count", "is_zoo_spec", "list_models", "parse_spec", "skeleton"]


def build(spec: str) -> tuple[nn.Module, tuple[torch.Tensor, ...]]:
    """Build the model that ``spec`` names.

    Returns:
        The module (float32, eval mode, no parameter requires a gradient) and its example inputs.

    Raises:
        UsageError: an unknown name, key or value; the error names what is known.
    """
    model, values, module = _create(spec)
    module = module.to_empty(device="cpu").eval()
    seed = values["seed"]
    seed_weights(module, seed)
    prune_weights(module, values["sparsity"])
    calibrate_batch_norms(module, model.calibration_sample(values))
    example = model.example(values, torch.Generator().manual_seed(seed + 1))
    return module.requires_grad_(False), (example,)


def skeleton(spec: str) -> tuple[nn.Module, tuple[torch.Tensor, ...]]:
    """The model of ``spec`` and its example inputs on the meta device: shapes only, no memory, milliseconds.

    Raises:
        UsageError: as :func:`build`.
    """
    model, values, module = _create(spec)
    example = model.example(values, torch.Generator().manual_seed(0))
    return module.eval().requires_grad_(False), (example.to("meta"),)


def _create(spec: str) -> tuple[ZooModel, dict[str, Any], nn.Module]:
    """The model of ``spec``, the value of every key, and the module on the meta device."""
    model, values = parse_spec(spec)
    try:
        with torch.device("meta"):
            return model, values, model.create(values)
    except UsageError as error:  # values that do not go together
        raise UsageError(error.found, where=f"zoo:{spec.removeprefix('zoo:')}", hint=error.hint) from error

"""Whole networks agree with float64, on one thread and on two, and every convolution has a schedule.

Three small ones on every run; all models and group variants with ``make test-zoo``.
"""

from __future__ import annotations

from typing import Any

import pytest

torch = pytest.importorskip("torch")
pytest.importorskip("torch_mlir.ir")
pytest.importorskip("iree.compiler")

from torch import nn  # noqa: E402

from dlas.compiler.frontends.zoo import build, list_models  # noqa: E402

SMALL = ["wrn-40-2,groups=4", "mobilenet-v2,size=64", "resnet18,size=64"]
# The key `groups` of each model that has it.
VARIANTS = {
    # The 18 networks of the GSPC paper.
    "wrn-40-2": ("S", "2", "4", "8", "16", "N"),
    "resnet34": ("S", "2", "4", "8", "16", "N"),
    "mobilenet-v2": ("S", "2", "4", "8", "16", "N"),
    "resnet18": ("8", "16", "N"),
    "resnet50": ("8", "N"),
    "mobilenet-v1": ("S", "8"),
    "layer": ("2", "8", "32", "N"),
}
ALL = [model.name for model in list_models()] + [
    f"{name},groups={groups}" for name, variants in VARIANTS.items() for groups in variants
]


def check(spec: str, agrees_with_float64: Any) -> None:
    model, inputs = build(spec)
    compilation = agrees_with_float64(model, inputs)
    convolutions = {name for name, module in model.named_modules() if isinstance(module, nn.Conv2d)}
    scheduled = {
        layer
        for record in compilation.artifact.kernels
        if record.schedule is not None and record.kind in ("conv", "grouped", "depthwise", "pointwise")
        for layer in record.layer.split(", ")
    }
    assert convolutions - scheduled == set(), "convolutions without a schedule"
    assert [item for item in compilation.layout.refused if "conv" in item[1]] == []


@pytest.mark.parametrize("spec", SMALL)
def test_small(spec: str, agrees_with_float64) -> None:
    check(spec, agrees_with_float64)


@pytest.mark.zoo
@pytest.mark.parametrize("spec", ALL)
def test_all(spec: str, agrees_with_float64) -> None:
    check(spec, agrees_with_float64)


def test_every_model_with_groups_has_variants() -> None:
    assert {model.name for model in list_models() if "groups" in model.keys} == set(VARIANTS)

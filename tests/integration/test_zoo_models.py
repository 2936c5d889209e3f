"""Whole networks agree with float64, on one thread and on two, and every convolution has a schedule.

Three small ones on every run; all models and group variants with ``make test-zoo``.
"""

from __future__ import annotations

from typing import Any

import pytest

torch = pytest.importorskip("torch")
pytest.importorskip("torch_mlir.ir")
pytest.importorskip("iree.compiler")

from dlas.compiler.frontends.zoo import build, list_models  # noqa: E402

SMALL = ["wrn-40-2,groups=4", "mobilenet-v2,size=32", "resnet18,size=64"]
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


def check(spec: str, agrees_with_float64: Any, schedules_of: Any) -> None:
    model, inputs = build(spec)
    schedules = schedules_of(agrees_with_float64(model, inputs))
    assert [layer for layer, schedule in schedules.items() if schedule is None] == []


@pytest.mark.parametrize("spec", SMALL)
def test_small(spec: str, agrees_with_float64, schedules_of) -> None:
    check(spec, agrees_with_float64, schedules_of)


@pytest.mark.zoo
@pytest.mark.parametrize("spec", ALL)
def test_all(spec: str, agrees_with_float64, schedules_of) -> None:
    check(spec, agrees_with_float64, schedules_of)


def test_every_model_with_groups_has_variants() -> None:
    assert {model.name for model in list_models() if "groups" in model.keys} == set(VARIANTS)

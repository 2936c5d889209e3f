"""What of the sparsifier's loops can be raised to vectors on tensors, and what is refused."""

from __future__ import annotations

import pytest

pytest.importorskip("torch_mlir.ir")
pytest.importorskip("iree.compiler")

from iree.compiler import ir  # noqa: E402

from dlas.passes.plan import Refusal  # noqa: E402
from dlas.passes.raise_loops import Plan  # noqa: E402
from dlas.passes.sparsifier import NAME, sparsified_loops  # noqa: E402


def analyze(text: str, step: int) -> Plan | Refusal:
    module = ir.Module.parse(text)
    return Plan.analyze(module.body.operations[0].operation, step)


@pytest.mark.parametrize("element", ["f32", "f64"])
def test_the_sparsifiers_loops_are_as_expected(element: str) -> None:
    text = sparsified_loops(3, 20, 32, element)
    assert f"@{NAME}(" in text and "sparse_tensor" not in text
    with ir.Context(), ir.Location.unknown():
        plan = analyze(text, 16)
        assert isinstance(plan, Plan)
        assert plan.pixels == 32


CASES = [
    ("a loop of 32 iterations from 0, by 1, is not in steps of 24", sparsified_loops(3, 20, 32, "f32"), 24),
    (
        "memref.alloc in the sparsifier's loops",
        "func.func @f(%out: memref<8xf32>) { %a = memref.alloc() : memref<8xf32> return }",
        8,
    ),
    ("0 stores in the sparsifier's loops", "func.func @f(%out: memref<8xf32>) { return }", 8),
    (
        "no loop along the last index of the store",
        "func.func @f(%v: f32, %out: memref<8xf32>) {"
        "  %i = arith.constant 0 : index memref.store %v, %out[%i] : memref<8xf32> return }",
        8,
    ),
]


@pytest.mark.parametrize(("reason", "text", "step"), CASES)
def test_refusals(reason: str, text: str, step: int) -> None:
    with ir.Context(), ir.Location.unknown():
        assert analyze(text, step) == Refusal(reason)

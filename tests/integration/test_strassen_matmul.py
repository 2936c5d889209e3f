"""Linear layers by Strassen's algorithm: agree with float64, are chosen where they pay, and say why they cannot be."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

torch = pytest.importorskip("torch")
pytest.importorskip("torch_mlir.ir")
pytest.importorskip("iree.compiler")

from torch import nn  # noqa: E402

from dlas.compiler.pipeline import Options, compile_model  # noqa: E402
from dlas.dialects import TransformScript  # noqa: E402
from dlas.errors import ScheduleError  # noqa: E402
from dlas.schedules.knobs import VectorUnit  # noqa: E402
from dlas.schedules.rules import Rules  # noqa: E402


class Layers(nn.Module):
    """Two that read one input, with a bias, GELU, a residual, and a result of their own."""

    def __init__(self, k: int, n: int) -> None:
        super().__init__()
        torch.manual_seed(3)
        self.first, self.second = nn.Linear(k, n), nn.Linear(k, n, bias=False)

    def forward(self, x, y):
        second = self.second(x)
        return nn.functional.gelu(self.first(x)) + y, second, torch.relu(second)


def by_strassen(**knobs: int) -> TransformScript:
    script = TransformScript("strassen", "%module")
    script.annotate(script.match_ops("linalg.matmul"), "dlas.knobs", {"schedule": "strassen_matmul", **knobs})
    return script


def tensors(m: int, k: int, n: int) -> tuple[Any, Any]:
    generator = torch.Generator().manual_seed(5)
    return torch.randn(m, k, generator=generator), torch.randn(m, n, generator=generator)


@pytest.mark.parametrize(("m", "k", "n"), [(37, 64, 200), (16, 96, 33), (128, 32, 64)])
def test_agrees_with_float64(m: int, k: int, n: int, avx512: Any, agrees_with_float64: Callable[..., Any]) -> None:
    """Rows that no pair of tiles divides, columns that no workgroup does."""
    inputs = tensors(m, k, n)
    found = agrees_with_float64(Layers(k, n).eval(), inputs, transform_script=by_strassen(), target=avx512)
    records = [record for record in found.artifact.kernels if record.schedule]
    assert {record.schedule for record in records} == {"strassen_input", "strassen_matmul"}
    # Both read the same sums.
    assert sum(record.calls for record in records if record.schedule == "strassen_input") == 1


def test_knobs_are_those_asked_for(avx512: Any, agrees_with_float64: Callable[..., Any]) -> None:
    asked = {"rows": 5, "t_o": 32, "k_w": 64}
    script = by_strassen(**asked)
    found = agrees_with_float64(Layers(64, 256).eval(), tensors(21, 64, 256), transform_script=script, target=avx512)
    knobs = [record.knobs for record in found.artifact.kernels if record.schedule == "strassen_matmul"]
    assert knobs and all({name: each[name] for name in asked} == asked for each in knobs)


@pytest.mark.parametrize(
    ("shape", "knobs", "message"),
    [
        ((16, 48, 64), {}, "strassen_matmul: takes a multiple of 32 inputs, and more than 16 outputs"),
        ((16, 64, 16), {}, "strassen_matmul: takes a multiple of 32 inputs, and more than 16 outputs"),
        ((7, 64, 64), {}, "strassen_matmul: no two register tiles fit 7 rows and the registers"),
        ((16, 64, 64), {"t_o": 24}, "strassen_matmul: t_o=24 does not fit: it may be 16, 32"),
        ((16, 64, 64), {"rows": 9}, "strassen_matmul: rows=9 does not fit: it may be 4, 5, 6, 7, 8"),
        ((16, 64, 64), {"k_w": 48}, "strassen_matmul: k_w=48 does not fit: it may be 32, 64"),
    ],
)
def test_what_cannot_be_is_an_error(
    shape: tuple[int, int, int], knobs: dict[str, int], message: str, avx512: Any
) -> None:
    m, k, n = shape
    with pytest.raises(ScheduleError) as error:
        options = Options(transform_script=by_strassen(**knobs))
        compile_model(Layers(k, n).eval(), tensors(m, k, n), avx512, options)
    assert message in str(error.value)


def test_where_it_is_forbidden(avx512: Any) -> None:
    options = Options(transform_script=by_strassen(), strassen=False)
    with pytest.raises(ScheduleError, match="strassen_matmul: --no-strassen forbids it"):
        compile_model(Layers(64, 64).eval(), tensors(16, 64, 64), avx512, options)


def test_chosen_where_it_is_estimated_to_be_faster() -> None:
    unit = VectorUnit(lanes=16, registers=32, fma_units=1, fma_latency=4, l2_kb=1024, l3_kb=32768)
    rules = Rules(unit, model=400 << 20)
    choice = rules.matmul(128, 3072, 768)
    assert choice.schedule == "strassen_matmul"
    assert choice.reason.startswith("7 products of halves, ") and "of matmul's time" in choice.reason
    # A few rows do not pay for 7/4 of the weights from memory.
    assert rules.matmul(8, 3072, 768).schedule == "matmul"
    without = Rules(unit, model=400 << 20, strassen=False)
    assert without.matmul(128, 3072, 768).schedule == "matmul"

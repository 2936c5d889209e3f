"""``dlas.compiler.explain``: how a compilation and a profile become rows."""

from __future__ import annotations

from dataclasses import dataclass
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

from dlas.compiler.explain import describe, explain, knob_meanings, random_inputs
from dlas.passes.layout_assignment import NCHW, Assignment, Implementation, LayoutOp, LayoutProblem
from dlas.passes.plan import Choice
from dlas.passes.registry import Note
from dlas.runtime.artifact import KernelRecord, TensorSpec
from dlas.runtime.profile import KernelTime
from dlas.runtime.roofline import Roofline

PEAK = Roofline(peak_gflops=100.0, bandwidth_gbs=10.0, simd_lanes=8, cached_at="2026-01-01T00:00:00+00:00")
CONV = KernelRecord("d1", "a, b", "grouped", "packed_conv", {"ow": 4}, "T_O=16", flops=4_000_000, bytes=1_000_000)
PACK = KernelRecord("d0", "", "pack", "transpose", {}, "transposes", flops=0, bytes=200_000)
LEFT = KernelRecord("d2", "c", "linalg.generic", None, {}, "no schedule for these ops", flops=0, bytes=0)


LOOPS = KernelRecord("d3", "d", "conv", None, {"ow": 4}, "schedule packed_conv does not apply", flops=8, bytes=8)


def compilation(
    *kernels: KernelRecord,
    refused: list[tuple[str, str, str]] | None = None,
    assignments: list[Assignment] | None = None,
) -> Any:
    scheduled = [
        SimpleNamespace(
            export=kernel.name, kernel=kernel if kernel.knobs else None, applied=kernel.schedule is not None
        )
        for kernel in kernels
    ]
    notes = [Note("dlas-shrink-channels", "a", True, "8 to 7 channels"), Note("dlas-name-layers", "b", False, "none")]
    return SimpleNamespace(
        scheduled=scheduled,
        imported=SimpleNamespace(notes=[*notes, Note("dlas-shrink-channels", "b", False, "c reads them")]),
        artifact=SimpleNamespace(model="net", kernels=kernels),
        target=SimpleNamespace(name="x86_64"),
        layout=SimpleNamespace(
            refused=refused or [],
            assignments=assignments or [],
            padded=[("a", "groups")],
            apart=[("a", "b", "apart they are faster")],
            choices=[],
        ),
    )


def test_times_make_rates_and_shares() -> None:
    measured = (KernelTime("d1", 2, 100.0, 0.8), KernelTime("d0", 1, 20.0, 0.16), KernelTime("d2", 1, 5.0, 0.04))
    times = {time.name: time for time in measured}
    explanation = describe(compilation(PACK, LEFT, CONV), times, PEAK)
    conv, pack, left = explanation.kernels  # slowest first
    assert (conv.name, pack.name, left.name) == ("d1", "d0", "d2")
    assert conv.gflops == pytest.approx(2 * 4e6 / 100e-6 / 1e9)
    assert conv.peak_share == pytest.approx(0.8)
    assert conv.gbs == pytest.approx(2 * 1e6 / 100e-6 / 1e9)
    assert (pack.gflops, pack.peak_share) == (None, None) and pack.gbs == pytest.approx(10.0)
    assert (left.gflops, left.gbs) == (None, None)
    assert explanation.time_us == pytest.approx(125.0)
    assert explanation.scheduled_share == pytest.approx(120 / 125)
    data = explanation.to_json()
    assert data["padded"] == [{"layer": "a", "what": "groups"}]
    assert data["apart"] == [{"depthwise": "a", "pointwise": "b", "reason": "apart they are faster"}]
    stay = {"layers": "b", "what": "channels of zeros stay: c reads them"}
    assert data["shrunk"] == [{"layers": "a", "what": "8 to 7 channels"}, stay]
    assert data["roofline"]["peak_gflops"] == 100.0 and data["kernels"][0]["layer"] == "a, b"


def test_layouts_and_what_the_alternatives_would_have_cost() -> None:
    blocks = Implementation(("nChw8c",), "nChw8c", 100.0, Choice("packed_conv", {}, "fits"))
    rows = Implementation((NCHW,), NCHW, 130.0, Choice("w_lanes", {}, "fits"))
    reader = LayoutOp("", "", (1,), None, (Implementation((NCHW,), NCHW, 0.0),))
    problem = LayoutProblem(lambda *_: 10.0, [LayoutOp("a", "conv", (0,), 1, (blocks, rows)), reader])
    explanation = describe(compilation(CONV, assignments=[problem.solve()]), {}, None)
    (layout,) = explanation.layouts
    assert (layout.layer, layout.op) == ("a", "conv")
    assert (layout.chosen.schedule, layout.chosen.reads, layout.chosen.cycles) == ("packed_conv", "nChw8c", 100.0)
    (other,) = layout.alternatives
    assert (other.schedule, other.writes, other.cycles, other.extra_cycles) == ("w_lanes", NCHW, 130.0, 10.0)
    assert explanation.layout_cycles == 120.0 and explanation.layout_exact
    assert explanation.to_json()["layouts"]["ops"][0]["alternatives"][0]["extra_cycles"] == 10.0


def test_without_times_the_order_is_the_modules() -> None:
    explanation = describe(compilation(PACK, LEFT, CONV), {}, None, "not asked for")
    assert [kernel.name for kernel in explanation.kernels] == ["d0", "d2", "d1"]
    assert explanation.time_us is None and explanation.scheduled_share is None
    assert explanation.to_json()["untimed"] == "not asked for"


def test_a_kernel_that_was_not_recorded_has_no_time() -> None:
    explanation = describe(compilation(PACK, CONV), {"d1": KernelTime("d1", 1, 50.0, 1.0)}, None)
    assert [kernel.time_us for kernel in explanation.kernels] == [50.0, None]
    assert explanation.kernels[0].peak_share is None  # no probe
    assert explanation.time_us == 50.0


def test_a_refusal_is_the_reason_of_its_layers_kernel() -> None:
    refused = [("c", "linalg.conv_2d_nchw_fchw", "f64 convolutions have no schedule"), ("", "linalg.x", "other")]
    explanation = describe(compilation(LEFT, CONV, refused=refused), {}, None)
    assert explanation.kernels[0].reason == "f64 convolutions have no schedule"
    assert explanation.kernels[1].reason == "T_O=16"
    assert [op.layer for op in explanation.refused] == ["c", ""]


def test_the_fallback_says_who_made_the_code() -> None:
    explanation = describe(compilation(CONV, LEFT, LOOPS, refused=[("d", "linalg.x", "other")]), {}, None)
    assert [kernel.fallback for kernel in explanation.kernels] == [None, "IREE", "plain loops"]
    assert explanation.kernels[2].reason == "schedule packed_conv does not apply"


def test_random_inputs_fit_their_specs_and_repeat() -> None:
    specs = (
        TensorSpec("x", (2, 3), "float32"), TensorSpec("i", (4,), "int64"), TensorSpec("b", (64,), "bool"),
        TensorSpec("u", (), "uint8"), TensorSpec("h", (3,), "bfloat16"), TensorSpec("none", (0, 2), "float64"),
    )  # fmt: skip
    arrays = random_inputs(specs)
    assert [array.shape for array in arrays] == [spec.shape for spec in specs]
    assert [array.dtype.name for array in arrays] == [spec.dtype for spec in specs]
    assert set(arrays[1].tolist()) <= {0, 1} and arrays[2].any() and not arrays[2].all()
    for array, again in zip(arrays, random_inputs(specs), strict=True):
        np.testing.assert_array_equal(array, again)
    assert (random_inputs(specs, seed=1)[0] != arrays[0]).any()


@dataclass(frozen=True)
class Listed:
    """A schedule's knobs.

    Attributes:
        a: the first,
            on two lines.
        b, c: both others.
    """

    a: int
    b: int
    c: int


@dataclass(frozen=True)
class Told:
    """Knobs of a schedule: ``a`` pixels of a row per tile, ``b`` x ``c`` outputs of a tile. More ``x``."""

    a: int
    b: int
    c: int


def test_knob_meanings() -> None:
    assert knob_meanings(Listed) == {"a": "the first, on two lines", "b": "both others", "c": "both others"}
    assert knob_meanings(Told) == {
        "a": "pixels of a row per tile",
        "b": "b x c outputs of a tile",
        "c": "b x c outputs of a tile",
    }


def test_explain_times_a_model(tmp_path: Any) -> None:
    pytest.importorskip("torch_mlir")
    pytest.importorskip("iree.compiler")
    path = tmp_path / "add.mlir"
    path.write_text(
        "func.func @main(%x: tensor<64x64xf32>) -> tensor<64x64xf32> {\n"
        "  %0 = arith.addf %x, %x : tensor<64x64xf32>\n  return %0 : tensor<64x64xf32>\n}\n"
    )
    explanation = explain(path, timed=True, runs=3)
    (kernel,) = explanation.kernels
    assert kernel.schedule is None and kernel.calls == 1
    assert kernel.time_us is not None and kernel.time_us > 0 and kernel.time_share == pytest.approx(1.0)
    assert explanation.model == "add" and explanation.scheduled_share == 0.0

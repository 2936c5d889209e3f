"""Transform scripts say which schedules and knobs layers get: exactly those, or an error that says what would fit."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

torch = pytest.importorskip("torch")
pytest.importorskip("torch_mlir.ir")
pytest.importorskip("iree.compiler")

from iree.compiler import ir  # noqa: E402
from torch import nn  # noqa: E402

from dlas.compiler.backends import rules_for  # noqa: E402
from dlas.compiler.codegen import CodegenSession, lay_out  # noqa: E402
from dlas.compiler.explain import describe  # noqa: E402
from dlas.compiler.frontends import canonicalise, import_model, without_sparse_types  # noqa: E402
from dlas.compiler.pipeline import Options, compile_model  # noqa: E402
from dlas.compiler.scripts import ENTRY_POINT, request_schedules, schedule_script  # noqa: E402
from dlas.compiler.targets import load_target  # noqa: E402
from dlas.dialects import TransformScript  # noqa: E402
from dlas.errors import CompileError, DlasError, ScheduleError, UsageError  # noqa: E402

LANES = load_target("x86_64").simd_lanes


def pruned(layer: nn.Module, share: float) -> nn.Module:
    with torch.no_grad():
        flat = layer.weight.flatten()
        flat[torch.randperm(flat.numel(), generator=torch.Generator().manual_seed(7))[: int(share * flat.numel())]] = 0
    return layer


class Net(nn.Module):
    """A layer for each schedule; ``twice`` runs on two sizes."""

    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(3)
        self.stem = nn.Conv2d(3, 32, 3, 2, 1)
        self.plain = nn.Conv2d(32, 32, 3, 1, 1)
        self.small = nn.Conv2d(32, 32, 3, 1, 1, groups=8)
        self.depthwise = nn.Conv2d(32, 32, 3, 1, 1, groups=32)
        self.pointwise = nn.Conv2d(32, 48, 1)
        self.twice = nn.Conv2d(48, 48, 1)
        self.sparse = pruned(nn.Conv2d(48, 64, 3, 1, 1), 0.95)
        self.sparse_pointwise = pruned(nn.Conv2d(64, 40, 1), 0.9)
        self.dense = nn.Linear(40, 24)
        self.linear = pruned(nn.Linear(24, 64), 0.95)

    def forward(self, x):
        x = torch.relu(self.stem(x))
        x = self.plain(x) + x
        x = self.pointwise(torch.relu(self.depthwise(self.small(x))))
        x = self.twice(torch.nn.functional.avg_pool2d(self.twice(x), 2))
        x = torch.relu(self.sparse_pointwise(torch.relu(self.sparse(x))))
        return self.linear(torch.relu(self.dense(x.mean((2, 3)))))


INPUTS = (torch.randn(1, 3, 37, 29, generator=torch.Generator().manual_seed(5)),)


@pytest.fixture(scope="module")
def net() -> nn.Module:
    return Net().eval()


def script(annotations: dict[str, dict[str, int | str]]) -> TransformScript:
    made = TransformScript("tuned", "%module")
    for layer, values in annotations.items():
        made.annotate(made.match_layer(layer), "dlas.knobs", values)
    return made


@pytest.fixture(scope="module")
def choices(net: nn.Module) -> Callable[..., list[tuple[str, str, Any]]]:
    """The choices for the net, as a script asks for them."""
    target = load_target("x86_64")
    module = without_sparse_types(canonicalise(import_model(net, INPUTS)))
    session = CodegenSession(target)

    def choose(script: TransformScript | Path | None = None) -> list[tuple[str, str, Any]]:
        with session.context():
            parsed = ir.Module.parse(module)
            if script is not None:
                request_schedules(parsed, script)
            return lay_out(parsed, rules_for(target)).choices

    return choose


Choices = Callable[..., list[tuple[str, str, Any]]]


def plain(found: list[tuple[str, str, Any]]) -> list[tuple[str, str, str, dict[str, int]]]:
    return [(layer, op, choice.schedule, dict(choice.knobs)) for layer, op, choice in found]


def test_what_was_chosen_is_a_script_that_asks_for_it(
    net: nn.Module, choices: Choices, tmp_path: Path, agrees_with_float64: Callable[..., Any]
) -> None:
    found = choices()
    by_layer: dict[str, list[str]] = {}
    for layer, _, choice in found:
        by_layer.setdefault(layer, []).append(choice.schedule)
    assert by_layer["sparse"] == ["sparse_conv"] and len(by_layer["twice"]) == 2 and "dense" in by_layer
    path = tmp_path / "chosen.mlir"
    path.write_text(schedule_script(found).text())
    again = choices(path)
    assert plain(again) == plain(found)
    assert all(choice.asked and "asked for by the transform script" in choice.reason for *_, choice in again)
    compilation = agrees_with_float64(net, INPUTS, transform_script=path, fallbacks=True, target="x86_64")
    explanation = describe(compilation, {}, None)
    assert plain(compilation.layout.choices) == plain(found)
    assert "asked for by the transform script" in next(k for k in explanation.kernels if k.layer == "sparse").reason
    assert f"@{ENTRY_POINT}" in explanation.script and 'layer = "sparse_pointwise"' in explanation.script


ASKED: dict[str, dict[str, int | str]] = {
    "stem": {"schedule": "polyphase_conv", "m": 4, "ow": 1},
    "plain": {"schedule": "winograd_conv", "m": 2, "staged": 0},
    "small": {"schedule": "packed_conv", "ow": 3},
    "depthwise": {"schedule": "lane_conv", "ow": 5},
    "pointwise": {"schedule": "separable_conv", "rows": 1, "pixels": 4, "ow": 2},
    "twice": {"schedule": "packed_conv", "t_o": LANES, "ow": 1},
    "sparse": {"schedule": "sparse_conv", "variant": "pack", "channels": 20, "k_w": 8, "accumulators": 5},
    "sparse_pointwise": {"schedule": "sparse_conv", "tile": 1, "channels": 24, "accumulators": 2, "prefetch": 1},
    "dense": {"schedule": "matmul", "t_o": LANES, "depth": 3},
    "linear": {"schedule": "sparse_matvec", "n_w": 2 * LANES, "chunk": 7},
}
OTHERS: dict[str, dict[str, int | str]] = {
    "plain": {"schedule": "packed_conv", "t_o": LANES, "ow": 5},
    "small": {"schedule": "planar_conv", "t_k": 2, "accumulators": 4, "k_w": 8, "run": 3},
    "depthwise": {"schedule": "lane_conv"},
    "pointwise": {"schedule": "packed_conv"},
    "sparse": {"schedule": "sparse_conv", "variant": "shift", "channels": 5, "accumulators": 3},
    "sparse_pointwise": {"schedule": "packed_conv"},
    "linear": {"schedule": "sparse_matmul", "vectors": 1, "group": 2, "chunk": 11},
}


@pytest.mark.parametrize("asked", [ASKED, OTHERS], ids=["some", "others"])
def test_exactly_what_is_asked_for_is_used(
    asked: dict[str, dict[str, int | str]], net: nn.Module, agrees_with_float64: Callable[..., Any]
) -> None:
    compilation = agrees_with_float64(net, INPUTS, transform_script=script(asked), fallbacks=True)
    seen = set()
    for layer, _, choice in compilation.layout.choices:
        wanted = dict(asked.get(layer, {}))
        assert choice.asked == bool(wanted)
        if wanted:
            seen.add(layer)
            assert choice.schedule == wanted.pop("schedule")
            if "variant" in wanted:
                wanted[str(wanted.pop("variant"))] = 1
            assert {name: choice.knobs[name] for name in wanted} == wanted, layer
    assert seen == set(asked)
    used = {record.schedule for record in compilation.artifact.kernels if record.layer and record.reason}
    assert {str(values["schedule"]) for values in asked.values()} <= used


@pytest.mark.parametrize("size", [(5, 2), (2, 5)])
@pytest.mark.parametrize(
    "knobs",
    [
        {"schedule": "planar_conv"},
        {"schedule": "sparse_conv", "variant": "direct"},
        {"schedule": "sparse_conv", "variant": "pack"},
        {"schedule": "sparse_conv", "variant": "tile"},
    ],
    ids=lambda knobs: knobs.get("variant", "dense"),
)
def test_taps_that_read_padding_only(
    knobs: dict[str, int | str], size: tuple[int, int], side_by_side: Any, agrees_with_float64: Callable[..., Any]
) -> None:
    torch.manual_seed(11)
    layers = [pruned(nn.Conv2d(21, 20, 1, 3, 1), 0.9), pruned(nn.Conv2d(21, 15, 1, 3, 1, groups=3), 0.5)]
    inputs = [torch.randn(2, 21, *size) for _ in layers]
    asked = script({f"layers.{number}": knobs for number in range(len(layers))})
    compilation = agrees_with_float64(side_by_side(layers).eval(), inputs, transform_script=asked, fallbacks=True)
    assert [choice.schedule for *_, choice in compilation.layout.choices] == [knobs["schedule"]] * 2


def test_prefetch_takes_tiles_and_is_given_back(choices: Choices, tmp_path: Path) -> None:
    asked = script({"sparse": {"schedule": "sparse_conv", "accumulators": 1, "prefetch": 3}})
    found = choices(asked)
    knobs = next(choice.knobs for layer, _, choice in found if layer == "sparse")
    assert knobs["tile"] == 1 and knobs["prefetch"] == 3
    path = tmp_path / "chosen.mlir"
    path.write_text(schedule_script(found).text())
    assert "prefetch = 3" in path.read_text()
    assert plain(choices(path)) == plain(found)
    # Nothing is prefetched unasked.
    assert not any(choice.knobs.get("prefetch") for *_, choice in choices())


def test_all_pruned_layers_at_once(choices: Choices) -> None:
    made = TransformScript("direct")
    pruned_ = made.match_sparse("any", "linalg.conv_2d_nchw_fchw")
    made.annotate(pruned_, "dlas.knobs", {"schedule": "sparse_conv", "variant": "direct"})
    found = {layer: choice for layer, _, choice in choices(made)}
    assert {layer for layer, choice in found.items() if choice.asked} == {"sparse", "sparse_pointwise"}
    assert not any(found["sparse"].knobs.get(name) for name in ("shift", "pack", "tile"))


CONV, WINOGRAD, PACKED = ({"schedule": name} for name in ("sparse_conv", "winograd_conv", "packed_conv"))
PREFETCH = "sparse_conv: prefetch={} does not fit with accumulators={}: it may be {}"


@pytest.mark.parametrize(
    ("layer", "values", "message"),
    [
        ("sparse", {"schedule": "sparse"}, "layer sparse: schedule 'sparse' is none of a convolution: sparse_conv, pa"),
        ("sparse", {**CONV, "chunk": 4}, "layer sparse: sparse_conv has no knob 'chunk': accumulators, channels"),
        ("sparse", {**CONV, "channels": 49}, "layer sparse: sparse_conv: channels=49 does not fit: it may be 1 to 48"),
        ("sparse", {**CONV, "k_w": 7}, "k_w=7 does not fit: it may be 1, 2, 4, 8, 16, 32, 64"),
        ("sparse", {**CONV, "accumulators": 99}, "accumulators=99 does not fit: it may be 1 to"),
        ("sparse", {**CONV, "variant": "ell"}, "variant 'ell' is none of this layer's: direct, shift, pack, tile"),
        ("sparse", {**CONV, "variant": "tile", "pack": 1}, "variants pack and tile exclude each other"),
        ("sparse_pointwise", {**CONV, "variant": "shift"}, "variant 'shift' is none of this layer's: direct, pack, "),
        ("sparse", {**CONV, "variant": "pack", "prefetch": 1}, "prefetch=1 is for variant 'tile': it may be 0 for pa"),
        ("sparse", {**CONV, "accumulators": 9, "prefetch": 1}, PREFETCH.format(1, 9, "0 (")),
        ("sparse_pointwise", {**CONV, "accumulators": 1, "prefetch": 99}, PREFETCH.format(99, 1, "0 to ")),
        ("sparse_pointwise", {**CONV, "accumulators": 1, "prefetch": -1}, PREFETCH.format(-1, 1, "0 to ")),
        ("plain", CONV, "layer plain: sparse_conv: the weights are dense"),
        ("plain", {**WINOGRAD, "m": 3}, "winograd_conv: m=3 does not fit: it may be 2, 4"),
        (
            "plain",
            {**WINOGRAD, "m": 2, "prefetch": 1, "online": 0},
            "winograd_conv: online=0 does not fit beside m=2, prefetch=1: it may be 1",
        ),
        ("plain", {**WINOGRAD, "online": 2}, "winograd_conv: online=2 does not fit: it may be 0, 1"),
        ("plain", {**WINOGRAD, "m": 4, "rows": 99}, "winograd_conv: rows=99 does not fit beside m=4: it may be 1"),
        ("stem", {"schedule": "polyphase_conv", "m": 2}, "polyphase_conv: m=2 does not fit: it may be 4"),
        ("plain", {"schedule": "polyphase_conv"}, "polyphase_conv: 32 input channels in 1 groups fill a block"),
        ("plain", {**PACKED, "ow": 400}, "packed_conv: ow=400 does not fit: it may be 1 to 15"),
        ("plain", {**PACKED, "variant": "tile"}, "packed_conv: has no variants (found variant = 'tile')"),
        ("plain", {"schedule": "lane_conv"}, "lane_conv: groups of 32 to 32 channels are not equal parts of a block"),
        ("small", {"schedule": "planar_conv", "t_k": 3}, "planar_conv: t_k=3 does not fit: it may be 1, 2, 4"),
        ("small", {"schedule": "planar_conv", "t_k": 4, "k_w": 6}, "k_w=6 does not fit: it may be 4, 8, 16, 32"),
        ("pointwise", WINOGRAD, "winograd_conv: takes 3x3 convolutions of stride 1"),
        ("twice", {"schedule": "separable_conv"}, "twice: separable_conv: no depthwise or grouped convolution comes"),
        ("pointwise", {"schedule": "separable_conv", "m": 4}, "separable_conv: m=4 does not fit: it may be 0"),
        ("small", {"schedule": "winograd_lane_conv", "m": 8}, "winograd_lane_conv: m=8 does not fit: it may be 2, 4"),
        ("dense", {"schedule": "sparse_matvec"}, "layer dense: sparse_matvec: the weights are dense"),
        ("linear", PACKED, "schedule 'packed_conv' is none of a linear layer: matmul"),
        ("linear", {"schedule": "sparse_matvec", "n_w": 3}, "sparse_matvec: n_w=3 does not fit: it may be"),
        ("linear", {"schedule": "sparse_matmul", "vectors": 2}, "sparse_matmul: vectors=2 does not fit: it may be 1"),
        ("linear", {"t_o": 8}, "layer linear: dlas.knobs = {t_o = 8 : i64} names no schedule"),
        ("linear", {"schedule": "matmul", "t_o": "x"}, 'layer linear: t_o = "x" is not an integer'),
    ],
)
def test_what_cannot_be_is_an_error(layer: str, values: dict[str, int | str], message: str, choices: Choices) -> None:
    with pytest.raises(ScheduleError) as error:
        choices(script({layer: values}))
    assert message in str(error.value)


def test_scratch_that_does_not_suffice(choices: Choices) -> None:
    knobs = {"schedule": "sparse_conv", "variant": "pack", "channels": 48, "accumulators": 14}
    with pytest.raises(ScheduleError, match="accumulators=14, channels=48 need more than 96 KB of scratch"):
        choices(script({"sparse": knobs}))


def test_scripts_that_do_not_fit_the_model(net: nn.Module, choices: Choices, tmp_path: Path) -> None:
    def fails(kind: type[DlasError], message: str, script: TransformScript | Path) -> None:
        with pytest.raises(kind, match=message):
            choices(script)

    wrong = script({"sparze": {"schedule": "sparse_conv"}})
    message = "transform script tuned: the model has no convolution or linear layer 'sparze' .it has sparse, "
    fails(UsageError, message, wrong)
    everything = TransformScript("all")
    everything.annotate(everything.match_ops("linalg.generic"), "dlas.knobs", {"schedule": "rows"})
    fails(ScheduleError, "dlas.knobs on linalg.generic, which has no choice of schedules", everything)
    path = tmp_path / "script.mlir"
    fails(UsageError, "cannot be read", path)
    path.write_text("module {")
    fails(CompileError, "does not parse as MLIR", path)
    path.write_text("module {}")
    fails(UsageError, "no named sequence @__transform_main", path)
    with pytest.raises(UsageError, match="a transform script chooses among schedules"):
        Options(schedules=False, transform_script=path)
    with pytest.raises(UsageError, match="transform_script=.* is an option for CPUs"):
        compile_model(net, INPUTS, "vulkan-ampere", Options(transform_script=path))

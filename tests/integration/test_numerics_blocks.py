"""Networks whose layers have channel blocks of 16 and of 8 compute what torch computes in float64."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

torch = pytest.importorskip("torch")
pytest.importorskip("torch_mlir.ir")
pytest.importorskip("iree.compiler")

from torch import nn  # noqa: E402

from dlas.compiler.explain import describe  # noqa: E402
from dlas.compiler.pipeline import Options, compile_model  # noqa: E402
from dlas.dialects import TransformScript  # noqa: E402
from dlas.errors import ScheduleError  # noqa: E402


def script(blocks: Mapping[str, int], schedules: Mapping[str, str] | None = None) -> TransformScript:
    """Asks for blocks of so many channels by layer (``packed_conv`` where no schedule is named)."""
    made = TransformScript("blocks", "%module")
    for layer, block in blocks.items():
        schedule = (schedules or {}).get(layer, "packed_conv")
        made.annotate(made.match_layer(layer), "dlas.knobs", {"schedule": schedule, "block": block})
    return made


class Residual(nn.Module):
    """Padded layers, residuals, pooling and a mean, with 24 and 40 channels: blocks of 16 are half empty."""

    def __init__(self) -> None:
        super().__init__()
        self.stem = nn.Conv2d(3, 24, 3, padding=1)
        self.first, self.second = nn.Conv2d(24, 24, 3, padding=1), nn.Conv2d(24, 24, 5, padding=2)
        self.pool, self.wide = nn.MaxPool2d(3, 2, padding=1), nn.Conv2d(24, 40, 3, stride=2, padding=1)
        self.last = nn.Conv2d(40, 24, 3, padding=1)

    def forward(self, x: Any) -> Any:
        x = torch.nn.functional.silu(self.stem(x))
        x = x + self.second(self.first(x).relu())
        x = torch.exp(0.1 * self.pool(x)) + x[:, :, ::2, ::2].abs()
        y = self.last(self.wide(x).relu())
        return x, y.mean((2, 3))


LAYERS = ("stem", "first", "second", "wide", "last")


@pytest.mark.parametrize(
    "narrow", [(), ("first",), ("second", "last"), ("stem", "second", "wide"), ("first", "wide", "last"), LAYERS]
)
@pytest.mark.parametrize("batch", [1, 2])
def test_blocks_of_two_sizes(
    narrow: tuple[str, ...], batch: int, agrees_with_float64: Callable[..., Any], avx512: Any
) -> None:
    """Halos, residuals and pooling across blocks of 16 and of 8."""
    torch.manual_seed(len(narrow))
    blocks = {layer: 8 if layer in narrow else 16 for layer in LAYERS}
    inputs = (torch.randn(batch, 3, 17, 22),)
    compilation = agrees_with_float64(Residual().eval(), inputs, target=avx512, transform_script=script(blocks))
    records = {record.layer: record for record in compilation.artifact.kernels if record.problem}
    assert {layer: records[layer].knobs["block"] for layer in LAYERS} == blocks
    repacks = [record for record in compilation.artifact.kernels if record.kind == "repack"]
    assert bool(repacks) == (0 < len(narrow) < len(LAYERS))
    assert all(record.schedule == "repack" for record in repacks)


class Branches(nn.Module):
    """Parts of 8 and 24 channels, which are whole blocks of 8 only, read by a layer that may have either."""

    def __init__(self) -> None:
        super().__init__()
        self.stem, self.one = nn.Conv2d(3, 32, 3, padding=1), nn.Conv2d(32, 8, 1)
        self.three, self.down = nn.Conv2d(32, 24, 3, padding=1), nn.Conv2d(32, 32, 1)
        self.gate = nn.Conv2d(64, 64, 1)
        self.last = nn.Conv2d(64, 32, 3, padding=1)

    def forward(self, x: Any) -> Any:
        x = self.stem(x).relu()
        x = torch.cat([self.one(x), self.three(x).relu(), self.down(x)], 1)
        x = x * torch.sigmoid(self.gate(x.mean((2, 3), keepdim=True)))
        return self.last(x).mean((2, 3))


@pytest.mark.parametrize("blocks", [{}, {"last": 16, "one": 8}, {"stem": 16, "three": 8, "last": 8}, {"down": 16}])
def test_concatenations_and_gates(blocks: dict[str, int], agrees_with_float64: Callable[..., Any], avx512: Any) -> None:
    torch.manual_seed(0)
    inputs = (torch.randn(1, 3, 20, 18),)
    asked = {"transform_script": script(blocks)} if blocks else {}
    compilation = agrees_with_float64(Branches().eval(), inputs, target=avx512, **asked)
    assert not compilation.layout.refused, "parts of 8 and 24 channels are whole blocks of 8"
    chosen = {a.op.name: a.chosen.operands[0] for s in compilation.layout.assignments for a in s.ops if a.op.name}
    assert chosen["tensor.concat"] == "nChw8c"
    (alone,) = compile_model(
        Branches().eval(), inputs, replace(avx512, narrow_fma_units=None), Options()
    ).layout.refused
    assert alone[1:] == ("tensor.concat", "8 channels of a part are no whole blocks of 16")


@pytest.mark.parametrize(
    ("schedule", "groups"),
    [("winograd_conv", 1), ("winograd_conv", 4), ("winograd_lane_conv", 8), ("lane_conv", 8), ("lane_conv", 64)],
)
def test_schedules_on_narrow_blocks(
    schedule: str, groups: int, agrees_with_float64: Callable[..., Any], avx512: Any
) -> None:
    """Each between layers of 16: what reads a wider halo than the padding finds it in the repacked tensor."""

    class Sandwich(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.before, self.after = nn.Conv2d(16, 64, 1), nn.Conv2d(64, 16, 3, padding=1)
            self.middle = nn.Conv2d(64, 64, 3, padding=1, groups=groups)

        def forward(self, x: Any) -> Any:
            return self.after(self.middle(self.before(x).relu()).relu())

    torch.manual_seed(groups)
    asked = script({"before": 16, "middle": 8, "after": 16}, {"middle": schedule})
    inputs = (torch.randn(1, 16, 13, 11),)
    compilation = agrees_with_float64(Sandwich().eval(), inputs, target=avx512, transform_script=asked)
    kinds = [record.kind for record in compilation.artifact.kernels]
    assert kinds.count("repack") == 2


def test_a_separable_pair_has_one_block(agrees_with_float64: Callable[..., Any], avx512: Any) -> None:
    """The depthwise convolution follows the one behind it."""

    class Pair(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.before, self.spatial = nn.Conv2d(3, 48, 3, padding=1), nn.Conv2d(48, 48, 3, padding=1, groups=48)
            self.project, self.after = nn.Conv2d(48, 24, 1), nn.Conv2d(24, 48, 1)

        def forward(self, x: Any) -> Any:
            return self.after(self.project(self.spatial(self.before(x).relu()).relu()))

    for block in (8, 16):
        torch.manual_seed(block)
        asked = script({"project": block, "before": 24 - block}, {"project": "separable_conv"})
        inputs = (torch.randn(1, 3, 12, 15),)
        compilation = agrees_with_float64(Pair().eval(), inputs, target=avx512, transform_script=asked)
        (pair,) = (record for record in compilation.artifact.kernels if record.schedule == "separable_conv")
        assert pair.layer == "spatial, project" and pair.knobs["block"] == block


def test_a_block_that_there_is_not_is_refused(avx512: Any) -> None:
    layer = nn.Sequential(nn.Conv2d(32, 32, 3))
    inputs = (torch.randn(1, 32, 9, 9),)
    with pytest.raises(ScheduleError, match="packed_conv: block=4 does not fit: it may be 16, 8"):
        compile_model(layer, inputs, avx512, Options(transform_script=script({"0": 4})))
    asked = TransformScript("narrow", "%module")
    asked.annotate(asked.match_layer("0"), "dlas.knobs", {"schedule": "packed_conv", "t_o": 8})
    (choice,) = (
        choice for *_, choice in compile_model(layer, inputs, avx512, Options(transform_script=asked)).layout.choices
    )
    assert choice.knobs["block"] == 8, "the largest block that the other knobs fit"


def test_explain_shows_both_blocks(avx512: Any, tmp_path: Path) -> None:
    """The layouts, the alternatives, and what blocks of one size would have cost; its script asks for the same."""
    torch.manual_seed(0)
    inputs = (torch.randn(1, 3, 20, 18),)
    compilation = compile_model(Branches().eval(), inputs, avx512, Options())
    explanation = describe(compilation, {}, None)
    written = {op.op: op.chosen.writes for op in explanation.layouts}
    assert written["tensor.concat"] == "nChw8c"
    assert {way.writes for op in explanation.layouts for way in (op.chosen, *op.alternatives)} >= {"nChw8c", "nChw16c"}
    costs = dict(explanation.layout_blocks)
    assert costs["16 and 8"] == pytest.approx(explanation.layout_cycles) and costs["16"] > 1.01 * costs["16 and 8"]
    path = tmp_path / "script.mlir"
    path.write_text(explanation.script)
    again = compile_model(Branches().eval(), inputs, avx512, Options(transform_script=path))
    told = [
        [(layer, choice.schedule, choice.knobs) for layer, _, choice in c.layout.choices] for c in (compilation, again)
    ]
    assert told[0] == told[1]
    assert [a.blocks for a in again.layout.assignments] == [a.blocks for a in compilation.layout.assignments]

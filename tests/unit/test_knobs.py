"""Default knobs: what they must satisfy on every vector unit, whatever the numbers behind them are tuned to."""

from __future__ import annotations

from itertools import product
from typing import Any

import pytest

pytest.importorskip("iree.compiler")

from dlas.compiler.backends import rules_for  # noqa: E402
from dlas.compiler.targets import Target, list_targets, load_target  # noqa: E402
from dlas.passes.conv import ConvShape  # noqa: E402
from dlas.schedules.knobs import VectorUnit, lane_tile, register_tile  # noqa: E402
from dlas.schedules.rules import Rules, knobs_of  # noqa: E402

UNITS = {
    "SSE": VectorUnit(lanes=4, registers=16),
    "AVX2": VectorUnit(lanes=8, registers=16),
    "AVX-512": VectorUnit(lanes=16, registers=32),
    "NEON": VectorUnit(lanes=4, registers=32, fma_units=1, fma_latency=7),
}
WIDTHS = (1, 2, 3, 4, 5, 7, 8, 13, 14, 16, 28, 31, 32, 56, 112)


@pytest.fixture(params=UNITS)
def unit(request: pytest.FixtureRequest) -> VectorUnit:
    return UNITS[request.param]


def conv_shape(c_in: int, c_out: int, groups: int = 1, width: int = 16, kernel: int = 3) -> ConvShape:
    return ConvShape(1, c_in, c_out, groups, width, width, width, width, kernel, kernel, pads=(kernel // 2,) * 4)


def test_a_register_tile_fits_its_registers(unit: VectorUnit) -> None:
    for blocks, width in product(range(1, 9), WIDTHS):
        vectors, pixels = register_tile(unit, blocks, width)
        assert blocks % vectors == 0
        assert 1 <= pixels <= width
        # Accumulators, a vector of weights for each block, and the broadcast pixel.
        assert vectors * pixels + vectors + 1 <= unit.registers, (blocks, width)


def test_a_register_tile_hides_the_latency_where_the_row_allows(unit: VectorUnit) -> None:
    for blocks in (2, 4):
        vectors, pixels = register_tile(unit, blocks, 56)
        assert vectors * pixels >= unit.fma_units * unit.fma_latency


def test_a_tile_that_divides_the_row_beats_an_equal_one_that_does_not() -> None:
    """14 pixels as 2 x 7 rather than 12 + 2, and so on: no partial tile where none is needed."""
    unit = UNITS["AVX-512"]
    for width in (7, 14, 28, 56):
        _, pixels = register_tile(unit, 2, width)
        assert width % pixels == 0


def test_more_registers_never_make_a_tile_slower(unit: VectorUnit) -> None:
    def per_output(unit: VectorUnit, width: int) -> float:
        vectors, pixels = register_tile(unit, 4, width)
        return unit.cycles(vectors, pixels) / (vectors * pixels)

    larger = VectorUnit(unit.lanes, 2 * unit.registers, unit.fma_units, unit.fma_latency)
    assert per_output(larger, 56) <= per_output(unit, 56)


def test_cycles_are_bounded_by_what_a_core_issues(unit: VectorUnit) -> None:
    for vectors, pixels in product((1, 2, 4), (1, 3, 8)):
        cycles = unit.cycles(vectors, pixels)
        assert cycles >= vectors * pixels / unit.fma_units
        assert cycles >= unit.fma_latency
        assert cycles >= (vectors + pixels) / unit.loads


def test_a_lane_tile_keeps_accumulators_and_taps_in_registers(unit: VectorUnit) -> None:
    for width, taps in product(WIDTHS, (0, 1, 3, 5, 7)):
        pixels = lane_tile(unit, width, taps)
        assert 1 <= pixels <= width
        assert pixels == 1 or pixels + taps + 2 <= unit.registers


def test_knobs_follow_the_lanes(unit: VectorUnit, between_blocks: Any) -> None:
    rules = Rules(unit)
    for c_out, width in product((unit.lanes, 2 * unit.lanes, 12 * unit.lanes, 20), WIDTHS):
        choice = between_blocks(rules, conv_shape(4 * unit.lanes, c_out, width=width))
        assert choice.knobs["block"] == unit.lanes
        assert choice.knobs["t_o"] % unit.lanes == 0
        vectors = choice.knobs["t_o"] // unit.lanes
        assert -(-c_out // unit.lanes) % vectors == 0, "T_O divides the blocks of a group"
        assert unit.fits(vectors, choice.knobs["ow"])
        knobs_of(choice)


@pytest.mark.parametrize("winograd", [0, 2, 4])
def test_a_group_is_never_split_across_tiles(unit: VectorUnit, winograd: int, between_blocks: Any) -> None:
    rules = Rules(unit, winograd)
    for groups, blocks in product((2, 3, 4), (2, 3, 4, 6)):
        per_group = blocks * unit.lanes
        choice = between_blocks(rules, conv_shape(groups * per_group, groups * per_group, groups))
        assert choice.schedule in ("packed_conv", "winograd_conv")
        assert per_group % choice.knobs.get("k_w", choice.knobs["t_o"]) == 0
        assert per_group % choice.knobs["t_o"] == 0


@pytest.mark.parametrize("name", [name for name in list_targets() if isinstance(load_target(name), Target)])
def test_every_cpu_gets_rules_of_its_own_width(name: str) -> None:
    target = load_target(name)
    rules = rules_for(target)
    assert (rules.unit.lanes, rules.unit.registers) == (target.simd_lanes, target.vector_registers)
    assert (rules.unit.fma_units, rules.unit.fma_latency) == (target.fma_units, target.fma_latency)
    assert rules.block == target.simd_lanes

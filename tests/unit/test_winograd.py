"""Winograd's domain: the transforms against their matrices, the packed weights, and the choice of tiles."""

from __future__ import annotations

import math
from dataclasses import asdict
from functools import partial
from typing import Any

import numpy as np
import pytest

pytest.importorskip("iree.compiler")

from hypothesis import given  # noqa: E402
from hypothesis import strategies as st  # noqa: E402
from hypothesis.extra.numpy import arrays  # noqa: E402

from dlas.errors import ScheduleError  # noqa: E402
from dlas.passes.conv import ConvShape  # noqa: E402
from dlas.passes.packing import (  # noqa: E402
    NEAR,
    merge_groups,
    pack_winograd_lanes,
    pack_winograd_taps,
    pack_winograd_weights,
)
from dlas.passes.winograd import (  # noqa: E402
    SIZES,
    divide_weights,
    filter_1d,
    filter_row,
    input_1d,
    operations,
    output_1d,
    spread_tiles,
    transform_weights,
)
from dlas.schedules.knobs import SCRATCH_BYTES, VectorUnit  # noqa: E402
from dlas.schedules.winograd_conv import WinogradKnobs, winograd_conv  # noqa: E402
from dlas.schedules.winograd_cost import winograd_lane_tile, winograd_tile  # noqa: E402

numbers = st.floats(-8, 8, width=32)
UNITS = [VectorUnit(8, 16), VectorUnit(16, 32, l2_kb=1024), VectorUnit(4, 32, fma_units=1, fma_latency=7, l2_kb=128)]


class Counting:
    """Arithmetic on numbers that counts its operations."""

    def __init__(self) -> None:
        self.count = 0

    def add(self, x: float, y: float) -> float:
        self.count += 1
        return x + y

    def sub(self, x: float, y: float) -> float:
        self.count += 1
        return x - y

    def fma(self, factor: float, x: float, y: float) -> float:
        self.count += 1
        return factor * x + y


def transform_2d(one: Any, m: int, tile: list[list[float]], counting: Counting) -> list[list[float]]:
    """A 1-D transform applied to the columns, then to the rows of ``tile[row][column]``."""
    columns = [one(m, [row[q] for row in tile], counting) for q in range(len(tile[0]))]
    return [one(m, [column[p] for column in columns], counting) for p in range(len(columns[0]))]


@pytest.mark.parametrize("m", SIZES)
@given(data=st.data())
def test_a_tile_is_the_correlation(m: int, data: st.DataObject) -> None:
    tile = data.draw(arrays(np.float64, (m + 2, m + 2), elements=numbers))
    weights = data.draw(arrays(np.float64, (3, 3), elements=numbers))
    into = np.array(transform_2d(input_1d, m, tile.tolist(), Counting()))
    out = np.array(transform_2d(output_1d, m, (into * transform_weights(weights, m)).tolist(), Counting()))
    windows = np.lib.stride_tricks.sliding_window_view(tile, (3, 3))
    np.testing.assert_allclose(out, np.einsum("hwyx,yx->hw", windows, weights), atol=1e-9)


@pytest.mark.parametrize("m", SIZES)
@given(data=st.data())
def test_a_tile_with_its_filter_transformed_online_is_the_correlation(m: int, data: st.DataObject) -> None:
    tile = data.draw(arrays(np.float64, (m + 2, m + 2), elements=numbers))
    weights = data.draw(arrays(np.float64, (3, 3), elements=numbers))
    counting = Counting()
    taps = divide_weights(weights, m).tolist()
    columns = [[row[c] for row in taps] for c in range(3)]
    points = [
        list(filter_1d(m, [filter_row(m, a, column, counting) for column in columns], counting)) for a in range(m + 2)
    ]
    into = np.array(transform_2d(input_1d, m, tile.tolist(), Counting()))
    out = transform_2d(partial(output_1d, scaled=True), m, (into * points).tolist(), Counting())
    windows = np.lib.stride_tricks.sliding_window_view(tile, (3, 3))
    np.testing.assert_allclose(out, np.einsum("hwyx,yx->hw", windows, weights), atol=1e-9)
    assert counting.count == {2: 4 * 3 + 2 * 3 * 2, 4: 6 * 7 + (2 + 2 + 3 + 3) * 3}[m]


@pytest.mark.parametrize("m", SIZES)
def test_operations_are_those_of_the_code(m: int) -> None:
    into, out_of, scaled = Counting(), Counting(), Counting()
    tile = np.ones((m + 2, m + 2)).tolist()
    transform_2d(input_1d, m, tile, into)
    transform_2d(output_1d, m, tile, out_of)
    transform_2d(partial(output_1d, scaled=True), m, tile, scaled)
    assert scaled.count == out_of.count
    shared = Counting()
    input_1d(m, tile[0], shared)
    assert operations(m) == (into.count - 2 * shared.count, out_of.count)


@pytest.mark.parametrize(
    ("c_in", "c_out", "groups", "merge"), [(16, 16, 1, 1), (12, 20, 1, 1), (32, 64, 4, 1), (16, 16, 4, 2)]
)
def test_packed_weights_hold_every_weight_once(c_in: int, c_out: int, groups: int, merge: int) -> None:
    shape = ConvShape(1, c_in, c_out, groups, 8, 8, 8, 8, 3, 3, pads=(1, 1, 1, 1))
    weights = np.random.default_rng(0).normal(size=(c_out, c_in // groups, 3, 3)).astype(np.float32)
    block, t_o = 8, 8
    k_w = 16 if c_out // groups * merge > 8 else 8
    packed = pack_winograd_weights(shape, weights, merge, block, 2, 8, t_o, k_w)
    dense = merge_groups(shape, weights, merge)
    per_group, c_pg = dense.shape[1:3]
    workgroups = -(-per_group // k_w)
    assert packed.shape == (
        groups // merge * workgroups,
        k_w // t_o,
        -(-c_pg // 8),
        16,
        8,
        t_o // block,
        block,
    )
    expected = transform_weights(dense, 2).reshape(*dense.shape[:3], 16)
    for g, k, c in np.ndindex(dense.shape[:3]):
        tile, lane = divmod(k % k_w, t_o)
        found = packed[g * workgroups + k // k_w, tile, c // 8, :, c % 8, lane // block, lane % block]
        np.testing.assert_allclose(found, expected[g, k, c], rtol=1e-6, atol=1e-6)
    assert np.count_nonzero(packed) <= np.count_nonzero(expected)
    taps = pack_winograd_taps(shape, weights, merge, block, 4, 8, 8, k_w)
    assert taps.shape == (groups // merge * workgroups, k_w // 8, -(-c_pg // 8), 8, 9, 1, block)
    for g, k, c in np.ndindex(dense.shape[:3]):
        tile, lane = divmod(k % k_w, 8)
        found = taps[g * workgroups + k // k_w, tile, c // 8, c % 8, :, 0, lane]
        np.testing.assert_allclose(found, divide_weights(dense[g, k, c], 4).reshape(9), rtol=1e-6)


@pytest.mark.parametrize("unit", UNITS)
@given(
    per_group=st.sampled_from([8, 16, 24, 32, 64, 128, 512]),
    groups=st.sampled_from([1, 2, 4, 8]),
    height=st.integers(1, 60),
    width=st.integers(1, 60),
    largest=st.sampled_from([0, 2, 4]),
)
def test_a_chosen_tile_fits(
    unit: VectorUnit, per_group: int, groups: int, height: int, width: int, largest: int
) -> None:
    channels = per_group * groups
    shape = ConvShape(1, channels, channels, groups, height, width, height, width, 3, 3, pads=(1, 1, 1, 1))
    tile = winograd_tile(unit, shape, largest)
    if tile is None:
        return
    assert tile.m <= largest
    rows, columns = shape.tiles(tile.m)
    assert rows % tile.rows == 0
    assert columns % tile.columns == 0
    blocks = -(-per_group // unit.lanes) * unit.lanes
    width = tile.t_o + (0 if tile.staged else tile.depth)
    lines = unit.lanes * (tile.m + 2) * (3 * tile.columns * tile.m + 4)
    scratch = 4 * ((tile.m + 2) ** 2 * tile.rows * tile.columns * width + lines)
    assert scratch <= SCRATCH_BYTES
    assert blocks % tile.k_w == 0
    assert tile.k_w % tile.t_o == 0
    assert blocks % tile.depth == 0
    assert tile.depth == blocks or tile.k_w == tile.t_o, "the input is transformed inside the loop over register tiles"
    assert tile.depth == blocks or tile.online or not tile.staged
    assert tile.t_o == unit.lanes or not tile.online
    sizes = {name: value for name, value in asdict(tile).items() if name != "cycles"}
    knobs = WinogradKnobs(**sizes, block=unit.lanes)
    winograd_conv(knobs, {"rows": rows, "columns": columns, "depths": blocks // tile.depth})


def test_the_traffic_of_transformed_weights_decides() -> None:
    """512 channels: out of the domain at 4x4; at 7x7 with the larger tile only where the weights stay in the cache."""

    def tile(size: int, model: float) -> int | None:
        shape = ConvShape(1, 512, 512, 4, size, size, size, size, 3, 3, pads=(1, 1, 1, 1))
        found = winograd_tile(VectorUnit(8, 16, l3_kb=32 * 1024), shape, model=model)
        return found and found.m

    weights = 4 * 9 * 512 * 512 // 4
    assert tile(4, math.inf) is None
    assert tile(7, math.inf) == 2
    assert tile(7, weights) == 4


def test_few_tiles_of_many_channels_have_their_filter_transformed_online() -> None:
    """On Zen 4: fewer products than F(2x2), whose weights were as many as the memory delivers, at 4 tiles of F(4x4)."""
    zen4 = VectorUnit(16, 32, fma_units=1, l2_kb=1024, l3_kb=32 * 1024)

    def tile(unit: VectorUnit, per_group: int, size: int) -> tuple[int, int]:
        shape = ConvShape(1, 2 * per_group, 2 * per_group, 2, size, size, size, size, 3, 3, pads=(1, 1, 1, 1))
        found = winograd_tile(unit, shape)
        assert found is not None
        return found.m, found.online

    assert tile(zen4, 256, 7) == (4, 1)
    assert tile(zen4, 64, 8) == (4, 1)
    assert tile(zen4, 256, 28) == (4, 0)
    assert tile(VectorUnit(8, 16, l3_kb=32 * 1024), 256, 7) == (2, 0), "too few registers"


def test_the_points_of_a_tile_fall_on_different_lines() -> None:
    for m in SIZES:
        for tiles in range(1, 50):
            for width in (8, 16, 24, 64, 256, 512):
                room = spread_tiles(m, tiles, width)
                assert tiles <= room <= tiles + 2
                lines = [4 * room * width * point // 64 % 64 for point in range((m + 2) ** 2)]
                alone = [4 * tiles * width * point // 64 % 64 for point in range((m + 2) ** 2)]
                assert max(map(lines.count, lines)) <= max(5, *map(alone.count, alone))


@pytest.mark.parametrize(
    ("knobs", "message"),
    [
        ({"m": 3}, "m=3 has no transforms"),
        ({"t_o": 12}, "t_o=12 is not a multiple of block=8"),
        ({"k_w": 24}, "k_w=24 is not a multiple of t_o=16"),
        ({"depth": 12}, "depth=12 is not a multiple of block=8"),
        ({"online": 2}, "online=2 is neither 0 nor 1"),
        ({"online": 1}, "t_o=16: online takes t_o=8, one block"),
        ({"ow": 0}, "ow=0, rows=1, columns=4: not positive"),
        ({"columns": 0}, "columns=0: not positive"),
    ],
)
def test_knobs_that_cannot_work(knobs: dict[str, int], message: str) -> None:
    good = {"m": 4, "rows": 1, "columns": 4, "depth": 16, "t_o": 16, "ow": 4, "k_w": 32, "block": 8}
    with pytest.raises(ScheduleError, match=message):
        WinogradKnobs(**{**good, **knobs})


@pytest.mark.parametrize(
    ("extents", "message"), [({"rows": 3}, "rows=2 does not divide"), ({"columns": 6}, "columns=4")]
)
def test_a_part_that_does_not_divide(extents: dict[str, int], message: str) -> None:
    knobs = WinogradKnobs(m=4, rows=2, columns=4, depth=16, t_o=16, ow=4, k_w=32, block=8)
    with pytest.raises(ScheduleError, match=message):
        winograd_conv(knobs, {"rows": 2, "columns": 4, "depths": 1, **extents})


@pytest.mark.parametrize(
    ("channels", "per_group", "block"), [(16, 4, 8), (12, 4, 8), (16, 2, 8), (16, 8, 8), (32, 16, 16), (8, 4, 4)]
)
def test_lane_weights_are_met_by_near_lanes_and_sums_cross_over(channels: int, per_group: int, block: int) -> None:
    rng = np.random.default_rng(channels + per_group)
    weights = rng.normal(size=(channels, per_group, 3, 3)).astype(np.float32)
    packed = pack_winograd_lanes(weights, block, 4)
    blocks = -(-channels // block)
    assert packed.shape == (blocks, 36, per_group, block)
    x = np.zeros((blocks * block, 36))
    x[:channels] = rng.normal(size=(channels, 36))
    lanes = np.arange(block)
    found = np.zeros_like(x)
    for b, step in np.ndindex(blocks, per_group):
        near, far = step % NEAR, step - step % NEAR
        values = x[b * block + (lanes ^ near)] * packed[b, :, step].T
        found[b * block + (lanes ^ far)] += values
    points = transform_weights(weights, 4).reshape(channels, per_group, 36)
    groups = x[:channels].reshape(-1, per_group, 36).repeat(per_group, axis=0)
    np.testing.assert_allclose(found[:channels], (groups * points).sum(1), rtol=1e-5, atol=1e-5)
    assert not found[channels:].any()


def test_lanes_leave_the_domain_where_transforms_cost_more_than_they_save() -> None:
    def tile(per_group: int, size: int, largest: int = 4) -> int | None:
        shape = ConvShape(1, 32, 32, 32 // per_group, size, size, size, size, 3, 3, pads=(1, 1, 1, 1))
        return winograd_lane_tile(VectorUnit(8, 16), shape, largest)

    assert tile(4, 32) == 4
    assert tile(8, 32) == 4
    assert tile(2, 32) is None
    assert tile(4, 5) is None, "two rows of tiles for one row and a bit"
    assert tile(4, 32, largest=0) is None

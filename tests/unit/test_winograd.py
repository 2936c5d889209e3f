"""Winograd's domain: the transforms against their matrices, the packed weights, and the choice of tiles."""

from __future__ import annotations

import numpy as np
import pytest

pytest.importorskip("iree.compiler")

from hypothesis import given  # noqa: E402
from hypothesis import strategies as st  # noqa: E402
from hypothesis.extra.numpy import arrays  # noqa: E402

from dlas.errors import ScheduleError  # noqa: E402
from dlas.passes.conv import ConvShape  # noqa: E402
from dlas.passes.packing import merge_groups, pack_winograd_lanes, pack_winograd_weights  # noqa: E402
from dlas.passes.winograd import (  # noqa: E402
    SIZES,
    input_1d,
    operations,
    output_1d,
    transform_2d,
    transform_weights,
)
from dlas.schedules.knobs import SCRATCH_BYTES, VectorUnit, winograd_lane_tile, winograd_tile  # noqa: E402
from dlas.schedules.winograd_conv import WinogradKnobs, winograd_conv  # noqa: E402

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
def test_operations_are_those_of_the_code(m: int) -> None:
    into, out_of = Counting(), Counting()
    tile = np.ones((m + 2, m + 2)).tolist()
    transform_2d(input_1d, m, tile, into)
    transform_2d(output_1d, m, tile, out_of)
    assert operations(m) == (into.count, out_of.count)


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
    scratch = 4 * (tile.m + 2) ** 2 * tile.rows * tile.columns * (tile.depth + tile.t_o)
    assert scratch <= SCRATCH_BYTES
    assert blocks % tile.k_w == 0
    assert tile.k_w % tile.t_o == 0
    assert blocks % tile.depth == 0
    assert tile.depth == blocks or tile.k_w == tile.t_o, "the input is transformed inside the loop over register tiles"
    knobs = WinogradKnobs(tile.m, tile.rows, tile.columns, tile.depth, tile.t_o, tile.ow, tile.k_w, unit.lanes)
    winograd_conv(knobs, {"rows": rows, "columns": columns, "depths": blocks // tile.depth})


def test_many_weights_for_few_pixels_stay_out_of_the_domain() -> None:
    """512 channels at 7x7: nothing but the traffic of the transformed weights."""
    shape = ConvShape(1, 512, 512, 1, 7, 7, 7, 7, 3, 3, pads=(1, 1, 1, 1))
    assert winograd_tile(VectorUnit(8, 16), shape) is None


@pytest.mark.parametrize(
    ("knobs", "message"),
    [
        ({"m": 3}, "m=3 has no transforms"),
        ({"t_o": 12}, "t_o=12 is not a multiple of block=8"),
        ({"k_w": 24}, "k_w=24 is not a multiple of t_o=16"),
        ({"depth": 12}, "depth=12 is not a multiple of block=8"),
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


@pytest.mark.parametrize("channels", [16, 12])
def test_lane_weights_are_those_of_each_lane(channels: int) -> None:
    weights = np.random.default_rng(1).normal(size=(channels, 4, 3, 3)).astype(np.float32)
    packed = pack_winograd_lanes(weights, 8, 4)
    assert packed.shape == (2, 36, 4, 8)
    expected = transform_weights(weights, 4).reshape(channels, 4, 36)
    for channel in range(16):
        lane = packed[channel // 8, :, :, channel % 8].T
        np.testing.assert_allclose(lane, expected[channel] if channel < channels else 0, rtol=1e-6, atol=1e-6)


def test_lanes_leave_the_domain_where_transforms_cost_more_than_they_save() -> None:
    def tile(per_group: int, size: int, largest: int = 4) -> int | None:
        shape = ConvShape(1, 32, 32, 32 // per_group, size, size, size, size, 3, 3, pads=(1, 1, 1, 1))
        return winograd_lane_tile(VectorUnit(8, 16), shape, largest)

    assert tile(4, 32) == 4
    assert tile(2, 32) is None
    assert tile(4, 5) is None, "two rows of tiles for one row and a bit"
    assert tile(4, 32, largest=0) is None

"""Convolutions of stride 2 by phases: Toom-Cook's transforms, the phases of weights, and the choice of tiles."""

from __future__ import annotations

import math
from dataclasses import asdict

import numpy as np
import pytest

pytest.importorskip("iree.compiler")

from hypothesis import given  # noqa: E402
from hypothesis import strategies as st  # noqa: E402
from hypothesis.extra.numpy import arrays  # noqa: E402

from dlas.errors import ScheduleError  # noqa: E402
from dlas.passes.conv import ConvShape  # noqa: E402
from dlas.passes.plan import Choice, Refusal  # noqa: E402
from dlas.passes.polyphase import Polyphase  # noqa: E402
from dlas.passes.toom_cook import Filtering, transform_weights  # noqa: E402
from dlas.schedules.knobs import SCRATCH_BYTES, VectorUnit  # noqa: E402
from dlas.schedules.polyphase_conv import PolyphaseKnobs, polyphase_conv  # noqa: E402
from dlas.schedules.polyphase_cost import PolyphaseTile, polyphase_tile  # noqa: E402
from dlas.schedules.rules import Rules  # noqa: E402

numbers = st.floats(-8, 8, width=32)
UNITS = [VectorUnit(8, 16), VectorUnit(16, 32, l2_kb=1024), VectorUnit(4, 32, fma_units=1, fma_latency=7, l2_kb=128)]
KNOWN = [Filtering(m, r) for m in range(1, 7) for r in range(1, 7) if Filtering(m, r).known]


class Numbers:
    """Arithmetic on arrays of one precision."""

    def __init__(self, dtype: type[np.floating]) -> None:
        self.dtype = dtype

    def add(self, x: np.ndarray, y: np.ndarray) -> np.ndarray:
        return x + y

    def sub(self, x: np.ndarray, y: np.ndarray) -> np.ndarray:
        return x - y

    def fma(self, factor: float, x: np.ndarray, y: np.ndarray) -> np.ndarray:
        return self.dtype(factor) * x + y


def stem(size: int = 224, c_in: int = 3, c_out: int = 64, kernel: int = 7, stride: int = 2, **more: int) -> ConvShape:
    out = (size + 2 * (kernel // 2) - kernel) // stride + 1
    pads = (kernel // 2,) * 4
    steps = (stride, stride)
    return ConvShape(1, c_in, c_out, more.get("groups", 1), size, size, out, out, kernel, kernel, steps, pads=pads)


@pytest.mark.parametrize("filtering", KNOWN, ids=str)
@given(data=st.data())
def test_the_filtering_is_the_correlation(filtering: Filtering, data: st.DataObject) -> None:
    d = data.draw(arrays(np.float64, filtering.alpha, elements=numbers))
    g = data.draw(arrays(np.float64, filtering.r, elements=numbers))
    arithmetic = Numbers(np.float64)
    values = np.array(filtering.input(list(d), arithmetic)) * (filtering.weights() @ g)
    np.testing.assert_allclose(filtering.output(list(values), arithmetic), np.correlate(d, g, "valid"), atol=1e-9)


@pytest.mark.parametrize(
    ("m", "r", "operations"), [(2, 3, (4, 4)), (4, 3, (12, 10)), (2, 4, (10, 7)), (4, 4, (20, 14))]
)
def test_transforms_have_few_operations(m: int, r: int, operations: tuple[int, int]) -> None:
    assert Filtering(m, r).operations() == operations


@pytest.mark.parametrize(("m", "error"), [(2, 1e-6), (4, 1e-5)])
def test_errors_of_a_stem_in_single_precision(m: int, error: float) -> None:
    """Relative to the largest value: F(m x m, 4 x 4) over 12 phases of channels."""
    rng, filtering, arithmetic = np.random.default_rng(m), Filtering(m, 4), Numbers(np.float32)
    d = rng.standard_normal((filtering.alpha, filtering.alpha, 200, 12), dtype=np.float32)
    g = rng.standard_normal((12, 4, 4), dtype=np.float32)
    u = transform_weights(g, filtering, filtering).astype(np.float32)

    def both(one: object, tile: np.ndarray) -> np.ndarray:
        rows = np.array(one(list(tile), arithmetic))  # type: ignore[operator]
        return np.array(one(list(rows.swapaxes(0, 1)), arithmetic)).swapaxes(0, 1)  # type: ignore[operator]

    products = np.einsum("abtc,cab->abt", both(filtering.input, d), u)
    found = both(filtering.output, products)
    windows = np.lib.stride_tricks.sliding_window_view(d.astype(np.float64), (4, 4), axis=(0, 1))
    expected = np.einsum("hwtcyx,cyx->hwt", windows, g.astype(np.float64))
    assert np.abs(found - expected).max() < error * np.abs(expected).max()


@pytest.mark.parametrize("kernel", [5, 6, 7])
def test_packed_weights_are_the_phases(kernel: int) -> None:
    shape = stem(32, c_out=20, kernel=kernel)
    weights = np.random.default_rng(kernel).normal(size=(20, 3, kernel, kernel)).astype(np.float32)
    phases = Polyphase(shape, 4, 4, 8)
    packed = phases.pack_weights(weights, 24)
    taps, alpha = -(-kernel // 2), 4 + -(-kernel // 2) - 1
    assert packed.shape == (1, alpha, alpha, 12, 3, 8)
    for k, c, v, u in np.ndindex(24, 3, 2, 2):
        phase = np.zeros((taps, taps), np.float32)
        if k < 20:
            part = weights[k, c, v::2, u::2]
            phase[: part.shape[0], : part.shape[1]] = part
        found = packed[0, :, :, (2 * c + v) * 2 + u, k // 8, k % 8]
        np.testing.assert_allclose(found, transform_weights(phase, phases.rows, phases.columns), rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("unit", UNITS)
@given(
    c_in=st.sampled_from([1, 3]),
    c_out=st.sampled_from([3, 8, 24, 64, 96]),
    size=st.integers(8, 230),
    kernel=st.integers(4, 7),
    largest=st.sampled_from([2, 4]),
)
def test_a_chosen_tile_fits(unit: VectorUnit, c_in: int, c_out: int, size: int, kernel: int, largest: int) -> None:
    shape = stem(size, c_in, c_out, kernel)
    tile = polyphase_tile(unit, shape, largest)
    if isinstance(tile, Refusal):
        assert kernel == 4 and largest == 2, "F(2, 2) has no points of its own"
        return
    assert tile.m <= largest
    vectors, columns = tile.t_o // unit.lanes, shape.tiles(tile.m)[1]
    phases = Polyphase(shape, tile.m, tile.tiles, unit.lanes)
    assert 4 * sum(map(math.prod, phases.scratch(vectors))) <= SCRATCH_BYTES
    last = min((phases.parts - 1) * tile.tiles, columns - tile.tiles)
    assert last + tile.tiles == columns
    assert last + phases.vectors_read * unit.lanes <= phases.input_shape[4]
    sizes = {name: value for name, value in asdict(tile).items() if name != "cycles"}
    knobs = PolyphaseKnobs(**sizes, block=unit.lanes)
    polyphase_conv(knobs, {"columns": columns, "blocks": -(-c_out // unit.lanes)})


@pytest.mark.parametrize(
    ("shape", "largest", "reason"),
    [
        (stem(c_in=8), 4, "8 input channels in 1 groups fill a block of 8"),
        (stem(c_in=6, groups=2), 4, "6 input channels in 2 groups fill a block of 8"),
        (stem(stride=1), 4, "not of stride 2x2 without dilation"),
        (stem(), 0, "Winograd's domain is not to be used"),
        (stem(kernel=13), 4, "no transforms for a kernel of 13x13"),
    ],
)
def test_what_is_refused(shape: ConvShape, largest: int, reason: str) -> None:
    assert polyphase_tile(VectorUnit(8, 16), shape, largest) == Refusal(reason)


def test_the_cost_model_takes_large_kernels() -> None:
    def chosen(shape: ConvShape, largest: int = 4) -> str:
        ways = Rules(VectorUnit(8, 16), largest).implementations(shape)
        assert not isinstance(ways, Refusal)
        best = min(ways, key=lambda way: way.cycles).choice
        assert isinstance(best, Choice)
        return best.schedule

    assert chosen(stem()) == "polyphase_conv"
    assert chosen(stem(), 2) == "polyphase_conv"
    assert chosen(stem(kernel=5)) == "polyphase_conv"
    assert chosen(stem(kernel=3)) == "packed_conv"
    assert chosen(stem(), 0) == "packed_conv"


def test_a_stem_names_what_refused_it() -> None:
    ways = Rules(VectorUnit(8, 16), 0).implementations(stem())
    assert not isinstance(ways, Refusal)
    (choice,) = (way.choice for way in ways)
    assert choice is not None
    assert choice.reason.endswith("(not polyphase_conv: Winograd's domain is not to be used)")


@pytest.mark.parametrize(
    ("knobs", "message"),
    [
        ({"m": 3}, "m=3 has no transforms"),
        ({"t_o": 12}, "t_o=12 is not a multiple of block=8"),
        ({"ow": 0}, "ow=0, tiles=14: not positive"),
        ({"tiles": 0}, "ow=5, tiles=0: not positive"),
    ],
)
def test_knobs_that_cannot_work(knobs: dict[str, int], message: str) -> None:
    with pytest.raises(ScheduleError, match=message):
        PolyphaseKnobs(**{"m": 4, "tiles": 14, "t_o": 16, "ow": 5, "block": 8, **knobs})


@pytest.mark.parametrize(
    ("extents", "message"),
    [({"columns": 12}, "tiles=14 are more than the 12 of a row"), ({"blocks": 3}, "t_o=16 does not divide 3 blocks")],
)
def test_tiles_that_do_not_fit_the_result(extents: dict[str, int], message: str) -> None:
    knobs = PolyphaseKnobs(m=4, tiles=14, t_o=16, ow=5, block=8)
    with pytest.raises(ScheduleError, match=message):
        polyphase_conv(knobs, {"columns": 28, "blocks": 8, **extents})


def test_fewer_outputs_are_more_cycles() -> None:
    tiles = [polyphase_tile(VectorUnit(8, 16), stem(), largest) for largest in (2, 4)]
    assert [isinstance(tile, PolyphaseTile) and tile.m for tile in tiles] == [2, 4]

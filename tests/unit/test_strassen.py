"""Strassen's algorithm: the sums, the packed weights, and the tiles that are taken."""

from __future__ import annotations

import numpy as np
import pytest

pytest.importorskip("iree.compiler")

from dlas.errors import ScheduleError  # noqa: E402
from dlas.passes.conv import ConvShape  # noqa: E402
from dlas.passes.packing import pack_strassen_weights  # noqa: E402
from dlas.passes.strassen import FIRST, PLAIN, PRODUCTS, SECOND, THIRD, input_sums, weight_sums  # noqa: E402
from dlas.schedules.knobs import SCRATCH_BYTES, VectorUnit  # noqa: E402
from dlas.schedules.strassen_conv import StrassenKnobs  # noqa: E402
from dlas.schedules.strassen_cost import (  # noqa: E402
    register_tiles,
    strassen_scratch,
    strassen_tile,
    strassen_tiles,
    takes_strassen,
)

ZEN4 = VectorUnit(16, 32, fma_units=1, l2_kb=1024, l3_kb=32768)


class Exact:
    """Arithmetic on arrays."""

    def add(self, x: np.ndarray, y: np.ndarray) -> np.ndarray:
        return x + y

    def sub(self, x: np.ndarray, y: np.ndarray) -> np.ndarray:
        return x - y

    def fma(self, factor: float, x: np.ndarray, y: np.ndarray) -> np.ndarray:
        return factor * x + y


def pointwise(c: int, k: int, height: int, width: int, **changes: int) -> ConvShape:
    return ConvShape(1, c, k, changes.get("groups", 1), height, width, height, width, 1, 1)


def test_seven_products_are_the_product() -> None:
    rng = np.random.default_rng(0)
    a, b = rng.integers(-9, 10, (6, 8)), rng.integers(-9, 10, (8, 10))
    quadrants = [part for rows in np.split(a, 2, 0) for part in np.split(rows, 2, 1)]
    (b11, b12), (b21, b22) = (np.split(rows, 2, 1) for rows in np.split(b, 2, 0))
    left = input_sums([part.astype(float) for part in quadrants], Exact())
    right = weight_sums(b11, b12, b21, b22)
    assert len(left) == len(right) == PRODUCTS == len({*FIRST, SECOND, *THIRD})
    p = [x @ y for x, y in zip(left, right, strict=True)]
    kept = np.cumsum([p[q] for q in FIRST], axis=0)  # P1, U2, U3, C21
    c11, c21 = kept[0] + p[SECOND], kept[3]
    c22, c12 = p[THIRD[0]] + kept[2], p[THIRD[0]] + kept[1] + p[THIRD[1]]
    np.testing.assert_array_equal(np.block([[c11, c12], [c21, c22]]), a @ b)


def test_plain_operands_are_quadrants() -> None:
    quadrants = [np.array(float(10**i)) for i in range(4)]
    left = input_sums(quadrants, Exact())
    for q, (row, column) in PLAIN.items():
        assert left[q] == quadrants[2 * row + column]


@pytest.mark.parametrize(("k", "c", "block", "t_o", "k_w"), [(16, 8, 4, 4, 8), (14, 11, 4, 8, 16), (30, 20, 4, 4, 16)])
def test_packed_weights(k: int, c: int, block: int, t_o: int, k_w: int) -> None:
    weights = np.random.default_rng(k).standard_normal((k, c)).astype(np.float32)
    packed, last = pack_strassen_weights(weights, block, t_o, k_w)
    workgroups, blocks = -(-k // k_w), -(-c // block)
    half = blocks // 2 * block
    assert packed.shape == (workgroups, k_w // (2 * t_o), PRODUCTS, half, t_o // block, block)
    assert last.shape == (workgroups, k_w // (2 * t_o), 2, blocks % 2 * block, t_o // block, block)
    padded = np.pad(weights, ((0, -k % k_w), (0, -c % block)))
    # The first product's operand is B11, the fifth's B21, the last one's B22: each is found where it belongs.
    tile = padded[: 2 * t_o]
    np.testing.assert_array_equal(packed[0, 0, 0].reshape(half, t_o), tile[:t_o, :half].T)
    np.testing.assert_array_equal(packed[0, 0, SECOND].reshape(half, t_o), tile[:t_o, half : 2 * half].T)
    np.testing.assert_array_equal(packed[0, 0, THIRD[1]].reshape(half, t_o), tile[t_o:, half : 2 * half].T)
    if last.size:
        np.testing.assert_array_equal(last[0, 0, 1].reshape(block, t_o), tile[t_o:, 2 * half :].T)


@pytest.mark.parametrize("unit", [ZEN4, VectorUnit(8, 16), VectorUnit(4, 32)])
def test_tiles_fit_registers_and_scratch(unit: VectorUnit) -> None:
    for blocks in (2, 6, 8):
        for every in (False, True):
            tiles = list(register_tiles(unit, blocks, every=every))
            assert tiles and all(unit.fits(*tile) and blocks % (2 * tile[0]) == 0 for tile in tiles)
    assert not list(register_tiles(unit, 3))
    for c in (2 * unit.lanes, 1024):
        shape = pointwise(c, 8 * unit.lanes, 14, 14)
        for cores in (1, 4):
            for tile in strassen_tiles(unit, shape, cores):
                assert strassen_scratch(unit, shape, tile.t_o // unit.lanes, tile.pixels) <= SCRATCH_BYTES
                assert shape.c_out % tile.k_w == 0 and tile.k_w % (2 * tile.t_o) == 0
                left = shape.out_h % tile.rows * shape.out_w
                assert tile.rows == shape.out_h or tile.rows * shape.out_w % (2 * tile.pixels) == 0
                assert left == 0 or left >= 2 * tile.pixels


def test_cores_get_workgroups() -> None:
    """Bands of rows where there are some; else output channels are split, and the sums of inputs made for each."""
    whole = strassen_tile(ZEN4, pointwise(256, 256, 7, 7))
    split = strassen_tile(ZEN4, pointwise(256, 256, 7, 7), cores=2)
    bands = strassen_tile(ZEN4, pointwise(256, 256, 14, 14), cores=2)
    assert whole is not None and split is not None and bands is not None
    assert whole.k_w == 256 > split.k_w and whole.cycles < split.cycles
    assert bands.k_w == 256 and bands.rows < 14


def test_a_few_channels_are_no_product_of_halves() -> None:
    assert takes_strassen(ZEN4, pointwise(32, 32, 8, 8))
    assert not takes_strassen(ZEN4, pointwise(16, 32, 8, 8))
    assert not takes_strassen(ZEN4, pointwise(64, 64, 8, 8, groups=2))
    assert strassen_tile(ZEN4, pointwise(32, 48, 8, 8)) is None  # three blocks have no halves
    assert strassen_tile(ZEN4, pointwise(64, 64, 1, 4)) is None


@pytest.mark.parametrize(
    ("knobs", "message"),
    [
        ((4, 12, 32, 1, 8), "t_o=12 is not a multiple of block=8"),
        ((4, 16, 48, 1, 8), r"k_w=48 is not a multiple of 2 \* t_o=32"),
        ((0, 8, 16, 1, 8), "pixels=0, rows=1: not positive"),
    ],
)
def test_knobs_that_cannot_work(knobs: tuple[int, ...], message: str) -> None:
    with pytest.raises(ScheduleError, match=message):
        StrassenKnobs(*knobs)

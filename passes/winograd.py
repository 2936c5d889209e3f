"""Winograd's minimal filtering F(m x m, 3 x 3): the matrices, and the transforms with few operations.

Source: Lavin, Gray: Fast Algorithms for Convolutional Neural Networks, CVPR 2016 (arXiv:1509.09308), section 4:
``Y = A^T [(G g G^T) * (B^T d B)] A`` for tiles d of (m + 2)^2 inputs and Y of m^2 outputs.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from typing import Protocol, TypeVar

import numpy as np

V = TypeVar("V")
TAPS = 3
SIZES = (2, 4)
"""The output tiles m that have transforms."""


class Arithmetic(Protocol[V]):
    """What a transform needs of its values, vectors of the code that is emitted or arrays."""

    def add(self, x: V, y: V) -> V:
        """``x + y``."""

    def sub(self, x: V, y: V) -> V:
        """``x - y``."""

    def fma(self, factor: float, x: V, y: V) -> V:
        """``factor * x + y``."""


# Weights: G of equations 10 (m = 2) and of section 4.3 (m = 4).
_G = {
    2: np.array([[1, 0, 0], [0.5, 0.5, 0.5], [0.5, -0.5, 0.5], [0, 0, 1]]),
    4: np.array(
        [
            [1 / 4, 0, 0],
            [-1 / 6, -1 / 6, -1 / 6],
            [-1 / 6, 1 / 6, -1 / 6],
            [1 / 24, 1 / 12, 1 / 6],
            [1 / 24, -1 / 12, 1 / 6],
            [0, 0, 1],
        ]
    ),
}


# G without its factors, a row each, and those factors for weights that are divided by _SHARED in both directions: the
# output's transform, which makes up for them, then takes no more operations than without.
_SHARED = {2: 2.0, 4: -6.0}
_FACTORS = {2: (2.0, 1.0, 1.0, 2.0), 4: (-1.5, 1.0, 1.0, -0.25, -0.25, -6.0)}


def transform_weights(weights: np.ndarray, m: int) -> np.ndarray:
    """``G g G^T`` in float64: ``[..., 3, 3]`` to ``[..., m + 2, m + 2]``."""
    g = _G[m]
    return g @ weights.astype(np.float64) @ g.T


def input_1d(m: int, d: Sequence[V], a: Arithmetic[V]) -> list[V]:
    """``B^T d``: m + 2 inputs to m + 2 values, in 4 (m = 2) or 12 (m = 4) operations."""
    if m == 2:
        return [a.sub(d[0], d[2]), a.add(d[1], d[2]), a.sub(d[2], d[1]), a.sub(d[1], d[3])]
    even, odd = a.fma(-4, d[2], d[4]), a.fma(-4, d[1], d[3])
    far, near = a.sub(d[4], d[2]), a.sub(d[3], d[1])
    return [
        a.fma(4, d[0], a.fma(-5, d[2], d[4])),
        a.add(even, odd),
        a.sub(even, odd),
        a.fma(2, near, far),
        a.fma(-2, near, far),
        a.fma(4, d[1], a.fma(-5, d[3], d[5])),
    ]


def divide_weights(weights: np.ndarray, m: int) -> np.ndarray:
    """Weights ``[..., 3, 3]`` for :func:`filter_row`, in float64."""
    return weights.astype(np.float64) / _SHARED[m] ** 2


def filter_row(m: int, row: int, g: Sequence[V], a: Arithmetic[V]) -> V:
    """An element of ``G g`` but for its factor, which :func:`output_1d` makes up for (``scaled``).

    Of :func:`divide_weights`, in at most 3 operations.
    """
    if row in (0, m + 1):
        return g[0] if row == 0 else g[2]
    sum_ = a.add if row % 2 else a.sub
    if row > 2:
        return sum_(a.fma(4, g[2], g[0]), a.add(g[1], g[1]))
    return sum_(a.add(g[0], g[2]), g[1])


def filter_1d(m: int, g: Sequence[V], a: Arithmetic[V]) -> Iterator[V]:
    """All m + 2 elements of :func:`filter_row`, in 3 (m = 2) or 7 (m = 4) operations, each when it is asked for."""
    yield g[0]
    even = a.add(g[0], g[2])
    yield a.add(even, g[1])
    yield a.sub(even, g[1])
    if m == 4:
        far, near = a.fma(4, g[2], g[0]), a.add(g[1], g[1])
        yield a.add(far, near)
        yield a.sub(far, near)
    yield g[2]


def output_1d(m: int, v: Sequence[V], a: Arithmetic[V], *, scaled: bool = False) -> list[V]:
    """``A^T v``: m + 2 values to m outputs, in 4 (m = 2) or 10 (m = 4) operations.

    ``scaled``: the values are of weights by :func:`filter_row`.
    """
    if scaled:
        factors = _FACTORS[m]
        sum1, difference1 = a.add(v[1], v[2]), a.sub(v[1], v[2])
        if m == 2:
            return [a.fma(factors[0], v[0], sum1), a.fma(-factors[3], v[3], difference1)]
        sum2, difference2 = a.add(v[3], v[4]), a.sub(v[3], v[4])
        return [
            a.fma(factors[0], v[0], a.fma(factors[3], sum2, sum1)),
            a.fma(2 * factors[3], difference2, difference1),
            a.fma(4 * factors[3], sum2, sum1),
            a.fma(factors[5], v[5], a.fma(8 * factors[3], difference2, difference1)),
        ]
    if m == 2:
        return [a.add(v[0], a.add(v[1], v[2])), a.sub(a.sub(v[1], v[2]), v[3])]
    sum1, difference1 = a.add(v[1], v[2]), a.sub(v[1], v[2])
    sum2, difference2 = a.add(v[3], v[4]), a.sub(v[3], v[4])
    return [
        a.add(v[0], a.add(sum1, sum2)),
        a.fma(2, difference2, difference1),
        a.fma(4, sum2, sum1),
        a.fma(8, difference2, a.add(v[5], difference1)),
    ]


def operations(m: int) -> tuple[int, int]:
    """Vector operations of the input's and of the output's transform of one tile, along rows and along columns.

    In a row of tiles, the columns that two of them share are transformed once.
    """
    alpha = m + TAPS - 1
    per_input, per_output = {2: (4, 4), 4: (12, 10)}[m]
    return (m + alpha) * per_input, (alpha + m) * per_output


def accesses(m: int) -> tuple[int, int]:
    """Vector loads and stores of the input's and of the output's transform of one tile, each of which is two passes."""
    alpha = m + TAPS - 1
    return (m + alpha) * 2 * alpha, (alpha + m) * (alpha + m)


_WAY_BYTES, _SHARE_OF_WAYS = 4096, 5
_AHEAD_BYTES = 128 * 1024  # 64 and 256 KB are as fast on Zen 4


def prefetch_distance(workgroup: int) -> int:
    """Bytes ahead of a weight that is read at which weights are prefetched: the next workgroup's at most.

    ``workgroup``: bytes of a workgroup's weights. More hides no more, but would need room in level 2.
    """
    return min(workgroup, _AHEAD_BYTES)


def spread_tiles(m: int, tiles: int, width: int) -> int:
    """Tiles to make room for in a tensor ``[(m + 2)^2, tiles, width]`` of f32, so that a tile's points do not meet.

    A transform touches one tile at every point. Level-1 caches have ways of 4 KB on most cores: at a stride that shares
    a large power of two with it, the points fall on the same few lines and push each other out (10% of a kernel).
    """
    points = (m + TAPS - 1) ** 2

    def on_a_line(extra: int) -> int:
        return points * math.gcd(4 * (tiles + extra) * width, _WAY_BYTES) // _WAY_BYTES

    return tiles + min((0, 1, 2), key=lambda extra: (max(on_a_line(extra), _SHARE_OF_WAYS), extra))


def side_by_side(blocks: int) -> int:
    """How many of some channel blocks are transformed together: at 8 lanes two fill a line of 64 bytes."""
    return 2 if blocks % 2 == 0 else 1

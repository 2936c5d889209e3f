"""Winograd's minimal filtering F(m x m, 3 x 3): the matrices, and the transforms with few operations.

Source: Lavin, Gray: Fast Algorithms for Convolutional Neural Networks, CVPR 2016 (arXiv:1509.09308), section 4:
``Y = A^T [(G g G^T) * (B^T d B)] A`` for tiles d of (m + 2)^2 inputs and Y of m^2 outputs.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
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


def output_1d(m: int, v: Sequence[V], a: Arithmetic[V]) -> list[V]:
    """``A^T v``: m + 2 values to m outputs, in 4 (m = 2) or 10 (m = 4) operations."""
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


Transform1d = Callable[[int, Sequence[V], Arithmetic[V]], list[V]]


def transform_2d(one: Transform1d[V], m: int, tile: Sequence[Sequence[V]], a: Arithmetic[V]) -> list[list[V]]:
    """A 1-D transform applied to the columns, then to the rows of ``tile[row][column]``."""
    columns = [one(m, [row[q] for row in tile], a) for q in range(len(tile[0]))]
    return [one(m, [column[p] for column in columns], a) for p in range(len(columns[0]))]


def operations(m: int) -> tuple[int, int]:
    """Vector operations of the input's and of the output's transform of one tile."""
    alpha = m + TAPS - 1
    per_input, per_output = {2: (4, 4), 4: (12, 10)}[m]
    return 2 * alpha * per_input, (alpha + m) * per_output

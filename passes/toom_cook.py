"""Minimal filtering F(m, r) at any points: the Toom-Cook construction, with transforms in few operations.

``Y = A^T [(G g) * (B^T d)]``: m outputs of a filter g of r taps from m + r - 1 inputs d, and as many multiplications.
Source: Lavin, Gray: Fast Algorithms for Convolutional Neural Networks, CVPR 2016 (arXiv:1509.09308), section 4; points
come in pairs of opposite sign as far as they can, whose transforms share their even and their odd half, as in Barabasz,
Anderson, Soodhalter, Gregg: Error Analysis and Improving the Accuracy of Winograd Convolution for Deep Neural Networks,
ACM TOMS 2020, who also compare points by their errors.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from dlas.passes.winograd import Arithmetic, V


@dataclass(frozen=True)
class _Points:
    """0, pairs of opposite sign, one without a partner, and infinity."""

    pairs: tuple[float, ...]
    single: float | None = None
    infinity: bool = False

    @property
    def finite(self) -> list[float]:
        pairs = [point for p in self.pairs for point in (p, -p)]
        return [0.0, *pairs, *([] if self.single is None else [self.single])]


# By their number. For each the most exact of those with the fewest operations, on random data.
_POINTS = {
    4: _Points((1.0,), infinity=True),
    5: _Points((1.0, 2.0)),
    6: _Points((1.0, 2.0), infinity=True),
    7: _Points((1.0, 2.0), single=-0.5, infinity=True),
}


@dataclass(frozen=True)
class Filtering:
    """F(m, r). Values in the domain are in the order 0, p, -p, q, -q, the single point, infinity.

    Attributes:
        m: outputs of a tile.
        r: taps of the filter.
    """

    m: int
    r: int

    @property
    def alpha(self) -> int:
        """Points, and inputs of a tile."""
        return self.m + self.r - 1

    @property
    def known(self) -> bool:
        """Whether there are points for it."""
        return self.alpha in _POINTS

    @property
    def _points(self) -> _Points:
        return _POINTS[self.alpha]

    def weights(self) -> np.ndarray:
        """G in float64, ``[alpha, r]``: a filter's values at the points, over the products of their distances."""
        finite = self._points.finite
        rows = [[p**j / math.prod(p - q for q in finite if q != p) for j in range(self.r)] for p in finite]
        if self._points.infinity:
            rows.append([float(j == self.r - 1) for j in range(self.r)])
        return np.array(rows)

    def input(self, d: Sequence[V], a: Arithmetic[V]) -> list[V]:
        """``B^T d``: row p has the coefficients of the product of ``x - q`` over all other finite points q."""
        points = self._points
        rest = list(d)
        if points.single is not None:  # the factor that all other rows have
            rest = [_fma(a, -points.single, low, high) for low, high in zip(d, d[1:], strict=False)]
        product = _even_polynomial(points.pairs)
        values = [_evaluate(a, product, rest)]
        for p in points.pairs:
            others = _even_polynomial([q for q in points.pairs if q != p])
            even, odd = _evaluate(a, others, rest[2:]), _evaluate(a, others, rest[1:])
            values += [_fma(a, p, odd, even), _fma(a, -p, odd, even)]
        if points.single is not None:
            values.append(_evaluate(a, product, d[1:]))
        if points.infinity:
            values.append(_evaluate(a, product, rest[1:]))
        return values

    def output(self, v: Sequence[V], a: Arithmetic[V]) -> list[V]:
        """``A^T v``: output j is the sum of ``p^j v[p]`` over the finite points, and the last has infinity's value."""
        points = self._points
        pairs = v[1 : 1 + 2 * len(points.pairs)]
        rest = v[1 + len(pairs) :]
        halves = [(a.add(x, y), a.sub(x, y)) for x, y in zip(pairs[::2], pairs[1::2], strict=True)]
        outputs = []
        for j in range(self.m):
            terms = [(p**j, half[j % 2]) for p, half in zip(points.pairs, halves, strict=True)]
            if points.single is not None:
                terms.append((points.single**j, rest[0]))
            if j == 0:
                terms.append((1.0, v[0]))
            if j == self.m - 1 and points.infinity:
                terms.append((1.0, rest[-1]))
            terms.sort(key=lambda term: term[0] != 1)
            value = terms[0][1]
            for factor, term in terms[1:]:
                value = _fma(a, factor, term, value)
            outputs.append(value)
        return outputs

    def operations(self) -> tuple[int, int]:
        """Operations of the input's and of the output's transform."""
        return _count(self.input, self.alpha), _count(self.output, self.alpha)


def transform_weights(weights: np.ndarray, rows: Filtering, columns: Filtering) -> np.ndarray:
    """``G g G^T`` in float64: ``[..., r, r]`` to ``[..., alpha, alpha]``."""
    return rows.weights() @ weights.astype(np.float64) @ columns.weights().T


def _even_polynomial(pairs: Sequence[float]) -> list[float]:
    """Coefficients of the product of ``t - p^2``, t standing for ``x^2``, the constant one first."""
    coefficients = [1.0]
    for p in pairs:
        shifted, scaled = [0.0, *coefficients], [p * p * c for c in coefficients]
        coefficients = [high - low for high, low in zip(shifted, [*scaled, 0.0], strict=True)]
    return coefficients


def _evaluate(a: Arithmetic[V], coefficients: Sequence[float], d: Sequence[V]) -> V:
    """The sum of ``coefficients[i] * d[2 * i]``; the last coefficient is 1."""
    value = d[2 * (len(coefficients) - 1)]
    for i in reversed(range(len(coefficients) - 1)):
        value = _fma(a, coefficients[i], d[2 * i], value)
    return value


def _fma(a: Arithmetic[V], factor: float, x: V, y: V) -> V:
    """``factor * x + y`` in one operation."""
    if factor == 1:
        return a.add(y, x)
    return a.sub(y, x) if factor == -1 else a.fma(factor, x, y)


class _Counter:
    """Arithmetic that only counts."""

    def __init__(self) -> None:
        self.count = 0

    def add(self, x: None, y: None) -> None:
        self.count += 1

    def sub(self, x: None, y: None) -> None:
        self.count += 1

    def fma(self, factor: float, x: None, y: None) -> None:
        self.count += 1


def _count(transform: Callable[..., Any], inputs: int) -> int:
    counter = _Counter()
    transform([None] * inputs, counter)
    return counter.count

"""Strassen's matrix product in Winograd's form: 7 products of halves instead of 8, with 15 sums.

    [C11 C12]   [A11 A12] [B11 B12]
    [C21 C22] = [A21 A22] [B21 B22]

    S1 = A21 + A22    T1 = B12 - B11    P1 = A11 B11    P5 = S1 T1    U2  = P1 + P6      C11 = P1 + P2
    S2 = S1 - A11     T2 = B22 - T1     P2 = A12 B21    P6 = S2 T2    U3  = U2 + P7      C12 = U2 + P5 + P3
    S3 = A11 - A21    T3 = B22 - B12    P3 = S4 B22     P7 = S3 T3                       C21 = U3 - P4
    S4 = A12 - S2     T4 = T2 - B21     P4 = A22 T4                                      C22 = U3 + P5

B are weights, whose sums are made at compile time. The products are taken in an order in which most sums of products
are FMAs into what an earlier product left in the accumulators (``FIRST``, ``SECOND`` and ``THIRD``).

Source: Strassen: Gaussian Elimination is not Optimal, Numerische Mathematik 13, 1969; Winograd: On Multiplication of
2 x 2 Matrices, Linear Algebra and its Applications 4, 1971. One level of it within a kernel's own loops: Huang, Smith,
Henry, van de Geijn: Strassen's Algorithm Reloaded, SC 2016. Errors grow by a small factor: Higham: Accuracy and
Stability of Numerical Algorithms, section 23.2.2.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from dlas.passes.winograd import Arithmetic, V

FIRST = range(0, 4)
"""P1, P6, P7, -P4, each added to those before: P1, U2, U3, C21."""

SECOND = 4
"""P2, added to P1: C11."""

THIRD = (5, 6)
"""P5, which added to U3 is C22; then P3, added to P5 and U2: C12."""

PRODUCTS = 7

PLAIN = {0: (0, 0), 3: (1, 1), 4: (0, 1)}
"""Products whose left operand is a quadrant itself: A11, A22 and A12, by row and column."""


def input_sums(quadrants: Sequence[V], arithmetic: Arithmetic[V]) -> list[V]:
    """The left operands of the products, in their order, from A11, A12, A21, A22."""
    a11, a12, a21, a22 = quadrants
    s1 = arithmetic.add(a21, a22)
    s2 = arithmetic.sub(s1, a11)
    return [a11, s2, arithmetic.sub(a11, a21), a22, a12, s1, arithmetic.sub(a12, s2)]


def weight_sums(b11: np.ndarray, b12: np.ndarray, b21: np.ndarray, b22: np.ndarray) -> np.ndarray:
    """The right operands of the products, in their order, along a new first axis; computed as f64."""
    b11, b12, b21, b22 = (part.astype(np.float64) for part in (b11, b12, b21, b22))
    t1 = b12 - b11
    t2 = b22 - t1
    return np.stack([b11, t2, b22 - b12, b21 - t2, b21, t1, b22]).astype(np.float32)

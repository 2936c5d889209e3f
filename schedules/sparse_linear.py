"""Linear layers of pruned weights: the knobs of their kernels, which are emitted as vector code, and what they cost.

Fitted to layers of 512 to 25088 inputs and 512 to 4096 outputs with 50 to 95% zeros, and 1 to 128 rows (AVX2).
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass

from dlas.errors import ScheduleError
from dlas.passes.sparse_linear import GATHER_GROUP, LARGEST_CHUNK
from dlas.schedules.costs import DISPATCH
from dlas.schedules.knobs import SCRATCH_BYTES, VectorUnit


@dataclass(frozen=True)
class SparseMatvecKnobs:
    """Knobs of :meth:`dlas.passes.sparse_linear_kernels.SparseLinearKernels.sparse_matvec`.

    Attributes:
        n_w: outputs of a workgroup.
        chunk: inputs at a time.
    """

    n_w: int
    chunk: int

    def __post_init__(self) -> None:
        _check("sparse_matvec", n_w=self.n_w, chunk=self.chunk)


@dataclass(frozen=True)
class SparseMatmulKnobs:
    """Knobs of :meth:`dlas.passes.sparse_linear_kernels.SparseLinearKernels.sparse_matmul`.

    Attributes:
        n_w: outputs of a workgroup.
        chunk: inputs at a time.
        vectors: vectors of rows of a tile.
        group: non-zeros of an iteration of the inner loop.
        chains: sums that they are added to in turn.
    """

    n_w: int
    chunk: int
    vectors: int
    group: int
    chains: int

    def __post_init__(self) -> None:
        numbers = {"n_w": self.n_w, "chunk": self.chunk, "vectors": self.vectors, "chains": self.chains}
        _check("sparse_matmul", **numbers)
        if self.group not in (1, 2, 4, 8):
            raise ScheduleError(f"group={self.group} is not 1, 2, 4 or 8", where="sparse_matmul")


def _check(where: str, **numbers: int) -> None:
    for name, number in numbers.items():
        if number < 1:
            raise ScheduleError(f"{name}={number} is not positive", where=where)
    if numbers["chunk"] > LARGEST_CHUNK:
        hint = f"use at most {LARGEST_CHUNK}"
        raise ScheduleError(f"chunk={numbers['chunk']} is more than 16 bits tell apart", where=where, hint=hint)


@dataclass(frozen=True)
class LinearTile:
    """Knobs of a kernel with its estimated cycles, and what to say of it."""

    knobs: Mapping[str, int]
    cycles: float
    text: str


# Bytes per cycle of weights: from memory, and from level 3 where a model's stay there.
_FROM_MEMORY, _FROM_L3 = 5.5, 18.0
# What work and traffic, from memory or level 3, do not hide of each other: the part of the smaller one that is added.
_MEMORY_LEFT, _L3_LEFT = 0.35, 0.1
# Share of the vector units' rate that dense products reach.
_DENSE_SHARE = 0.9
# Cycles per workgroup.
_WORKGROUP = 300.0
# sparse_matvec: columns of a chunk, of which inputs should stay in level 1; cycles per non-zero and per sum.
_GATHERED, _GATHER, _SUM = 4096, 1.05, 4.0
# sparse_matmul: how much slower than its loads the inner loop is; cycles per sum and chunk, and per vector of it that
# is kept in between; per line that a panel of rows brings from level 2; per element that is transposed.
_LOADS, _ROW, _KEEP, _LINE_FROM_L2, _TRANSPOSE = 1.15, 14.0, 1.2, 1.4, 0.5
# The same loop on vectors that are worked on in halves (Zen 4, 768 to 3072 and back, 128 rows).
_HALVES = 1.3
_LINE_BYTES = 64
# Bytes of a non-zero.
_NONZERO_BYTES = 6
# Outputs of a workgroup, at most.
_OUTPUTS = 256


def dense_cycles(unit: VectorUnit, m: int, n: int, k: int, model: float) -> float:
    """:func:`dlas.schedules.matmul.matmul`: its FMAs, or its weights from where they are."""
    fmas = m * k * -(-n // unit.lanes) / (unit.fma_units * _DENSE_SHARE)
    return max(fmas, 4 * n * k / _rate(unit, model))


def matvec_tile(unit: VectorUnit, m: int, n: int, k: int, nonzeros: int, model: float) -> LinearTile:
    """The knobs of ``sparse_matvec``, and its estimated cycles."""
    n_w = _outputs(unit, n, _OUTPUTS // 2)
    tiles, chunks = -(-n // n_w), -(-k // _GATHERED)
    slots = tiles * n_w * chunks
    stored = nonzeros + (GATHER_GROUP - 1) / 2 * min(slots, nonzeros)
    work = m * (stored * _GATHER + slots * _SUM)
    cycles = _together(unit, work, stored, model) + tiles * _WORKGROUP
    text = f"lanes on the non-zeros, {n_w} outputs of a row"
    return LinearTile({"n_w": n_w, "chunk": -(-k // chunks)}, cycles, text)


def matmul_tile(unit: VectorUnit, m: int, n: int, k: int, nonzeros: int, model: float) -> LinearTile | None:
    """The knobs of ``sparse_matmul`` with the fewest estimated cycles; None where a row is shorter than a vector."""
    if k < unit.lanes:
        return None
    return min(_matmul_tiles(unit, m, n, k, nonzeros, model), key=lambda tile: tile.cycles)


def _matmul_tiles(unit: VectorUnit, m: int, n: int, k: int, nonzeros: int, model: float) -> Iterator[LinearTile]:
    accumulators = max(1, unit.registers * 7 // 8)
    for vectors in range(1, min(-(-m // unit.lanes), accumulators) + 1):
        chains = group = next(c for c in (1, 2, 4, 8) if c == 8 or c * _step(unit, vectors, c) >= unit.fma_latency)
        if vectors * chains > accumulators:
            continue
        rows = vectors * unit.lanes
        tiles = -(-m // rows)
        n_w = _outputs(unit, n, min(_OUTPUTS, SCRATCH_BYTES * 2 // 3 // (4 * rows)))
        across = -(-n // n_w)
        for chunk in dict.fromkeys(min(k, size) for size in (64, 128, 256, 512, 1024, 2048, 4096, LARGEST_CHUNK)):
            chunks = -(-k // chunk)
            chunk = -(-k // chunks)
            slots = across * n_w * chunks
            stored = nonzeros + (group - 1) / 2 * min(slots, nonzeros)
            missed = max(0.0, 1 - 1024 * unit.l1_kb / (4 * chunk * rows))
            lines = max(0.5, 4 * rows / _LINE_BYTES)
            nonzero = _step(unit, vectors, group) * _LOADS + missed * lines * _LINE_FROM_L2
            kept = _ROW + vectors * _KEEP * (2 if chunks > 1 else 1)
            work = tiles * (stored * nonzero + slots * kept)
            edges = DISPATCH + _TRANSPOSE * tiles * rows * (k + n) + tiles * across * _WORKGROUP
            knobs = {"n_w": n_w, "chunk": chunk, "vectors": vectors, "group": group, "chains": chains}
            text = f"lanes on {rows} rows, {chunk} inputs at a time"
            yield LinearTile(knobs, _together(unit, work, stored, model) + edges, text)


def _step(unit: VectorUnit, vectors: int, group: int) -> float:
    """Cycles of a non-zero: loads of inputs, of its value and its share of a word of columns; or FMAs."""
    slower = _HALVES if unit.in_halves else 1.0
    return slower * max((vectors + 1 + 1 / min(group, 4)) / unit.loads, vectors / unit.others)


def _outputs(unit: VectorUnit, n: int, most: int) -> int:
    """Outputs of a workgroup: whole vectors, at most so many if it can be, that divide them all."""
    blocks = -(-n // unit.lanes)
    return unit.lanes * max(i for i in range(1, max(1, most // unit.lanes) + 1) if blocks % i == 0)


def _together(unit: VectorUnit, work: float, stored: float, model: float) -> float:
    """The cycles of work on non-zeros that come in meanwhile."""
    traffic = _NONZERO_BYTES * stored / _rate(unit, model)
    left = _L3_LEFT if unit.keeps(model) else _MEMORY_LEFT
    return max(work, traffic) + left * min(work, traffic)


def _rate(unit: VectorUnit, model: float) -> float:
    return _FROM_L3 if unit.keeps(model) else _FROM_MEMORY

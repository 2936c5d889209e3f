"""Linear layers by Strassen's algorithm: the knobs of their kernel, which is vector code, and what it costs."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass

from dlas.dialects import TransformScript
from dlas.errors import ScheduleError
from dlas.passes.plan import Refusal
from dlas.passes.strassen import PRODUCTS
from dlas.schedules.costs import DISPATCH
from dlas.schedules.frame import finish
from dlas.schedules.knobs import VectorUnit
from dlas.schedules.strassen_cost import (
    as_packed,
    enough_workgroups,
    kept_cycles,
    product_cycles,
    register_tiles,
    weight_cycles,
)

# On a Zen 4, of BERT-base's layers at 128 rows: bytes per cycle that the kernel of the sums reads and writes; how much
# of the FMAs' rate plain products reach; and by how much more the estimate must be better.
_SUMS_MOVED, _PLAIN_SHARE, _MARGIN = 4.5, 0.93, 1.02


@dataclass(frozen=True)
class StrassenMatmulKnobs:
    """Knobs of :func:`strassen_matmul`.

    Attributes:
        rows: R, of a register tile, of which two are the halves of a product.
        t_o: T_O, columns of a register tile (vectors times lanes), of which two are the halves of a product.
        k_w: columns of a workgroup, a multiple of ``2 * t_o``.
        block: B, lanes of a vector.
    """

    rows: int
    t_o: int
    k_w: int
    block: int

    def __post_init__(self) -> None:
        where = "strassen_matmul"
        if self.t_o < 1 or self.t_o % self.block:
            raise ScheduleError(f"t_o={self.t_o} is not a multiple of block={self.block}", where=where)
        if self.k_w < 1 or self.k_w % (2 * self.t_o):
            raise ScheduleError(f"k_w={self.k_w} is not a multiple of 2 * t_o={2 * self.t_o}", where=where)
        if self.rows < 1:
            raise ScheduleError(f"rows={self.rows}: not positive", where=where)


def strassen_matmul(knobs: StrassenMatmulKnobs, extents: Mapping[str, int]) -> TransformScript:
    """For one workgroup. The kernel is vector code already.

    before: for w, n, i:  out[w, n] += x[w, i] * wt[i, n]
    after:  for w by 2 R: for n by 2 T_O: 7 products of sums of x with sums of wt;  out[w, n] = epilogue(sums of them)

    Source: :mod:`dlas.passes.strassen`.
    """
    script = TransformScript("strassen_matmul")
    finish(script, contract=False)
    return script


@dataclass(frozen=True)
class StrassenMatmulTile:
    """Knobs of :func:`strassen_matmul` but the block, and the estimated cycles, those of the sums included."""

    rows: int
    t_o: int
    k_w: int
    cycles: float


def plain_cycles(unit: VectorUnit, m: int, n: int, k: int) -> float:
    """Of :func:`dlas.schedules.matmul.matmul`, to compare with: weights come from memory beside the FMAs."""
    return m * k * -(-n // unit.lanes) / (unit.fma_units * _PLAIN_SHARE)


def strassen_matmul_tiles(
    unit: VectorUnit, m: int, n: int, k: int, cores: int = 1, model: float = math.inf
) -> list[StrassenMatmulTile] | Refusal:
    """The tiles that fit the registers, or why there are none; ``model``: bytes of the model's weights."""
    lanes = unit.lanes
    if k % (2 * lanes) or n <= lanes:
        return Refusal(f"takes a multiple of {2 * lanes} inputs, and more than {lanes} outputs")
    rows = "a row" if m == 1 else f"{m} rows"
    return list(_tiles(unit, m, n, k, cores, model)) or Refusal(f"no two register tiles fit {rows} and the registers")


def _tiles(unit: VectorUnit, m: int, n: int, k: int, cores: int, model: float) -> Iterator[StrassenMatmulTile]:
    lanes, half = unit.lanes, k // (2 * unit.lanes)
    for vectors, rows in register_tiles(unit, 2 * max(1, n // (2 * lanes))):
        if 2 * rows > m:
            continue
        pairs, whole = -(-m // (2 * rows)), -(-n // (2 * vectors * lanes))
        moved = 4 * (m * k + pairs * PRODUCTS * half * rows * lanes)
        kept = kept_cycles(unit, vectors, rows)
        products = lanes * PRODUCTS * half * product_cycles(unit, vectors, rows)
        for tiles in (t for t in range(1, whole + 1) if whole % t == 0):
            workgroups = whole // tiles
            if not enough_workgroups(workgroups, whole, cores):
                continue
            pair = tiles * (products + kept) * (1.0 if unit.in_halves else as_packed(unit))
            cycles = workgroups * weight_cycles(unit, PRODUCTS * k * vectors * tiles * lanes * 2, pair, pairs, model)
            total = _MARGIN * (cycles + moved / _SUMS_MOVED) + DISPATCH
            yield StrassenMatmulTile(rows, vectors * lanes, 2 * vectors * tiles * lanes, total)

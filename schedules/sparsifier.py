"""The fallback for pruned weights, MLIR's sparsifier: its knobs, and when it pays."""

from __future__ import annotations

from dataclasses import dataclass

from dlas.errors import ScheduleError
from dlas.passes.plan import Choice, Refusal
from dlas.passes.sparsifier_site import SparseProduct
from dlas.schedules.knobs import VectorUnit

_VECTORS = 8  # accumulators of a step: they hide the latency of FMAs, and fit 16 registers with what else is there
_PER_CORE = 4  # workgroups

_STEP, _NONZERO, _COPY, _TRANSPOSE = 1.65, 1.7, 2.0, 6.0
"""Cycles of a vector, of a non-zero's column and value, and of an element moved (of a linear layer: transposed)."""

_DENSE: dict[tuple[str, int], float] = {
    ("3-D", 32): 1.1, ("3-D", 64): 1.1,
    ("3-D pointwise", 32): 0.2, ("3-D pointwise", 64): 0.2,
    ("grouped", 32): 0.5, ("grouped", 64): 1.4,
    ("2-D", 32): 0.07, ("2-D", 64): 0.12,
    ("linear", 32): 0.05, ("linear", 64): 0.6,
}  # fmt: skip
"""Cycles per multiply-accumulate of IREE's dense code, by kind and bits.

The least of what was measured (AVX-512) on convolutions of 32 to 128 channels and linear layers of 512. 3-D
convolutions with a kernel are scalar code: at any share of non-zeros they are slower than the sparsifier's loops.
"""


@dataclass(frozen=True)
class SparsifierKnobs:
    """Knobs of :class:`dlas.passes.sparsifier_kernels.SparsifierKernels`.

    Attributes:
        rows: output channels of a workgroup.
        vectors: of pixels at a time.
        lanes: of a vector.
        pixels: of a workgroup, whole steps.
    """

    rows: int
    vectors: int
    lanes: int
    pixels: int

    def __post_init__(self) -> None:
        for name in ("rows", "vectors", "lanes", "pixels"):
            if getattr(self, name) < 1:
                raise ScheduleError(f"{name}={getattr(self, name)} is not positive", where="sparsifier")
        if self.pixels % (self.vectors * self.lanes):
            step = self.vectors * self.lanes
            raise ScheduleError(f"pixels={self.pixels} are not whole steps of {step}", where="sparsifier")


def choose_sparsifier(unit: VectorUnit, cores: int, product: SparseProduct) -> Choice | Refusal:
    """The schedule, or why dense code is faster."""
    lanes = max(2, unit.lanes * 32 // product.bits)
    whole = -(-product.pixels // lanes)
    loops = -(-whole // _VECTORS)
    vectors = -(-whole // loops)
    steps = product.batch * product.steps * product.nonzeros * loops
    moved = product.moved * (_TRANSPOSE if product.kind == "linear" else _COPY)
    cycles = steps * (vectors * _STEP + _NONZERO) + moved
    dense = product.macs * _DENSE[product.kind, product.bits]
    estimate = f"{product.nonzeros / product.size:.1%} non-zeros, {cycles:.2g} cycles, {dense:.2g} by IREE's dense code"
    if cycles >= dense:
        return Refusal(f"MLIR's sparsifier would be slower: {estimate}")
    knobs = {"rows": _rows(product, cores), "vectors": vectors, "lanes": lanes, "pixels": loops * vectors * lanes}
    return Choice("sparsifier", knobs, f"the loops of MLIR's sparsifier: {estimate}")


def _rows(product: SparseProduct, cores: int) -> int:
    """Output channels of a workgroup: as many as leave enough workgroups for the cores."""
    workgroups = product.batch * product.steps * product.channels
    least = _PER_CORE * cores if cores > 1 else 1
    enough = [rows for rows in range(1, product.channels + 1) if workgroups // rows >= least]
    return max((rows for rows in enough if product.channels % rows == 0), default=1)

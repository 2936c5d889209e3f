"""Default knobs of the schedules, derived from the description of a vector unit."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

# Loads also take issue slots of the FMAs: cycles per load (7-column layers: 2x4+3 beats 1x7 by 11-20%).
_LOAD_SLOTS = 0.15

# A second, narrower copy of the tile's code costs a few percent (measured on 3x3 layers of 14, 16 and 32 columns).
_PARTIAL = 1.05


@dataclass(frozen=True)
class VectorUnit:
    """What a schedule needs to know of a core.

    Attributes:
        lanes: f32 lanes of a vector register.
        registers: architectural vector registers.
        fma_units: FMAs issued per cycle.
        fma_latency: cycles until an FMA's result can be accumulated into.
        loads: vector loads (broadcasts included) per cycle.
    """

    lanes: int = 8
    registers: int = 16
    fma_units: int = 2
    fma_latency: int = 4
    loads: int = 2

    def cycles(self, vectors: int, pixels: int) -> float:
        """Cycles of one reduction step on a register tile of ``vectors`` x ``pixels`` accumulators."""
        accumulators = vectors * pixels
        fma = max(accumulators, self.fma_units * self.fma_latency) / self.fma_units
        loads = vectors + pixels
        return max(fma, loads / self.loads) + _LOAD_SLOTS * loads

    def fits(self, vectors: int, pixels: int) -> bool:
        """Whether the accumulators, one vector of weights each, and one broadcast stay in registers."""
        return vectors * pixels + vectors + 1 <= self.registers


def register_tile(unit: VectorUnit, blocks: int, width: int) -> tuple[int, int]:
    """The tile (channel blocks, pixels of a row) with the fewest cycles per output of a ``width``-pixel row.

    A row that the tile does not divide ends in a narrower tile, whose cycles count too. ``blocks`` is the number of
    channel blocks that must be divided evenly (those of one group).
    """
    best: tuple[float, int, int, int] | None = None
    for vectors in (v for v in (1, 2, 3, 4) if blocks % v == 0):
        for pixels in range(1, width + 1):
            if not unit.fits(vectors, pixels):
                break
            if pixels < min(vectors, width):  # tall tiles reuse no weight vector (62 against 84 GFLOP/s at 28 columns)
                continue
            full, rest = divmod(width, pixels)
            cycles = full * unit.cycles(vectors, pixels) + (unit.cycles(vectors, rest) if rest else 0)
            cost = cycles / (vectors * width) * (_PARTIAL if rest else 1.0)
            # Equal cost: more reuse of each weight vector.
            key = (round(cost, 4), -pixels)
            if best is None or key < best[:2]:
                best = (*key, vectors, pixels)
    assert best is not None
    return best[-2], best[-1]


def lane_tile(unit: VectorUnit, width: int, taps: int) -> int:
    """Pixels of a row per tile of a kernel with one accumulator per pixel and ``taps`` weights in registers."""
    room = max(1, unit.registers - taps - 2)
    candidates: Sequence[int] = range(1, min(room, width) + 1)
    # Each accumulator is updated once per tap in a row: 20% more of them than the FMA's latency asks for.
    target = 1.2 * unit.fma_units * unit.fma_latency

    def cost(pixels: int) -> tuple[float, int]:
        full, rest = divmod(width, pixels)
        cycles = full * max(pixels, target) + (max(rest, target) if rest else 0)
        return (cycles, 1 if rest else 0)

    return min(candidates, key=lambda p: (*cost(p), -p))

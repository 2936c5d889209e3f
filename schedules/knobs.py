"""Default knobs of the schedules, derived from the description of a vector unit."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace

from dlas.passes.conv import ConvShape

# Loads also take issue slots of the FMAs: cycles per load (7-column layers: 2x4+3 beats 1x7 by 11-20%). Vectors that
# are worked on in halves leave slots; but operands of large layers come from level 2.
_LOAD_SLOTS, _LOAD_SLOTS_IN_HALVES = 0.15, 0.1

# Tiles that leave few of 32 registers (28 accumulators against 14, pointwise layers of 14 columns on Zen 4).
_CROWD, _CROWDED = 24, 1.05

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
        l2_kb: level-2 cache that a core can use, in KB.
        l1_kb: level-1 data cache of a core, in KB.
        l3_kb: level-3 cache, in KB.
        halved: whether its vectors are the halves of others that the core works on in halves.
    """

    lanes: int = 8
    registers: int = 16
    fma_units: int = 2
    fma_latency: int = 4
    loads: int = 2
    l2_kb: int = 512
    l1_kb: int = 32
    l3_kb: int = 0
    halved: bool = False

    @property
    def in_halves(self) -> bool:
        """Whether a core works on its 512-bit vectors in two halves, as Zen 4 does: one FMA per cycle."""
        return self.lanes == 16 and self.fma_units == 1

    @property
    def others(self) -> int:
        """Vector operations per cycle, loads and stores included, where few are FMAs.

        Zen 4 has units for additions besides those of FMAs.
        """
        if self.halved:
            return 3
        return 2 if self.in_halves else self.fma_units

    def narrowed(self, fma_units: int | None) -> VectorUnit | None:
        """The core working on vectors of half the lanes, of which it starts so many FMAs per cycle (None: never)."""
        if fma_units is None:
            return None
        return replace(self, lanes=self.lanes // 2, fma_units=fma_units, halved=self.in_halves)

    def cycles(self, vectors: int, pixels: int) -> float:
        """Cycles of one reduction step on a register tile of ``vectors`` x ``pixels`` accumulators."""
        accumulators = vectors * pixels
        fma = max(accumulators, self.fma_units * self.fma_latency) / self.fma_units
        loads = vectors + pixels
        crowded = _CROWDED if accumulators > _CROWD else 1.0
        return crowded * max(fma, loads / self.loads) + self.load_slots * loads

    @property
    def load_slots(self) -> float:
        """Cycles of FMAs that a load among them takes the issue slots of."""
        return _LOAD_SLOTS_IN_HALVES if self.in_halves else _LOAD_SLOTS

    def keeps(self, size: float) -> bool:
        """Whether so many bytes, a model's weights, stay in the level-3 cache from one inference to the next.

        Little more than half of it: it holds activations as well, and other cores use it.
        """
        return size <= 0.55 * 1024 * self.l3_kb

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


# Bytes per cycle of weights from memory and level 3.
FROM_MEMORY, FROM_L3 = 6.0, 16.0
_FROM_MEMORY_BESIDE = 11.5  # what of it FMAs do not hide on Zen 4 (fitted to 84 layers of 16 to 512 channels per group)

SCRATCH_BYTES = 96 * 1024
"""What a kernel may keep on the stack: IREE's worker threads have 128 KB."""


def packed_cycles(unit: VectorUnit, shape: ConvShape, merge: int = 1, model: float = math.inf) -> float:
    """Estimated cycles of :func:`dlas.schedules.packed_conv.packed_conv` for one image, FMA-bound or by weights.

    The last block of a group's channels counts whole. ``model`` is the size of the model's weights in bytes.
    """
    lanes, depth = unit.lanes, shape.c_per_group * merge
    if shape.groups > 1 or depth >= lanes:  # else the input is read in NCHW
        depth = -(-depth // lanes) * lanes
    blocks = shape.groups // merge * -(-shape.k_per_group * merge // lanes)
    fmas = shape.out_h * shape.out_w * shape.k_h * shape.k_w * depth * blocks
    weights = 4 * shape.c_out * shape.c_per_group * merge * shape.k_h * shape.k_w
    cycles = fmas / (unit.fma_units * 0.9)
    return cycles + weights / FROM_L3 if unit.keeps(model) else from_memory(unit, weights, cycles)


def from_memory(unit: VectorUnit, weights: float, cycles: float) -> float:
    """Cycles of products whose weights come from memory meanwhile, so many bytes."""
    if unit.in_halves or unit.halved:
        return max(cycles + weights / _FROM_MEMORY_BESIDE, weights / FROM_MEMORY)
    return cycles + weights / FROM_MEMORY

"""Default knobs of the schedules, derived from the description of a vector unit."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace

from dlas.passes.conv import ConvShape
from dlas.passes.packing import NEAR
from dlas.passes.winograd import SIZES, accesses, operations, prefetch_distance

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
        slots = _LOAD_SLOTS_IN_HALVES if self.in_halves else _LOAD_SLOTS
        return crowded * max(fma, loads / self.loads) + slots * loads

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


# Model of winograd_conv, fitted to 3x3 layers of 8 to 512 channels per group at 7 to 56 columns (18% root mean square):
# the share of a register tile's estimated cycles that products take; cycles per vector operation, load or store of the
# transforms and unit; bytes per cycle from memory, level 3 and level 2, at which a transformed input is read again
# before the FMAs can start, and weights while they work; what is left of weights that are read again; the cost of a
# further kernel; and how much faster than packed_conv the estimate must be.
_PRODUCTS = 0.95
_TRANSFORMS = 1.4
_FROM_MEMORY, _FROM_L3, _FROM_L2 = 6.0, 16.0, 32.0
_FROM_MEMORY_BESIDE = 11.5  # what of it FMAs do not hide on Zen 4 (fitted to 84 layers of 16 to 512 channels per group)
_AGAIN = 64.0
_PREFETCH = 1.0  # cycles of one: with the weights read 7 and 14 times, in parts, they cost 5% (128 and 64 channels)
_KERNEL = 5000.0
_MARGIN = 1.05
_LEAST_TILES = 4  # at a time, where there are so many: fewer use a weight vector too little

SCRATCH_BYTES = 96 * 1024
"""What a kernel may keep on the stack: IREE's worker threads have 128 KB."""


@dataclass(frozen=True)
class WinogradTile:
    """A choice for :func:`dlas.schedules.winograd_conv.winograd_conv`, with its estimated cycles for one image."""

    m: int
    rows: int
    columns: int
    depth: int
    t_o: int
    ow: int
    k_w: int
    staged: int
    prefetch: int
    cycles: float


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
    return cycles + weights / _FROM_L3 if unit.keeps(model) else _from_memory(unit, weights, cycles)


def winograd_tile(
    unit: VectorUnit, shape: ConvShape, largest: int = 4, merge: int = 1, model: float = math.inf
) -> WinogradTile | None:
    """The fastest way to compute a convolution in Winograd's domain; None where packed_conv is estimated to win.

    A 3x3 convolution of stride 1 is assumed. ``largest`` bounds the output tile; ``merge`` groups count as one;
    ``model`` is the size of the model's weights in bytes.
    """
    tiles = (tile for tile in winograd_tiles(unit, shape, merge, model) if tile.m <= largest)
    best = min(tiles, key=lambda tile: tile.cycles, default=None)
    if best is None or best.cycles * _MARGIN > packed_cycles(unit, shape, merge, model):
        return None
    return best


def winograd_lane_tile(unit: VectorUnit, shape: ConvShape, largest: int = 4) -> int | None:
    """The output tile with the fewest vector operations for groups that divide a block; None: fewest without one.

    A 3x3 convolution of stride 1 is assumed. A shuffle counts half: it has an execution unit of its own besides those
    of the FMAs.
    """
    per_group = shape.c_per_group
    columns = 1 + 2 / lane_tile(unit, shape.out_w, shape.k_w)  # that are read and shuffled per pixel and kernel row
    operations_ = {0: shape.out_h * shape.out_w * per_group * (9 + 0.5 * 3 * columns) / _MARGIN}
    for m in (m for m in SIZES if m <= largest):
        products, transforms = lane_tile_operations(m, per_group)
        operations_[m] = math.prod(shape.tiles(m)) * (products + transforms * unit.fma_units / unit.others)
    return min(operations_, key=lambda m: operations_[m]) or None


def tile_operations(m: int) -> tuple[int, int]:
    """Vector operations, loads and stores of the transforms of a tile's input and output, epilogue included."""
    (into, out_of), (moved_in, moved_out) = operations(m), accesses(m)
    return into + moved_in, out_of + moved_out + 3 * m * m


def lane_tile_operations(m: int, per_group: int) -> tuple[float, float]:
    """What a tile takes where products are in the loops of the transforms: (products, transforms).

    Transforms hide a part of their loads and stores. A shuffle counts half; sums that cross over
    (:func:`dlas.passes.packing.pack_winograd_lanes`) are added, too.
    """
    near, far = min(per_group, NEAR) - 1, -(-per_group // NEAR) - 1
    return (per_group + far + 0.5 * (near + far)) * (m + 2) ** 2, 0.6 * sum(tile_operations(m))


def winograd_tiles(
    unit: VectorUnit, shape: ConvShape, merge: int = 1, model: float = math.inf
) -> Iterator[WinogradTile]:
    """The ways to compute a convolution in Winograd's domain, with their estimated cycles."""
    groups = shape.groups // merge
    c_blocks = -(-shape.c_per_group * merge // unit.lanes)
    k_blocks = -(-shape.k_per_group * merge // unit.lanes)
    for m in SIZES:
        tile_rows, tile_columns = shape.tiles(m)
        tiles, points = tile_rows * tile_columns, (m + 2) ** 2
        into, out_of = tile_operations(m)
        weights = 4 * points * c_blocks * k_blocks * unit.lanes**2
        # Transformed, a model's weights take up to this much more.
        read = 0.0 if unit.keeps(model * points / 9) else weights
        once = _FROM_L2 if _keeps_l2(unit, model * points / 9) else _FROM_L3
        transform_output = out_of * k_blocks * tiles * _TRANSFORMS / unit.others
        transform_input = into * c_blocks * tiles * _TRANSFORMS / unit.others
        for rows, columns in _parts(tile_rows, tile_columns):
            at_a_time = rows * columns
            if at_a_time < min(tiles, _LEAST_TILES):
                continue
            parts = tiles // at_a_time
            again = (parts - 1) * weights / _AGAIN
            vectors, ow = register_tile(unit, k_blocks, at_a_time)
            whole, rest = divmod(at_a_time, ow)
            step = whole * unit.cycles(vectors, ow) + (unit.cycles(vectors, rest) if rest else 0)
            products = points * c_blocks * unit.lanes * (k_blocks // vectors) * step * parts * _PRODUCTS
            sizes, tile = (m, rows, columns), (vectors * unit.lanes, ow)
            lines = 4 * unit.lanes * (m + 2) * (3 * columns * m + 4)
            room = (SCRATCH_BYTES - lines) // (4 * unit.lanes * points * at_a_time) - vectors
            if room >= 0:
                # The transformed input is written once and read by every workgroup.
                moved = 4 * points * tiles * c_blocks * unit.lanes
                busy = moved + (weights * vectors // k_blocks if parts > 1 else 0)
                reads = moved * (k_blocks // vectors) / (_FROM_L2 if _keeps_l2(unit, busy) else _FROM_L3)
                streamed = weights * parts / (_FROM_L2 if parts > 1 and _keeps_l2(unit, busy) else once)
                transforms = transform_input + transform_output + reads + _KERNEL / groups
                ways = _prefetches(unit, read, max(products, streamed), parts, weights, groups, k_blocks // vectors)
                for prefetch, cycles in enumerate(ways):
                    total = cycles + transforms + again
                    yield WinogradTile(*sizes, c_blocks * unit.lanes, *tile, tile[0], 1, prefetch, total * groups)
            depth = max((n for n in range(1, c_blocks + 1) if c_blocks % n == 0 and n <= room), default=0)
            if not depth:
                continue
            workgroups = [n for n in range(vectors, k_blocks + 1, vectors) if k_blocks % n == 0]
            for k_w in (n for n in workgroups if n == vectors or (n * unit.lanes <= 64 and depth == c_blocks)):
                # Of products, for each further depth; a store of two halves takes two cycles, and level 1 is full.
                reloads = (6 if unit.in_halves else 2) * points * k_blocks * tiles * (c_blocks // depth - 1)
                kept = parts > 1 and _keeps_l2(unit, weights * k_w // k_blocks + SCRATCH_BYTES)
                streamed = weights * parts / (_FROM_L2 if kept else once)
                transforms = transform_input * (k_blocks // k_w) + transform_output + reloads
                ways = _prefetches(unit, read, max(products, streamed), parts, weights, groups, k_blocks // k_w)
                for prefetch, cycles in enumerate(ways):
                    total = cycles + transforms + again
                    yield WinogradTile(*sizes, depth * unit.lanes, *tile, k_w * unit.lanes, 0, prefetch, total * groups)


def _prefetches(
    unit: VectorUnit, read: float, cycles: float, parts: int, weights: float, groups: int, workgroups: int
) -> list[float]:
    """Cycles of products without prefetches, and with them if weights are more than lie within their distance.

    ``read``: bytes that come from memory meanwhile; ``weights``: bytes of a group's, which so many workgroups share
    and each reads once for each part. What prefetches gain is known of Zen 4 only: elsewhere they are for tuning.
    """
    found = [_from_memory(unit, read, cycles)]
    if weights * groups > prefetch_distance(int(weights) // workgroups):
        hidden = max(cycles, read / _FROM_MEMORY) if unit.in_halves or unit.halved else found[0]
        found.append(hidden + _PREFETCH * parts * weights / 64)
    return found


def _from_memory(unit: VectorUnit, weights: float, cycles: float) -> float:
    """Cycles of products whose weights come from memory meanwhile, so many bytes."""
    if unit.in_halves or unit.halved:
        return max(cycles + weights / _FROM_MEMORY_BESIDE, weights / _FROM_MEMORY)
    return cycles + weights / _FROM_MEMORY


def _keeps_l2(unit: VectorUnit, size: float) -> bool:
    return size <= 0.8 * 1024 * unit.l2_kb


def _parts(rows: int, columns: int) -> list[tuple[int, int]]:
    """Whole rows of tiles, or parts of one row, that divide all."""
    whole = [(r, columns) for r in range(1, rows + 1) if rows % r == 0]
    return whole + [(1, c) for c in range(1, columns) if columns % c == 0]

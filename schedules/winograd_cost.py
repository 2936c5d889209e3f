"""The ways to compute 3x3 convolutions in Winograd's domain, with their estimated cycles."""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass

from dlas.passes.conv import ConvShape
from dlas.passes.packing import NEAR
from dlas.passes.winograd import SIZES, accesses, operations, prefetch_distance
from dlas.schedules.knobs import (
    FROM_L3,
    FROM_MEMORY,
    SCRATCH_BYTES,
    VectorUnit,
    from_memory,
    lane_tile,
    packed_cycles,
    register_tile,
)

# Model of winograd_conv, fitted to 3x3 layers of 8 to 512 channels per group at 7 to 56 columns (18% root mean square):
# the share of a register tile's estimated cycles that products take; cycles per vector operation, load or store of the
# transforms and unit; bytes per cycle from level 2, at which a transformed input is read again before the FMAs can
# start, and weights while they work; what is left of weights that are read again; the cost of a further kernel; and how
# much faster than packed_conv the estimate must be.
_PRODUCTS = 0.95
_TRANSFORMS = 1.4
_FROM_L2 = 32.0
_AGAIN = 64.0
_PREFETCH = 1.0  # cycles of one: with the weights read 7 and 14 times, in parts, they cost 5% (128 and 64 channels)
_KERNEL = 5000.0
_MARGIN = 1.05
_LEAST_TILES = 4  # at a time, where there are so many: fewer use a weight vector too little

# The same with the filter transform online, fitted on Zen 4 to layers of 16 to 512 channels per group at 7 to 56 px:
# the share of a step's estimated cycles (0.9 is enough at 14 pixels and above, where the others' estimates are too high
# as well); the registers that a step needs beside its accumulators; channel blocks at a time, and the most channels of
# which all are (of more, one workgroup's prefetches would reach far into the next one's weights, which is another
# core's); and how many times larger than taps a model's weights are, where other layers' are transformed at compile
# time.
_ONLINE = 1.02
_ONLINE_REGISTERS, _ONLINE_REGISTERS_NEON = 8, 16  # where four channels of an input are read into one
_LEAST_SHARING = 3  # tiles of F(4x4): 1 takes 1.1 to 1.7 times as long as offline (16 registers); F(2x2) 1.0 to 1.1
_DEPTHS, _ALL_CHANNELS = (1, 2), 64
_ONLINE_MODEL = 16 / 9


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
    online: int
    cycles: float


def winograd_tile(
    unit: VectorUnit, shape: ConvShape, largest: int = 4, merge: int = 1, model: float = math.inf
) -> WinogradTile | None:
    """The fastest way to compute a convolution in Winograd's domain; None where packed_conv is estimated to win.

    A 3x3 convolution of stride 1 is assumed. ``largest`` bounds the output tile; ``merge`` groups count as one;
    ``model`` is the size of the model's weights in bytes.
    """
    tiles = (
        tile
        for tile in winograd_tiles(unit, shape, merge, model)
        if tile.m <= largest and (not tile.online or (tile.m == 4 and online_room(unit, 4) >= _LEAST_SHARING))
    )
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
    yield from _online_tiles(unit, shape, merge, model)
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
        once = _FROM_L2 if _keeps_l2(unit, model * points / 9) else FROM_L3
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
                reads = moved * (k_blocks // vectors) / (_FROM_L2 if _keeps_l2(unit, busy) else FROM_L3)
                streamed = weights * parts / (_FROM_L2 if parts > 1 and _keeps_l2(unit, busy) else once)
                transforms = transform_input + transform_output + reads + _KERNEL / groups
                ways = _prefetches(unit, read, max(products, streamed), parts, weights, groups, k_blocks // vectors)
                for prefetch, cycles in enumerate(ways):
                    total = cycles + transforms + again
                    yield WinogradTile(*sizes, c_blocks * unit.lanes, *tile, tile[0], 1, prefetch, 0, total * groups)
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
                    yield WinogradTile(
                        *sizes, depth * unit.lanes, *tile, k_w * unit.lanes, 0, prefetch, 0, total * groups
                    )


def online_room(unit: VectorUnit, m: int) -> int:
    """The most tiles of a register tile where the filter transform is online; 0: there are too few registers."""
    beside = _ONLINE_REGISTERS if unit.lanes >= 8 else _ONLINE_REGISTERS_NEON
    return max(0, unit.registers - beside) // (m + 2)


def _online_tiles(unit: VectorUnit, shape: ConvShape, merge: int, model: float) -> Iterator[WinogradTile]:
    """The ways with the filter transform online."""
    groups, lanes = shape.groups // merge, unit.lanes
    c_blocks = -(-shape.c_per_group * merge // lanes)
    k_blocks = -(-shape.k_per_group * merge // lanes)
    weights = 4 * 9 * c_blocks * k_blocks * lanes**2
    kept = unit.keeps(model * _ONLINE_MODEL)
    for m in (m for m in SIZES if online_room(unit, m)):
        tile_rows, tile_columns = shape.tiles(m)
        tiles, points = tile_rows * tile_columns, (m + 2) ** 2
        into, out_of = tile_operations(m)
        transform_input = into * c_blocks * tiles * _TRANSFORMS / unit.others
        transform_output = out_of * k_blocks * tiles * _TRANSFORMS / unit.others
        for rows, columns in _parts(tile_rows, tile_columns):
            at_a_time = rows * columns
            ow = min(at_a_time, online_room(unit, m))
            lines = 4 * lanes * (m + 2) * (3 * columns * m + 4)
            depths = [d for d in _DEPTHS if c_blocks % d == 0][-1:]
            if c_blocks * lanes <= _ALL_CHANNELS:
                depths.append(c_blocks)
            for depth in dict.fromkeys(depths):
                step = _online_step(unit, m, at_a_time, ow, None if depth == c_blocks else depth)
                parts = tiles // at_a_time
                products = (m + 2) * c_blocks * lanes * k_blocks * step * parts + (parts - 1) * weights / _AGAIN
                workgroups = [(1, 1)]
                if depth == c_blocks and max(c_blocks, k_blocks) * lanes <= _ALL_CHANNELS:
                    workgroups.append((0, k_blocks))
                for staged, k_w in workgroups:
                    own = 4 * lanes * points * at_a_time * (1 if staged else 1 + depth)
                    if lines + own > SCRATCH_BYTES:
                        continue
                    transforms = transform_output + transform_input * (1 if staged else k_blocks // k_w)
                    if staged:
                        moved = 4 * points * tiles * c_blocks * lanes
                        spread = depth == c_blocks and not _keeps_l2(unit, moved)  # in places far from each other
                        transforms += _KERNEL / groups + (moved * k_blocks / FROM_L3 if spread else moved / _FROM_L2)
                    ways = [products + weights / FROM_L3 if kept else from_memory(unit, weights, products)]
                    if unit.in_halves or unit.halved:
                        ways.append(max(products, weights / (FROM_L3 if kept else FROM_MEMORY)))
                    else:  # for tuning: what prefetches gain is known of Zen 4 only
                        ways.append(ways[0] + weights / 64)
                    for prefetch, cycles in enumerate(ways):
                        total = (cycles + transforms) * groups
                        sizes = (m, rows, columns, depth * lanes, lanes, ow, k_w * lanes)
                        yield WinogradTile(*sizes, staged, prefetch, 1, total)


def _online_step(unit: VectorUnit, m: int, tiles: int, ow: int, depth: int | None) -> float:
    """Cycles of one channel of a row of points for ``tiles`` tiles, ``ow`` at a time.

    With its share of accumulators that are loaded and stored for every ``depth`` channel blocks (None: never).
    """
    fmas, others, loads = {2: (0, 6, 6), 4: (2, 10, 7)}[m]  # of the filter transform, and loads of taps
    if not unit.in_halves:  # additions take the units of FMAs
        fmas += others

    def cycles(width: int) -> float:
        vectors = (m + 2) * width
        arithmetic = max(vectors + fmas, unit.fma_units * unit.fma_latency) / unit.fma_units
        reads = vectors + loads
        moved = 0.0 if depth is None else (3 if unit.in_halves else 2) * vectors / (depth * unit.lanes)
        return max(arithmetic, reads / unit.loads) + unit.load_slots * reads + moved

    whole, rest = divmod(tiles, ow)
    return _ONLINE * (whole * cycles(ow) + (cycles(rest) if rest else 0.0))


def _prefetches(
    unit: VectorUnit, read: float, cycles: float, parts: int, weights: float, groups: int, workgroups: int
) -> list[float]:
    """Cycles of products without prefetches, and with them if weights are more than lie within their distance.

    ``read``: bytes that come from memory meanwhile; ``weights``: bytes of a group's, which so many workgroups share
    and each reads once for each part. What prefetches gain is known of Zen 4 only: elsewhere they are for tuning.
    """
    found = [from_memory(unit, read, cycles)]
    if weights * groups > prefetch_distance(int(weights) // workgroups):
        hidden = max(cycles, read / FROM_MEMORY) if unit.in_halves or unit.halved else found[0]
        found.append(hidden + _PREFETCH * parts * weights / 64)
    return found


def _keeps_l2(unit: VectorUnit, size: float) -> bool:
    return size <= 0.8 * 1024 * unit.l2_kb


def _parts(rows: int, columns: int) -> list[tuple[int, int]]:
    """Whole rows of tiles, or parts of one row, that divide all."""
    whole = [(r, columns) for r in range(1, rows + 1) if rows % r == 0]
    return whole + [(1, c) for c in range(1, columns) if columns % c == 0]

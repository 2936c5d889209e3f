"""Whether a convolution by lanes and the pointwise one behind it are faster as one kernel, and with which rows.

On one thread they differ little: a kernel less, and what is between the two stays near, against weights that are read
for every part. Several threads save a barrier and an exchange of caches, and lose where the parts do not divide evenly.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from dlas.passes.conv import ConvShape
from dlas.schedules.grid import kernel_cycles, longest_share, plan_grid, thread_counts
from dlas.schedules.knobs import SCRATCH_BYTES, VectorUnit, lane_tile
from dlas.schedules.strassen_cost import register_tiles, strassen_cycles, strassen_scratch, takes_strassen

_HIDDEN_BYTES = 72 * 1024  # of what one convolution computes for the next in the same kernel

# A kernel less; bytes per cycle of what is between the convolutions, in level 3 and in memory, of weights that each
# part reads again, and of a strided input (fitted to 20 depthwise pairs of 32 to 512 channels at 7 to 112 columns).
_LAUNCH, _BETWEEN, _FROM_MEMORY, _WEIGHTS_AGAIN, _STRIDED = 1300.0, 32.0, 6.0, 40.0, 24.0

# The same of weights beside Winograd's domain, where reading hides behind more work, and what a boundary between two
# kernels costs several threads (fitted to 12 pairs of 32 to 256 channels at 8 to 56 columns, 8 and 16 lanes).
_WEIGHTS_AGAIN_TILES, _BOUNDARY = 160.0, 14000.0

# How much later than another a worker ends, of a workgroup's time (measured on 2 to 14 workgroups).
_LATE = 0.25

# Losses of one thread that no measurement tells from a gain, as a share of the time; where others gain.
_UNTOLD = 0.005


@dataclass(frozen=True)
class SeparablePair:
    """A convolution by lanes and the pointwise one that reads it.

    Attributes:
        first, second: their extents.
        m: output tile of the first in Winograd's domain, 0: by sums.
        t_o: output channels of a register tile of the second.
        cycles: of each in a kernel of its own, for all images.
        shares: tiles of channels, and of rows, that the second one's own kernel has for threads to share.
        fused: cycles of the second behind the first, for all images.
        sums: whether that reads sums of weights for every few pixels, which its cycles count
            (:mod:`dlas.schedules.strassen_cost`).
    """

    first: ConvShape
    second: ConvShape
    m: int
    t_o: int
    cycles: tuple[float, float]
    shares: tuple[int, int]
    fused: float
    sums: bool = False


@dataclass(frozen=True)
class SeparableTile:
    """Knobs of :func:`dlas.schedules.separable_conv.separable_conv` for the first convolution of a pair."""

    rows: int
    pixels: int
    m: int


@dataclass(frozen=True)
class SeparableWay:
    """A way to compute a pair in one kernel: what :func:`separable_savings` asks for, the knobs, and what to say."""

    tile: SeparableTile
    pair: SeparablePair
    knobs: dict[str, int]
    reason: str


def tile_scratch(unit: VectorUnit, first: ConvShape, tile: SeparableTile) -> int:
    """Bytes on the stack: the hidden rows, and a row of tiles in Winograd's domain."""
    hidden = 4 * first.c_out * first.out_w * tile.rows
    return hidden + (4 * unit.lanes * (tile.m + 2) * (2 * tile.pixels + 2) if tile.m else 0)


def separable_tiles(unit: VectorUnit, first: ConvShape, m: int) -> Iterator[SeparableTile]:
    """The rows at a time that fit the scratch, ascending; of a row of tiles as many at a time as do."""
    columns = first.tiles(m)[1] if m else 0
    heights = range(m, -(-first.out_h // m) * m + 1, m) if m else range(1, first.out_h + 1)
    for rows in heights:
        if 4 * first.c_out * first.out_w * rows > _HIDDEN_BYTES:
            return
        if not m:
            if first.out_h % rows == 0:
                yield SeparableTile(rows, lane_tile(unit, first.out_w, first.k_w), 0)
            continue
        widths = (SeparableTile(rows, -(-columns // parts) * m, m) for parts in range(1, columns + 1))
        tile = next((tile for tile in widths if tile_scratch(unit, first, tile) <= SCRATCH_BYTES), None)
        if tile is not None:
            yield tile


def shared_tiles(unit: VectorUnit, first: ConvShape, m: int, cores: int) -> list[SeparableTile]:
    """Those that leave several parts, or at least one, for each core, ascending; or the one with the fewest rows."""
    tiles = list(separable_tiles(unit, first, m))
    for each in (2, 1):
        least = each * cores if cores > 1 else 1
        shared = [tile for tile in tiles if -(-first.out_h // tile.rows) >= least]
        if shared:
            return shared
    return tiles[:1]


@dataclass(frozen=True)
class FusedProducts:
    """The second convolution of a pair by Strassen's algorithm: register tile, and the cycles of one image."""

    vectors: int
    pixels: int
    cycles: float


def fused_products(
    unit: VectorUnit, pair: tuple[ConvShape, ConvShape], tile: SeparableTile, model: float, *, every: bool = False
) -> Iterator[FusedProducts]:
    """The register tiles whose sums fit beside the hidden rows, and that fill parts of so many rows."""
    first, second = pair
    if not takes_strassen(unit, second):
        return
    whole, rest = divmod(second.out_h, tile.rows)
    parts = [tile.rows * second.out_w] * whole + [rest * second.out_w] * bool(rest)
    k_blocks = -(-second.c_out // unit.lanes)
    for vectors, pixels in register_tiles(unit, k_blocks, every=every):
        needed = tile_scratch(unit, first, tile) + strassen_scratch(unit, second, vectors, pixels)
        if 2 * pixels > parts[-1] or needed > SCRATCH_BYTES:
            continue
        pairs = sum(-(-part // (2 * pixels)) for part in parts)
        cycles = strassen_cycles(unit, second, k_blocks // (2 * vectors), vectors, pixels, pairs, model)
        yield FusedProducts(vectors, pixels, cycles)


def separable_savings(unit: VectorUnit, pair: SeparablePair, tile: SeparableTile, cores: int) -> dict[int, float]:
    """Cycles that one kernel saves, by the number of threads: 1, 2, 4 ... and all cores."""
    first, second = pair.first, pair.second
    batch, parts = first.batch, -(-first.out_h // tile.rows)
    between, result = (4 * batch * shape.c_out * shape.out_h * shape.out_w for shape in (first, second))
    source = 4 * batch * first.c_in * first.in_h * first.in_w
    blocks, rows = batch * -(-first.c_out // unit.lanes), -(-first.out_h // max(1, pair.m))
    kernels = [
        (pair.cycles[0], blocks, rows, first.flops, source + between),
        (pair.cycles[1], batch * pair.shares[0], pair.shares[1], second.flops, between + result),
    ]
    saved = _saved(unit, pair, parts) + pair.cycles[1] - pair.fused
    longer = sum(pair.cycles) + _LAUNCH * batch - saved
    both = (longer, batch, parts, first.flops + second.flops, source + result)
    savings = {1: saved}
    for threads in thread_counts(cores):
        apart, fused = ([_shared(unit, cores, threads, *kernel) for kernel in group] for group in (kernels, [both]))
        savings[threads] = _BOUNDARY + sum(apart) - sum(fused)
    return savings


def pays(pair: SeparablePair, savings: dict[int, float]) -> int | None:
    """None where one kernel is estimated to be no slower with any number of threads; else the worst of these."""
    threads = min(savings, key=lambda threads: savings[threads] * threads)
    slack = _UNTOLD * sum(pair.cycles) if threads == 1 < len(savings) else 0.0
    return None if savings[threads] > -slack else threads


def _saved(unit: VectorUnit, pair: SeparablePair, parts: int) -> float:
    """Cycles that one thread saves.

    What is between the convolutions is not written and read again, beyond what level 2 keeps of it anyway; for that,
    the weights are read once for each part, and a strided input is walked in the order of the result.
    """
    first, second = pair.first, pair.second
    between = 4 * second.c_in * second.in_h * second.in_w
    rate = _BETWEEN if between <= 512 * unit.l3_kb else _FROM_MEMORY
    saved = _LAUNCH + 2 * max(0, between - 1024 * unit.l2_kb) / rate
    taps = (pair.m + 2) ** 2 if pair.m else first.k_h * first.k_w if first.c_per_group > 1 else 0
    channel = 4 * taps * first.c_per_group
    # Of what is read at a time, and of all.
    weights = [(channel * unit.lanes, channel * first.c_out)]
    if not pair.sums:
        weights.append((4 * second.c_in * pair.t_o, 4 * second.c_in * second.c_out))
    if pair.m and sum(size for _, size in weights) <= 512 * unit.l2_kb:
        # What exceeds level 1 comes from level 2 anyway, for each row of tiles and each register tile.
        weights = [(at_a_time, size) for at_a_time, size in weights if at_a_time < 1024 * unit.l1_kb]
    again = sum(size for _, size in weights) / (_WEIGHTS_AGAIN_TILES if pair.m else _WEIGHTS_AGAIN)
    strided = 4 * first.c_in * first.in_h * first.in_w if first.stride != (1, 1) else 0
    return first.batch * (saved - again * (parts - 1) - strided / _STRIDED)


def _shared(
    unit: VectorUnit, cores: int, threads: int, cycles: float, tiles: int, rows: int, flops: int, moved: int
) -> float:
    """Cycles of a kernel that so many threads share."""
    grid = plan_grid(cores, tiles, rows, kernel_cycles(unit, flops, moved))
    return cycles * longest_share(threads, grid, tiles, rows, _LATE)

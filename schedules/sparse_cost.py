"""The cost model of :mod:`dlas.schedules.sparse_conv`: cycles, and the variant and knobs with the fewest of them.

What a core has (lanes, loads, FMAs, caches) is the target's. The constants were fitted to layers of 64 to 1024
channels, 1x1 and 3x3, at 7 to 56 columns, with 90% zeros (AVX2, 32 KB level 1), and for vectors that are worked on in
halves to layers of 32 to 2048 channels with 80 and 90% zeros (Zen 4). Fewer output channels of a workgroup than there
can be were rarely faster there, and by few percent.
"""

from __future__ import annotations

import math
from collections.abc import Collection, Iterator, Mapping
from dataclasses import asdict, dataclass

from dlas.passes.conv import ConvShape
from dlas.passes.planar import LINE, RegisterTile, reads_in_place, tap_places
from dlas.schedules.costs import DISPATCH, row_copy_cycles
from dlas.schedules.knobs import SCRATCH_BYTES, VectorUnit
from dlas.schedules.sparse_conv import VARIANTS


@dataclass(frozen=True)
class _Rates:
    """What a core takes.

    Attributes:
        loads: for a non-zero's offset and value, in loads of vectors.
        split: further loads for a vector that straddles two lines.
        per_cycle: loads of vectors; None: the target's.
        nonzero, row: cycles, besides, per non-zero, and per output channel and chunk.
        keep: cycles between chunks, per vector of sums that is kept.
        from_l2, first: cycles per line from level 2 that a non-zero reads, and that a workgroup reads at first.
        kept, not_kept: a chunk's panel of pixels, in sizes of level 1: up to which all of it stays from one output
            channel to the next, and from which nothing does.
        fill: cycles per vector that is copied into the panel of *pack*.
        weights, streamed, copied: bytes per cycle: of offsets and values, of the input and the result, and of what is
            copied into tiles.
        shifted: factor on *shift*, whose pitch of whole vectors other layers of its image size get, too.
    """

    loads: float = 2.0
    split: float = 1.8
    per_cycle: int | None = None
    nonzero: float = 0.6
    row: float = 5.3
    keep: float = 3.7
    from_l2: float = 1.9
    first: float = 4.8
    kept: float = 0.22
    not_kept: float = 2.55
    fill: float = 1.2
    weights: float = 12.0
    streamed: float = 12.0
    copied: float = 8.4
    shifted: float = 1.0


_WHOLE = _Rates()
_IN_HALVES = _Rates(
    loads=0.5,
    split=0.82,
    per_cycle=1,
    nonzero=0.94,
    row=2.0,
    keep=2.7,
    from_l2=1.3,
    first=1.0,
    kept=0.88,
    not_kept=2.6,
    fill=1.7,
    weights=40.0,
    streamed=19.0,
    copied=18.6,
    shifted=1.25,
)

# The same for dense kernels on planes.
KEPT, NOT_KEPT = 0.44, 2.15
_MOST_ROWS = 128
# Bytes of an input in tiles from which on they are prefetched: 2 to 18% from 6.4 MB on, nothing up to 3.2 MB (Zen 4).
_FAR = 5_000_000


@dataclass(frozen=True)
class SparseTile:
    """Knobs of the kernel with its estimated cycles for one image, copies that it needs included.

    ``tiles``: register tiles of a plane. What ``prefetch`` gains is not among the cycles.
    """

    accumulators: int
    channels: int
    k_w: int
    variant: str
    cycles: float
    tiles: int
    prefetch: int = 0

    @property
    def knobs(self) -> dict[str, int]:
        """The knobs of :class:`dlas.schedules.sparse_conv.SparseConvKnobs`."""
        numbers = {name: value for name, value in asdict(self).items() if name in ("accumulators", "channels", "k_w")}
        given = {"prefetch": self.prefetch} if self.prefetch else {}
        return numbers | given | ({} if self.variant == VARIANTS[0] else {self.variant: 1})


def sparse_tiles(
    unit: VectorUnit,
    shape: ConvShape,
    nonzeros: int,
    variants: Collection[str] = VARIANTS,
    given: Mapping[str, int] | None = None,
) -> list[SparseTile]:
    """For each variant the knobs with the fewest estimated cycles; the best of them first.

    ``given`` knobs have these values; a variant for whose scratch they are too large is left out.
    """
    found = [
        min(tiles, key=lambda tile: (tile.cycles, -tile.channels))
        for variant in variants
        if (tiles := list(_tiles(unit, shape, nonzeros, variant, given or {})))
    ]
    return sorted(found, key=lambda tile: tile.cycles)


@dataclass(frozen=True)
class _Reads:
    """How a variant reads the input.

    Attributes:
        pitch: of the planes.
        span: elements of a channel that a register tile reads, 0 vectors wide: add the tile's.
        straddling: share of the vectors that begin in one cache line and end in the next.
        dense: whether planes may be NCHW's own, each beginning where the one before ends.
        copies: cycles of kernels that copy the input.
    """

    pitch: int
    span: int
    straddling: float
    dense: bool
    copies: float


def straddling(lanes: int, step: int) -> float:
    """The share of vectors that reach over the end of a cache line if they begin at multiples of ``step`` elements."""
    step = math.gcd(step, LINE)
    return sum(place % LINE + lanes > LINE for place in range(0, LINE, step)) / (LINE // step)


def _reads(unit: VectorUnit, shape: ConvShape, variant: str) -> _Reads:
    lanes, in_place = unit.lanes, reads_in_place(shape)
    rows = (shape.k_h - 1) * shape.dilation[0] // shape.stride[0]
    columns = (shape.k_w - 1) * shape.dilation[1] // shape.stride[1]
    image = shape.in_h * shape.in_w
    if variant == "shift":
        pitch = -(-shape.out_w // lanes) * lanes
        used = len({phase for phase, _, _ in tap_places(shape, shape.pads, shifted=True)})
        copied = image + used * (shape.out_h + rows) * pitch
        return _Reads(pitch, rows * pitch, 0.0, False, row_copy_cycles(shape.batch * shape.c_in * copied) / shape.batch)
    pitch = shape.out_w + (max(shape.pads[1], shape.pads[3]) if in_place else columns)
    split = (1 - 1 / shape.k_w) * straddling(lanes, 1)  # the first column is aligned, others begin anywhere
    dense = in_place and shape.k_w == 1 and not any(shape.pads)
    used = len({phase for phase, _, _ in tap_places(shape, shape.pads)})
    copied = 0 if in_place else image + used * (shape.out_h + rows) * pitch
    copies = row_copy_cycles(shape.batch * shape.c_in * copied) / shape.batch if copied else 0.0
    return _Reads(pitch, rows * pitch + columns, split, dense, copies)


def _tiles(
    unit: VectorUnit, shape: ConvShape, nonzeros: int, variant: str, given: Mapping[str, int]
) -> Iterator[SparseTile]:
    if variant == "shift" and shape.k_w == 1:  # one column: that is the planes as they are
        return
    reads = _reads(unit, shape, variant)
    rates = _IN_HALVES if unit.in_halves else _WHOLE
    pixels = (shape.out_h - 1) * reads.pitch + shape.out_w
    per_group, taps, lanes = shape.c_per_group, shape.k_h * shape.k_w, unit.lanes
    streamed = 4 * (shape.c_in * shape.in_h * shape.in_w + shape.c_out * shape.out_h * shape.out_w) / rates.streamed
    most = max(1, unit.registers * 7 // 8)
    sizes = sorted({most, max(1, most // 2), max(1, most * 3 // 8)})
    for accumulators in [given["accumulators"]] if "accumulators" in given else sizes:
        register = RegisterTile.of(pixels, lanes, accumulators)
        vectors, tiles = register.vectors, register.count
        width = vectors * lanes
        reach = reads.span + width
        split, copies = reads.straddling, reads.copies
        if reads.dense and tiles > 1 and variant != "tile":
            split = straddling(lanes, shape.out_h * shape.out_w)
        prefetch = 0
        if variant == "tile":
            prefetch = int(shape.batch * tiles > 1 and 4 * shape.batch * shape.c_in * tiles * reach > _FAR)
            moved = shape.batch * shape.c_in * 4 * (shape.in_h * shape.in_w + tiles * reach)
            copies += (DISPATCH + moved / rates.copied) / shape.batch
        loads = vectors * (1 + (0.0 if variant == "pack" else rates.split * split)) + rates.loads
        loaded = loads / (rates.per_cycle or unit.loads)
        multiply = max(vectors / unit.fma_units, loaded, unit.fma_latency) + rates.nonzero
        lines = width / LINE
        # Elements that a channel of the chunk has in the panel, and those that a workgroup copies into it.
        held = taps * width if variant == "pack" else reach * (shape.k_w if variant == "shift" else 1)
        fill = per_group * taps * vectors * (rates.fill + split) if variant == "pack" else 0.0
        first = per_group * (reach if variant == "pack" else held) / LINE * rates.first
        for channels, k_w in _blocks(shape, variant, 4 * width, 4 * held, given):
            chunks = -(-per_group // channels)
            panel = 4 * channels * held / (1024 * unit.l1_kb)
            missed = min(1.0, max(0.0, panel - rates.kept) / (rates.not_kept - rates.kept))
            rows = shape.c_out * (chunks * rates.row + (chunks - 1) * vectors * rates.keep)
            cycles = nonzeros * (multiply + missed * lines * rates.from_l2) + rows
            cycles = tiles * (cycles + shape.c_out / k_w * (first + fill)) + 8 * nonzeros / rates.weights
            cycles = (cycles + streamed + copies) * (rates.shifted if variant == "shift" else 1.0)
            yield SparseTile(accumulators, channels, k_w, variant, cycles, tiles, prefetch)


def _blocks(
    shape: ConvShape, variant: str, row_bytes: int, channel_bytes: int, given: Mapping[str, int]
) -> Iterator[tuple[int, int]]:
    """Input channels of a chunk and output channels of a workgroup whose scratch has room."""
    per_group = shape.c_per_group
    whole = workgroup_channels(shape, variant)
    sizes = (1, 2, 4, 8, 16, 24, 32, 48, 64, 96, 128, 192, 256)
    tried = sorted({per_group, *(c for c in sizes if c < per_group and (c >= 8 or variant == "pack"))})
    for channels in [given["channels"]] if "channels" in given else tried:
        room = SCRATCH_BYTES - (channels * channel_bytes if variant == "pack" else 0)
        rows = shape.c_out if channels == per_group and room >= 0 else room // row_bytes
        most = min(rows, whole)
        if "k_w" in given:
            if given["k_w"] <= most:
                yield channels, given["k_w"]
        elif most > 0:
            yield channels, max(k for k in range(1, min(most, _MOST_ROWS) + 1) if whole % k == 0)


def workgroup_channels(shape: ConvShape, variant: str) -> int:
    """The output channels that those of a workgroup divide."""
    return shape.k_per_group if variant == "pack" else shape.c_out

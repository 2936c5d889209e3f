"""The cost model of :mod:`dlas.schedules.sparse_conv`: cycles, and the knobs with the fewest of them.

Fitted to layers of 64 to 2048 channels, 1x1 and 3x3, at 7 to 56 columns, with 80 to 95% zeros (AVX2, 32 KB level 1).
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from dlas.passes.conv import ConvShape
from dlas.passes.planar import RegisterTile, reads_in_place
from dlas.schedules.knobs import SCRATCH_BYTES, VectorUnit

_LINE_BYTES = 64

# Per non-zero: the loads of its offset and value, and the loop.
_NONZERO = 1.5
# Per output channel and chunk: the loop's start and its mispredicted end; per vector of sums that is kept in between.
_ROW, _KEEP, _KEEP_ROW = 25.0, 1.2, 5.0
# Per line that a chunk's panel of pixels brings from level 2, when it takes more than a half of level 1 (all of it).
_LINE_FROM_L2 = 1.4
# Bytes of offsets and values per cycle.
_WEIGHTS = 12.0


@dataclass(frozen=True)
class SparseTile:
    """Knobs of the kernel with its estimated cycles for one image."""

    accumulators: int
    channels: int
    k_w: int
    cycles: float


def sparse_tile(unit: VectorUnit, shape: ConvShape, nonzeros: int) -> SparseTile:
    """The knobs with the fewest estimated cycles."""
    return min(_tiles(unit, shape, nonzeros), key=lambda tile: (tile.cycles, -tile.channels))


def _tiles(unit: VectorUnit, shape: ConvShape, nonzeros: int) -> Iterator[SparseTile]:
    accumulators = max(1, unit.registers * 7 // 8)
    reach = shape.k_w - 1
    gap = max(shape.pads[1], shape.pads[3]) if reads_in_place(shape) else reach * shape.dilation[1] // shape.stride[1]
    pitch = shape.out_w + gap
    pixels = (shape.out_h - 1) * pitch + shape.out_w
    register = RegisterTile.of(pixels, unit.lanes, accumulators)
    vectors, tiles = register.vectors, register.count
    span = vectors * unit.lanes + (shape.k_h - 1) * shape.dilation[0] // shape.stride[0] * pitch + reach
    # A vector that begins anywhere reaches over the end of a cache line this often, and is loaded twice then.
    split = unit.lanes * 4 / _LINE_BYTES * (1 - 1 / shape.k_w)
    loads = vectors * (1 + split) / unit.loads
    multiply = max(vectors / unit.fma_units, loads, unit.fma_latency) + _NONZERO
    lines = vectors * unit.lanes * 4 / _LINE_BYTES
    per_group = shape.c_per_group
    for channels in sorted({per_group, *(c for c in (8, 16, 24, 32, 48, 64, 96, 128, 192, 256) if c < per_group)}):
        chunks = -(-per_group // channels)
        room = shape.c_out if chunks == 1 else SCRATCH_BYTES // (4 * accumulators * unit.lanes)
        k_w = max(k for k in range(1, min(room, 128, shape.c_out) + 1) if shape.c_out % k == 0)
        panel = min(channels, per_group) * span * 4
        l1 = 1024 * unit.l1_kb
        missed = min(1.0, max(0.0, panel - l1 / 2) / (l1 / 2))
        row = _ROW + (vectors * _KEEP + _KEEP_ROW if chunks > 1 else 0)
        cycles = tiles * (nonzeros * (multiply + missed * lines * _LINE_FROM_L2) + shape.c_out * chunks * row)
        yield SparseTile(accumulators, channels, k_w, cycles + 8 * nonzeros / _WEIGHTS)

"""The ways to compute a pointwise convolution by Strassen's algorithm, with their estimated cycles."""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cache

from dlas.passes.conv import ConvShape
from dlas.passes.strassen import PLAIN, PRODUCTS
from dlas.schedules.knobs import SCRATCH_BYTES, VectorUnit

# Cycles on a Zen 4, fitted to 20 layers of 64 to 1024 channels at 7 to 56 columns: the loads and sums of a vector of
# each quadrant, without their stores, and the same again where these exceed half of level 1; what an accumulator costs
# beside its FMAs, all in stores; and by how much the estimate must be better.
_SUMS, _SUMS_AGAIN = 4.0, 10.0
_KEPT_STORED = 5
_MARGIN = 1.02

# Bytes per cycle of weights from level 2, level 3 and memory, the share of level 2 that they may take, and how much of
# the shorter is left beside the longer where they are read first.
_FROM_L2, _FROM_L3, _FROM_MEMORY, _L2_SHARE, _BESIDE = 32.0, 13.0, 6.0, 0.7, 0.5

_LEAST_PIXELS = 4  # that use a vector of weights
_MOST_PIXELS = 8

# A model whose products are computed so has more weights: 7/4 of those of such layers.
_LARGER = 1.4

_EACH = 4  # workgroups per core

# How much the estimates of packed_conv are above its measured times; and with 8 lanes, how much longer the few
# accumulators of a tile take, too (measured on the same core, with code for AVX2).
_AS_PACKED_IN_HALVES, _AS_PACKED = 1.06, 1.15


@dataclass(frozen=True)
class StrassenTile:
    """Knobs of :func:`dlas.schedules.strassen_conv.strassen_conv`, and the estimated cycles for one image."""

    pixels: int
    t_o: int
    k_w: int
    rows: int
    cycles: float


def takes_strassen(unit: VectorUnit, shape: ConvShape) -> bool:
    """Whether a convolution is a plain product of matrices, of two channel blocks or more."""
    plain = shape.kind == "pointwise" and shape.groups == 1 and shape.stride == (1, 1) and not any(shape.pads)
    return plain and min(shape.c_in, shape.c_out) > unit.lanes


def register_tiles(unit: VectorUnit, k_blocks: int, *, every: bool = False) -> Iterator[tuple[int, int]]:
    """(channel blocks, pixels): accumulators that hide an FMA's latency, and few more, or ``every`` tile that fits.

    Of many, LLVM keeps some in memory; and sums of fewer pixels stay in level 1.
    """
    enough = unit.fma_units * unit.fma_latency
    for vectors in (v for v in (1, 2, 3, 4) if k_blocks % (2 * v) == 0):
        least = max(_LEAST_PIXELS, -(-enough // vectors))
        most = max(least, min(_MOST_PIXELS, unit.registers // (2 * vectors)))
        for pixels in range(1, unit.registers) if every else range(least, most + 1):
            if unit.fits(vectors, pixels):
                yield vectors, pixels


def strassen_scratch(unit: VectorUnit, shape: ConvShape, vectors: int, pixels: int) -> int:
    """Bytes on the stack."""
    half, odd = divmod(-(-shape.c_in // unit.lanes), 2)
    return 4 * unit.lanes * pixels * (_copied(shape, pixels) * half + 2 * odd + 3 * vectors)


def _copied(shape: ConvShape, pixels: int) -> int:
    """Products whose left operands are made before; where tiles lie in rows, the others are read where they are."""
    return PRODUCTS - len(PLAIN) if shape.out_w % pixels == 0 else PRODUCTS


def strassen_cycles(
    unit: VectorUnit, shape: ConvShape, tiles: int, vectors: int, pixels: int, pairs: int, model: float
) -> float:
    """Of ``pairs`` of register tiles of pixels, for so many pairs of register tiles of channels.

    ``model``: bytes of the model's weights.
    """
    half, odd = divmod(-(-shape.c_in // unit.lanes), 2)
    copied = _copied(shape, pixels)
    store = _store_cycles(unit)
    products = unit.lanes * (PRODUCTS * half + 4 * odd) * product_cycles(unit, vectors, pixels)
    again = _SUMS_AGAIN if 4 * unit.lanes * copied * half * pixels > 512 * unit.l1_kb else 0.0
    sums = half * pixels * (_SUMS + copied * store + again)
    kept = kept_cycles(unit, vectors, pixels)
    pair = (sums + tiles * (products + kept)) * as_packed(unit)
    weights = PRODUCTS * shape.c_in * 2 * vectors * tiles * unit.lanes
    return _MARGIN * weight_cycles(unit, weights, pair, pairs, model)


def product_cycles(unit: VectorUnit, vectors: int, pixels: int) -> float:
    """Of one step of the reduction of a product."""
    cycles = unit.cycles(vectors, pixels)
    if vectors == 1 and unit.in_halves:  # FMAs of AVX-512 broadcast an element themselves
        cycles = max(pixels / unit.fma_units, unit.fma_latency)
    return max(cycles / (unit.cycles(2, 4) * unit.fma_units / 8), vectors * pixels / unit.fma_units)


def as_packed(unit: VectorUnit) -> float:
    """By how much to raise cycles that are compared with estimates of products by sums."""
    return _AS_PACKED_IN_HALVES if unit.in_halves else _AS_PACKED


def kept_cycles(unit: VectorUnit, vectors: int, pixels: int) -> float:
    """Of the sums of products, for a register tile."""
    return vectors * pixels * _KEPT_STORED * _store_cycles(unit)


def weight_cycles(unit: VectorUnit, weights: int, pair: float, pairs: int, model: float) -> float:
    """Of a workgroup that works so many times for ``pair`` cycles on so many bytes of weights."""
    read = weights / (_FROM_L3 if unit.keeps(model * _LARGER) else _FROM_MEMORY)
    again = weights / (_FROM_L2 if weights <= 1024 * unit.l2_kb * _L2_SHARE else _FROM_L3)
    first = max(pair, read) + _BESIDE * min(pair, read)
    return first + (pairs - 1) * max(pair, again)


def enough_workgroups(workgroups: int, most: int, cores: int) -> bool:
    """Whether all cores have some, if there can be as many."""
    return cores == 1 or workgroups >= min(_EACH * cores, most)


def _store_cycles(unit: VectorUnit) -> int:
    return 2 if unit.in_halves else 1


def strassen_tiles(
    unit: VectorUnit, shape: ConvShape, cores: int = 1, model: float = math.inf, *, every: bool = False
) -> Iterator[StrassenTile]:
    """The tiles that fit the scratch, of those of :func:`register_tiles`; ``model``: bytes of the model's weights."""
    lanes, plane = unit.lanes, shape.out_h * shape.out_w
    k_blocks = -(-shape.c_out // lanes)
    for vectors, pixels in register_tiles(unit, k_blocks, every=every):
        if pixels >= plane or strassen_scratch(unit, shape, vectors, pixels) > SCRATCH_BYTES:
            continue
        rows = _rows(shape, 2 * pixels)
        bands = -(-shape.out_h // rows)
        pairs = bands * -(-rows * shape.out_w // (2 * pixels))
        whole = k_blocks // (2 * vectors)
        for workgroups in (n for n in range(1, whole + 1) if whole % n == 0):
            if not enough_workgroups(workgroups * bands, whole * bands, cores):
                continue
            tiles = whole // workgroups
            cycles = workgroups * strassen_cycles(unit, shape, tiles, vectors, pixels, pairs, model)
            yield StrassenTile(pixels, vectors * lanes, 2 * vectors * tiles * lanes, rows, cycles)


@cache
def strassen_tile(unit: VectorUnit, shape: ConvShape, cores: int = 1, model: float = math.inf) -> StrassenTile | None:
    """The fastest one, if there is any."""
    return min(
        strassen_tiles(unit, shape, cores, model), key=lambda tile: (tile.cycles, tile.pixels, -tile.k_w), default=None
    )


def _rows(shape: ConvShape, pixels: int) -> int:
    """The fewest rows that are a multiple of so many pixels, what is left of them being at least as many; else all."""
    for rows in range(1, shape.out_h):
        left = shape.out_h % rows * shape.out_w
        if rows * shape.out_w % pixels == 0 and (left == 0 or left >= pixels):
            return rows
    return shape.out_h

"""What :func:`dlas.schedules.polyphase_conv.polyphase_conv` is estimated to take, and its best knobs."""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass, replace

from dlas.passes.conv import ConvShape
from dlas.passes.plan import Refusal
from dlas.passes.polyphase import PHASES, Polyphase
from dlas.schedules.knobs import SCRATCH_BYTES, VectorUnit, register_tile

SIZES = (2, 4)
"""The output tiles m that are tried."""

# Of a register tile's estimated cycles, what products take; cycles per vector operation, load or store of the
# transforms and FMA unit; bytes per cycle from level 2, which is where weights are.
_PRODUCTS = 1.0
_TRANSFORMS = 1.4
_FROM_L2 = 32.0


@dataclass(frozen=True)
class PolyphaseTile:
    """Knobs of :func:`dlas.schedules.polyphase_conv.polyphase_conv`, with its estimated cycles for one image."""

    m: int
    tiles: int
    t_o: int
    ow: int
    cycles: float


def polyphase_tile(unit: VectorUnit, shape: ConvShape, largest: int = 4) -> PolyphaseTile | Refusal:
    """The fastest tile; ``largest`` bounds its outputs per side."""
    tiles = polyphase_tiles(unit, shape, largest)
    return tiles if isinstance(tiles, Refusal) else min(tiles, key=lambda tile: tile.cycles)


def polyphase_tiles(unit: VectorUnit, shape: ConvShape, largest: int = 4) -> list[PolyphaseTile] | Refusal:
    """All tiles that fit, or why there is none."""
    if shape.groups > 1 or shape.c_in >= unit.lanes:
        return Refusal(f"{shape.c_in} input channels in {shape.groups} groups fill a block of {unit.lanes}")
    if shape.stride != (PHASES, PHASES) or shape.dilation != (1, 1):
        return Refusal("not of stride 2x2 without dilation")
    if largest < min(SIZES):
        return Refusal("Winograd's domain is not to be used")
    return list(_tiles(unit, shape, largest)) or Refusal(f"no transforms for a kernel of {shape.k_h}x{shape.k_w}")


def _tiles(unit: VectorUnit, shape: ConvShape, largest: int) -> Iterator[PolyphaseTile]:
    blocks = -(-shape.c_out // unit.lanes)
    for m in (m for m in SIZES if m <= largest):
        columns = shape.tiles(m)[1]
        whole = Polyphase(shape, m, columns, unit.lanes)
        if not (whole.rows.known and whole.columns.known):
            continue
        for tiles in sorted({-(-columns // parts) for parts in range(1, columns + 1)}):
            vectors, ow = register_tile(unit, blocks, tiles)
            phases = replace(whole, tiles=tiles)
            if 4 * sum(map(math.prod, phases.scratch(vectors))) <= SCRATCH_BYTES:
                cycles = _cycles(unit, phases, blocks, vectors, ow)
                yield PolyphaseTile(m, tiles, vectors * unit.lanes, ow, cycles)


def _cycles(unit: VectorUnit, phases: Polyphase, blocks: int, vectors: int, ow: int) -> float:
    """For one image."""
    shape, m = phases.shape, phases.m
    alpha_h, alpha_w = phases.rows.alpha, phases.columns.alpha
    (down, back_h), (along, back_w) = phases.rows.operations(), phases.columns.operations()
    whole, rest = divmod(phases.tiles, ow)
    step = whole * unit.cycles(vectors, ow) + (unit.cycles(vectors, rest) if rest else 0)
    products = phases.points * phases.channels * (blocks // vectors) * step * _PRODUCTS
    weights = 4 * phases.points * phases.channels * blocks * unit.lanes
    into = PHASES * shape.c_in * phases.step * phases.vectors_read * (2 * alpha_h + down)
    into += phases.channels * alpha_h * phases.vectors * (2 * alpha_w + along)
    out_of = alpha_h * (alpha_w + m + back_w) + m * (alpha_h + 3 * m + back_h)
    transforms = (into + out_of * blocks * phases.tiles) * _TRANSFORMS / unit.others
    parts = phases.parts * shape.tiles(m)[0]
    return parts * (max(products, weights / _FROM_L2) + transforms)

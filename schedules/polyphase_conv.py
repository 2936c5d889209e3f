"""Convolutions of stride 2 with few input channels: their phases in Winograd's domain."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from dlas.dialects import TransformScript
from dlas.errors import ScheduleError
from dlas.schedules.frame import finish, tile_borders


@dataclass(frozen=True)
class PolyphaseKnobs:
    """Knobs of :func:`polyphase_conv`.

    Attributes:
        m: outputs of a tile per side.
        tiles: of a row of tiles that are in the domain at a time.
        t_o: output channels of a register tile (blocks times lanes).
        ow: tiles of a register tile.
        block: B, channels of a layout block.
    """

    m: int
    tiles: int
    t_o: int
    ow: int
    block: int

    def __post_init__(self) -> None:
        where = "polyphase_conv"
        if self.m not in (2, 4):
            raise ScheduleError(f"m={self.m} has no transforms", where=where, hint="use 2 or 4")
        if self.t_o < 1 or self.t_o % self.block:
            raise ScheduleError(f"t_o={self.t_o} is not a multiple of block={self.block}", where=where)
        if min(self.ow, self.tiles) < 1:
            raise ScheduleError(f"ow={self.ow}, tiles={self.tiles}: not positive", where=where)


@dataclass(frozen=True)
class PolyphaseInputKnobs:
    """Knobs of :func:`polyphase_input`.

    Attributes:
        m: outputs of a tile per side.
        block: B, lanes of a vector.
    """

    m: int
    block: int


def polyphase_input(knobs: PolyphaseInputKnobs, extents: Mapping[str, int]) -> TransformScript:
    """For one workgroup: rows of a channel. The kernel is vector code already.

    Source: as for :func:`polyphase_conv`.
    """
    script = TransformScript("polyphase_input")
    finish(script, contract=False)
    return script


def polyphase_conv(knobs: PolyphaseKnobs, extents: Mapping[str, int]) -> TransformScript:
    """For one workgroup: rows of tiles. The kernel is vector code already; what is left is its border.

    before: for k, h, w, c, y, x:  out[k, h, w] += in[c, 2h + y, 2w + x] * g[k, c, y, x]
    after:  for rows of tiles: for parts of a row:  V = B^T in B of each phase
              for k/T_O: for a, b: for t/OW: acc[k][OW] : vector<B>
                for c, v, u (unrolled): acc[k][t] += splat(V[a, b, (c, v, u), t]) * U[a, b, (c, v, u), k]
              out[k, m x m] = epilogue(A^T acc A)

    Args:
        knobs: the tile.
        extents: ``columns`` of tiles, ``blocks`` of output channels.

    Raises:
        ScheduleError: more ``tiles`` at a time than there are columns, or register tiles that do not fill all blocks.

    Source: :mod:`dlas.passes.polyphase` and :mod:`dlas.passes.toom_cook`.
    """
    where = "polyphase_conv"
    if knobs.tiles > extents["columns"]:
        raise ScheduleError(f"tiles={knobs.tiles} are more than the {extents['columns']} of a row", where=where)
    if extents["blocks"] % (knobs.t_o // knobs.block):
        raise ScheduleError(f"t_o={knobs.t_o} does not divide {extents['blocks']} blocks of {knobs.block}", where=where)
    script = TransformScript("polyphase_conv")
    tile_borders(script)
    finish(script, contract=False)
    return script

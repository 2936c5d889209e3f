"""Convolutions in Winograd's domain: the products of all tiles at each point are a matrix product."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from dlas.dialects import TransformScript
from dlas.errors import ScheduleError
from dlas.schedules.frame import finish, tile_borders


@dataclass(frozen=True)
class WinogradKnobs:
    """Knobs of :func:`winograd_conv`.

    Attributes:
        m: outputs of a tile per side, F(m x m, 3 x 3).
        rows: rows of tiles that are in the domain at a time, 1 where not all their columns are.
        columns: columns of tiles that are in the domain at a time.
        depth: input channels of a group that are in the domain at a time.
        t_o: output channels of a register tile (blocks times lanes).
        ow: tiles of a register tile.
        k_w: output channels of a workgroup, a multiple of ``t_o``.
        block: B, channels of a layout block.
        merge: groups merged block-diagonally so that their channels fill blocks.
        staged: 1: the input is transformed by a kernel of its own, all channels of it; 0: by each workgroup.
        prefetch: 1: weights are prefetched to level 2 some time before they are read, 0: they are not.
        online: 1: weights stay 3x3 taps in memory, and the kernel transforms them; 0: they are transformed at compile
            time.
    """

    m: int
    rows: int
    columns: int
    depth: int
    t_o: int
    ow: int
    k_w: int
    block: int
    merge: int = 1
    staged: int = 0
    prefetch: int = 0
    online: int = 0

    def __post_init__(self) -> None:
        where = "winograd_conv"
        if self.m not in (2, 4):
            raise ScheduleError(f"m={self.m} has no transforms", where=where, hint="use 2 or 4")
        if self.t_o < 1 or self.t_o % self.block:
            raise ScheduleError(f"t_o={self.t_o} is not a multiple of block={self.block}", where=where)
        if self.k_w < 1 or self.k_w % self.t_o:
            raise ScheduleError(f"k_w={self.k_w} is not a multiple of t_o={self.t_o}", where=where)
        if self.depth < 1 or self.depth % self.block:
            raise ScheduleError(f"depth={self.depth} is not a multiple of block={self.block}", where=where)
        for name in ("prefetch", "online"):
            if getattr(self, name) not in (0, 1):
                raise ScheduleError(f"{name}={getattr(self, name)} is neither 0 nor 1", where=where)
        if self.online and self.t_o != self.block:
            raise ScheduleError(f"t_o={self.t_o}: online takes t_o={self.block}, one block", where=where)
        if min(self.ow, self.rows, self.columns) < 1:
            sizes = f"ow={self.ow}, rows={self.rows}, columns={self.columns}"
            raise ScheduleError(f"{sizes}: not positive", where=where)


@dataclass(frozen=True)
class WinogradLaneKnobs:
    """Knobs of :func:`winograd_lane_conv`.

    Attributes:
        m: outputs of a tile per side, F(m x m, 3 x 3).
        block: B, channels of a layout block.
    """

    m: int
    block: int

    def __post_init__(self) -> None:
        if self.m not in (2, 4):
            raise ScheduleError(f"m={self.m} has no transforms", where="winograd_lane_conv", hint="use 2 or 4")


def winograd_input(knobs: WinogradLaneKnobs, extents: Mapping[str, int]) -> TransformScript:
    """For one workgroup: some channel blocks. The transform of the input is vector code already.

    Source: as for :func:`winograd_conv`.
    """
    script = TransformScript("winograd_input")
    finish(script, contract=False)
    return script


def winograd_lane_conv(knobs: WinogradLaneKnobs, extents: Mapping[str, int]) -> TransformScript:
    """For one workgroup: a channel block. The kernel is vector code already; what is left is its border.

    Source: as for :func:`winograd_conv`.
    """
    script = TransformScript("winograd_lane_conv")
    tile_borders(script)
    finish(script, contract=False)
    return script


def winograd_conv(knobs: WinogradKnobs, extents: Mapping[str, int]) -> TransformScript:
    """For one workgroup. The kernel is vector code already; what is left are its border and the zeros before depths.

    Args:
        knobs: the tile.
        extents: ``rows`` and ``columns`` of tiles, ``depths`` that the input channels are taken in.

    Raises:
        ScheduleError: ``rows`` or ``columns`` does not divide those of the result.

    Source: :mod:`dlas.passes.winograd` (Lavin and Gray, CVPR 2016, algorithm 1).
    """
    for name, at_a_time in (("rows", knobs.rows), ("columns", knobs.columns)):
        if extents[name] % at_a_time:
            raise ScheduleError(
                f"{name}={at_a_time} does not divide the {extents[name]} {name} of tiles", where="winograd_conv"
            )
    script = TransformScript("winograd_conv")
    if extents["depths"] > 1:
        script.comment("The zeros that the sums start from.")
        script.tile(script.match_role("init"), [1, 1, 0, 0])
    tile_borders(script)
    finish(script, contract=False)
    return script

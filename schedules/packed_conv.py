"""The packed GSPC schedule: contractions over channel blocks, one register tile at a time."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from dlas.dialects import TransformScript
from dlas.errors import ScheduleError
from dlas.schedules.frame import finish, tile_borders, tile_rows


@dataclass(frozen=True)
class PackedConvKnobs:
    """Knobs of :func:`packed_conv`.

    Attributes:
        t_o: T_O of the GSPC paper, output channels of a register tile (blocks times lanes).
        ow: pixels of an output row in a register tile.
        block: B, channels of a layout block (T_I).
        merge: groups merged block-diagonally so that their channels fill blocks.
        direct: 1 if the input is read in NCHW (too few channels to fill a block).
        unroll_kw: 1 to unroll the loop over the kernel's columns.
        order: order of the reduction loops over channel blocks (c), kernel rows (y) and columns (x).
    """

    t_o: int
    ow: int
    block: int
    merge: int = 1
    direct: int = 0
    unroll_kw: int = 0
    order: str = "cyx"

    def __post_init__(self) -> None:
        if self.block < 1 or self.block & (self.block - 1):
            raise ScheduleError(
                f"block={self.block} is not a power of two", where="packed_conv", hint="use 4, 8, 16 or 32"
            )
        if self.t_o < 1 or self.t_o % self.block:
            raise ScheduleError(
                f"t_o={self.t_o} is not a multiple of block={self.block}",
                where="packed_conv",
                hint=f"use {self.block}, {2 * self.block} or {4 * self.block}",
            )
        if self.ow < 1:
            raise ScheduleError(f"ow={self.ow} is not positive", where="packed_conv")
        if sorted(self.order) != ["c", "x", "y"]:
            raise ScheduleError(
                f"order={self.order!r} does not name c, y and x once each", where="packed_conv", hint="e.g. cyx, yxc"
            )


def packed_conv(knobs: PackedConvKnobs, extents: Mapping[str, int]) -> TransformScript:
    """GSPC's compute stage, for one workgroup: one tile of T_O output channels of one group and image.

    Groups and channel tiles run in parallel across workgroups; packing (stages one and two) and unpacking (stage
    four) are settled by the layout (:mod:`dlas.passes.blocked_layout`).

    before: for k, h, w, o, c, y, x, i:  out[k, h, w, o] += x[c, h+y, w+x, i] * wt[c, y, x, i, k, o]
    after:  for h: for w/OW: acc[k][OW] : vector<B>
              for c, y, x: for i (unrolled): acc[k][ow] += splat(x[c, h+y, w+ow+x, i]) * wt[c, y, x, i, k]
            out[k, h, w] = epilogue(acc)

    Args:
        knobs: the tile.
        extents: loop extents of the kernel (``h w k c y x i`` and ``stride`` along w); absent or 1: no such loop, 0: as
            many as each call says.

    Source: Gibson, Cano, Turner, Crowley, O'Boyle, Storkey: Optimizing Grouped Convolutions on Edge Devices, ASAP 2020,
    section IV.
    """
    script = TransformScript("packed_conv")
    reductions = [name for name in "cyx" if extents.get(name, 1) != 1]
    ow = min(knobs.ow, extents["w"])

    script.comment("Rows and register tiles; the accumulator's init and the epilogue move into the tile.")
    tile_rows(script, extents["w"], ow, epilogue=bool(extents["epilogue"]))

    script.comment("Reduction loops; the channels within a block stay whole, for the contraction.")
    root = script.match_role("root")
    if reductions:
        order = [name for name in knobs.order if name in reductions]
        for name in order:
            sizes = [0, 0, 0, 0] + [1 if other == name else 0 for other in reductions]
            root, loops = script.tile(root, sizes)
            if name == "x" and knobs.unroll_kw:
                script.unroll(loops[0], extents["x"])
    # A kernel of one column has its stride in the load of its input.
    if extents.get("stride", 1) > 1 and ow > 1 and extents.get("x", 1) > 1:
        script.comment("A strided row does not vectorise: one pixel at a time, unrolled.")
        root = script.match_role("root")
        root, loops = script.tile(root, [0, 0, 1, 0])
        script.unroll(loops[0], ow)

    tile_borders(script)
    finish(script, contract=True)
    return script

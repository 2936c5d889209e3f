"""A depthwise or small-group convolution and the pointwise one behind it in one kernel."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from dlas.dialects import TransformScript
from dlas.errors import ScheduleError
from dlas.schedules.frame import finish, tile_borders, tile_rows


@dataclass(frozen=True)
class SeparableConvKnobs:
    """Knobs of :func:`separable_conv`.

    Attributes:
        rows: rows of the result that are computed at a time.
        pixels: of a row in a register tile of the first convolution; of a row of tiles in Winograd's domain at a time.
        t_o: output channels of a register tile of the pointwise convolution (blocks times lanes).
        ow: pixels of a row in it.
        block: B, channels of a layout block.
        m: outputs of a tile per side where the first convolution is computed in Winograd's domain, 0: by sums.
        strassen: pixels of a register tile, of two such, where the pointwise convolution is computed by Strassen's
            algorithm (:func:`dlas.schedules.strassen_conv.strassen_conv`); 0: ``ow`` pixels of one, by sums.
    """

    rows: int
    pixels: int
    t_o: int
    ow: int
    block: int
    m: int = 0
    strassen: int = 0

    def __post_init__(self) -> None:
        if self.t_o < 1 or self.t_o % self.block:
            raise ScheduleError(f"t_o={self.t_o} is not a multiple of block={self.block}", where="separable_conv")
        if min(self.rows, self.pixels, self.ow) < 1:
            sizes = f"rows={self.rows}, pixels={self.pixels}, ow={self.ow}"
            raise ScheduleError(f"{sizes}: not positive", where="separable_conv")
        if self.m not in (0, 2, 4):
            raise ScheduleError(f"m={self.m} has no transforms", where="separable_conv", hint="use 2 or 4, or 0: sums")
        if self.m and (self.rows % self.m or self.pixels % self.m):
            sizes = f"rows={self.rows}, pixels={self.pixels}"
            raise ScheduleError(f"{sizes}: not multiples of m={self.m}", where="separable_conv")


def separable_conv(knobs: SeparableConvKnobs, extents: Mapping[str, int]) -> TransformScript:
    """The pointwise convolution of one workgroup; the one before it is vector code already.

    before: for k, h, w, o, c, i:  out[k, h, w, o] += hidden[c, h, w, i] * wt[c, i, k, o]
    after:  for h: for w/OW: acc[k][OW] : vector<B>
              for c: for i (unrolled): acc[k][w] += splat(hidden[c, h, w, i]) * wt[c, i, k]
            out[k, h, w] = epilogue(acc)

    By Strassen's algorithm, it is vector code, too.

    Args:
        knobs: the tile.
        extents: ``h`` rows at a time, ``w``, ``c`` channel blocks of the input, ``epilogue`` (0/1).
    """
    script = TransformScript("separable_conv")
    if knobs.strassen:
        tile_borders(script)
        finish(script, contract=False)
        return script
    script.comment("Rows and register tiles; the accumulator's init and the epilogue move into the tile.")
    tile_rows(script, extents["w"], min(knobs.ow, extents["w"]), epilogue=bool(extents["epilogue"]))
    if extents["c"] > 1:
        script.comment("The reduction, a channel block at a time.")
        script.tile(script.match_role("root"), [0, 0, 0, 0, 1])
    tile_borders(script)
    finish(script, contract=True)
    return script

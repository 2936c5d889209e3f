"""Pointwise convolutions by Strassen's algorithm."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from dlas.dialects import TransformScript
from dlas.errors import ScheduleError
from dlas.schedules.frame import finish, tile_borders


@dataclass(frozen=True)
class StrassenKnobs:
    """Knobs of :func:`strassen_conv`.

    Attributes:
        pixels: M, of a register tile, of which two are the halves of a product; of whole rows one behind the other.
        t_o: T_O, output channels of a register tile (blocks times lanes), of which two are the halves of a product.
        k_w: output channels of a workgroup, a multiple of ``2 * t_o``.
        rows: of the image that stay together.
        block: B, channels of a layout block.
    """

    pixels: int
    t_o: int
    k_w: int
    rows: int
    block: int

    def __post_init__(self) -> None:
        where = "strassen_conv"
        if self.t_o < 1 or self.t_o % self.block:
            raise ScheduleError(f"t_o={self.t_o} is not a multiple of block={self.block}", where=where)
        if self.k_w < 1 or self.k_w % (2 * self.t_o):
            raise ScheduleError(f"k_w={self.k_w} is not a multiple of 2 * t_o={2 * self.t_o}", where=where)
        if min(self.pixels, self.rows) < 1:
            raise ScheduleError(f"pixels={self.pixels}, rows={self.rows}: not positive", where=where)


def strassen_conv(knobs: StrassenKnobs, extents: Mapping[str, int]) -> TransformScript:
    """For one workgroup. The kernel is vector code already; what is left is its border.

    before: for k, p, o, c, i:  out[k, p, o] += x[c, p, i] * wt[c, i, k, o]
    after:  for p by 2 M: V = sums of x
              for k by 2 T_O/B: 7 products of V with sums of wt;  out[k, p] = epilogue(sums of them)

    Source: :mod:`dlas.passes.strassen`.
    """
    script = TransformScript("strassen_conv")
    tile_borders(script)
    finish(script, contract=False)
    return script

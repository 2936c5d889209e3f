"""Small-group convolutions that stand alone: NCHW in and out, vectors along the output row, nothing packed."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from dlas.dialects import TransformScript
from dlas.errors import ScheduleError
from dlas.schedules.frame import finish


@dataclass(frozen=True)
class WLanesKnobs:
    """Knobs of :func:`w_lanes`.

    Attributes:
        t_o: output channels of a register tile, all of one group.
        ow: pixels of an output row in a register tile, a multiple of ``lanes``.
        lanes: f32 lanes of a vector register.
    """

    t_o: int
    ow: int
    lanes: int

    def __post_init__(self) -> None:
        if self.t_o < 1:
            raise ScheduleError(f"t_o={self.t_o} is not positive", where="w_lanes")
        if self.ow < 1 or self.ow % self.lanes:
            raise ScheduleError(
                f"ow={self.ow} is not a multiple of lanes={self.lanes}", where="w_lanes", hint="rows fill vectors"
            )


def w_lanes(knobs: WLanesKnobs, extents: Mapping[str, int]) -> TransformScript:
    """For one workgroup: T_O output channels of one group and image.

    before: for o, h, w, i, y, x:  out[o, h, w] += in[i, h+y, w+x] * wt[i, y, x, o]
    after:  for h: for w/OW: acc[T_O][OW/lanes] : vector<lanes>
              for y, x: for i (unrolled): acc[o] += splat(wt[i, y, x, o]) * in[i, h+y, w+x : +OW]

    Args:
        knobs: the tile; ``ow`` must divide the row.
        extents: ``w y x``, ``epilogue`` (0/1).

    Raises:
        ScheduleError: ``ow`` does not divide the row: a partial vector would be scalar code.
    """
    if extents["w"] % knobs.ow:
        raise ScheduleError(f"ow={knobs.ow} does not divide a row of {extents['w']}", where="w_lanes")
    script = TransformScript("w_lanes")
    script.comment("Rows and register tiles; the accumulator's init and the epilogue move into the tile.")
    last = script.match_role("epilogue" if extents["epilogue"] else "root")
    script.fuse(last, [0, 1, knobs.ow if knobs.ow < extents["w"] else 0])
    script.cleanup()
    script.comment("One tap at a time; the group's input channels stay whole, for the contraction.")
    taps = [name for name in "yx" if extents.get(name, 1) > 1]
    if taps:
        script.tile(script.match_role("root"), [0, 0, 0, 0, *[1] * len(taps)])
    finish(script, contract=True)
    return script

"""Kernels whose lanes stay apart: depthwise and small-group convolutions, and pooling."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from dlas.dialects import TransformScript
from dlas.errors import ScheduleError
from dlas.schedules.frame import tile_borders, tile_rows


@dataclass(frozen=True)
class LaneConvKnobs:
    """Knobs of :func:`lane_conv`: ``ow`` pixels of an output row per tile, ``block`` channels of a layout block."""

    ow: int
    block: int

    def __post_init__(self) -> None:
        if self.ow < 1:
            raise ScheduleError(f"ow={self.ow} is not positive", where="lane_conv")


def lane_conv(knobs: LaneConvKnobs, extents: Mapping[str, int]) -> TransformScript:
    """The tiling of a kernel whose lane o reads only lanes of its own group; :mod:`dlas.passes.lower_lanes` follows.

    Each input vector is loaded once per tap row and serves every kernel column and, by shuffles, every channel of
    its group (FINDINGS call these shuffle kernels: no packing of groups, no zero multiplications).

    before: for h, w, o, y, x, i:  out[h, w, o] += in[h+y, w+x, group(o)*C_PG + i] * wt[y, x, i, o]
    after:  for h: for w/OW: acc[OW] : vector<B>
              for y: for i, x (unrolled): acc[ow] += shuffle_i(in[h+y, w+ow+x]) * wt[y, x, i]

    Args:
        knobs: the tile.
        extents: ``h w y x i``, ``epilogue`` (0/1).
    """
    script = TransformScript("lane_conv")
    script.comment("Rows and register tiles.")
    tile_rows(script, extents["w"], min(knobs.ow, extents["w"]), epilogue=bool(extents["epilogue"]))
    if extents["y"] > 1:
        script.comment("One kernel row at a time; its columns are unrolled by the lowering.")
        reductions = [1, 0, 0] if "i" in extents else [1, 0]
        script.tile(script.match_role("root"), [0, 0, 0, 0, *reductions])
    tile_borders(script)
    script.cleanup()
    return script


def lane_conv_finish() -> TransformScript:
    """Vectorises the init, epilogue and border around the lowered microkernel and hoists the accumulators."""
    script = TransformScript("lane_conv_finish")
    script.fold_unit_dims()
    script.vectorize()
    script.apply_patterns("canonicalization")
    script.cse()
    script.hoist_accumulators()
    script.apply_patterns("canonicalization")
    return script

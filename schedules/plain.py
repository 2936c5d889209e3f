"""Schedules of kernels that only move or map data: elementwise, copy, pack, unpack, reduce."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from dlas.dialects import TransformScript
from dlas.errors import ScheduleError
from dlas.schedules.frame import finish, tile_borders, tile_rows


@dataclass(frozen=True)
class PlainKnobs:
    """Knobs of the plain schedules: ``ow`` pixels of a row per tile, ``block`` channels of a layout block."""

    ow: int
    block: int

    def __post_init__(self) -> None:
        if self.ow < 1:
            raise ScheduleError(f"ow={self.ow} is not positive", where="plain")


def elementwise(knobs: PlainKnobs, extents: Mapping[str, int]) -> TransformScript:
    """Elementwise ops on a blocked tensor.

    before: for h, w, o:  out[h, w, o] = f(x[h, w, o], ...)
    after:  for h: for w/OW:  out[h, w:w+OW] : vector<OW x B> = f(x[h, w:w+OW], ...)
    """
    script = TransformScript("elementwise")
    tile_rows(script, extents["w"], min(knobs.ow, extents["w"]), epilogue=True)
    tile_borders(script)
    finish(script, contract=False, copies=True)
    return script


def lane_shuffle(knobs: PlainKnobs, extents: Mapping[str, int]) -> TransformScript:
    """Channel shuffles, which are vector code already: what is left is their border."""
    script = TransformScript("lane_shuffle")
    tile_borders(script)
    finish(script, contract=False)
    return script


def transpose(knobs: PlainKnobs, extents: Mapping[str, int]) -> TransformScript:
    """Pack (NCHW to blocked) and unpack: B x B transposes in registers.

    before: for o, h, w:  out[h, w, o] = x[o, h, w]            (pack; unpack has the loops h, w, o)
    after:  for h: for w/B:  out[h, w:w+B, :] : vector<B x B> = transpose(x[:, h, w:w+B])
    """
    script = TransformScript("transpose")
    last = script.match_role("epilogue")
    ow = min(knobs.ow, extents["w"])
    row, column = (1, 2) if extents.get("unpack") else (2, 3)
    sizes = [0, 0, 0, 0]
    sizes[row] = 1
    sizes[column] = ow if ow < extents["w"] else 0
    _, loops = script.tile(last, sizes)
    if ow < extents["w"] and extents["w"] % ow:
        script.peel(loops[1])
    script.cleanup()
    tile_borders(script)
    finish(script, contract=False)
    script.lower_transposes()
    return script


def pad(knobs: PlainKnobs, extents: Mapping[str, int]) -> TransformScript:
    """An NCHW tensor with zeros around it.

    before: for h, w:  out[h + top, w + left] = x[h, w];  border rows and margins = 0
    after:  for h: for w/OW:  out[h + top, w+left : +OW] : vector<OW> = x[h, w : +OW];  vector stores of zeros
    """
    script = TransformScript("pad")
    script.comment("The interior, a vector at a time.")
    rows_of_vectors(script, "epilogue", extents["w"], knobs.ow)
    if extents["rows"]:
        script.comment("Rows above and below.")
        rows_of_vectors(script, "border", extents["columns"], knobs.ow)
    script.comment("Margins: one short vector per row.")
    script.tile(script.match_role("margin"), [1, 1, 0])
    finish(script, contract=False, copies=True)
    return script


def rows_of_vectors(script: TransformScript, role: str, width: int, ow: int) -> None:
    """Tiles the ops of a role by rows and by ``ow`` columns, the last ones peeled."""
    _, loops = script.tile(script.match_role(role), [0, 1, ow if ow < width else 0])
    if ow < width and width % ow:
        script.peel(loops[1])
    script.cleanup()


def reduce(knobs: PlainKnobs, extents: Mapping[str, int]) -> TransformScript:
    """Reduction over height and width, lanes on channels.

    before: for k, o, h, w:  out[k, o] += x[k, h, w, o]
    after:  acc : vector<B>;  for h, w:  acc += x[h, w]
    """
    script = TransformScript("reduce")
    script.tile(script.match_role("root"), [0, 0, 1, 1])
    script.cleanup()
    finish(script, contract=False)
    return script

"""The schedule of a matrix product by packed constant weights."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from dlas.dialects import TransformScript
from dlas.errors import ScheduleError
from dlas.schedules.frame import finish


@dataclass(frozen=True)
class MatmulKnobs:
    """Knobs of :func:`matmul`.

    Attributes:
        t_o: columns of a register tile and of a workgroup, T_O.
        rows: rows of a register tile.
        depth: steps of the unrolled reduction.
    """

    t_o: int
    rows: int
    depth: int

    def __post_init__(self) -> None:
        if self.t_o < 1 or self.t_o & (self.t_o - 1):
            raise ScheduleError(f"t_o={self.t_o} is not a power of two", where="matmul", hint="use 8, 16, 32 or 64")
        if self.rows < 1 or self.depth < 1:
            raise ScheduleError(f"rows={self.rows}, depth={self.depth}: not positive", where="matmul")


def matmul(knobs: MatmulKnobs, extents: Mapping[str, int]) -> TransformScript:
    """For one workgroup: all rows of T_O columns.

    before: for w, n, i:  out[w, n] += x[w, i] * wt[i, n]
    after:  for w/ROWS: acc[ROWS] : vector<T_O>
              for i/DEPTH: for i (unrolled): acc[w] += splat(x[w, i]) * wt[i]
            out[w] = epilogue(acc)

    Args:
        knobs: the tile.
        extents: ``w`` rows, ``i`` reduction, ``epilogue`` (0/1).
    """
    script = TransformScript("matmul")
    rows = extents["w"]
    script.comment("Register tiles of rows; the accumulator's init and the epilogue move into the tile.")
    last = script.match_role("epilogue" if extents["epilogue"] else "root")
    if knobs.rows < rows:
        _, loops = script.fuse(last, [knobs.rows, 0])
        if rows % knobs.rows:
            script.peel(loops[0])
    script.cleanup()
    script.comment("The reduction, unrolled by its depth.")
    if knobs.depth < extents["i"]:
        _, loops = script.tile(script.match_role("root"), [0, 0, knobs.depth])
        if extents["i"] % knobs.depth:
            for loop in loops:
                script.peel(loop)
            script.cleanup()
    finish(script, contract=True)
    return script

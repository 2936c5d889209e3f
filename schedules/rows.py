"""The schedule of programs along rows: softmax, layer norm and their like."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from dlas.dialects import TransformScript
from dlas.errors import ScheduleError


@dataclass(frozen=True)
class RowKnobs:
    """Knobs of :func:`rows`.

    Attributes:
        width: elements of a row per step, a power of two.
        rows: rows of a workgroup.
    """

    width: int
    rows: int

    def __post_init__(self) -> None:
        if self.width < 1 or self.width & (self.width - 1):
            raise ScheduleError(f"width={self.width} is not a power of two", where="rows", hint="use 8, 16, 32 or 64")
        if self.rows < 1:
            raise ScheduleError(f"rows={self.rows} is not positive", where="rows")


def rows(knobs: RowKnobs, extents: Mapping[str, int]) -> TransformScript:
    """For one workgroup: ROWS rows. The kernel is vector code already (:mod:`dlas.passes.row_kernels`).

    before: for r, c:  m[r] = max(m[r], x[r, c]);  for r, c:  y[r, c] = exp(x[r, c] - m[r]);  ...
    after:  for r:  for c/WIDTH:  m : vector<WIDTH> = max(m, x[r, c]);  for c/WIDTH:  y[r, c] = exp(x[r, c] - m);  ...
    """
    script = TransformScript("rows")
    script.comment("Index arithmetic that all steps of a row share.")
    script.cleanup()
    return script

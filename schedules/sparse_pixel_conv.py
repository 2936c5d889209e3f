"""Convolutions of pruned weights on GPUs: the kernel is emitted thread by thread, and these are its knobs."""

from __future__ import annotations

from dataclasses import dataclass

from dlas.errors import ScheduleError


@dataclass(frozen=True)
class SparsePixelConvKnobs:
    """Knobs of :mod:`dlas.passes.pixel_kernels`.

    Attributes:
        threads: of a workgroup, a pixel each.
        k_w: output channels of a workgroup, one after the other; a divisor of them all.
    """

    threads: int
    k_w: int

    def __post_init__(self) -> None:
        for name in ("threads", "k_w"):
            if getattr(self, name) < 1:
                raise ScheduleError(f"{name}={getattr(self, name)} is not positive", where="sparse_pixel_conv")

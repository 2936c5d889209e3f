"""Convolutions of pruned weights: the kernel is emitted as vector code, and these are the knobs it is emitted for."""

from __future__ import annotations

from dataclasses import dataclass

from dlas.errors import ScheduleError


@dataclass(frozen=True)
class SparseConvKnobs:
    """Knobs of :meth:`dlas.passes.sparse_kernels.SparseKernels.sparse_conv`.

    Attributes:
        accumulators: vectors of pixels that stay in registers, at most.
        channels: input channels of a group at a time.
        k_w: output channels of a workgroup, a divisor of them all.
    """

    accumulators: int
    channels: int
    k_w: int

    def __post_init__(self) -> None:
        for name in ("accumulators", "channels", "k_w"):
            if getattr(self, name) < 1:
                raise ScheduleError(f"{name}={getattr(self, name)} is not positive", where="sparse_conv")

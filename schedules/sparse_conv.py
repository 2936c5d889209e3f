"""Convolutions of pruned weights: the kernel is emitted as vector code, and these are the knobs it is emitted for."""

from __future__ import annotations

from dataclasses import dataclass

from dlas.errors import ScheduleError

VARIANTS = ("direct", "shift", "pack", "tile")
"""What the inner loop reads: see :mod:`dlas.passes.sparse_kernels`."""

SPARSE_VARIANTS = {"any": VARIANTS, "direct": ("direct", "shift"), "gemm": ("pack",), "spatial-pack": ("tile",)}
"""The variants that implement each algorithm of ``dlas.sparse``."""

PREFETCHES = "tile"
"""The variant that can prefetch: what the others read of a later tile is in pieces, and reading it early cost more."""


@dataclass(frozen=True)
class SparseConvKnobs:
    """Knobs of :meth:`dlas.passes.sparse_kernels.SparseKernels.sparse_conv`.

    Attributes:
        accumulators: vectors of pixels that stay in registers, at most.
        channels: input channels of a group at a time.
        k_w: output channels of a workgroup, a divisor of them all; for ``pack`` of those of a group.
        prefetch: register tiles from the one that is worked on to the one whose lines the rows have the level-2 cache
            get meanwhile, a share each; for ``tile`` alone. 0: none.
        shift: read copies of the planes that are shifted by the kernel's columns, so that vectors are aligned.
        pack: copy the pixels of a chunk's channels and taps into scratch first (im2col).
        tile: read the planes cut into register tiles, each with its halo.
    """

    accumulators: int
    channels: int
    k_w: int
    prefetch: int = 0
    shift: int = 0
    pack: int = 0
    tile: int = 0

    def __post_init__(self) -> None:
        for name in ("accumulators", "channels", "k_w"):
            if getattr(self, name) < 1:
                raise ScheduleError(f"{name}={getattr(self, name)} is not positive", where="sparse_conv")
        chosen = [name for name in VARIANTS if getattr(self, name, 0)]
        if len(chosen) > 1:
            raise ScheduleError(f"{' and '.join(chosen)} exclude each other", where="sparse_conv")
        if self.prefetch < 0:
            raise ScheduleError(f"prefetch={self.prefetch} is negative", where="sparse_conv")
        if self.prefetch and self.variant != PREFETCHES:
            message = f"prefetch={self.prefetch} is for {PREFETCHES}, not for {self.variant}"
            raise ScheduleError(message, where="sparse_conv")

    @property
    def variant(self) -> str:
        """One of :data:`VARIANTS`."""
        return next((name for name in VARIANTS if getattr(self, name, 0)), VARIANTS[0])

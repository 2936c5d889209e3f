"""Whether a model is worth more than one thread, from what its compiler knew of each kernel."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from dlas.runtime.artifact import KernelRecord

_CALL_CYCLES = 100_000
"""What waking the workers of "local-task" and waiting for them costs a call, in cycles of a core: 15 microseconds on
an idle machine, 50 and more on a virtual one."""

_DISPATCH_CYCLES = 4_000
"""What handing one kernel over to the next costs several workers: their caches exchange its result, too."""

_LEAST_GAIN = 1.2
"""Several threads must be estimated to be so much faster: they take the time of more than one core."""


def threads_pay_off(kernels: Sequence[KernelRecord], threads: int) -> bool:
    """Whether ``threads`` workers are estimated to be clearly faster than the calling thread.

    One worker never is. Where a kernel's work is unknown, the number that was asked for is right.
    """
    if threads <= 1:
        return False
    if not kernels or not all(kernel.calls for kernel in kernels):
        return True
    alone = sum(kernel.calls * kernel.cycles for kernel in kernels)
    shared = sum(
        kernel.calls * (kernel.cycles / min(threads, max(1, kernel.workgroups)) + _DISPATCH_CYCLES)
        for kernel in kernels
    )
    return alone >= _LEAST_GAIN * (shared + _CALL_CYCLES)

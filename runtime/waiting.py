"""How the thread that calls a model waits for the workers of its device."""

from __future__ import annotations

import os
from types import TracebackType


class Waiting:
    """While it is entered, the calling thread, when it wakes up, preempts no other one (Linux's SCHED_BATCH).

    IREE 3.13 wakes the caller in the middle of a callback and has it spin until that has returned. Woken on the core of
    the worker that runs the callback, the caller preempts it and spins to the end of its time slice (4 ms at 250 Hz),
    while both workers may be left to one core: two threads then take as long as one in half of the calls.

    A thread that has another policy than the default one already, and a system that does not have this one or does not
    let it be set, are left as they are.
    """

    __slots__ = ("_changed",)
    _denied = not hasattr(os, "SCHED_BATCH")

    def __init__(self) -> None:
        self._changed = False

    def __enter__(self) -> None:
        if not Waiting._denied and os.sched_getscheduler(0) == os.SCHED_OTHER:
            self._changed = _set_policy(os.SCHED_BATCH)
            Waiting._denied = not self._changed

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, tb: TracebackType | None) -> None:
        if self._changed:
            _set_policy(os.SCHED_OTHER)


def _set_policy(policy: int) -> bool:
    """Whether the calling thread may have it."""
    try:
        os.sched_setscheduler(0, policy, os.sched_param(0))
    except OSError:
        return False
    return True

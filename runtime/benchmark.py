"""Timing of a call: the distribution of its wall time, and the CPU time it costs."""

from __future__ import annotations

import gc
import time
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from dlas.errors import UsageError

MIN_RUNS = 10
MAX_RUNS = 100_000


@dataclass(frozen=True)
class BenchmarkReport:
    """Wall time per call in milliseconds (median, mean, minimum, percentiles) and the number of timed calls.

    ``cpu_ms`` is the median CPU time per call of the whole process, all threads together: on a loaded machine the
    steadier figure, and for several threads the cost that wall time hides.
    """

    median_ms: float
    mean_ms: float
    min_ms: float
    p10_ms: float
    p25_ms: float
    p75_ms: float
    p90_ms: float
    cpu_ms: float
    runs: int


def measure(
    call: Callable[[], object], *, runs: int | None = None, warmup: int = 5, min_time_s: float = 0.5
) -> BenchmarkReport:
    """Time `call`, one sample per call, after `warmup` untimed calls.

    Args:
        call: what to time; its result is dropped inside the timed region.
        runs: number of timed calls; None repeats for `min_time_s` seconds, at least MIN_RUNS calls.
        warmup: untimed calls before.
        min_time_s: seconds to fill when `runs` is None.
    """
    if runs is not None and runs < 1:
        raise UsageError(f"runs={runs}", hint="at least 1")
    if warmup < 0:
        raise UsageError(f"warmup={warmup}", hint="0 or more")
    for _ in range(warmup):
        call()
    wall: list[int] = []
    cpu: list[int] = []
    collected = gc.isenabled()
    gc.disable()
    try:
        deadline = time.perf_counter_ns() + int(min_time_s * 1e9)
        while True:
            cpu_start = time.process_time_ns()
            start = time.perf_counter_ns()
            call()
            end = time.perf_counter_ns()
            cpu.append(time.process_time_ns() - cpu_start)
            wall.append(end - start)
            if len(wall) >= (runs or MAX_RUNS) or (runs is None and end >= deadline and len(wall) >= MIN_RUNS):
                break
    finally:
        if collected:
            gc.enable()
    wall_ms = np.asarray(wall) / 1e6
    p10, p25, median, p75, p90 = (float(value) for value in np.percentile(wall_ms, (10, 25, 50, 75, 90)))
    return BenchmarkReport(
        median_ms=median,
        mean_ms=float(wall_ms.mean()),
        min_ms=float(wall_ms.min()),
        p10_ms=p10,
        p25_ms=p25,
        p75_ms=p75,
        p90_ms=p90,
        cpu_ms=float(np.median(cpu)) / 1e6,
        runs=len(wall),
    )

"""How a kernel's tiles are dealt out to workgroups, so that any number of the target's cores share them evenly.

A kernel is some *tiles* (channel blocks of an image) of some rows. A workgroup computes some tiles one after the other,
or, where there are few of them, a band of one tile's rows. Workgroups are claimed by IREE's worker threads as they get
to them: enough of them even out workers of different speed, and each must be worth its claim, for which one thread
pays too. A kernel too small for two workgroups is one.
"""

from __future__ import annotations

import heapq
from collections.abc import Sequence
from functools import cache

from dlas.passes.plan import Grid
from dlas.schedules.knobs import VectorUnit

_CLAIM = 8
"""Workgroups that a worker of IREE's claims at once where there are at least so many per worker; else it claims one."""

_LEAST_CYCLES = 8_000
"""A workgroup's least work: some microseconds, against fractions of one for its claim and a call."""

_FMA_SHARE, _BYTES_PER_CYCLE = 0.6, 8
"""What kernels reach, roughly: of the FMA peak, and of bytes from memory."""

_PER_CORE = 16
"""More workgroups per core even nothing out."""

_CLAIM_CYCLES = 300
"""What a claim and the call behind it cost."""


def kernel_cycles(unit: VectorUnit, flops: int, moved: int) -> float:
    """A rough estimate of one core's cycles for a kernel."""
    return max(flops / (2 * unit.lanes * unit.fma_units * _FMA_SHARE), moved / _BYTES_PER_CYCLE)


@cache
def plan_grid(cores: int, tiles: int, rows: int, cycles: float) -> Grid:
    """The grid with the best balance over 1 to ``cores`` threads, of those whose workgroups are worth a claim.

    Args:
        cores: of the target.
        tiles: of the kernel.
        rows: of a tile, in the units that can be told apart.
        cycles: of the whole kernel on one core.
    """
    most = max(1, min(int(cycles / _LEAST_CYCLES), _PER_CORE * cores)) if cores > 1 else 1
    if most == 1:
        return Grid(tiles=tiles)
    whole = [Grid(tiles=run) for run in range(1, tiles + 1) if -(-tiles // run) <= most]
    bands = [Grid(rows=band) for band in range(1, rows) if tiles * -(-rows // band) <= most]
    grids = {
        grid.workgroups(tiles, rows): grid for grid in (*reversed(bands), *reversed(whole))
    }  # of a count the most even
    value = {
        count: _balance(cores, _work(grid, tiles, rows)) / (1 + count * _CLAIM_CYCLES / cycles)
        for count, grid in grids.items()
    }
    return grids[max(value, key=lambda count: (round(value[count], 3), -count))]


def _work(grid: Grid, tiles: int, rows: int) -> tuple[int, ...]:
    """The rows of each workgroup."""
    if grid.rows is not None:
        return tuple(min(grid.rows, rows - first) for _ in range(tiles) for first in range(0, rows, grid.rows))
    return tuple(rows * min(grid.tiles, tiles - first) for first in range(0, tiles, grid.tiles))


def _balance(cores: int, work: Sequence[int]) -> float:
    """The mean share of their time that workers spend on the kernel, for 2, 4, 8 ... and all cores.

    Half a claim is added to the longest worker's time: workers of different speed end that far apart.
    """
    counts = thread_counts(cores)
    return sum(1 / (threads * _longest(threads, work, 0.5)) for threads in counts) / len(counts)


def thread_counts(cores: int) -> list[int]:
    """2, 4, 8 ... and all cores; none for one core."""
    return sorted({min(cores, 2**power) for power in range(1, cores.bit_length() + 1)} - {1})


def longest_share(threads: int, grid: Grid, tiles: int, rows: int, late: float) -> float:
    """The share of a kernel's work that the longest of so many workers has, who ends ``late`` claims after others."""
    return _longest(threads, _work(grid, tiles, rows), late)


def _longest(threads: int, work: Sequence[int], late: float) -> float:
    claim = _CLAIM if len(work) >= threads * _CLAIM else 1
    claims = [sum(work[first : first + claim]) for first in range(0, len(work), claim)]
    workers = [0] * threads
    for amount in claims:
        heapq.heapreplace(workers, workers[0] + amount)
    return (max(workers) + late * sum(claims) / len(claims)) / sum(work)

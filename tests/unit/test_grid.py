"""Grids: every tile and row is somebody's, workers end together, and what is small stays whole."""

from __future__ import annotations

from itertools import product

import pytest

pytest.importorskip("iree.compiler")

from dlas.schedules.grid import _longest, _work, plan_grid  # noqa: E402

CORES = (1, 2, 3, 4, 8, 64)
TILES = (1, 2, 3, 4, 7, 8, 16, 31, 32, 64, 1000)
ROWS = (1, 2, 7, 8, 13, 14, 56)
LARGE, SMALL = 1e9, 5e3


@pytest.mark.parametrize("cores", CORES)
def test_all_work_is_dealt_out(cores: int) -> None:
    for tiles, rows, cycles in product(TILES, ROWS, (LARGE, 3e5, SMALL)):
        grid = plan_grid(cores, tiles, rows, cycles)
        work = _work(grid, tiles, rows)
        assert sum(work) == tiles * rows and min(work) > 0
        assert len(work) == grid.workgroups(tiles, rows)
        assert grid.tiles == 1 or grid.rows is None


def test_small_kernels_and_single_cores_have_one_workgroup() -> None:
    for tiles, rows in product(TILES, ROWS):
        assert plan_grid(8, tiles, rows, SMALL).workgroups(tiles, rows) == 1
        assert plan_grid(8, tiles, rows, 0).workgroups(tiles, rows) == 1
        assert plan_grid(1, tiles, rows, LARGE).workgroups(tiles, rows) == 1


@pytest.mark.parametrize("cores", [2, 4, 8])
def test_large_kernels_keep_any_number_of_cores_busy(cores: int) -> None:
    for tiles, rows in product(TILES, ROWS):
        if tiles * rows < 4 * cores:
            continue
        work = _work(plan_grid(cores, tiles, rows, LARGE), tiles, rows)
        assert 1 / (2 * _longest(2, work, 0.5)) > 0.7
        assert 1 / (cores * _longest(cores, work, 0.5)) > 0.6, (tiles, rows, work)


def test_claims_of_several_workgroups_are_avoided() -> None:
    """Sixteen workgroups would be two claims of eight: no claim left to even out two workers of different speed."""
    assert plan_grid(2, 16, 1, LARGE).workgroups(16, 1) == 8

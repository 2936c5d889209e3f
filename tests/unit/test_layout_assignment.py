"""``dlas.passes.layout_assignment``: the cheapest assignment, against trying all of them."""

from __future__ import annotations

import itertools
import math
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from dlas.passes.layout_assignment import NCHW, Implementation, LayoutOp, LayoutProblem, block_of

LAYOUTS = (NCHW, "nChw8c", "planar")


def cost_of(problem: LayoutProblem, picks: tuple[int, ...]) -> float:
    """What the implementations of those numbers cost, with each value transformed once to each layout it is read in."""
    chosen = [op.implementations[pick] for op, pick in zip(problem.ops, picks, strict=True)]
    made = {op.result: each.result for op, each in zip(problem.ops, chosen, strict=True) if op.result is not None}
    read = {
        (value, layout)
        for op, each in zip(problem.ops, chosen, strict=True)
        for value, layout in zip(op.operands, each.operands, strict=True)
    }
    transforms = [
        problem.transform(value, made.get(value, NCHW), layout)
        for value, layout in read
        if layout != made.get(value, NCHW)
    ]
    kernels = [
        each.fused_cycles if each.fused_cycles is not None and made.get(op.operands[0]) == each.result else each.cycles
        for op, each in zip(problem.ops, chosen, strict=True)
    ]
    return sum(kernels) + sum(transforms)


def all_costs(problem: LayoutProblem) -> dict[tuple[int, ...], float]:
    choices = itertools.product(*(range(len(op.implementations)) for op in problem.ops))
    return {picks: cost_of(problem, picks) for picks in choices}


@st.composite
def problems(draw: st.DrawFn) -> LayoutProblem:
    """Random graphs: each op reads one to three earlier values."""
    costs = st.integers(0, 40)
    count = draw(st.integers(1, 7))
    table = np.array(draw(st.lists(costs, min_size=9, max_size=9))).reshape(3, 3)
    problem = LayoutProblem(lambda v, a, b: float(table[LAYOUTS.index(a), LAYOUTS.index(b)] + v % 3))
    for number in range(1, count + 1):
        operands = tuple(draw(st.lists(st.integers(0, number - 1), min_size=1, max_size=3, unique=True)))
        implementations = [
            Implementation(
                tuple(draw(st.sampled_from(LAYOUTS)) for _ in operands),
                draw(st.sampled_from(LAYOUTS)),
                float(draw(costs)),
                fused_cycles=draw(st.none() | costs.map(float)),
            )
            for _ in range(draw(st.integers(1, 3)))
        ]
        problem.ops.append(LayoutOp(f"op{number}", "op", operands, number, tuple(implementations)))
    return problem


@settings(max_examples=150, deadline=None)
@given(problems())
def test_no_assignment_is_cheaper(problem: LayoutProblem) -> None:
    assignment = problem.solve()
    costs = all_costs(problem)
    assert assignment.exact
    assert assignment.cycles == pytest.approx(min(costs.values()))
    picks = tuple(a.op.implementations.index(a.chosen) for a in assignment.ops)
    assert costs[picks] == pytest.approx(assignment.cycles)
    for number, assigned in enumerate(assignment.ops):
        for other in assigned.alternatives:
            least = min(
                cost
                for picks, cost in costs.items()
                if problem.ops[number].implementations[picks[number]] is other.implementation
            )
            assert other.extra_cycles == pytest.approx(least - assignment.cycles)


@settings(max_examples=60, deadline=None)
@given(problems())
def test_small_tables_still_give_an_assignment(problem: LayoutProblem) -> None:
    assignment = problem.solve(largest_table=8)
    picks = tuple(a.op.implementations.index(a.chosen) for a in assignment.ops)
    costs = all_costs(problem)
    assert min(costs.values()) - 1e-9 <= costs[picks] <= assignment.cycles + 1e-9
    if assignment.exact:
        assert assignment.cycles == pytest.approx(min(costs.values()))
    for assigned in assignment.ops:
        for value, layout in zip(assigned.op.operands, assigned.chosen.operands, strict=True):
            assert layout in assignment.available[value]


def test_a_cheap_op_follows_its_neighbours() -> None:
    """An op that is slightly faster in NCHW stays blocked between two blocked ones."""
    problem = LayoutProblem(lambda value, source, target: 10.0)
    fast, slow = Implementation(("nChw8c",), "nChw8c", 100.0), Implementation((NCHW,), NCHW, 900.0)
    problem.ops = [
        LayoutOp("a", "conv", (0,), 1, (fast, slow)),
        LayoutOp("b", "relu", (1,), 2, (Implementation((NCHW,), NCHW, 5), Implementation(("nChw8c",), "nChw8c", 8))),
        LayoutOp("c", "conv", (2,), 3, (fast, slow)),
        LayoutOp("return", "return", (3,), None, (Implementation((NCHW,), NCHW, 0.0),)),
    ]
    assignment = problem.solve()
    assert [a.chosen.operands for a in assignment.ops] == [("nChw8c",), ("nChw8c",), ("nChw8c",), (NCHW,)]
    assert assignment.cycles == 100 + 8 + 100 + 2 * 10
    assert [other.extra_cycles for other in assignment.ops[1].alternatives] == [5 - 8 + 2 * 10]
    assert assignment.available[3] == {NCHW, "nChw8c"}


def chain(*cycles: tuple[float, float]) -> LayoutProblem:
    """Ops behind each other with their cycles in blocks of 16 and of 8; a transform costs 10."""
    problem = LayoutProblem(lambda value, source, target: 10.0, made={0: "nChw16c"})
    for number, (wide, narrow) in enumerate(cycles):
        ways = (Implementation(("nChw16c",), "nChw16c", wide), Implementation(("nChw8c",), "nChw8c", narrow))
        problem.ops.append(LayoutOp(f"op{number}", "conv", (number,), number + 1, ways))
    return problem


@pytest.mark.parametrize(
    ("cycles", "blocks", "total", "by_blocks"),
    [
        (((1000, 1000), (1000, 900), (1000, 1100)), (16, 8), 2920, {(16,): 3000, (8,): 3010, (16, 8): 2920}),
        (((1000, 1000), (1000, 960), (1000, 1100)), (16,), 3000, {(16,): 3000, (8,): 3070, (16, 8): 2980}),
        (((1000, 900), (1000, 900), (1000, 925)), (8,), 2735, {}),
        (((1000, 1100), (1000, 1100), (1000, 1100)), (16,), 3000, {}),
    ],
)
def test_blocks_of_two_sizes_must_pay(
    cycles: tuple[tuple[float, float], ...], blocks: tuple[int, ...], total: float, by_blocks: dict[Any, float]
) -> None:
    """A change to blocks of 8 and back costs 20 of 3000: at least 30 more must be saved."""
    assignment = chain(*cycles).solve_blocks((16, 8))
    assert (assignment.blocks, assignment.cycles, dict(assignment.by_blocks)) == (blocks, total, by_blocks)


def test_blocks_that_are_asked_for_need_not_pay() -> None:
    problem = chain((1000, 1000), (1000, 1200))
    wide, narrow = problem.ops
    problem.ops = [
        replace(wide, implementations=wide.implementations[:1]),
        replace(narrow, implementations=narrow.implementations[1:]),
    ]
    assignment = problem.solve_blocks((16, 8))
    assert (assignment.blocks, assignment.cycles, dict(assignment.by_blocks)) == ((16, 8), 2210, {(16, 8): 2210})


@pytest.mark.parametrize(("layout", "block"), [("nChw16c", 16), ("nChw8c", 8), (NCHW, None), ("planar", None)])
def test_the_block_of_a_layout(layout: str, block: int | None) -> None:
    assert block_of(layout) == block


def test_an_empty_model() -> None:
    assignment = LayoutProblem(lambda value, source, target: math.inf).solve()
    assert assignment.ops == () and assignment.cycles == 0

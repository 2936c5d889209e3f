"""Find the cheapest layouts for the activations of a whole model, by dynamic programming.

A model is ops that each have some implementations: the layouts they read and write, and their cost. A value is made
in the layout of its producer, and transformed, once each, to the other layouts that its users read. The cheapest
choice is found by variable elimination, which is dynamic programming over any graph: exact, in time exponential only
in the width of the graph (chains 1, residual networks 2 or 3). The formulation is NeoCPU's (Liu et al., USENIX ATC
2019, section 3.3.2), which solves chains by dynamic programming and leaves other graphs to a heuristic.

Works on plain data: no MLIR here.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from itertools import combinations

import numpy as np

from dlas.passes.plan import Choice

NCHW = "NCHW"
"""The layout of a model's inputs and outputs, and of all that is left to IREE."""

_LARGEST_TABLE = 1 << 16
"""Entries of a table of the elimination; above it, see :meth:`LayoutProblem.solve`."""

MIXING_MARGIN = 0.01
"""Blocks of several sizes must be estimated to save this part of the cycles: see :meth:`LayoutProblem.solve_blocks`."""

PLANAR = "planar"
"""Flattened padded planes (:mod:`dlas.passes.planar`), for sparse convolutions and what is between them."""


def blocked(block: int) -> str:
    """The name of the layout with blocks of that many channels."""
    return f"nChw{block}c"


def block_of(layout: str) -> int | None:
    """Channels of a block of a layout; None for one without blocks."""
    return int(layout[4:-1]) if layout.startswith("nChw") else None


@dataclass(frozen=True)
class Implementation:
    """One way to compute an op.

    Attributes:
        operands: the layout that it reads each of the op's operands in.
        result: the layout of what it computes.
        cycles: estimated, of one inference.
        choice: its schedule; None: left to IREE, or that of every elementwise op.
        fused_cycles: as part of the kernel before it, whose result has this layout; None: a kernel of its own.
    """

    operands: tuple[str, ...]
    result: str
    cycles: float
    choice: Choice | None = None
    fused_cycles: float | None = None

    @property
    def blocks(self) -> frozenset[int]:
        """Channels of the blocks that it reads or writes."""
        return frozenset(block for name in (*self.operands, self.result) if (block := block_of(name)) is not None)

    def cycles_after(self, producer: Implementation | None) -> float:
        """Its cycles behind the op that makes its first operand."""
        if self.fused_cycles is None or producer is None or producer.result != self.result:
            return self.cycles
        return self.fused_cycles


@dataclass(frozen=True)
class LayoutOp:
    """An op of the model; operands and result are numbers of values (None: the result has only one layout)."""

    layer: str
    name: str
    operands: tuple[int, ...]
    result: int | None
    implementations: tuple[Implementation, ...]


@dataclass(frozen=True)
class Alternative:
    """What another implementation of an op would have cost: alone, and the whole model by it at best."""

    implementation: Implementation
    extra_cycles: float


@dataclass(frozen=True)
class AssignedOp:
    """An op with the implementation that it got, what it costs there, and the others, cheapest for the model first."""

    op: LayoutOp
    chosen: Implementation
    cycles: float
    alternatives: tuple[Alternative, ...] = ()


@dataclass(frozen=True)
class Assignment:
    """The cheapest choice.

    Attributes:
        ops: in the model's order.
        available: for each value, the layouts that it will exist in.
        cycles: of all implementations and transforms.
        exact: whether no cheaper one exists by these costs.
        by_blocks: the cycles of the cheapest assignment by the blocks that it may have, where there was a choice.
    """

    ops: tuple[AssignedOp, ...] = ()
    available: tuple[frozenset[str], ...] = ()
    cycles: float = 0.0
    exact: bool = True
    by_blocks: Mapping[tuple[int, ...], float] = field(default_factory=dict)

    @property
    def blocks(self) -> tuple[int, ...]:
        """Channels of the blocks of its layouts, the largest first."""
        return tuple(sorted({block for op in self.ops for block in op.chosen.blocks}, reverse=True))


@dataclass(frozen=True)
class _Factor:
    """Costs by the values of some variables, one axis each."""

    variables: tuple[int, ...]
    table: np.ndarray


@dataclass
class LayoutProblem:
    """The ops of a model and what transforms between layouts cost.

    Attributes:
        ops: any number, in program order.
        transform: cycles to bring a value, by number, from one layout to another.
        made: for values that no op makes, the layout that they come in (NCHW where it is not said).
    """

    transform: Callable[[int, str, str], float]
    ops: list[LayoutOp] = field(default_factory=list)
    made: dict[int, str] = field(default_factory=dict)

    def solve_blocks(self, blocks: Sequence[int]) -> Assignment:
        """The cheapest assignment, with blocks of several sizes only where that is estimated to pay.

        Estimates of kernels are wrong by some percent, and those of different blocks in different ways: an assignment
        that mixes blocks must be cheaper by :data:`MIXING_MARGIN` than the best one with blocks of one size.
        """
        best = self.solve()
        if len(best.blocks) < 2:
            return best
        single = {block: found for block in blocks if (found := self.with_block(block)) is not None}
        alone = {block: problem._eliminated() for block, problem in single.items()}
        costs = {block: elimination.cost for block, (elimination, _) in alone.items()}
        least = min(costs, key=costs.__getitem__, default=None)
        if least is not None and best.cycles > costs[least] * (1 - MIXING_MARGIN):
            chosen = single[least]._assignment(*alone[least])
        else:
            chosen = best
        return replace(
            chosen, by_blocks={**{(block,): cost for block, cost in costs.items()}, tuple(blocks): best.cycles}
        )

    def with_block(self, block: int) -> LayoutProblem | None:
        """The problem without implementations of other blocks; None where an op has no others."""
        ops = []
        for op in self.ops:
            kept = tuple(way for way in op.implementations if way.blocks <= {block})
            if not kept:
                return None
            ops.append(replace(op, implementations=kept))
        return LayoutProblem(self.transform, ops, self.made)

    def solve(self, largest_table: int = _LARGEST_TABLE) -> Assignment:
        """The cheapest assignment.

        Where a table of more than ``largest_table`` entries would be needed, the value with most users among those
        in it is made in every layout that anyone may read it in: the assignment is then approximate
        (:attr:`Assignment.exact`).
        """
        return self._assignment(*self._eliminated(largest_table))

    def _eliminated(self, largest_table: int = _LARGEST_TABLE) -> tuple[_Elimination, dict[int, list[frozenset[str]]]]:
        """The cost of the cheapest assignment and how it is found; and the sets of layouts by variable."""
        sizes, factors, subsets = self._factors(self._layouts())
        return _Elimination(sizes, factors, set(subsets), largest_table), subsets

    def _assignment(self, elimination: _Elimination, subsets: Mapping[int, Sequence[frozenset[str]]]) -> Assignment:
        values = elimination.best()
        marginals = elimination.marginals()
        assigned = []
        for number, op in enumerate(self.ops):
            extra = marginals[number] - elimination.cost if len(op.implementations) > 1 else [0.0]
            others = [
                Alternative(implementation, float(extra[i]))
                for i, implementation in enumerate(op.implementations)
                if i != values[number] and math.isfinite(extra[i])
            ]
            others.sort(key=lambda other: other.extra_cycles)
            chosen, producer = op.implementations[values[number]], self._producer(number)
            before = None if producer is None else self.ops[producer].implementations[values[producer]]
            assigned.append(AssignedOp(op, chosen, chosen.cycles_after(before), tuple(others)))
        available = [frozenset(names) for names in self._layouts()]
        for variable, choices in subsets.items():
            available[variable - len(self.ops)] = choices[values[variable]]
        return Assignment(tuple(assigned), tuple(available), elimination.cost, elimination.exact)

    def _layouts(self) -> list[list[str]]:
        """For each value, the layouts that it may be made or read in."""
        count = 1 + max(
            (n for op in self.ops for n in (*op.operands, -1 if op.result is None else op.result)),
            default=-1,
        )
        found: list[dict[str, None]] = [{} for _ in range(count)]  # dicts keep the order
        produced = {op.result for op in self.ops}
        for number in range(count):
            if number not in produced:
                found[number][self.made.get(number, NCHW)] = None
        for op in self.ops:
            for implementation in op.implementations:
                if op.result is not None:
                    found[op.result][implementation.result] = None
                for number, layout in zip(op.operands, implementation.operands, strict=True):
                    found[number][layout] = None
        return [list(names) for names in found]

    def _factors(
        self, layouts: Sequence[Sequence[str]]
    ) -> tuple[dict[int, int], list[_Factor], dict[int, list[frozenset[str]]]]:
        """Variables: the implementation of op ``i``, and (``len(ops) + v``) the layouts that value ``v`` exists in."""
        sizes = {number: len(op.implementations) for number, op in enumerate(self.ops)}
        factors = [self._cycles(number) for number in sizes]
        subsets = {
            len(self.ops) + value: [
                frozenset(names) for n in range(1, len(known) + 1) for names in combinations(known, n)
            ]
            for value, known in enumerate(layouts)
            if len(known) > 1
        }
        sizes |= {variable: len(choices) for variable, choices in subsets.items()}
        made: set[int] = set()
        for number, op in enumerate(self.ops):
            for position, value in enumerate(op.operands):
                if len(layouts[value]) > 1:
                    variable = len(self.ops) + value
                    table = [
                        [0.0 if each.operands[position] in names else math.inf for names in subsets[variable]]
                        for each in op.implementations
                    ]
                    factors.append(_Factor((number, variable), np.array(table)))
            if op.result is not None and len(layouts[op.result]) > 1:
                made.add(op.result)
                variable = len(self.ops) + op.result
                table = [
                    [self._transforms(op.result, each.result, names) for names in subsets[variable]]
                    for each in op.implementations
                ]
                factors.append(_Factor((number, variable), np.array(table)))
        for variable, choices in subsets.items():
            value = variable - len(self.ops)
            if value not in made:
                source = self.made.get(value, NCHW)
                factors.append(
                    _Factor((variable,), np.array([self._transforms(value, source, names) for names in choices]))
                )
        return sizes, factors, subsets

    def _cycles(self, number: int) -> _Factor:
        ways = self.ops[number].implementations
        producer = self._producer(number)
        if producer is None or all(way.fused_cycles is None for way in ways):
            return _Factor((number,), np.array([way.cycles for way in ways]))
        before = self.ops[producer].implementations
        table = [[way.cycles_after(other) for way in ways] for other in before]
        return _Factor((producer, number), np.array(table))

    def _producer(self, number: int) -> int | None:
        """The op that makes an op's first operand."""
        operands = self.ops[number].operands
        found = (i for i in range(number) if operands and self.ops[i].result == operands[0])
        return next(found, None)

    def _transforms(self, value: int, source: str, wanted: Iterable[str]) -> float:
        if source not in wanted:
            return math.inf
        return sum(self.transform(value, source, name) for name in wanted if name != source)


@dataclass
class _Bucket:
    variable: int
    scope: tuple[int, ...]  # the variable, then those that its message is about
    factors: list[_Factor]
    parent: int = -1
    message: _Factor | None = None
    children: list[int] = field(default_factory=list)


class _Elimination:
    """Min-sum variable elimination, with the least cost that each value of each variable allows."""

    def __init__(self, sizes: Mapping[int, int], factors: Sequence[_Factor], fixable: set[int], largest: int) -> None:
        self.sizes, self.exact = dict(sizes), True
        self.fixed: dict[int, int] = {}
        factors = list(factors)
        while not self._eliminate(factors, fixable, largest):
            factors = [self._without_fixed(factor) for factor in factors]
        self._collect()

    def _eliminate(self, factors: Sequence[_Factor], fixable: set[int], largest: int) -> bool:
        """Orders the variables and fills their buckets; False if it had to fix a variable first."""
        near: dict[int, set[int]] = {v: set() for v in self.sizes if v not in self.fixed}
        for factor in factors:
            for variable in factor.variables:
                near[variable].update(factor.variables)
        entries = {v: self._entries(near[v] | {v}) for v in near}
        self.buckets: list[_Bucket] = []
        self.place: dict[int, int] = {}
        while near:
            variable = min(entries, key=entries.__getitem__)
            if entries[variable] > largest:
                candidates = [v for v in near if v in fixable]
                if candidates:
                    widest = max(candidates, key=lambda v: len(near[v]))
                    self.fixed[widest] = self.sizes[widest] - 1  # the last subset has all layouts
                    self.exact = False
                    return False
            others = near.pop(variable) - {variable}
            del entries[variable]
            for other in others:
                near[other] |= others
                near[other].discard(variable)
                entries[other] = self._entries(near[other] | {other})
            self.place[variable] = len(self.buckets)
            self.buckets.append(_Bucket(variable, (variable, *sorted(others)), []))
        for factor in factors:
            if factor.variables:
                self.buckets[min(self.place[v] for v in factor.variables)].factors.append(factor)
        self.constant = sum(float(factor.table) for factor in factors if not factor.variables)
        return True

    def _entries(self, variables: Iterable[int]) -> int:
        return math.prod(self.sizes[v] for v in variables)

    def _without_fixed(self, factor: _Factor) -> _Factor:
        table = factor.table[tuple(self.fixed.get(v, slice(None)) for v in factor.variables)]
        return _Factor(tuple(v for v in factor.variables if v not in self.fixed), np.asarray(table))

    def _collect(self) -> None:
        """Messages from the first bucket to the last."""
        self.cost = self.constant
        for number, bucket in enumerate(self.buckets):
            table = self._sum(bucket.factors, bucket.scope)
            least = table.min(axis=0)
            if len(bucket.scope) == 1:
                self.cost += float(least)
                continue
            bucket.message = _Factor(bucket.scope[1:], least)
            bucket.parent = min(self.place[v] for v in bucket.scope[1:])
            self.buckets[bucket.parent].factors.append(bucket.message)
            self.buckets[bucket.parent].children.append(number)

    def _sum(self, factors: Sequence[_Factor], scope: tuple[int, ...]) -> np.ndarray:
        total = np.zeros([self.sizes[v] for v in scope])
        for factor in factors:
            axes = sorted(range(len(factor.variables)), key=lambda i: scope.index(factor.variables[i]))
            shape = [self.sizes[v] if v in factor.variables else 1 for v in scope]
            total = total + factor.table.transpose(axes).reshape(shape)
        return total

    def best(self) -> dict[int, int]:
        """The cheapest value of every variable."""
        values = dict(self.fixed)
        for bucket in reversed(self.buckets):
            table = self._sum(bucket.factors, bucket.scope)
            for variable in reversed(bucket.scope[1:]):
                table = table[..., values[variable]]
            values[bucket.variable] = int(np.argmin(table))
        return values

    def marginals(self) -> dict[int, np.ndarray]:
        """For every variable, the least cost of all by each of its values."""
        found: dict[int, np.ndarray] = {}
        # What the rest of the model costs at least, by the variables of each bucket's message.
        outside: dict[int, _Factor] = {}
        for number in reversed(range(len(self.buckets))):
            bucket = self.buckets[number]
            known = [outside[number]] if number in outside else []
            total = self._sum([*bucket.factors, *known], bucket.scope)
            least = total.reshape(len(total), -1).min(axis=1)
            found[bucket.variable] = least + (self.cost - float(least.min()))
            for child in bucket.children:
                message = self.buckets[child].message
                assert message is not None
                rest = self._sum([f for f in bucket.factors if f is not message] + known, bucket.scope)
                axes = tuple(i for i, v in enumerate(bucket.scope) if v not in message.variables)
                kept = tuple(v for v in bucket.scope if v in message.variables)
                outside[child] = _Factor(kept, rest.min(axis=axes))
        return found

"""``dlas-trim-results``: a ``linalg.generic`` computes no results that nobody reads.

    before: %max, %argmax = linalg.generic ins(%x) outs(%low, %zero)    (%argmax has no use)
    after:  %max = linalg.generic ins(%x) outs(%low)

torch-mlir computes the index of every maximum, softmax's too, which hides that it is a plain reduction.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from dlas.passes.constants import bindings
from dlas.passes.generics import copy_body, copy_layer, erase_dead, layer_of, walk
from dlas.passes.registry import Note, Pass, register


@dataclass(frozen=True)
class Plan:
    """A ``linalg.generic`` and the positions of the results to keep."""

    op: Any
    kept: tuple[int, ...]

    @classmethod
    def analyze(cls, op: Any) -> Plan | None:
        """The plan; None if every result is read, none is, or a kept one needs another's accumulator."""
        used = [i for i, result in enumerate(op.results) if list(result.uses)]
        if not used or len(used) == len(op.results):
            return None
        block = op.regions[0].blocks[0]
        inputs = len(op.operands) - len(op.results)
        dropped = {block.arguments[inputs + i] for i in range(len(op.results)) if i not in used}
        yielded = list(block.operations)[-1].operation
        pending, seen = [yielded.operands[i] for i in used], set()
        while pending:
            value = pending.pop()
            if value in dropped:
                return None
            owner = getattr(value.owner, "operation", None)  # a block argument's owner is a block
            if owner is not None and owner not in seen:
                seen.add(owner)
                pending += list(owner.operands)
        return cls(op, tuple(used))


@register("dlas-trim-results", context="torch-mlir")
@dataclass(frozen=True)
class TrimResults(Pass):
    """See the module's docstring."""

    def run(self, module: Any) -> list[Note]:
        notes: list[Note] = []
        for op in walk(module, "linalg.generic"):
            plan = Plan.analyze(op)
            if plan is not None:
                text = f"kept {len(plan.kept)} of {len(op.results)} results"
                notes.append(Note(self.name, layer_of(op), True, text))
                self._rewrite(plan)
        erase_dead(module)
        return notes

    @staticmethod
    def _rewrite(plan: Plan) -> None:
        op = plan.op
        ir = bindings(op)
        inputs = len(op.operands) - len(op.results)
        positions = [*range(inputs), *(inputs + i for i in plan.kept)]
        maps = list(ir.ArrayAttr(op.attributes["indexing_maps"]))
        with ir.InsertionPoint(op), op.location:
            new = ir.Operation.create(
                "linalg.generic",
                results=[op.results[i].type for i in plan.kept],
                operands=[op.operands[i] for i in positions],
                attributes={
                    "indexing_maps": ir.ArrayAttr.get([maps[i] for i in positions]),
                    "iterator_types": op.attributes["iterator_types"],
                    "operandSegmentSizes": ir.DenseI32ArrayAttr.get([inputs, len(plan.kept)]),
                },
                regions=1,
            )
            old = op.regions[0].blocks[0]
            kinds = [old.arguments[i].type for i in positions]
            block = ir.Block.create_at_start(new.regions[0], kinds, [op.location] * len(kinds))
            with ir.InsertionPoint(block):
                known = {old.arguments[i]: argument for i, argument in zip(positions, block.arguments, strict=True)}
                yielded = copy_body(old, known, plan.kept)
                ir.Operation.create("linalg.yield", operands=yielded)
        copy_layer(op, new)
        for position, result in zip(plan.kept, new.results, strict=True):
            op.results[position].replace_all_uses_with(result)
        op.erase()

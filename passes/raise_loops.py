"""Raise the sparsifier's loops over buffers to vector code on tensors (IREE's context).

    before: scf.for %p = 0 to 64 step 1 {                                                  on memrefs, one number each
              %a = memref.load %out[%k, %p]
              %s = scf.for %j = %low to %high iter_args(%t = %a) {
                %w = memref.load %values[%j]
                %x = memref.load %data[%p + %offset]
                scf.yield %t + %w * %x
              }
              memref.store %s, %out[%k, %p]
            }
    after:  %r = scf.for %p = 0 to 64 step 32 iter_args(%o = %out) {                       on tensors, 2 vectors of 16
              %a:2 = vector.transfer_read %o[%k, %p + 0 and 16]
              %s:2 = scf.for %j = %low to %high iter_args(%t:2 = %a:2) {
                %w = vector.broadcast (tensor.extract %values[%j])
                %x:2 = vector.transfer_read %data[%p + %offset + 0 and 16]
                scf.yield vector.fma %w, %x, %t
              }
              scf.yield (vector.transfer_write %s, %o[%k, %p + 0 and 16])
            }

The *lane loop* is the one that counts the last index of what is stored. Its iterations are independent (every one of
them stores to a place of its own), so several of them become the lanes of vectors, and the loops inside run for all.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import TypeAlias

from iree.compiler import ir

from dlas.passes import vectors as v
from dlas.passes.dispatch import float_constant, index_constant
from dlas.passes.generics import walk_body, walk_op
from dlas.passes.plan import Refusal

_SCALAR = ("arith.constant", "arith.addi", "arith.muli", "arith.extui", "arith.index_cast", "arith.mulf", "arith.addf")
_KNOWN = (*_SCALAR, "scf.for", "scf.yield", "memref.load", "memref.store", "func.func", "func.return")


@dataclass(frozen=True)
class Lanes:
    """What differs from iteration to iteration of the lane loop: a vector each, or the index of their first lanes."""

    parts: tuple[ir.Value, ...]


Raised: TypeAlias = "ir.Value | Lanes"


@dataclass(frozen=True)
class Plan:
    """Loops that can be raised.

    Attributes:
        function: with buffers as arguments, the last of which is the only one that is stored to.
        loop: the lane loop.
        pixels: its iterations.
    """

    function: ir.Operation
    loop: ir.Operation
    pixels: int

    @classmethod
    def analyze(cls, function: ir.Operation, step: int) -> Plan | Refusal:
        """The plan for ``step`` iterations at a time; refuses other ops, and stores that are not along one loop."""
        block = function.regions[0].blocks[0]
        strange = [op for op in walk_op(function) if op.name not in _KNOWN]
        if strange:
            return Refusal(f"{strange[0].name} in the sparsifier's loops")
        stores = walk_body(function, "memref.store")
        if len(stores) != 1 or stores[0].operands[1] != block.arguments[len(block.arguments) - 1]:
            return Refusal(f"{len(stores)} stores in the sparsifier's loops")
        counter = stores[0].operands[-1]
        loop = counter.owner.owner.operation if isinstance(counter.owner, ir.Block) else None
        if loop is None or loop.name != "scf.for" or len(loop.results):
            return Refusal("no loop along the last index of the store")
        low, high, by = (_number(operand) for operand in list(loop.operands)[:3])
        if low != 0 or by != 1 or high is None or high % step:
            return Refusal(f"a loop of {high} iterations from {low}, by {by}, is not in steps of {step}")
        return cls(function, loop, high)


def _number(value: ir.Value) -> int | None:
    op = getattr(value.owner, "operation", None)
    return ir.IntegerAttr(op.attributes["value"]).value if op is not None and op.name == "arith.constant" else None


@dataclass
class Raising:
    """Emits the loops of a plan at the insertion point.

    Attributes:
        plan: the loops.
        vector: of some iterations of the lane loop.
        count: such vectors at a time.
        buffers: the tensor that stands for each buffer; that of the last argument changes.
    """

    plan: Plan
    vector: ir.VectorType
    count: int
    buffers: dict[ir.Value, ir.Value]
    values: dict[ir.Value, Raised] = field(default_factory=dict)

    def run(self) -> ir.Value:
        """Emits all; returns the tensor that stands for the last buffer."""
        block = self.plan.function.regions[0].blocks[0]
        self.out = block.arguments[len(block.arguments) - 1]
        self.padding = float_constant(0.0, self.vector.element_type)
        self._block(block)
        return self.buffers[self.out]

    def _block(self, block: ir.Block) -> list[ir.Value]:
        """Emits the ops of a block; returns what it yields, vectors one by one."""
        for view in block.operations:
            op = view.operation
            if op.name in ("scf.yield", "func.return"):
                return [] if op.name == "func.return" else self._flat(op.operands)
            match op.name:
                case "scf.for":
                    self._loop(op)
                case "memref.load":
                    self._load(op)
                case "memref.store":
                    self._store(op)
                case _:
                    self._scalar(op)
        return []

    def _flat(self, values: Sequence[ir.Value]) -> list[ir.Value]:
        flat: list[ir.Value] = []
        for value in values:
            raised = self.values[value]
            flat += raised.parts if isinstance(raised, Lanes) else [raised]
        return flat

    def _loop(self, op: ir.Operation) -> None:
        is_lanes = op == self.plan.loop
        low, high, by = (self.values[operand] for operand in list(op.operands)[:3])
        assert isinstance(low, ir.Value) and isinstance(high, ir.Value) and isinstance(by, ir.Value)
        inits = list(op.operands)[3:]
        wide = [isinstance(self.values[value], Lanes) for value in inits]
        stores = bool(walk_body(op, "memref.store"))
        carried = self._flat(inits) + ([self.buffers[self.out]] if stores else [])
        types = [value.type for value in carried]
        lanes = self.vector.shape[0]
        if is_lanes:
            by = index_constant(lanes * self.count)
        loop = ir.Operation.create("scf.for", results=types, operands=[low, high, by, *carried], regions=1)
        block = loop.regions[0].blocks.append(ir.IndexType.get(), *types)
        source = op.regions[0].blocks[0]
        with ir.InsertionPoint(block):
            counter, *inside = list(block.arguments)
            if is_lanes:
                parts = tuple(v.plus(counter, i * lanes) for i in range(self.count))
                self.values[source.arguments[0]] = Lanes(parts)
            else:
                self.values[source.arguments[0]] = counter
            self._bind(list(source.arguments)[1:], wide, inside)
            yielded = self._block_of_loop(source, stores, inside)
            ir.Operation.create("scf.yield", operands=yielded)
        self._bind(list(op.results), wide, list(loop.results))
        if stores:
            self.buffers[self.out] = loop.results[len(types) - 1]

    def _block_of_loop(self, source: ir.Block, stores: bool, inside: Sequence[ir.Value]) -> list[ir.Value]:
        if stores:
            self.buffers[self.out] = inside[-1]
        yielded = self._block(source)
        return [*yielded, self.buffers[self.out]] if stores else yielded

    def _bind(self, names: Sequence[ir.Value], wide: Sequence[bool], values: Sequence[ir.Value]) -> None:
        """Lets results or arguments of the source stand for flat ones here."""
        place = 0
        for name, is_wide in zip(names, wide, strict=True):
            size = self.count if is_wide else 1
            parts = tuple(values[place : place + size])
            self.values[name] = Lanes(parts) if is_wide else parts[0]
            place += size

    def _places(self, indices: Sequence[ir.Value]) -> list[list[ir.Value]]:
        """The indices of each vector."""
        raised = [self.values[index] for index in indices]
        return [[r.parts[i] if isinstance(r, Lanes) else r for r in raised] for i in range(self.count)]

    def _load(self, op: ir.Operation) -> None:
        source, *indices = list(op.operands)
        tensor = self.buffers[source]
        if isinstance(self.values[indices[-1]], Lanes):
            index = v.Indices()
            reads = [v.read(tensor, place, self.vector, self.padding, index) for place in self._places(indices)]
            self.values[op.results[0]] = Lanes(tuple(reads))
        else:
            element = op.results[0].type
            self.values[op.results[0]] = v.emit("tensor.extract", [tensor, *self._places(indices)[0]], element)

    def _store(self, op: ir.Operation) -> None:
        value, target, *indices = list(op.operands)
        tensor, stored = self.buffers[target], self.values[value]
        assert isinstance(stored, Lanes)
        for part, place in zip(stored.parts, self._places(indices), strict=True):
            tensor = v.write(part, tensor, place, v.Indices())
        self.buffers[target] = tensor

    def _scalar(self, op: ir.Operation) -> None:
        """Arithmetic: as it is, or once per vector where an operand differs from lane to lane."""
        operands = [self.values[operand] for operand in op.operands]
        if not any(isinstance(operand, Lanes) for operand in operands):
            copy = op.clone().operation
            for i, operand in enumerate(operands):
                copy.operands[i] = operand
            self.values[op.results[0]] = copy.results[0]
            return
        parts = []
        for i in range(self.count):
            of_vector = [operand.parts[i] if isinstance(operand, Lanes) else operand for operand in operands]
            parts.append(self._arithmetic(op, of_vector))
        self.values[op.results[0]] = Lanes(tuple(parts))

    def _arithmetic(self, op: ir.Operation, operands: Sequence[ir.Value]) -> ir.Value:
        if isinstance(op.results[0].type, ir.IndexType):
            return v.emit(op.name, operands, op.results[0].type)
        wide = [self._wide(operand) for operand in operands]
        if op.name == "arith.addf":
            for product, other in (wide, reversed(wide)):
                maker = product.owner.operation if not isinstance(product.owner, ir.Block) else None
                if maker is not None and maker.name == "arith.mulf":
                    sum_ = v.emit("vector.fma", [*maker.operands, other], self.vector)
                    return v.mark(sum_, "root")
        return v.emit(op.name, wide, self.vector)

    def _wide(self, value: ir.Value) -> ir.Value:
        return value if isinstance(value.type, ir.VectorType) else v.emit("vector.broadcast", [value], self.vector)

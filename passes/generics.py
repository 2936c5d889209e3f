"""Reading and building ``linalg.generic``, over either bindings."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

from dlas.passes.constants import bindings, make_scalar

LAYER = "dlas.layer"
"""The discardable attribute with the name of the source layer."""

IndexTuple = tuple[int | None, ...]
"""The results of a projected map: the loop dimension of each, or None for the constant 0."""


def walk(module: Any, *names: str) -> list[Any]:
    """The operations called one of ``names`` (all if none is given) in order, at any depth below ``module``."""
    wanted = set(names)
    return [op for op in walk_op(module.operation) if not wanted or op.name in wanted]


def walk_op(root: Any) -> list[Any]:
    """An operation and all that are nested in it, in order."""
    ir = bindings(root)
    found: list[Any] = []

    def visit(op: Any) -> Any:
        # An operation view may redefine `name` (a function's is its symbol), so views are left behind here.
        found.append(op.operation)
        return ir.WalkResult.ADVANCE

    root.walk(visit, ir.WalkOrder.PRE_ORDER)
    return found


def walk_body(op: Any, name: str) -> list[Any]:
    """The operations called ``name`` inside the regions of ``op``."""
    return [inner for inner in walk_op(op) if inner.name == name]


def defining_op(value: Any) -> Any | None:
    """The operation that defines a value, None for a block argument."""
    return getattr(value.owner, "operation", None)


def users(value: Any) -> list[Any]:
    """The operations that use a value, one entry per use."""
    return [use.owner.operation for use in value.uses]


def single_user(value: Any) -> Any | None:
    """The user of a value with exactly one use."""
    uses = list(value.uses)
    return uses[0].owner.operation if len(uses) == 1 else None


def layer_of(op: Any) -> str:
    """The source layer of an operation, "" if it has none."""
    return op.attributes[LAYER].value if LAYER in op.attributes else ""


def copy_layer(source: Any, *targets: Any) -> None:
    """Give operations the source layer of ``source``, if it has one."""
    if LAYER in source.attributes:
        for target in targets:
            target.attributes[LAYER] = source.attributes[LAYER]


def shape_of(value: Any) -> tuple[int, ...]:
    """The shape of a tensor value; a dynamic extent is -1."""
    shaped = bindings(value).ShapedType(value.type)
    return tuple(-1 if shaped.is_dynamic_dim(i) else shaped.get_dim_size(i) for i in range(shaped.rank))


def element_type(value: Any) -> Any:
    """The element type of a tensor value."""
    return bindings(value).ShapedType(value.type).element_type


def projection(affine_map: Any) -> IndexTuple | None:
    """The results of a map that only picks loop dimensions or the constant 0; None for any other map."""
    ir = bindings(affine_map)
    results: list[int | None] = []
    for expr in affine_map.results:
        if isinstance(expr, ir.AffineDimExpr):
            results.append(expr.position)
        elif isinstance(expr, ir.AffineConstantExpr) and expr.value == 0:
            results.append(None)
        else:
            return None
    return tuple(results)


@dataclass(frozen=True)
class Generic:
    """A ``linalg.generic`` with one output, taken apart.

    Attributes:
        op: the operation.
        inputs: the input values.
        output: the init operand.
        indices: of each input and then of the output, the loop dimension per tensor dimension.
        iterators: "parallel" or "reduction", per loop dimension.
        body: the block.
    """

    op: Any
    inputs: tuple[Any, ...]
    output: Any
    indices: tuple[IndexTuple, ...]
    iterators: tuple[str, ...]
    body: Any

    @classmethod
    def read(cls, op: Any) -> Generic | None:
        """Take a ``linalg.generic`` apart; None if it has several outputs or maps that are not projections."""
        if op.name != "linalg.generic" or len(op.results) != 1:
            return None
        ir = bindings(op)
        indices: list[IndexTuple] = []
        for attribute in ir.ArrayAttr(op.attributes["indexing_maps"]):
            index = projection(attribute.value)
            if index is None:
                return None
            indices.append(index)
        kinds = [str(kind).split("<")[-1].rstrip(">") for kind in ir.ArrayAttr(op.attributes["iterator_types"])]
        operands = list(op.operands)
        return cls(op, tuple(operands[:-1]), operands[-1], tuple(indices), tuple(kinds), op.regions[0].blocks[0])

    @property
    def rank(self) -> int:
        """The number of loops."""
        return len(self.iterators)

    @property
    def is_elementwise(self) -> bool:
        """All loops parallel, the output written in order, and its previous content not read."""
        if any(kind != "parallel" for kind in self.iterators) or self.indices[-1] != tuple(range(self.rank)):
            return False
        return not list(self.body.arguments[len(self.inputs)].uses)

    def loop_extents(self) -> tuple[int, ...]:
        """The extent of each loop (-1 where dynamic)."""
        extents = [-1] * self.rank
        for value, index in zip((*self.inputs, self.output), self.indices, strict=True):
            for extent, dim in zip(shape_of(value), index, strict=True):
                if dim is not None and extent >= 0:
                    extents[dim] = extent
        return tuple(extents)

    def body_ops(self) -> Iterator[Any]:
        """The operations of the body without the terminator."""
        ops = list(self.body.operations)
        return iter(op.operation for op in ops[:-1])

    @property
    def yielded(self) -> Any:
        """The value that the body yields."""
        return list(self.body.operations)[-1].operation.operands[0]


def build_elementwise(
    inputs: Sequence[tuple[Any, IndexTuple]],
    result_type: Any,
    body: Callable[[Sequence[Any]], Any],
    *,
    layer_from: Any,
) -> Any:
    """A new elementwise ``linalg.generic`` at the current insertion point.

    Args:
        inputs: values with the loop dimension of each of their dimensions.
        result_type: the ranked tensor type of the result (static, or the shape of an input that is read in order).
        body: gets the scalar block arguments, returns the scalar to yield; called inside the block.
        layer_from: the operation whose ``dlas.layer`` and location the new one takes.
    """
    ir = bindings(result_type)
    shaped = ir.RankedTensorType(result_type)
    rank = shaped.rank
    with layer_from.location:
        init = ir.Operation.create(
            "tensor.empty", results=[result_type], operands=_dynamic_sizes(ir, shaped, inputs)
        ).result
        maps = [_map(ir, rank, index) for _, index in inputs] + [_map(ir, rank, tuple(range(rank)))]
        parallel = ir.Attribute.parse("#linalg.iterator_type<parallel>")
        op = ir.Operation.create(
            "linalg.generic",
            results=[result_type],
            operands=[value for value, _ in inputs] + [init],
            attributes={
                "indexing_maps": ir.ArrayAttr.get(maps),
                "iterator_types": ir.ArrayAttr.get([parallel] * rank),
                "operandSegmentSizes": ir.DenseI32ArrayAttr.get([len(inputs), 1]),
            },
            regions=1,
        )
        kinds = [element_type(value) for value, _ in inputs] + [shaped.element_type]
        block = ir.Block.create_at_start(op.regions[0], kinds, [layer_from.location] * len(kinds))
        with ir.InsertionPoint(block):
            result = body(list(block.arguments)[:-1])
            ir.Operation.create("linalg.yield", operands=[result])
    copy_layer(layer_from, op)
    return op.result


def copy_body(block: Any, known: dict[Any, Any], results: Sequence[int] = (0,)) -> list[Any]:
    """Copies to the insertion point what the yielded values at positions ``results`` need; returns their copies.

    Args:
        block: the body of a ``linalg.generic``.
        known: the stand-ins of its arguments; grows by those of its operations.
        results: positions in the terminator.
    """
    operations = [view.operation for view in block.operations]
    pending, needed = [operations[-1].operands[i] for i in results], set()
    while pending:
        owner = getattr(pending.pop().owner, "operation", None)
        if owner is not None and owner in operations and owner not in needed:
            needed.add(owner)
            pending += list(owner.operands)
    for op in operations[:-1]:
        if op not in needed:
            continue
        copy = op.clone()
        for i, operand in enumerate(op.operands):
            copy.operands[i] = known.get(operand, operand)
        known.update(zip(op.results, copy.operation.results, strict=True))
    return [known.get(operations[-1].operands[i], operations[-1].operands[i]) for i in results]


def _dynamic_sizes(ir: Any, shaped: Any, inputs: Sequence[tuple[Any, IndexTuple]]) -> list[Any]:
    sizes = []
    for dim in range(shaped.rank):
        if not shaped.is_dynamic_dim(dim):
            continue
        value = next(value for value, index in inputs if index == tuple(range(shaped.rank)))
        position = make_scalar(dim, ir.IndexType.get())
        sizes.append(ir.Operation.create("tensor.dim", results=[ir.IndexType.get()], operands=[value, position]).result)
    return sizes


def _map(ir: Any, rank: int, index: IndexTuple) -> Any:
    exprs = [ir.AffineConstantExpr.get(0) if dim is None else ir.AffineDimExpr.get(dim) for dim in index]
    return ir.AffineMapAttr.get(ir.AffineMap.get(rank, 0, exprs))


def binary(name: str, left: Any, right: Any) -> Any:
    """A scalar ``arith`` operation with two operands at the current insertion point."""
    return bindings(left).Operation.create(name, results=[left.type], operands=[left, right]).result


def cast(name: str, value: Any, kind: Any) -> Any:
    """A scalar ``arith`` conversion to the type ``kind`` at the current insertion point."""
    return bindings(value).Operation.create(name, results=[kind], operands=[value]).result


def build_zero_init(result_type: Any, *, layer_from: Any, destination: Any | None = None) -> Any:
    """``linalg.fill`` of zeros at the current insertion point, into ``destination`` or a static ``tensor.empty``."""
    ir = bindings(result_type)
    kind = ir.RankedTensorType(result_type).element_type
    with layer_from.location:
        zero = make_scalar(0, kind)
        if destination is None:
            destination = ir.Operation.create("tensor.empty", results=[result_type]).result
        op = ir.Operation.create(
            "linalg.fill",
            results=[result_type],
            operands=[zero, destination],
            attributes={"operandSegmentSizes": ir.DenseI32ArrayAttr.get([1, 1])},
            regions=1,
        )
        block = ir.Block.create_at_start(op.regions[0], [kind, kind], [layer_from.location] * 2)
        with ir.InsertionPoint(block):
            ir.Operation.create("linalg.yield", operands=[block.arguments[0]])
    copy_layer(layer_from, op)
    return op.result


def replace(op: Any, value: Any) -> None:
    """Put ``value`` in the place of the only result of ``op`` and erase ``op``."""
    op.results[0].replace_all_uses_with(value)
    op.operation.erase()


def uses_of(value: Any) -> list[tuple[Any, int]]:
    """The uses of a value as they are now: operation and operand position."""
    return [(use.owner.operation, use.operand_number) for use in value.uses]


def redirect(uses: Sequence[tuple[Any, int]], replacement: Any) -> None:
    """Make ``uses``, taken before ``replacement`` was built from the value they are of, read ``replacement``."""
    for op, position in uses:
        op.operands[position] = replacement


def erase_dead(module: Any) -> None:
    """Erase, to a fixed point, the operations left without a use by a rewrite (pure ones of a fixed list)."""
    pure = (
        "arith.constant", "tensor.empty", "tensor.expand_shape", "tensor.collapse_shape", "tensor.cast",
        "linalg.fill", "linalg.broadcast", "linalg.generic", "linalg.transpose", "tensor.pad",
        "sparse_tensor.assemble", "sparse_tensor.convert",
    )  # fmt: skip
    for op in reversed(walk(module, *pure)):
        if not any(list(result.uses) for result in op.results):
            op.operation.erase()

"""Build ``flow.dispatch.workgroups``: kernels whose content is settled before IREE forms dispatches.

IREE outlines such an op as it stands, so the kernel that gets a schedule is the one that was planned: nothing is
fused into it, and no dimension is collapsed. Works in IREE's context.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import TypeAlias

from iree.compiler import ir

_DYNAMIC = -(2**63)
Size: TypeAlias = "int | ir.Value"
BodyFn = Callable[["DispatchBody"], None]


def affine_map(dims: int, results: Sequence[ir.AffineExpr]) -> ir.AffineMap:
    """``(d0, ...) -> (results)`` without symbols."""
    return ir.AffineMap.get(dims, 0, list(results))


def tensor_type(shape: Sequence[Size], element: ir.Type) -> ir.RankedTensorType:
    """``tensor<shape x element>``; an extent that is a value is dynamic."""
    dynamic = ir.ShapedType.get_dynamic_size()
    return ir.RankedTensorType.get([size if isinstance(size, int) else dynamic for size in shape], element)


def index_constant(value: int) -> ir.Value:
    """An ``arith.constant`` of index type."""
    index = ir.IndexType.get()
    return ir.Operation.create(
        "arith.constant", results=[index], attributes={"value": ir.IntegerAttr.get(index, value)}
    ).result


def float_constant(value: float, element: ir.Type) -> ir.Value:
    """A scalar floating point ``arith.constant``."""
    return ir.Operation.create(
        "arith.constant", results=[element], attributes={"value": ir.FloatAttr.get(element, value)}
    ).result


def empty(shape: Sequence[int], element: ir.Type) -> ir.Value:
    """``tensor.empty``."""
    return ir.Operation.create("tensor.empty", results=[tensor_type(shape, element)]).result


def generic(
    inputs: Sequence[ir.Value],
    outputs: Sequence[ir.Value],
    maps: Sequence[ir.AffineMap],
    iterators: str,
    body: Callable[[Sequence[ir.Value]], Sequence[ir.Value]],
    attributes: dict[str, ir.Attribute] | None = None,
) -> list[ir.Value]:
    """``linalg.generic``; ``iterators`` has one letter per dimension: ``p`` parallel, ``r`` reduction."""
    kinds = {"p": "parallel", "r": "reduction"}
    attrs: dict[str, ir.Attribute] = {
        "indexing_maps": ir.ArrayAttr.get([ir.AffineMapAttr.get(m) for m in maps]),
        "iterator_types": ir.ArrayAttr.get(
            [ir.Attribute.parse(f"#linalg.iterator_type<{kinds[letter]}>") for letter in iterators]
        ),
        "operandSegmentSizes": ir.DenseI32ArrayAttr.get([len(inputs), len(outputs)]),
        **(attributes or {}),
    }
    op = ir.Operation.create(
        "linalg.generic",
        results=[value.type for value in outputs],
        operands=[*inputs, *outputs],
        attributes=attrs,
        regions=1,
    )
    elements = [_element(value.type) for value in (*inputs, *outputs)]
    block = op.regions[0].blocks.append(*elements)
    with ir.InsertionPoint(block):
        results = body(list(block.arguments))
        ir.Operation.create("linalg.yield", operands=list(results))
    return list(op.results)


def fill(value: ir.Value, output: ir.Value, role: str) -> ir.Value:
    """``linalg.fill`` marked with ``dlas.role``."""
    op = ir.Operation.create(
        "linalg.fill",
        results=[output.type],
        operands=[value, output],
        attributes={
            "operandSegmentSizes": ir.DenseI32ArrayAttr.get([1, 1]),
            "dlas.role": ir.StringAttr.get(role),
        },
        regions=1,
    )
    element = _element(output.type)
    block = op.regions[0].blocks.append(element, element)
    with ir.InsertionPoint(block):
        ir.Operation.create("linalg.yield", operands=[block.arguments[0]])
    return op.result


def _element(type: ir.Type) -> ir.Type:
    return ir.RankedTensorType(type).element_type if isinstance(type, ir.RankedTensorType) else type


class DispatchBody:
    """What the builder of a kernel sees: its bindings, its workgroup id and the numbers that each call gives it."""

    def __init__(
        self,
        inputs: Sequence[ir.Value],
        outputs: Sequence[ir.Value],
        workgroup: ir.Value,
        numbers: Sequence[ir.Value] = (),
        extents: Mapping[ir.Value, ir.Value] | None = None,
    ) -> None:
        self.inputs, self.outputs, self.workgroup = list(inputs), list(outputs), workgroup
        self.numbers = list(numbers)
        self._extents = dict(extents or {})  # of the dimension of a binding that varies

    def affine(self, expression: ir.AffineExpr, operand: ir.Value | None = None) -> ir.Value:
        """``affine.apply`` of a one-dimensional expression, of the workgroup id by default."""
        return ir.Operation.create(
            "affine.apply",
            results=[ir.IndexType.get()],
            operands=[self.workgroup if operand is None else operand],
            attributes={"map": ir.AffineMapAttr.get(affine_map(1, [expression]))},
        ).result

    def load(
        self,
        binding: ir.Value,
        offsets: Sequence[Size],
        sizes: Sequence[Size],
        shape: Sequence[Size],
        strides: Sequence[int] | None = None,
    ) -> ir.Value:
        """A slice of a binding; ``shape`` may drop unit dimensions of ``sizes``."""
        dynamic, attributes = _slice(offsets, sizes, strides)
        extent = self._extent(binding)
        return ir.Operation.create(
            "iree_tensor_ext.dispatch.tensor.load",
            results=[tensor_type(shape, _binding_element(binding))],
            operands=[binding, *extent, *(value for part in dynamic for value in part)],
            attributes={
                "operandSegmentSizes": ir.DenseI32ArrayAttr.get([1, len(extent), *map(len, dynamic), 0]),
                **attributes,
            },
        ).result

    def store(self, value: ir.Value, binding: ir.Value, offsets: Sequence[Size], sizes: Sequence[Size]) -> None:
        """Writes ``value`` to a slice of an output binding."""
        dynamic, attributes = _slice(offsets, sizes, None)
        extent = self._extent(binding)
        ir.Operation.create(
            "iree_tensor_ext.dispatch.tensor.store",
            operands=[value, binding, *extent, *(value for part in dynamic for value in part)],
            attributes={
                "operandSegmentSizes": ir.DenseI32ArrayAttr.get([1, 1, len(extent), *map(len, dynamic), 0]),
                **attributes,
            },
        )

    def _extent(self, binding: ir.Value) -> list[ir.Value]:
        return [self._extents[binding]] if binding in self._extents else []


def _slice(
    offsets: Sequence[Size], sizes: Sequence[Size], strides: Sequence[int] | None
) -> tuple[tuple[list[ir.Value], list[ir.Value]], dict[str, ir.Attribute]]:
    """The values among offsets and among sizes, and the attributes that hold the numbers."""
    dynamic = (
        [offset for offset in offsets if not isinstance(offset, int)],
        [size for size in sizes if not isinstance(size, int)],
    )
    return dynamic, {
        "static_offsets": ir.DenseI64ArrayAttr.get([n if isinstance(n, int) else _DYNAMIC for n in offsets]),
        "static_sizes": ir.DenseI64ArrayAttr.get([n if isinstance(n, int) else _DYNAMIC for n in sizes]),
        "static_strides": ir.DenseI64ArrayAttr.get(list(strides or [1] * len(sizes))),
    }


def _binding_element(binding: ir.Value) -> ir.Type:
    # The bindings' Python type of a dispatch tensor is opaque; its text ends in "x<element>>>".
    return ir.Type.parse(str(binding.type).rstrip(">").rsplit("x", 1)[-1])


def create_dispatch(
    workgroups: int,
    inputs: Sequence[ir.Value],
    results: Sequence[ir.RankedTensorType],
    build: BodyFn,
    *,
    varying: Mapping[int, int] | None = None,
    numbers: Sequence[int] = (),
) -> list[ir.Value]:
    """A ``flow.dispatch.workgroups`` over a 1-D grid at the current insertion point.

    Args:
        workgroups: number of workgroups.
        inputs: tensors that the kernel reads.
        results: types of the tensors that it writes.
        build: emits the body.
        varying: by the position of a tensor among inputs and results, its dimension whose extent each call gives: one
            kernel is for all extents.
        numbers: further numbers that each call gives.
    """
    varying = dict(varying or {})
    statics = [*(value.type for value in inputs), *results]
    types = [_with_dynamic(type, varying.get(position)) for position, type in enumerate(statics)]
    extents = {
        position: index_constant(ir.ShapedType(statics[position]).shape[dim]) for position, dim in varying.items()
    }
    operands = [
        value if position not in varying else _cast(value, types[position]) for position, value in enumerate(inputs)
    ]
    given = [*extents.values(), *map(index_constant, numbers)]
    sizes = [extents[position] for position in extents if position < len(inputs)]
    result_sizes = [extents[position] for position in extents if position >= len(inputs)]
    workload = index_constant(workgroups)
    op = ir.Operation.create(
        "flow.dispatch.workgroups",
        results=types[len(inputs) :],
        operands=[workload, *operands, *given, *sizes, *result_sizes],
        attributes={
            "operandSegmentSizes": ir.DenseI32ArrayAttr.get(
                [1, len(inputs) + len(given), len(sizes), len(result_sizes)]
            ),
            "tied_operands": ir.Attribute.parse("[" + ", ".join(["-1 : index"] * len(results)) + "]"),
        },
        regions=2,
    )
    index = ir.IndexType.get()
    arguments = [_dispatch_tensor(type, "readonly") for type in types[: len(inputs)]]
    arguments += [index] * len(given)
    arguments += [_dispatch_tensor(type, "writeonly") for type in types[len(inputs) :]]
    block = op.regions[0].blocks.append(*arguments)
    with ir.InsertionPoint(block):
        bindings = list(block.arguments)
        numbers_inside = bindings[len(inputs) : len(inputs) + len(given)]
        del bindings[len(inputs) : len(inputs) + len(given)]
        inside = dict(zip(extents, numbers_inside, strict=False))
        for position, extent in inside.items():
            bindings[position] = _tie(bindings[position], extent)
        workgroup = ir.Operation.create(
            "flow.dispatch.workgroup.id",
            results=[index],
            attributes={"dimension": ir.IntegerAttr.get(index, 0)},
        ).result
        known = {bindings[position]: extent for position, extent in inside.items()}
        body = DispatchBody(
            bindings[: len(inputs)], bindings[len(inputs) :], workgroup, numbers_inside[len(inside) :], known
        )
        build(body)
        ir.Operation.create("flow.return")
    count = op.regions[1].blocks.append(index)
    with ir.InsertionPoint(count):
        one = index_constant(1)
        ir.Operation.create("flow.return", operands=[count.arguments[0], one, one])
    return [
        value if len(inputs) + position not in varying else _cast(value, results[position])
        for position, value in enumerate(op.results)
    ]


def dispatch_of(value: ir.Value) -> ir.Operation:
    """The dispatch that makes a value which :func:`create_dispatch` returned."""
    op = value.owner.operation
    return op if op.name != "tensor.cast" else op.operands[0].owner.operation


def _with_dynamic(type: ir.Type, dim: int | None) -> ir.RankedTensorType:
    shaped = ir.RankedTensorType(type)
    if dim is None:
        return shaped
    shape = list(shaped.shape)
    shape[dim] = ir.ShapedType.get_dynamic_size()
    return ir.RankedTensorType.get(shape, shaped.element_type)


def _cast(value: ir.Value, type: ir.Type) -> ir.Value:
    return ir.Operation.create("tensor.cast", results=[type], operands=[value]).result


def _tie(binding: ir.Value, extent: ir.Value) -> ir.Value:
    """A binding with its dynamic extent, by which IREE knows its size."""
    return ir.Operation.create("flow.dispatch.tie_shape", results=[binding.type], operands=[binding, extent]).result


def _dispatch_tensor(type: ir.Type, access: str) -> ir.Type:
    return ir.Type.parse(f"!iree_tensor_ext.dispatch.tensor<{access}:{type}>")

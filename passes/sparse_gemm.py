"""``dlas-sparse-gemm``: layers with typed sparse weights as products with the CSR matrix, for MLIR's sparsifier.

    before: %y = linalg.conv_2d_nchw_fchw {dlas.sparse = "gemm"} ins(%x, expand(convert(%csr)))
    after:  columns[n, c, y, x, h, w] = x[n, c, h*s + y*d, w*s + x*d]                            (linalg.generic)
            out[n, k, p] += csr[k, j] * columns[n, j, p]             j = (c, y, x), p = (h, w)    (linalg.generic)

    before: %y = linalg.matmul {dlas.sparse = "gemm"} ins(%x, transpose(convert(%csr)))
    after:  out[m, n] += csr[n, k] * x[m, k]                                                      (linalg.generic)

The product reads the CSR matrix itself, which is what MLIR's sparse passes (``sparsifier``) generate code for: the
reference that our own kernels are tested against.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

from dlas.passes.constants import bindings
from dlas.passes.generics import (
    binary,
    build_zero_init,
    copy_layer,
    element_type,
    erase_dead,
    layer_of,
    replace,
    shape_of,
    walk,
)
from dlas.passes.plan import Refusal
from dlas.passes.registry import Note, Pass, register
from dlas.passes.sparse_weights import SPARSE, csr_of

_CONV, _MATMUL = "linalg.conv_2d_nchw_fchw", "linalg.matmul"


@dataclass(frozen=True)
class Plan:
    """A convolution or matrix product and the CSR matrix of its weights, ``[C_out, C_in * K_h * K_w]``."""

    op: Any
    csr: Any
    strides: tuple[int, int]
    dilations: tuple[int, int]

    @classmethod
    def analyze(cls, op: Any) -> Plan | Refusal | None:
        """The plan; None for weights that are not typed for this algorithm. Refuses groups and dynamic shapes."""
        assemble = csr_of(op.operands[1])
        if assemble is None or SPARSE not in op.attributes or op.attributes[SPARSE].value != "gemm":
            return None
        if op.name not in (_CONV, _MATMUL):
            return Refusal(f"{op.name} has groups: no product with one matrix")
        if min(*shape_of(op.operands[0]), *shape_of(op.results[0])) < 0:
            return Refusal("dynamic shapes")
        return cls(op, assemble.results[0], _pair(op, "strides"), _pair(op, "dilations"))


@register("dlas-sparse-gemm", context="torch-mlir")
@dataclass(frozen=True)
class SparseGemm(Pass):
    """See the module's docstring."""

    def run(self, module: Any) -> list[Note]:
        notes = []
        for op in walk(module, _CONV, "linalg.conv_2d_ngchw_gfchw", "linalg.depthwise_conv_2d_nchw_chw", _MATMUL):
            plan = Plan.analyze(op)
            if isinstance(plan, Refusal):
                notes.append(Note(self.name, layer_of(op), False, plan.reason))
            elif plan is not None:
                layer = layer_of(op)
                if plan.op.name == _MATMUL:
                    _rewrite_matmul(plan)
                    notes.append(Note(self.name, layer, True, "a product with the CSR matrix"))
                else:
                    _rewrite_conv(plan)
                    notes.append(Note(self.name, layer, True, "im2col and a product with the CSR matrix"))
        erase_dead(module)
        return notes


def _rewrite_matmul(plan: Plan) -> None:
    ir = bindings(plan.op)
    op, data = plan.op, plan.op.operands[0]
    with ir.InsertionPoint(op), op.location:
        m, n, k = (ir.AffineExpr.get_dim(i) for i in range(3))
        init = build_zero_init(op.results[0].type, layer_from=op)
        product = _generic([plan.csr, data], init, [[n, k], [m, k], [m, n]], "ppr", _multiply_add)
        copy_layer(op, product.owner)
    replace(op, product)


def _multiply_add(values: Sequence[Any]) -> Any:
    return binary("arith.addf", values[2], binary("arith.mulf", values[0], values[1]))


def _rewrite_conv(plan: Plan) -> None:
    ir = bindings(plan.op)
    op, data = plan.op, plan.op.operands[0]
    batch, c_in, _, _ = shape_of(data)
    _, _, k_h, k_w = shape_of(op.operands[1])
    _, c_out, height, width = shape_of(op.results[0])
    element = element_type(data)
    (s_h, s_w), (d_h, d_w) = plan.strides, plan.dilations

    def tensor(*shape: int) -> Any:
        return ir.RankedTensorType.get(list(shape), element)

    with ir.InsertionPoint(op), op.location:
        n, c, y, x, h, w = (ir.AffineExpr.get_dim(i) for i in range(6))
        empty = ir.Operation.create("tensor.empty", results=[tensor(batch, c_in, k_h, k_w, height, width)]).result
        maps = [[n, c, h * s_h + y * d_h, w * s_w + x * d_w], [n, c, y, x, h, w]]
        gathered = _generic([data], empty, maps, "pppppp", lambda values: values[0])
        columns = _reshape(
            "tensor.collapse_shape", gathered, tensor(batch, c_in * k_h * k_w, height * width), [[0], [1, 2, 3], [4, 5]]
        )
        n, k, j, p = (ir.AffineExpr.get_dim(i) for i in range(4))
        init = build_zero_init(tensor(batch, c_out, height * width), layer_from=op)
        product = _generic([plan.csr, columns], init, [[k, j], [n, j, p], [n, k, p]], "pprp", _multiply_add)
        result = _reshape("tensor.expand_shape", product, tensor(batch, c_out, height, width), [[0], [1], [2, 3]])
        for made in (gathered, product):
            copy_layer(op, made.owner)
    replace(op, result)


def _generic(
    inputs: Sequence[Any],
    init: Any,
    maps: Sequence[Sequence[Any]],
    iterators: str,
    body: Callable[[Sequence[Any]], Any],
) -> Any:
    """``linalg.generic`` with one output; ``iterators`` has ``p`` or ``r`` per loop."""
    ir = bindings(init)
    names = {"p": "parallel", "r": "reduction"}
    kinds = [ir.Attribute.parse(f"#linalg.iterator_type<{names[letter]}>") for letter in iterators]
    op = ir.Operation.create(
        "linalg.generic",
        results=[init.type],
        operands=[*inputs, init],
        attributes={
            "indexing_maps": ir.ArrayAttr.get(
                [ir.AffineMapAttr.get(ir.AffineMap.get(len(iterators), 0, list(exprs))) for exprs in maps]
            ),
            "iterator_types": ir.ArrayAttr.get(kinds),
            "operandSegmentSizes": ir.DenseI32ArrayAttr.get([len(inputs), 1]),
        },
        regions=1,
    )
    elements = [element_type(value) for value in (*inputs, init)]
    block = ir.Block.create_at_start(op.regions[0], elements, [op.location] * len(elements))
    with ir.InsertionPoint(block):
        ir.Operation.create("linalg.yield", operands=[body(list(block.arguments))])
    return op.result


def _reshape(name: str, value: Any, type: Any, groups: Sequence[Sequence[int]]) -> Any:
    ir = bindings(value)
    index = ir.IntegerType.get_signless(64)
    attributes = {
        "reassociation": ir.ArrayAttr.get(
            [ir.ArrayAttr.get([ir.IntegerAttr.get(index, dim) for dim in group]) for group in groups]
        )
    }
    if name == "tensor.expand_shape":
        attributes["static_output_shape"] = ir.DenseI64ArrayAttr.get(list(type.shape))
    return ir.Operation.create(name, results=[type], operands=[value], attributes=attributes).result


def _pair(op: Any, name: str) -> tuple[int, int]:
    if name not in op.attributes:
        return 1, 1  # the default of a named op
    first, second = bindings(op).DenseIntElementsAttr(op.attributes[name])
    return int(first), int(second)

"""``dlas-type-sparse-weights`` and ``dlas-densify-sparse-weights``: pruned weights as ``sparse_tensor`` CSR, and back.

    before: %w = arith.constant dense<...> : tensor<64x32x3x3xf32>
            %y = linalg.conv_2d_nchw_fchw ins(%x, %w : ...)
    after:  %csr = sparse_tensor.assemble (%positions, %coordinates), %values : ... to tensor<64x288xf32, #CSR>
            %dense = sparse_tensor.convert %csr : tensor<64x288xf32, #CSR> to tensor<64x288xf32>
            %w = tensor.expand_shape %dense [[0], [1, 2, 3]] : ... into tensor<64x32x3x3xf32>
            %y = linalg.conv_2d_nchw_fchw {dlas.sparse = "any"} ins(%x, %w : ...)

    before: %w = arith.constant dense<...> : tensor<32x64xf32>
            %y = linalg.matmul ins(%x, %w : ...)
    after:  %csr = sparse_tensor.assemble (%positions, %coordinates), %values : ... to tensor<64x32xf32, #CSR>
            %dense = sparse_tensor.convert %csr : tensor<64x32xf32, #CSR> to tensor<64x32xf32>
            %w = linalg.transpose ins(%dense : tensor<64x32xf32>) outs(...) permutation = [1, 0]
            %y = linalg.matmul {dlas.sparse = "any"} ins(%x, %w : ...)

``#CSR`` is ``[C_out, C_PG * K_h * K_w]``, rows dense and columns compressed, with i32 positions and coordinates; a
weight is stored unless it is zero. So rows are outputs: of a linear layer's ``[K, N]`` it is the transpose.
Convolutions of all ranks are typed, grouped ones too, with weights of f16, f32 and f64.
``dlas.sparse`` names the algorithm that kernels use: ``direct``, sums over the non-zeros in place; ``gemm``, im2col and
a product with the matrix; ``spatial-pack``, which cuts the input into tiles first; or ``any`` of them, the cheapest.
:mod:`dlas.passes.sparse_kernels` has variants for each. The kernels of :mod:`dlas.passes.sparse_linear_kernels` and
:mod:`dlas.passes.pixel_kernels` are direct, and so is the fallback for what they do not take,
:mod:`dlas.passes.sparsifier_kernels`. :mod:`dlas.passes.sparse_gemm` makes a ``gemm`` for MLIR's sparsifier, the
reference. The type says how weights can be stored; whether a kernel walks them or multiplies the zeros is decided
by the layout assignment. Weights of which more than ``share`` are not zero are refused.

IREE has no ``sparse_tensor``: before the module crosses over, ``dlas-densify-sparse-weights`` makes constants of the
weights again. The attribute stays.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

from dlas.passes.constants import bindings, make_constant, read_constant
from dlas.passes.generics import defining_op, element_type, erase_dead, layer_of, shape_of, walk
from dlas.passes.grouped_volume import GroupedVolume
from dlas.passes.plan import Refusal
from dlas.passes.registry import Note, Pass, register

SPARSE = "dlas.sparse"
"""The discardable attribute with the algorithm of a sparse convolution or linear layer."""

ALGORITHMS = ("any", "direct", "gemm", "spatial-pack")

CSR = "#sparse_tensor.encoding<{ map = (d0, d1) -> (d0 : dense, d1 : compressed), posWidth = 32, crdWidth = 32 }>"

# The dimensions of the weights that make up the output channels.
_ROWS = {
    "linalg.conv_2d_nchw_fchw": 1,
    "linalg.conv_2d_ngchw_gfchw": 2,
    "linalg.depthwise_conv_2d_nchw_chw": 1,
    "linalg.conv_3d_ncdhw_fcdhw": 1,
}
_BATCHED = "linalg.batch_matmul"
_TYPES = ("f16", "f32", "f64")
_MATMUL = "linalg.matmul"
_MATMUL_MAPS = ("(d0, d1, d2) -> (d0, d2)", "(d0, d1, d2) -> (d2, d1)", "(d0, d1, d2) -> (d0, d1)")


@dataclass(frozen=True)
class Plan:
    """A convolution or matrix product whose weights are to be typed.

    Attributes:
        op: the convolution or product.
        matrix: its weights, ``[C_out, C_PG * K_h * K_w]`` or ``[N, K]``.
    """

    op: Any
    matrix: np.ndarray

    @classmethod
    def analyze(cls, op: Any, share: float) -> Plan | Refusal | None:
        """The plan; None where no constant weight is zero. Refuses weights of which more than ``share`` are not."""
        weights = read_constant(op.operands[1])
        if weights is None or weights.size == 0 or weights.all():
            return None
        if str(element_type(op.operands[1])) not in _TYPES:
            return Refusal(f"weights of type {element_type(op.operands[1])}")
        nonzeros = np.count_nonzero(weights) / weights.size
        if nonzeros > share:
            return Refusal(f"{nonzeros:.0%} of the weights are not zero")
        if op.name == _BATCHED:
            return Refusal("a matrix per batch")
        if op.name == _MATMUL:
            maps = op.attributes.get("indexing_maps", None)
            if maps is not None and tuple(str(attr.value) for attr in maps) != _MATMUL_MAPS:
                return Refusal("transposed or broadcast operands")
            return cls(op, np.ascontiguousarray(weights.T))
        rows = int(np.prod(weights.shape[: _row_dims(op)]))
        return cls(op, weights.reshape(rows, -1))


@register("dlas-type-sparse-weights", context="torch-mlir")
@dataclass(frozen=True)
class TypeSparseWeights(Pass):
    """See the module's docstring.

    Attributes:
        share: of non-zeros, up to which weights are typed. By default zeros that are there by chance make none sparse:
            large weights of seeded models have some.
        algorithm: one of :data:`ALGORITHMS`.
    """

    share: float = 0.999
    algorithm: str = "any"

    def __post_init__(self) -> None:
        if not 0 <= self.share <= 1:
            raise ValueError(f"share={self.share} is not between 0 and 1")
        if self.algorithm not in ALGORITHMS:
            raise ValueError(f"algorithm={self.algorithm!r} is not one of {', '.join(ALGORITHMS)}")

    def run(self, module: Any) -> list[Note]:
        notes = []
        for op in _weighted(module):
            plan = Plan.analyze(op, self.share)
            if isinstance(plan, Refusal):
                notes.append(Note(self.name, layer_of(op), False, plan.reason))
            elif plan is not None:
                stored = self._rewrite(plan)
                rows, columns = plan.matrix.shape
                text = f"CSR [{rows}, {columns}], {stored} of {plan.matrix.size} stored, {self.algorithm}"
                notes.append(Note(self.name, layer_of(op), True, text))
        erase_dead(module)
        return notes

    def _rewrite(self, plan: Plan) -> int:
        ir = bindings(plan.op)
        op, weights = plan.op, plan.op.operands[1]
        rows, columns = np.nonzero(plan.matrix)
        positions = np.zeros(len(plan.matrix) + 1, np.int64)
        np.cumsum(np.bincount(rows, minlength=len(plan.matrix)), out=positions[1:])
        element, index = element_type(weights), ir.IntegerType.get_signless(32, context=op.context)
        shape = list(plan.matrix.shape)
        with ir.InsertionPoint(op), op.location:
            parts = [make_constant(positions, index), make_constant(columns, index)]
            values = make_constant(plan.matrix[rows, columns], element)
            csr = _create(ir, "sparse_tensor.assemble", _csr_type(ir, shape, element), [*parts, values])
            dense = _create(ir, "sparse_tensor.convert", ir.RankedTensorType.get(shape, element), [csr])
            if op.name == _MATMUL:
                op.operands[1] = _transpose(ir, dense, weights.type)
            else:
                op.operands[1] = _expand(ir, dense, weights.type, _row_dims(op))
        op.attributes[SPARSE] = ir.StringAttr.get(self.algorithm, context=op.context)
        return len(rows)


@register("dlas-densify-sparse-weights", context="torch-mlir")
@dataclass(frozen=True)
class DensifySparseWeights(Pass):
    """The inverse of :class:`TypeSparseWeights`, but for the attribute. See the module's docstring."""

    def run(self, module: Any) -> list[Note]:
        notes = []
        for op in _weighted(module):
            matrix = stored_matrix(op.operands[1])
            if matrix is None:
                continue
            shape = shape_of(op.operands[1])
            weights = matrix.T if op.name == _MATMUL else matrix.reshape(shape)
            with bindings(op).InsertionPoint(op), op.location:
                op.operands[1] = make_constant(weights, element_type(op.operands[1]))
            notes.append(Note(self.name, layer_of(op), True, f"dense {'x'.join(map(str, shape))}"))
        erase_dead(module)
        return notes


def _weighted(module: Any) -> list[Any]:
    """The convolutions and matrix products."""
    ops = walk(module, *_ROWS, _MATMUL, _BATCHED, "linalg.generic")
    return [op for op in ops if op.name != "linalg.generic" or GroupedVolume.read(op) is not None]


def _row_dims(op: Any) -> int:
    """The number of dimensions of the weights that make up the output channels."""
    return _ROWS.get(op.name, 2)  # a generic is grouped


def csr_of(weights: Any) -> Any | None:
    """The ``sparse_tensor.assemble`` that the weights of an op come from, None where they are dense."""
    shaped = ("tensor.expand_shape", "linalg.transpose")
    for names in (shaped, ("sparse_tensor.convert",), ("sparse_tensor.assemble",)):
        op = defining_op(weights)
        if op is None or op.name not in names:
            return None
        if op.name != "sparse_tensor.assemble":
            weights = op.operands[0]
    return op


def stored_matrix(weights: Any) -> np.ndarray | None:
    """The matrix that typed weights stand for, as a dense array; None for weights that are not typed."""
    assemble = csr_of(weights)
    if assemble is None:
        return None
    positions, columns, values = (read_constant(operand) for operand in assemble.operands)
    if positions is None or columns is None or values is None:
        return None
    matrix = np.zeros(shape_of(assemble.results[0]), values.dtype)
    rows = np.repeat(np.arange(len(matrix)), np.diff(positions))
    matrix[rows, columns] = values
    return matrix


def _create(ir: Any, name: str, result: Any, operands: list[Any]) -> Any:
    return ir.Operation.create(name, results=[result], operands=operands).result


def _csr_type(ir: Any, shape: list[int], element: Any) -> Any:
    return ir.RankedTensorType.get(shape, element, ir.Attribute.parse(CSR))


def _transpose(ir: Any, matrix: Any, type: Any) -> Any:
    empty = ir.Operation.create("tensor.empty", results=[type]).result
    op = ir.Operation.create(
        "linalg.transpose",
        results=[type],
        operands=[matrix, empty],
        attributes={"permutation": ir.DenseI64ArrayAttr.get([1, 0])},
        regions=1,
    )
    element = ir.ShapedType(type).element_type
    block = ir.Block.create_at_start(op.regions[0], [element, element], [op.location] * 2)
    with ir.InsertionPoint(block):
        ir.Operation.create("linalg.yield", operands=[block.arguments[0]])
    return op.result


def _expand(ir: Any, matrix: Any, type: Any, rows: int) -> Any:
    shape = list(ir.ShapedType(type).shape)
    groups = [list(range(rows)), list(range(rows, len(shape)))]
    index = ir.IntegerType.get_signless(64)
    return ir.Operation.create(
        "tensor.expand_shape",
        results=[type],
        operands=[matrix],
        attributes={
            "reassociation": ir.ArrayAttr.get(
                [ir.ArrayAttr.get([ir.IntegerAttr.get(index, d) for d in group]) for group in groups]
            ),
            "static_output_shape": ir.DenseI64ArrayAttr.get(shape),
        },
    ).result

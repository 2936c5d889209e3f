"""MLIR's sparsifier on the one product that our fallback for pruned weights needs.

    csr : tensor<ROWSxREACH, #CSR>, x : tensor<REACH-1+PIXELS>, out : tensor<ROWSxPIXELS>
    out[k, p] += csr[k, j] * x[j + p]                                                     (linalg.generic)

The column of a weight is the distance of its input from the pixel's place, so that convolutions of any rank, kernel,
dilation and group are this product (:mod:`dlas.passes.sparsifier_kernels`). ``sparsification-and-bufferization`` makes
loops over buffers of it, which need no ``sparse_tensor`` any more:

    for k: for p: for j in positions[k] .. positions[k + 1]:
      out[k, p] += values[j] * x[p + coordinates[j]]

They are handed over as text: IREE's context knows every op that is left. :mod:`dlas.passes.raise_loops` takes them
from there.
"""

from __future__ import annotations

from functools import cache
from typing import Any

from dlas.passes.constants import bindings
from dlas.passes.sparse_weights import CSR

NAME = "sparsified"
"""The function with the loops: (positions, coordinates, values, x, out)."""


@cache
def sparsified_loops(rows: int, reach: int, pixels: int, element: str) -> str:
    """A module with the loops for ``rows`` rows of the matrix, in torch-mlir's context and back to text.

    Args:
        rows: of a workgroup.
        reach: columns of the matrix.
        pixels: of a workgroup.
        element: ``f32`` or ``f64``.
    """
    from torch_mlir import ir
    from torch_mlir._mlir_libs import _mlirRegisterEverything  # noqa: F401  (registers the passes)
    from torch_mlir.passmanager import PassManager

    matrix, data, out = f"{rows}x{reach}x{element}", f"{reach - 1 + pixels}x{element}", f"{rows}x{pixels}x{element}"
    source = f"""
      #CSR = {CSR}
      func.func @{NAME}(%csr: tensor<{matrix}, #CSR>, %x: tensor<{data}>, %out: tensor<{out}>) -> tensor<{out}> {{
        %y = linalg.generic {{
          indexing_maps = [affine_map<(k, j, p) -> (k, j)>, affine_map<(k, j, p) -> (j + p)>,
                           affine_map<(k, j, p) -> (k, p)>],
          iterator_types = ["parallel", "reduction", "parallel"]
        }} ins(%csr, %x : tensor<{matrix}, #CSR>, tensor<{data}>) outs(%out : tensor<{out}>) {{
        ^bb0(%w: {element}, %i: {element}, %o: {element}):
          %m = arith.mulf %w, %i : {element}
          %s = arith.addf %o, %m : {element}
          linalg.yield %s : {element}
        }} -> tensor<{out}>
        return %y : tensor<{out}>
      }}"""
    with ir.Context():
        module = ir.Module.parse(source)
        pipeline = "builtin.module(sparse-assembler,sparsification-and-bufferization,canonicalize,cse)"
        PassManager.parse(pipeline).run(module.operation)
        wrapper, loops = (view.operation for view in module.body.operations)
        wrapper.erase()
        _without_storage(loops)
        return module.operation.get_asm()


def _without_storage(function: Any) -> None:
    """Takes out what tells the sparsifier how large its buffers are: they are given whole.

    before: func @_internal(positions, coordinates, values, specifier, x, out)
              %n = sparse_tensor.storage_specifier.get %specifier ...
              %v = memref.subview %values[0] [%n] [1]
    after:  func @sparsified(positions, coordinates, values, x, out)
    """
    ir, block = bindings(function), function.regions[0].blocks[0]
    for view in list(block.operations):
        op = view.operation
        if op.name == "memref.subview":
            op.results[0].replace_all_uses_with(op.operands[0])
            op.erase()
    for view in list(block.operations):
        if view.operation.name == "sparse_tensor.storage_specifier.get":
            view.operation.erase()
    specifier = next(i for i, argument in enumerate(block.arguments) if "storage_specifier" in str(argument.type))
    block.erase_argument(specifier)
    type_ = ir.FunctionType.get([argument.type for argument in block.arguments], [block.arguments[-1].type])
    function.attributes["function_type"] = ir.TypeAttr.get(type_)
    function.attributes["sym_name"] = ir.StringAttr.get(NAME)

"""Canonical linalg: what the layout passes and the schedules can rely on.

:data:`PIPELINE` turns linalg-on-tensors, straight out of torch-mlir, into this form:

- Convolutions are named operations (``linalg.conv_2d_nchw_fchw``, ``linalg.conv_2d_ngchw_gfchw``,
  ``linalg.depthwise_conv_2d_nchw_chw``, and their 3-D kin) whose init is a ``linalg.fill`` of zero. Weights are an
  ``arith.constant`` in the operation's own shape (unless the model computes them from its inputs). Those of 1-D
  convolutions have one row, and a chain of them has reshapes at its ends only (:mod:`dlas.passes.lift_conv_1d`).
- Padding is a ``tensor.pad`` with the constant 0 on the NCHW input (asymmetric where a window fits only once and
  would leave rows unread; a ``tensor.extract_slice`` does the same where nothing is padded). A grouped convolution
  reads a ``tensor.expand_shape`` of it that splits its channels and nothing else, and one ``tensor.collapse_shape``
  brings its result back to NCHW (:mod:`dlas.passes.group_reshapes`).
- The bias, with what a batch norm left of itself, is ONE ``linalg.generic`` after the convolution (after the
  collapse_shape of a grouped one): ``arith.addf`` of a constant ``tensor<C>`` with map ``(d0,d1,d2,d3) -> (d1)``.
- A batch norm that could not go into weights is ONE ``linalg.generic`` ``x * s + h``, two such constants.
- ``linalg.matmul`` has its constant weights as ``KxN`` (batches are flattened into its rows); its bias is a generic
  with map ``(d0,d1) -> (d1)``, or ``(d0,d1,d2) -> (d2)`` after a ``tensor.expand_shape`` back to batches.
- What is elementwise behind a ``linalg.matmul`` works on its matrix, and the ``tensor.expand_shape`` comes after it.
- No ``linalg.generic`` has a result that nobody reads beside one that is read (softmax's maximum has no index).
- Everything elementwise is a ``linalg.generic`` whose maps are the identity or a projection of it; an operand that is
  one number is a scalar in the body.
- Pooling is ``linalg.pooling_nchw_*``; means are generics with reduction loops.
- Every linalg operation has the attribute ``dlas.layer``: the source layer's name. An epilogue has its convolution's.
- Channels whose weights are zero, and that are zero where they are read, are gone (:mod:`dlas.passes.shrink_channels`).
- Weights of convolutions and linear layers with zeros are ``sparse_tensor`` CSR, and ``dlas.sparse`` names the
  algorithm (:mod:`dlas.passes.sparse_weights`).
- Small and large constants alike are ``DenseElementsAttr`` (readable through numpy: :mod:`dlas.passes.constants`).
"""

from __future__ import annotations

from typing import Any

from dlas.passes.constants import bindings
from dlas.passes.registry import Note, create

PIPELINE: tuple[str, ...] = (
    "dlas-name-layers",
    "canonicalize",
    "dlas-fold-constants",
    "dlas-flatten-batch-matmul",
    "dlas-trim-results",
    "dlas-bias-to-epilogue",
    "dlas-lift-conv-1d",
    "dlas-fold-batch-norm",
    "dlas-trim-inputs",
    "dlas-flatten-rows",
    "canonicalize",
    "cse",
    "dlas-group-reshapes",
    "dlas-shrink-channels",
    "dlas-type-sparse-weights",
)
"""The passes that make canonical linalg, in order; names without ``dlas-`` are MLIR's own."""


def canonicalise_module(module: Any) -> list[Note]:
    """Run :data:`PIPELINE` on a torch-mlir module in place, verify it, and return the notes of our passes."""
    from torch_mlir.passmanager import PassManager

    assert bindings(module).__name__ == "torch_mlir.ir"
    notes: list[Note] = []
    with module.context:
        for name in PIPELINE:
            if name.startswith("dlas-"):
                notes += create(name).run(module)
            else:
                PassManager.parse(f"builtin.module({name})").run(module.operation)
        module.operation.verify()
    return notes

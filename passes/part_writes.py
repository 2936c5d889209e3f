"""Keep IREE from computing into a part of a larger tensor, as it does in front of pads and concatenations.

IREE's SPIR-V code views a buffer as vectors where a kernel computes in vectors, and writes a result that begins between
two of them to the one before: a softmax or a mean in front of a ``tensor.pad`` is silently wrong. Behind an
optimization barrier, the result is a tensor of its own, which is copied to its place.

    before: pad(softmax(x))
    after:  pad(util.optimization_barrier(softmax(x)))
"""

from __future__ import annotations

from iree.compiler import ir

# The op, and how many of its operands are tensors that it writes to a place.
_WRITES = {"tensor.pad": 1, "tensor.concat": None, "tensor.insert_slice": 1}

_VIEWS = ("tensor.expand_shape", "tensor.collapse_shape", "tensor.cast")

# What IREE does not fuse: kernels that are formed already, and data.
_APART = ("flow.dispatch.workgroups", "flow.dispatch", "arith.constant", "util.optimization_barrier")


def isolate_part_writes(function: ir.Operation) -> int:
    """Rewrites ``function`` (``func.func`` or ``util.func``) in place; returns the number of barriers."""
    written = [
        (view.operation, position)
        for view in function.regions[0].blocks[0].operations
        if view.operation.name in _WRITES
        for position in range(_WRITES[view.operation.name] or len(view.operation.operands))
        if _is_computed(view.operation.operands[position])
    ]
    for op, position in written:
        value = op.operands[position]
        with ir.InsertionPoint(op), op.location:
            barrier = ir.Operation.create("util.optimization_barrier", results=[value.type], operands=[value])
        op.operands[position] = barrier.results[0]
    return len(written)


def _is_computed(value: ir.Value) -> bool:
    """Whether IREE makes the value in a kernel of its own forming."""
    owner = getattr(value.owner, "operation", None)
    while owner is not None and owner.name in _VIEWS:
        owner = getattr(owner.operands[0].owner, "operation", None)
    return owner is not None and owner.name not in _APART

"""Author a transform-dialect script op by op from Python.

A :class:`TransformScript` is one ``transform.named_sequence`` over a ``func.func`` or, for scripts that choose the
schedules of a model's layers, over the model's module. Payload ops are found by the
discardable attribute ``dlas.role`` that the passes put on them (``init``, ``root``, ``epilogue``, ...): tiling and
fusion keep it, so a handle can be taken again after any step, and one handle may stand for several ops (the full and
the partial tile of a peeled loop).
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from iree.compiler import ir

ANY_OP = "!transform.any_op"
ANY_PARAM = "!transform.any_param"
FOR_OP = '!transform.op<"scf.for">'

SCHEDULED_OPS = (
    "linalg.conv_2d_nchw_fchw",
    "linalg.conv_2d_ngchw_gfchw",
    "linalg.depthwise_conv_2d_nchw_chw",
    "linalg.matmul",
)
"""Convolutions and linear layers of the canonical form, which have a choice of schedules."""


@dataclass(frozen=True)
class Handle:
    """An SSA value of the script that stands for payload ops."""

    name: str
    type: str = ANY_OP


class TransformScript:
    """Builder of one named sequence; each method appends one step and returns the handles it defines.

    Args:
        name: symbol of the named sequence.
        root: name of its argument, which stands for the payload.
    """

    def __init__(self, name: str, root: str = "%func") -> None:
        self.name = name
        self.root = Handle(root)
        self._lines: list[str] = []
        self._count = 0

    def _new(self, type: str = ANY_OP) -> Handle:
        self._count += 1
        return Handle(f"%{self._count - 1}", type)

    def comment(self, text: str) -> None:
        """Names the paragraph that follows."""
        self._lines.append(f"// {text}")

    def match_role(self, role: str, op: str | None = None) -> Handle:
        """All ops whose ``dlas.role`` is ``role`` (and whose name is ``op``)."""
        names = f'ops{{["{op}"]}} ' if op else ""
        out = self._new()
        self._lines.append(
            f'{out.name} = transform.structured.match {names}attributes{{dlas.role = "{role}"}} in {self.root.name} '
            f": ({ANY_OP}) -> {ANY_OP}"
        )
        return out

    def match_ops(self, *names: str, within: Handle | None = None) -> Handle:
        """All ops of the given names."""
        out = self._new()
        listed = ", ".join(f'"{name}"' for name in names)
        self._lines.append(
            f"{out.name} = transform.structured.match ops{{[{listed}]}} in {(within or self.root).name} "
            f": ({ANY_OP}) -> {ANY_OP}"
        )
        return out

    def match_layer(self, layer: str, *names: str) -> Handle:
        """The convolutions and linear layers of a source layer (or its ops of the given names)."""
        return self.match_attribute("dlas.layer", layer, *names)

    def match_sparse(self, algorithm: str = "any", *names: str) -> Handle:
        """All convolutions and linear layers with pruned weights, typed for an algorithm of ``dlas.sparse``."""
        return self.match_attribute("dlas.sparse", algorithm, *names)

    def match_attribute(self, attribute: str, value: str, *names: str) -> Handle:
        """The convolutions and linear layers (or ops of the given names) with this string as an attribute."""
        out = self._new()
        listed = ", ".join(f'"{name}"' for name in names or SCHEDULED_OPS)
        self._lines.append(
            f"{out.name} = transform.structured.match ops{{[{listed}]}} attributes{{{attribute} = {_quoted(value)}}} "
            f"in {self.root.name} : ({ANY_OP}) -> {ANY_OP}"
        )
        return out

    def split(self, target: Handle, count: int) -> list[Handle]:
        """The ``count`` ops of a handle, in their order, one by one."""
        base = self._new().name
        results = ", ".join([ANY_OP] * count)
        self._lines.append(f"{base}:{count} = transform.split_handle {target.name} : ({ANY_OP}) -> ({results})")
        return [Handle(f"{base}#{i}") for i in range(count)]

    def annotate(self, target: Handle, attribute: str, values: Mapping[str, int | str]) -> None:
        """Puts a dictionary on the ops, as a discardable attribute."""
        param = self._new(ANY_PARAM)
        items = (f"{key} = {_quoted(value) if isinstance(value, str) else value}" for key, value in values.items())
        self._lines.append(f"{param.name} = transform.param.constant {{{', '.join(items)}}} -> {ANY_PARAM}")
        self._lines.append(f'transform.annotate {target.name} "{attribute}" = {param.name} : {ANY_OP}, {ANY_PARAM}')

    def _tiled(self, op: str, target: Handle, sizes: Sequence[int]) -> tuple[Handle, list[Handle]]:
        loops = sum(1 for size in sizes if size)
        if not loops:
            return target, []
        base = self._new().name
        results = ", ".join([ANY_OP] * (loops + 1))
        listed = ", ".join(map(str, sizes))
        self._lines.append(f"{base}:{loops + 1} = {op} {target.name} tile_sizes [{listed}] : ({ANY_OP}) -> ({results})")
        return Handle(f"{base}#0"), [Handle(f"{base}#{i + 1}") for i in range(loops)]

    def fuse(self, target: Handle, sizes: Sequence[int]) -> tuple[Handle, list[Handle]]:
        """Tiles ``target`` (0: not tiled) and fuses its producers into the loops, outermost loop first."""
        return self._tiled("transform.structured.fuse", target, sizes)

    def tile(self, target: Handle, sizes: Sequence[int]) -> tuple[Handle, list[Handle]]:
        """Tiles ``target`` with ``scf.for`` loops, outermost first."""
        return self._tiled("transform.structured.tile_using_for", target, sizes)

    def peel(self, loop: Handle) -> None:
        """Splits the last, partial iteration off ``loop`` so that both parts have static shapes."""
        cast = self._new(FOR_OP)
        self._lines.append(f"{cast.name} = transform.cast {loop.name} : {ANY_OP} to {FOR_OP}")
        out = self._new()
        self._lines.append(f"{out.name}:2 = transform.loop.peel {cast.name} : ({FOR_OP}) -> ({ANY_OP}, {ANY_OP})")

    def unroll(self, loop: Handle, factor: int) -> None:
        """Unrolls ``loop`` by ``factor`` (fully where the trip count is not above it)."""
        self._lines.append(f"transform.loop.unroll {loop.name} factor = {factor} : {ANY_OP}")

    def interchange(self, target: Handle, permutation: Sequence[int]) -> Handle:
        """Permutes the iterators of a ``linalg.generic``."""
        out = self._new()
        listed = ", ".join(map(str, permutation))
        self._lines.append(
            f"{out.name} = transform.structured.interchange {target.name} iterator_interchange = [{listed}] "
            f": ({ANY_OP}) -> {ANY_OP}"
        )
        return out

    def apply_patterns(self, *patterns: str) -> None:
        """Greedily applies pattern sets, each given without its ``transform.apply_patterns.`` prefix."""
        body = "\n      ".join(f"transform.apply_patterns.{pattern}" for pattern in patterns)
        self._lines.append(f"transform.apply_patterns to {self.root.name} {{\n      {body}\n    }} : {ANY_OP}")

    def cse(self) -> None:
        """Common subexpression elimination."""
        self._lines.append(f"transform.apply_cse to {self.root.name} : {ANY_OP}")

    def cleanup(self) -> None:
        """Canonicalises after tiling, so that the next step sees static slices."""
        self.apply_patterns("canonicalization", "scf.for_loop_canonicalization", "tensor.fold_tensor_empty")
        self.cse()

    def fold_unit_dims(self) -> None:
        """Drops the unit loops that tiling by 1 leaves, as rank-reducing slices."""
        self.apply_patterns("linalg.fold_unit_extent_dims_via_slices", "canonicalization")
        self.cse()

    def vectorize(self) -> None:
        """Vectorises every linalg op, one by one (the whole-function form miscompiles inner unit dims)."""
        ops = self._new()
        self._lines.append(
            f"{ops.name} = transform.structured.match interface{{LinalgOp}} in {self.root.name} "
            f": ({ANY_OP}) -> {ANY_OP}"
        )
        self._lines.append(
            f"transform.foreach {ops.name} : {ANY_OP} {{\n    ^bb0(%op: {ANY_OP}):\n"
            f"      transform.structured.vectorize %op : {ANY_OP}\n    }}"
        )

    def contractions(self) -> None:
        """Turns vectorised multiply-reduce bodies into ``vector.contract``."""
        self.apply_patterns("vector.transfer_permutation_patterns")
        self.apply_patterns("vector.reduction_to_contract", "canonicalization")
        self.cse()

    def hoist_accumulators(self) -> None:
        """Makes loop-invariant reads and writes of the accumulator loop-carried vectors."""
        loops = self.match_ops("scf.for")
        self._lines.append(
            f"transform.foreach {loops.name} : {ANY_OP} {{\n    ^bb0(%loop: {ANY_OP}):\n"
            f"      transform.loop.hoist_loop_invariant_subsets %loop : {ANY_OP}\n    }}"
        )

    def lower_contractions(self) -> None:
        """Lowers ``vector.contract`` to outer products, that is to one FMA per weight vector and pixel."""
        self.apply_patterns("vector.lower_contraction lowering_strategy = outerproduct")
        self.apply_patterns("vector.lower_outerproduct", "canonicalization")

    def lower_transposes(self) -> None:
        """Lowers 2-D ``vector.transpose`` to in-register shuffles (8x8 for AVX2)."""
        self.apply_patterns(
            "vector.lower_transpose lowering_strategy = shuffle_16x16 avx2_lowering_strategy = true",
        )

    def text(self) -> str:
        """The script as a module with one named sequence."""
        body = "\n    ".join(self._lines)
        return (
            "module attributes {transform.with_named_sequence} {\n"
            f"  transform.named_sequence @{self.name}({self.root.name}: {ANY_OP} {{transform.readonly}}) {{\n"
            f"    {body}\n    transform.yield\n  }}\n}}\n"
        )

    def module(self, context: ir.Context | None = None) -> ir.Module:
        """The script as a verified ``ir.Module`` (of the current context by default)."""
        return ir.Module.parse(self.text(), context)


def _quoted(text: str) -> str:
    """A string as MLIR writes it."""
    return json.dumps(text, ensure_ascii=False)

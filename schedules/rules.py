"""The default policy: which schedule each kernel gets from its shape and the target's vector unit."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import fields, replace

from dlas.passes.conv import ConvShape
from dlas.passes.knob_request import KnobRequest
from dlas.passes.layout_assignment import NCHW, Implementation, block_of, blocked
from dlas.passes.plan import Choice, Grid, Refusal
from dlas.passes.sparsifier_site import SparseProduct
from dlas.schedules import costs
from dlas.schedules.conv_rules import ConvRules
from dlas.schedules.grid import kernel_cycles, plan_grid
from dlas.schedules.knobs import lane_tile
from dlas.schedules.requests import DENSE_MATMUL, ask_conv, ask_matmul, ask_separable
from dlas.schedules.sequence_rules import SequenceRules
from dlas.schedules.sparsifier import choose_sparsifier
from dlas.schedules.table import SCHEDULES, apply_schedule, knobs_of

__all__ = ["ASKED", "SCHEDULES", "Rules", "apply_schedule", "knobs_of"]

ASKED = "asked for by the transform script: "
"""What the reason of such a choice begins with."""


class Rules(ConvRules, SequenceRules):
    """The default policy for one vector unit: its parts, what is between them, and what scripts ask for.

    Args: those of :class:`dlas.schedules.unit_rules.UnitRules`.
    """

    def asked(
        self, shape: ConvShape, request: KnobRequest, nonzeros: int, algorithm: str | None
    ) -> Implementation | Refusal:
        """A convolution as a transform script asks for it, or why that cannot be.

        Of blocks it gets those that the request names, else the largest that its other knobs fit.
        """
        block = request.knobs.get("block", self.block)
        if block != self.block and block in self.blocks:
            return self.of_block(block).asked(shape, request, nonzeros, algorithm)
        found = self._asked(shape, request, nonzeros, algorithm)
        if isinstance(found, Refusal) and "block" not in request.knobs and self.narrow is not None:
            narrow = self.narrow.asked(shape, request, nonzeros, algorithm)
            if isinstance(narrow, Implementation) and narrow.blocks:
                return narrow
        return found

    def _asked(
        self, shape: ConvShape, request: KnobRequest, nonzeros: int, algorithm: str | None
    ) -> Implementation | Refusal:
        unknown = _unknown_knob(request)
        found = unknown or ask_conv(self, shape, request, nonzeros, algorithm)
        if isinstance(found, Refusal):
            return found
        choice, cycles = _asked(found[0]), found[1]
        if choice.schedule == "sparse_conv":
            return self._sparse_implementation(choice, cycles)
        if choice.schedule == "planar_conv":
            return self._planar_implementation(shape, choice, cycles)
        layout = blocked(self.block)
        if choice.schedule == "polyphase_conv":
            return self._implementation(shape, NCHW, layout, choice, cycles, padded=True)
        writes = NCHW if choice.schedule == "w_lanes" else layout
        reads = NCHW if writes == NCHW or choice.knobs.get("direct") else layout
        return self._implementation(shape, reads, writes, choice, cycles)

    def asked_matmul(
        self, m: int, n: int, k: int, request: KnobRequest, nonzeros: int, algorithm: str | None
    ) -> Implementation | Refusal:
        """``[m, k] x [k, n]`` as a transform script asks for it, or why that cannot be."""
        unknown = _unknown_knob(request)
        found = unknown or ask_matmul(self, m, n, k, request, nonzeros, algorithm)
        if isinstance(found, Refusal):
            return found
        problem = f"matmul {m}x{k}x{n}" + ("" if request.schedule in DENSE_MATMUL else f" nonzeros={nonzeros}")
        choice = replace(_asked(found[0]), problem=problem)
        measured = self.measured.get(choice)
        return Implementation((), NCHW, found[1] + costs.DISPATCH if measured is None else measured, choice)

    def asked_separable(
        self, first: ConvShape, before: Choice, shape: ConvShape, request: KnobRequest
    ) -> Choice | Refusal:
        """A convolution by lanes and the pointwise one behind it as one kernel, as a transform script asks for it."""
        found = ask_separable(self, first, before, shape, request)
        return found if isinstance(found, Refusal) else _asked(found)

    def transform_cycles(self, shape: Sequence[int], source: str, target: str) -> float:
        """Cycles to bring an activation from one layout to another."""
        return costs.transform_cycles(self.unit, shape, source, target)

    def window_cycles(self, shape: ConvShape, layout: str) -> float:
        """Cycles of pooling; ``shape`` gives the window as a depthwise convolution would."""
        block = block_of(layout)
        unit = self.unit if block is None else self.of_block(block).unit
        return costs.window_cycles(unit, shape, layout)

    def channels_last_cycles(self, shape: Sequence[int], layout: str) -> float:
        """Cycles of a transpose between channels-last and another layout."""
        return costs.channels_last_cycles(self.unit, shape, layout)

    def stream_cycles(self, elements: int, layout: str, *, fused: bool = False) -> float:
        """Cycles to read and write so many elements in all, in a kernel of its own or ``fused`` into one."""
        return costs.stream_cycles(elements, layout, fused=fused)

    def sparsifier(self, product: SparseProduct) -> Choice | Refusal:
        """The fallback for pruned weights, or why dense code is faster."""
        return choose_sparsifier(self.unit, self.cores, product)

    def plain(self, kind: str, height: int, width: int) -> Choice:
        """The schedule of a kernel without multiply-accumulates."""
        if kind == "pooling":
            return Choice("lane_conv", {"ow": lane_tile(self.unit, width, 0), "block": self.block}, "lanes on channels")
        if kind in ("pack", "unpack"):
            width = height if width == 1 else width  # a column is packed as a row
            # A last tile of one pixel would be a copy of scalars.
            widths = range(min(self.block, width), 0, -1)
            ow = next((n for n in widths if width % n != 1), 1)
            return Choice("transpose", {"ow": ow, "block": self.block}, f"{self.block}x{ow} transposes in registers")
        if kind == "pack_matrix":
            return Choice(
                "pack_matrix", {"ow": 4 * self.block, "block": self.block}, "a matrix at a time, in registers"
            )
        if kind == "rows":
            reason = f"{self.block}x{self.block} transposes in registers"
            return Choice("pack_rows", {"ow": self.block, "block": self.block}, reason)
        if kind == "sums":
            return Choice("strassen_input", {"ow": self.block, "block": self.block}, "made once, for all workgroups")
        if kind in ("planar", "unplanar", "phases", "planes"):
            return Choice("row_copy", {"ow": self.block, "block": self.block}, "whole vectors of a row")
        if kind == "repack":
            reason = f"blocks of {self.block} channels, vector by vector"
            return Choice("repack", {"ow": 1, "block": self.block}, reason)
        if kind == "channels_last":
            return Choice("channels_last", {"ow": 1, "block": self.block}, "a pixel's channels, vector by vector")
        if kind == "shuffle":
            return Choice("lane_shuffle", {"ow": 1, "block": self.block}, "a block of each group by lane shuffles")
        if kind == "pad":
            return Choice("pad", {"ow": self.block, "block": self.block}, "whole vectors of a row")
        if kind == "reduce":
            return Choice("reduce", {"ow": 1, "block": self.block}, "lanes on channels")
        return Choice("elementwise", {"ow": min(4, width), "block": self.block}, "lanes on channels")

    def grid(self, tiles: int, rows: int, flops: int, moved: int) -> Grid:
        """How a kernel's tiles, and the rows of each, are dealt out (see :mod:`dlas.schedules.grid`)."""
        return plan_grid(self.cores, tiles, rows, kernel_cycles(self.unit, flops, moved))


def _asked(choice: Choice) -> Choice:
    return replace(choice, reason=ASKED + choice.reason, asked=True)


def _unknown_knob(request: KnobRequest) -> Refusal | None:
    schedule = SCHEDULES.get(request.schedule)
    known = [] if schedule is None else [field.name for field in fields(schedule.knobs) if field.type == "int"]
    unknown = [name for name in request.knobs if schedule is not None and name not in known]
    return Refusal(f"{request.schedule} has no knob {unknown[0]!r}: {', '.join(known)}") if unknown else None

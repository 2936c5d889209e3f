"""The table of schedules: what there is, the steps of each, and how they are applied to a kernel."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, fields
from typing import Any

from iree.compiler import ir
from iree.compiler.dialects.transform import interpreter

from dlas.dialects import TransformScript
from dlas.errors import ScheduleError
from dlas.passes.lower_lanes import lower_lanes
from dlas.passes.plan import Choice, Kernel
from dlas.schedules.attention import AttentionKnobs, ProductKnobs, attention, batch_matmul, pack_matrix
from dlas.schedules.lane_conv import LaneConvKnobs, lane_conv, lane_conv_finish
from dlas.schedules.matmul import MatmulKnobs, matmul
from dlas.schedules.packed_conv import PackedConvKnobs, packed_conv
from dlas.schedules.plain import PlainKnobs, elementwise, lane_shuffle, pad, reduce, transpose
from dlas.schedules.planar_conv import PlanarConvKnobs
from dlas.schedules.polyphase_conv import PolyphaseInputKnobs, PolyphaseKnobs, polyphase_conv, polyphase_input
from dlas.schedules.rows import RowKnobs, rows
from dlas.schedules.separable_conv import SeparableConvKnobs, separable_conv
from dlas.schedules.sparse_conv import SparseConvKnobs
from dlas.schedules.sparse_linear import SparseMatmulKnobs, SparseMatvecKnobs
from dlas.schedules.sparse_pixel_conv import SparsePixelConvKnobs
from dlas.schedules.sparsifier import SparsifierKnobs
from dlas.schedules.strassen_conv import StrassenKnobs, strassen_conv
from dlas.schedules.strassen_matmul import StrassenMatmulKnobs, strassen_matmul
from dlas.schedules.w_lanes import WLanesKnobs, w_lanes
from dlas.schedules.winograd_conv import (
    WinogradKnobs,
    WinogradLaneKnobs,
    winograd_conv,
    winograd_input,
    winograd_lane_conv,
)

Step = Callable[[ir.Operation], Any] | TransformScript


@dataclass(frozen=True)
class Schedule:
    """A line of the table: the knobs' class, the steps that apply it, and what it is for."""

    knobs: type
    steps: Callable[[Any, Mapping[str, int]], list[Step]]
    summary: str


SCHEDULES: dict[str, Schedule] = {
    "packed_conv": Schedule(
        PackedConvKnobs,
        lambda knobs, extents: [packed_conv(knobs, extents)],
        "grouped, ordinary and pointwise convolutions in channel blocks (GSPC)",
    ),
    "lane_conv": Schedule(
        LaneConvKnobs,
        lambda knobs, extents: [lane_conv(knobs, extents), lower_lanes, lane_conv_finish()],
        "depthwise and small-group convolutions by lane shuffles; pooling",
    ),
    "separable_conv": Schedule(
        SeparableConvKnobs,
        lambda knobs, extents: [separable_conv(knobs, extents)],
        "a depthwise or small-group and the pointwise convolution behind it, some rows at a time",
    ),
    "winograd_conv": Schedule(
        WinogradKnobs,
        lambda knobs, extents: [winograd_conv(knobs, extents)],
        "3x3 convolutions of stride 1, grouped or not, in Winograd's domain",
    ),
    "winograd_input": Schedule(
        WinogradLaneKnobs,
        lambda knobs, extents: [winograd_input(knobs, extents)],
        "the input of winograd_conv, transformed once for all its workgroups",
    ),
    "winograd_lane_conv": Schedule(
        WinogradLaneKnobs,
        lambda knobs, extents: [winograd_lane_conv(knobs, extents)],
        "3x3 convolutions of stride 1 with a few channels per group, in Winograd's domain by lane shuffles",
    ),
    "strassen_conv": Schedule(
        StrassenKnobs,
        lambda knobs, extents: [strassen_conv(knobs, extents)],
        "pointwise convolutions by Strassen's algorithm: 7/8 of the multiply-adds",
    ),
    "planar_conv": Schedule(
        PlanarConvKnobs,
        lambda knobs, extents: [],
        "groups whose channels fill no block, and what is between them: lanes along flattened padded planes",
    ),
    "polyphase_conv": Schedule(
        PolyphaseKnobs,
        lambda knobs, extents: [polyphase_conv(knobs, extents)],
        "convolutions of stride 2 with few input channels, by their phases in Winograd's domain",
    ),
    "polyphase_input": Schedule(
        PolyphaseInputKnobs,
        lambda knobs, extents: [polyphase_input(knobs, extents)],
        "the padded input of polyphase_conv, phase by phase",
    ),
    "sparse_conv": Schedule(
        SparseConvKnobs,
        lambda knobs, extents: [],
        "convolutions of pruned weights by their non-zeros (CSR), on flattened padded planes",
    ),
    "sparse_matvec": Schedule(
        SparseMatvecKnobs,
        lambda knobs, extents: [],
        "linear layers of pruned weights by their non-zeros, for a row or a few",
    ),
    "sparse_matmul": Schedule(
        SparseMatmulKnobs,
        lambda knobs, extents: [],
        "linear layers of pruned weights by their non-zeros, lanes on the rows",
    ),
    "pack_rows": Schedule(PlainKnobs, lambda knobs, extents: [], "rows side by side in lanes, for sparse_matmul"),
    "sparsifier": Schedule(
        SparsifierKnobs,
        lambda knobs, extents: [],
        "pruned weights that none of ours takes (3-D, f64, f16): the loops of MLIR's sparsifier, raised to vectors",
    ),
    "sparse_pixel_conv": Schedule(
        SparsePixelConvKnobs,
        lambda knobs, extents: [],
        "convolutions of pruned weights on GPUs: a thread per output pixel walks the non-zeros (CSR)",
    ),
    "row_copy": Schedule(
        PlainKnobs,
        lambda knobs, extents: [],
        "rows between NCHW, planes, and the phases of strides; elementwise ops there",
    ),
    "lane_shuffle": Schedule(
        PlainKnobs, lambda knobs, extents: [lane_shuffle(knobs, extents)], "channel shuffles in channel blocks"
    ),
    "repack": Schedule(
        PlainKnobs,
        lambda knobs, extents: [lane_shuffle(knobs, extents)],
        "from channel blocks of one size to those of another",
    ),
    "channels_last": Schedule(
        PlainKnobs,
        lambda knobs, extents: [lane_shuffle(knobs, extents)],
        "between channel blocks and tensors whose last dimension is the channels; elementwise ops on the way",
    ),
    "w_lanes": Schedule(
        WLanesKnobs,
        lambda knobs, extents: [w_lanes(knobs, extents)],
        "small-group convolutions that stand alone: NCHW in and out, lanes along the row",
    ),
    "matmul": Schedule(
        MatmulKnobs, lambda knobs, extents: [matmul(knobs, extents)], "linear layers: matrix products by packed weights"
    ),
    "strassen_matmul": Schedule(
        StrassenMatmulKnobs,
        lambda knobs, extents: [strassen_matmul(knobs, extents)],
        "linear layers by Strassen's algorithm: 7/8 of the multiply-adds",
    ),
    "strassen_input": Schedule(PlainKnobs, lambda knobs, extents: [], "sums of inputs of strassen_matmul, row by row"),
    "attention": Schedule(
        AttentionKnobs,
        lambda knobs, extents: [attention(knobs, extents)],
        "attention: scores, softmax and context of some rows of a head",
    ),
    "batch_matmul": Schedule(
        ProductKnobs, lambda knobs, extents: [batch_matmul(knobs, extents)], "batched products of two activations"
    ),
    "pack_matrix": Schedule(
        PlainKnobs, lambda knobs, extents: [pack_matrix(knobs, extents)], "keys and values, matrix by matrix"
    ),
    "rows": Schedule(
        RowKnobs, lambda knobs, extents: [rows(knobs, extents)], "softmax, layer norm and their like, row by row"
    ),
    "elementwise": Schedule(
        PlainKnobs, lambda knobs, extents: [elementwise(knobs, extents)], "elementwise ops and copies in channel blocks"
    ),
    "transpose": Schedule(
        PlainKnobs, lambda knobs, extents: [transpose(knobs, extents)], "pack and unpack at the blocked layout's edges"
    ),
    "pad": Schedule(PlainKnobs, lambda knobs, extents: [pad(knobs, extents)], "zeros around an NCHW tensor"),
    "reduce": Schedule(PlainKnobs, lambda knobs, extents: [reduce(knobs, extents)], "reductions over height and width"),
}


def knobs_of(choice: Choice) -> Any:
    """The choice's knobs as the schedule's dataclass.

    Raises:
        ScheduleError: an unknown schedule or knob, or a value that cannot work.
    """
    schedule = SCHEDULES.get(choice.schedule)
    if schedule is None:
        raise ScheduleError(f"unknown schedule {choice.schedule!r}", hint="known: " + ", ".join(SCHEDULES))
    known = {field.name for field in fields(schedule.knobs)}
    unknown = sorted(set(choice.knobs) - known)
    if unknown:
        raise ScheduleError(
            f"unknown knob {unknown[0]!r}",
            where=f"schedule {choice.schedule}",
            hint="known: " + ", ".join(sorted(known)),
        )
    return schedule.knobs(**choice.knobs)


def apply_schedule(kernel: Kernel, function: ir.Operation) -> None:
    """Applies the kernel's schedule to its ``func.func`` in place.

    Raises:
        ScheduleError: a step does not apply, with the layers of the kernel and the interpreter's reason.
    """
    schedule = SCHEDULES[kernel.choice.schedule]
    for step in schedule.steps(knobs_of(kernel.choice), kernel.extents):
        if not isinstance(step, TransformScript):
            step(function)
            continue
        script = step.module(function.context)
        try:
            interpreter.apply_named_sequence(function, script.body.operations[0], script)
        except ValueError as error:
            reason = " ".join(str(error).split())
            raise ScheduleError(
                f"schedule {kernel.choice.schedule} does not apply: {reason}",
                where=f"layer {', '.join(layer for layer in kernel.layers if layer) or kernel.key}",
                hint="knobs " + ", ".join(f"{k}={v}" for k, v in kernel.choice.knobs.items()),
            ) from error
    function.attributes["dlas.schedule"] = ir.StringAttr.get(kernel.choice.schedule)

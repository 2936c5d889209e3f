"""``dlas explain``: the kernels of a model, and why each is as it is."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from dlas.compiler.cli import console
from dlas.compiler.cli.options import (
    IreeFlags,
    Json,
    Measured,
    Model,
    NoSchedules,
    Script,
    Strassen,
    Target,
    Winograd,
    check_writable,
)
from dlas.errors import UsageError

if TYPE_CHECKING:
    from dlas.compiler.explain import ExplainedKernel, Explanation, Way

_LAYERS = 2  # named in one row


def explain_command(
    model: Model,
    target: Target = "x86_64",
    time: Annotated[
        bool | None,
        typer.Option("--time/--no-time", help="Time the kernels on one thread (default: if this host runs the code)."),
    ] = None,
    no_schedules: NoSchedules = False,
    winograd: Winograd = None,
    strassen: Strassen = None,
    measured: Measured = None,
    transform_script: Script = None,
    iree_flag: IreeFlags = None,
    emit_script: Annotated[
        Path | None,
        typer.Option(
            "--emit-script",
            metavar="F",
            help="Write the schedules and knobs of all layers as a transform script, to edit and give back.",
            show_default=False,
        ),
    ] = None,
    json: Json = False,
) -> None:
    """Say for each kernel of MODEL which schedule it got and why, its time, GFLOP/s and share of the peak."""
    from dlas.compiler.targets import GpuTarget, load_target

    device = load_target(target)
    if emit_script is not None:
        if isinstance(device, GpuTarget):
            hint = "leave --emit-script out: GPUs have no such schedules"
            raise UsageError("transform scripts are for CPUs", where=f"target {device.name}", hint=hint)
        check_writable(emit_script)

    from dlas.compiler.explain import explain
    from dlas.compiler.pipeline import Options

    with console.stages() as progress:
        options = Options(
            schedules=not no_schedules,
            winograd=winograd,
            strassen=strassen,
            measured=measured,
            transform_script=transform_script,
            iree_flags=tuple(iree_flag or ()),
            progress=progress,
        )
        explanation = explain(model, None, device, options, timed=time)
    if emit_script is not None:
        console.write_text(explanation.script, emit_script)
    if json:
        console.print_json(explanation.to_json())
    else:
        _print_explanation(explanation)


def _print_explanation(explanation: Explanation) -> None:
    timed = explanation.time_us is not None
    columns = ["layer", "class", "schedule", "knobs", "workgroups>"]
    if timed:
        columns += ["calls>", "us>", "time>", "GFLOP/s>", "GB/s>"]
    if explanation.roofline is not None:
        columns.append("of peak>")
    rows = []
    for kernel in explanation.kernels:
        row = [_layers(kernel), _class(kernel), kernel.schedule or kernel.fallback or "", _knobs(kernel)]
        row.append(_show(kernel.workgroups or None, "d"))
        if timed:
            row += [_show(kernel.calls, "d"), _show(kernel.time_us, ".1f"), _percent(kernel.time_share)]
            row += [_show(kernel.gflops, ".1f"), _show(kernel.gbs, ".1f")]
        if explanation.roofline is not None:
            row.append(_percent(kernel.peak_share))
        rows.append([*row, kernel.reason, kernel.name])
    title = f"{explanation.model} for {explanation.target}"
    console.print_table(console.make_table(title, [*columns, "why", "kernel"], rows))
    if explanation.layouts:
        _print_layouts(explanation)
    for layer, what in explanation.padded:
        print(f"padded channels in {layer or 'an unnamed layer'}: {what}")
    for first, second, reason in explanation.apart:
        print(f"{first or 'a grouped layer'} and {second or 'a pointwise layer'} have a kernel each: {reason}")
    for layers, what in explanation.shrunk:
        print(f"pruned channels of {layers}: {what}")
    for op in explanation.refused:
        print(f"no schedule for {op.op} of {op.layer or 'an unnamed layer'}: {op.reason}")
    for line in _totals(explanation):
        print(line)


def _print_layouts(explanation: Explanation) -> None:
    """The layout assignment: one row for the layers that share op, choice and costs."""
    rows: dict[tuple[str, ...], list[str]] = {}
    for op in explanation.layouts:
        if op.chosen.schedule is None and not any(way.schedule for way in op.alternatives) and op.chosen.cycles == 0:
            continue  # joins the kernel before it, at no cost
        best = op.alternatives[0] if op.alternatives else None
        row = (op.op, *_way(op.chosen), *(_way(best) if best else ("-", "-", "-")))
        extra = "-" if best is None else f"+{best.extra_cycles / 1e3:.1f}"
        rows.setdefault((*row, extra), []).append(op.layer or "-")
    columns = ["layer", "op", "chosen", "layouts", "kcycles>", "else", "layouts", "kcycles>", "model>"]
    body = [[_names(layers), *row] for row, layers in rows.items()]
    kind = "cheapest" if explanation.layout_exact else "approximate"
    title = f"layout assignment: {explanation.layout_cycles / 1e3:.0f} kcycles estimated, {kind}"
    console.print_table(console.make_table(title, columns, body))
    if explanation.layout_blocks:
        costs = ", ".join(f"{channels}: {cycles / 1e3:.0f}" for channels, cycles in explanation.layout_blocks)
        print(f"estimated kcycles by the channels of a block: {costs}")


def _way(way: Way) -> tuple[str, str, str]:
    layouts = way.reads if way.reads == way.writes else f"{way.reads} to {way.writes}"
    return way.schedule or "-", layouts, f"{way.cycles / 1e3:.1f}"


def _totals(explanation: Explanation) -> list[str]:
    made = Counter(kernel.fallback for kernel in explanation.kernels)
    lines = [f"{console.plural(made[None], 'kernel')} scheduled, {made['IREE']} left to IREE"]
    if made["plain loops"]:
        lines[0] += f", {made['plain loops']} in plain loops"
    if explanation.time_us is None:
        return [*lines, f"no times: {explanation.untimed}"]
    share = _percent(explanation.scheduled_share)
    lines.append(f"{explanation.time_us:.0f} us per inference in kernels, {share} of it scheduled, one thread")
    if explanation.roofline is None:
        lines.append("no share of peak: the roofline probe is not built (it needs a C compiler when dlas is installed)")
    else:
        peak = explanation.roofline
        lines.append(f"measured peak of one core: {peak.peak_gflops:.0f} GFLOP/s, {peak.bandwidth_gbs:.1f} GB/s")
    return lines


def _layers(kernel: ExplainedKernel) -> str:
    """The first layers that run the kernel, and how many more (a network repeats its shapes; JSON has them all)."""
    return _names(kernel.layer.split(", "))


def _names(names: Sequence[str]) -> str:
    more = f" and {len(names) - _LAYERS} more" if len(names) > _LAYERS else ""
    return (", ".join(names[:_LAYERS]) or "-") + more


def _class(kernel: ExplainedKernel) -> str:
    """The class; of a kernel left to IREE its ops, each once with its count."""
    counts = Counter(kernel.kind.split(" + "))
    return " + ".join(op if count == 1 else f"{count} {op}" for op, count in counts.items())


def _knobs(kernel: ExplainedKernel) -> str:
    return " ".join(f"{name}={value}" for name, value in kernel.knobs.items())


def _show(value: float | None, form: str) -> str:
    return "-" if value is None else format(value, form)


def _percent(share: float | None) -> str:
    return "-" if share is None else f"{100 * share:.1f}%"

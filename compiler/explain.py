"""``dlas explain``: for every kernel of a model, its schedule and why, its time, and its share of the host's peak."""

from __future__ import annotations

import inspect
import re
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from dlas.errors import ArtifactError
from dlas.runtime import load, roofline
from dlas.runtime.artifact import Artifact, KernelRecord, TensorSpec
from dlas.runtime.devices import INLINE, check_device, open_device
from dlas.runtime.profile import KernelTime
from dlas.runtime.roofline import Roofline
from dlas.runtime.tensors import ELEMENT_TYPES

if TYPE_CHECKING:
    from dlas.compiler.pipeline import Compilation, Options
    from dlas.compiler.targets import AnyTarget
    from dlas.passes.layout_assignment import Assignment, Implementation

RUNS = 20
IREE, LOOPS = "IREE", "plain loops"


@dataclass(frozen=True)
class ExplainedKernel:
    """One kernel.

    Attributes:
        name: its export in the ``.vmfb``.
        layer: source layers that run it, "" for what the layout added.
        kind: its class, e.g. ``grouped``; for a kernel left to IREE, its ops.
        schedule: the schedule it carries, None if it has none.
        fallback: what made the code without a schedule: ``IREE`` (its own code generation), or ``plain loops`` for a
            kernel that was planned but that its schedule did not fit; None with a schedule.
        knobs: of the schedule (of the one that did not fit, for ``plain loops``).
        reason: why this schedule, or why none.
        problem: what a convolution computes, "" for other kernels.
        flops, bytes: of one call; 0 flops for data movement and for what is left to IREE (not counted).
        workgroups: of one call, which threads share; 0 for what is left to IREE (not known).
        calls: per inference, None if not timed (as all that follows).
        time_us: microseconds per inference, all calls.
        time_share: of the time of all kernels, 0 to 1.
        gflops: GFLOP/s, None without flops.
        gbs: GB/s of the bytes it must read and write, None where they are not counted (caches may serve them).
        peak_share: of one core's measured FMA peak, 0 to 1.
    """

    name: str
    layer: str
    kind: str
    schedule: str | None
    fallback: str | None
    knobs: dict[str, Any]
    reason: str
    flops: int
    bytes: int
    problem: str = ""
    workgroups: int = 0
    calls: int | None = None
    time_us: float | None = None
    time_share: float | None = None
    gflops: float | None = None
    gbs: float | None = None
    peak_share: float | None = None


@dataclass(frozen=True)
class RefusedOp:
    """An op that the layout pass or the scheduling rules left alone, and why."""

    layer: str
    op: str
    reason: str


@dataclass(frozen=True)
class Way:
    """One way to compute an op, by the layout assignment.

    Attributes:
        schedule: None for what has one of its own only outside other kernels, and for what is left to IREE.
        reads, writes: layouts of the operands (one if they are the same) and of the result.
        cycles: estimated, of one inference.
        extra_cycles: what the model would take longer at least by this way; 0 for the one that was chosen.
    """

    schedule: str | None
    reads: str
    writes: str
    cycles: float
    extra_cycles: float


@dataclass(frozen=True)
class ExplainedLayout:
    """What the layout assignment chose for an op, and what the alternatives would have cost, the cheapest first."""

    layer: str
    op: str
    chosen: Way
    alternatives: tuple[Way, ...]


@dataclass(frozen=True)
class Explanation:
    """What became of a model.

    Attributes:
        model, target: their names.
        kernels: slowest first if timed, else in the module's order.
        refused: ops that got no schedule.
        padded: (layer, what was padded) for groups whose channels filled no block.
        apart: (depthwise or grouped layer, pointwise layer behind it, reason) for those that are a kernel each.
        shrunk: (layers, what was taken out, or why nothing was) for channels whose weights are all zero.
        layouts: the layout assignment, in the model's order.
        layout_cycles: estimated cycles of all that the assignment has a say in, transforms included.
        layout_exact: whether the assignment is the cheapest one (by these estimates) for sure.
        layout_blocks: (channels of the blocks, estimated cycles) of the cheapest assignments with those blocks, where
            layers may have different ones and that would be cheapest.
        roofline: the host's, None if not timed or the probe is not built.
        untimed: why there are no times, "" if there are.
        script: the transform script that asks for the schedules and knobs that all layers got.
    """

    model: str
    target: str
    kernels: tuple[ExplainedKernel, ...]
    refused: tuple[RefusedOp, ...]
    roofline: Roofline | None = None
    untimed: str = ""
    padded: tuple[tuple[str, str], ...] = ()
    apart: tuple[tuple[str, str, str], ...] = ()
    shrunk: tuple[tuple[str, str], ...] = ()
    layouts: tuple[ExplainedLayout, ...] = ()
    layout_cycles: float = 0.0
    layout_exact: bool = True
    layout_blocks: tuple[tuple[str, float], ...] = ()
    script: str = ""

    @property
    def time_us(self) -> float | None:
        """Microseconds of all kernels in one inference, None if not timed."""
        times = [kernel.time_us for kernel in self.kernels if kernel.time_us is not None]
        return sum(times) if times else None

    @property
    def scheduled_share(self) -> float | None:
        """The part of that time (0 to 1) spent in kernels with a schedule of ours."""
        total = self.time_us
        if not total:
            return None
        return sum(kernel.time_us or 0.0 for kernel in self.kernels if kernel.schedule is not None) / total

    def to_json(self) -> dict[str, Any]:
        """The explanation as JSON-ready data."""
        return {
            "model": self.model,
            "target": self.target,
            "time_us": self.time_us,
            "scheduled_share": self.scheduled_share,
            "untimed": self.untimed or None,
            "roofline": None if self.roofline is None else asdict(self.roofline),
            "script": self.script,
            "kernels": [asdict(kernel) for kernel in self.kernels],
            "refused": [asdict(op) for op in self.refused],
            "padded": [{"layer": layer, "what": what} for layer, what in self.padded],
            "apart": [
                {"depthwise": first, "pointwise": second, "reason": reason} for first, second, reason in self.apart
            ],
            "shrunk": [{"layers": layers, "what": what} for layers, what in self.shrunk],
            "layouts": {
                "cycles": self.layout_cycles,
                "exact": self.layout_exact,
                "blocks": [{"channels": channels, "cycles": cycles} for channels, cycles in self.layout_blocks],
                "ops": [asdict(op) for op in self.layouts],
            },
        }


def explain(
    model: Any,
    example_inputs: Any = None,
    target: str | Path | AnyTarget = "x86_64",
    options: Options | None = None,
    *,
    timed: bool | None = None,
    runs: int = RUNS,
) -> Explanation:
    """Compile a model and say what became of each kernel.

    Args:
        model, example_inputs, target, options: as for :func:`dlas.compile`.
        timed: run the model on one thread and time its kernels; None: if this host can run the code.
        runs: inferences to time.

    Raises:
        DlasError: as :func:`dlas.compile`; ArtifactError if ``timed`` is True and this host cannot run the code.
    """
    from dlas.compiler.pipeline import Options, compile_model  # the compilers take a second to import

    compilation = compile_model(model, example_inputs, target, options or Options())
    assert compilation.artifact is not None
    artifact, untimed = compilation.artifact, ""
    times: dict[str, KernelTime] = {}
    peak = None
    if timed is False:
        untimed = "not asked for"
    else:
        try:
            check_device(artifact.target, open_device(INLINE))
        except ArtifactError as error:
            if timed:
                raise
            untimed = str(error)
        else:
            times = _time_kernels(artifact, runs)
            peak = roofline.measure() if roofline.find_probe() is not None else None
    return describe(compilation, times, peak, untimed)


def _time_kernels(artifact: Artifact, runs: int) -> dict[str, KernelTime]:
    session = load(artifact, device=INLINE)
    return {time.name: time for time in session.profile(*random_inputs(artifact.inputs), runs=runs)}


def describe(
    compilation: Compilation, times: dict[str, KernelTime], peak: Roofline | None, untimed: str = ""
) -> Explanation:
    """The explanation of a finished compilation, with the times by kernel name that there are."""
    from dlas.compiler.scripts import schedule_script

    assert compilation.artifact is not None
    refused = [RefusedOp(*entry) for entry in compilation.layout.refused]
    loops = plain_loops(compilation)
    kernels = [
        _explain_kernel(record, record.name in loops, refused, times.get(record.name), peak)
        for record in compilation.artifact.kernels
    ]
    if times:
        kernels.sort(key=lambda kernel: -(kernel.time_us or 0.0))
    return Explanation(
        model=compilation.artifact.model,
        target=compilation.target.name,
        kernels=tuple(kernels),
        refused=tuple(refused),
        roofline=peak,
        untimed=untimed,
        padded=tuple(compilation.layout.padded),
        apart=tuple(compilation.layout.apart),
        shrunk=tuple(_explain_shrinking(compilation)),
        layouts=tuple(_explain_layouts(compilation.layout.assignments)),
        layout_cycles=sum(assignment.cycles for assignment in compilation.layout.assignments),
        script=schedule_script(compilation.layout.choices).text(),
        layout_exact=all(assignment.exact for assignment in compilation.layout.assignments),
        layout_blocks=tuple(
            (" and ".join(map(str, blocks)), cycles)
            for assignment in compilation.layout.assignments
            for blocks, cycles in assignment.by_blocks.items()
        ),
    )


def _explain_shrinking(compilation: Compilation) -> Iterator[tuple[str, str]]:
    assert compilation.imported is not None
    for note in compilation.imported.notes:
        if note.pass_name == "dlas-shrink-channels":
            yield note.layer, note.text if note.done else f"channels of zeros stay: {note.text}"


def _explain_layouts(assignments: Sequence[Assignment]) -> Iterator[ExplainedLayout]:
    for assignment in assignments:
        for assigned in assignment.ops:
            if assigned.op.name:  # without a name: whatever reads NCHW
                others = [
                    _way(other.implementation, other.implementation.cycles, other.extra_cycles)
                    for other in assigned.alternatives
                ]
                chosen = _way(assigned.chosen, assigned.cycles, 0.0)
                yield ExplainedLayout(assigned.op.layer, assigned.op.name, chosen, tuple(others))


def _way(implementation: Implementation, cycles: float, extra_cycles: float) -> Way:
    reads = ", ".join(dict.fromkeys(implementation.operands))
    schedule = implementation.choice.schedule if implementation.choice is not None else None
    return Way(schedule, reads, implementation.result, cycles, extra_cycles)


def plain_loops(compilation: Compilation) -> set[str]:
    """Names of the kernels that were planned with a schedule, and became plain loops because it did not fit."""
    return {kernel.export for kernel in compilation.scheduled if kernel.kernel is not None and not kernel.applied}


def _explain_kernel(
    record: KernelRecord, is_loops: bool, refused: Sequence[RefusedOp], time: KernelTime | None, peak: Roofline | None
) -> ExplainedKernel:
    reason, fallback = record.reason, None
    if record.schedule is None:
        fallback = LOOPS if is_loops else IREE
    if fallback == IREE:
        reasons = [op.reason for op in refused if op.layer and op.layer == record.layer]
        reason = "; ".join(dict.fromkeys(reasons)) or reason
    values = {**asdict(record), "reason": reason, "fallback": fallback}
    del values["calls"], values["cycles"]  # what the compiler knew: measured below
    if time is None:
        return ExplainedKernel(**values)
    calls_per_ns = time.calls / time.total_us / 1e3 if time.total_us > 0 else 0.0
    gflops = record.flops * calls_per_ns or None
    return ExplainedKernel(
        **values,
        calls=time.calls,
        time_us=time.total_us,
        time_share=time.share,
        gflops=gflops,
        gbs=record.bytes * calls_per_ns or None,
        peak_share=None if gflops is None or peak is None else gflops / peak.peak_gflops,
    )


def random_inputs(specs: Sequence[TensorSpec], seed: int = 0) -> list[np.ndarray]:
    """Seeded inputs: standard normal floats; zeros and ones for integers and booleans (valid as any index)."""
    generator = np.random.default_rng(seed)
    arrays = []
    for spec in specs:
        dtype = ELEMENT_TYPES[spec.dtype].dtype
        is_discrete = dtype.kind in "biu"
        values = generator.integers(0, 2, spec.shape) if is_discrete else generator.standard_normal(spec.shape)
        arrays.append(np.asarray(values).astype(dtype))
    return arrays


# "``ow`` pixels of a row, ``block`` channels", and "``rows`` x ``t_o`` outputs", which is what both mean.
_TOLD = re.compile(r"((?:``\w+`` (?:x|and) )*``\w+``) (.+?)(?=, ``|\.\s|\.$|$)")


def knob_meanings(knobs: type) -> dict[str, str]:
    """What a schedule's docstring says of each knob: in its ``Attributes:`` list, else in its sentences."""
    text = inspect.getdoc(knobs) or ""
    listed = re.findall(r"^ {4}(\w+(?:, \w+)*): (.+(?:\n {8}.+)*)", text.partition("Attributes:")[2], re.MULTILINE)
    meanings = {name: " ".join(meaning.split()) for names, meaning in listed for name in names.split(", ")}
    for together, meaning in _TOLD.findall(" ".join(text.split())):
        plain = together.replace("`", "")
        for name in set(plain.split()) & set(inspect.get_annotations(knobs)):
            meanings.setdefault(name, meaning if name == plain else f"{plain} {meaning}")
    return {name: meaning.rstrip(".") for name, meaning in meanings.items()}

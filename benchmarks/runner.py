"""Measures models on peers, interleaved: all peers of a model are made ready, then they take turns.

Interleaving makes what drifts (clock, temperature, neighbours) fall on all peers alike; only one of them runs at a
time. A peer that is missing, fails or crashes becomes a row whose status is the reason.
"""

from __future__ import annotations

import os
import tempfile
from collections.abc import Callable, Sequence
from contextlib import ExitStack
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import TypeAlias

import numpy as np

from dlas.errors import UsageError

from .peers import DENSE_PEERS, PEERS
from .process import WorkerError, WorkerProcess
from .report import BenchReport, Row, host, versions
from .source import Source, load_arrays, max_relative_error, resolve

Progress: TypeAlias = Callable[[int, int, str], None]
"""Called with (steps done, steps in all, what is being done)."""

ROUNDS = 10
TURN_S = 0.03
"""The least time of a peer's turn: calls of a few microseconds are timed by the hundred."""
LEAST_CALLS = 3
WRONG = 1e-3
"""The relative error from which a float32 result is called wrong."""
BUILD_TIMEOUT_S = 1800.0
ANSWER_S = 60.0
"""What a request may take beyond the work it asks for."""


@dataclass
class _Entry:
    """One peer on the model at hand: its process once it runs, and what is known of its row."""

    peer: str
    row: Row
    process: WorkerProcess | None = None
    call_s: float = 0.0
    times_s: list[float] = field(default_factory=list)
    cpu_s: list[float] = field(default_factory=list)
    figures: dict[str, float] = field(default_factory=dict)
    reason: str | None = None

    def fail(self, reason: str) -> None:
        self.reason = reason
        if self.process is not None:
            self.process.close()
            self.process = None

    def finished_row(self) -> Row:
        """The row, with every figure that was measured."""
        figures: dict[str, float] = dict(self.figures)
        if self.times_s:
            p10, median, p90 = np.percentile(np.array(self.times_s) * 1e3, [10, 50, 90]).tolist()
            figures.update(median_ms=median, p10_ms=p10, p90_ms=p90, cpu_ms=float(np.median(self.cpu_s)) * 1e3)
        error = figures.get("max_rel_err")
        status = self.reason or "ok"
        if self.reason is None and error is not None and not error < WRONG:
            status = f"wrong result: relative error {error:.1e}"
        return Row(**{**asdict(self.row), **figures, "status": status})


@dataclass(frozen=True)
class _Plan:
    """The checked arguments of :func:`bench`."""

    sources: tuple[Source, ...]
    peers: tuple[str, ...]
    threads: int
    runs: int
    seconds: float
    target: str
    device: str | None = None
    transform_script: str | None = None

    def opening(self, source: Source, folder: Path) -> dict[str, object]:
        """The arguments of a worker's ``open``."""
        return {
            "source": asdict(source),
            "folder": str(folder),
            "threads": self.threads,
            "target": self.target,
            "device": self.device,
            "transform_script": self.transform_script,
        }

    @property
    def steps(self) -> int:
        return len(self.sources) * (1 + 2 * len(self.peers) + ROUNDS)


class _Steps:
    """Counts steps for the progress callback."""

    def __init__(self, total: int, progress: Progress | None) -> None:
        self.done, self.total, self.progress = 0, total, progress

    def step(self, what: str) -> None:
        if self.progress is not None:
            self.progress(min(self.done, self.total), self.total, what)
        self.done += 1


class _Builder:
    """The process that holds the torch module and compiles ahead of time; a new one after a crash."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.process: WorkerProcess | None = None
        self.opened: dict[str, object] = {}

    def open(self, source: Source, folder: Path, plan: _Plan) -> None:
        self.opened = plan.opening(source, folder)
        self._request("open", **self.opened)
        self._request("reference")

    def build(self, peer: str) -> float:
        if self.process is None:
            self._request("open", **self.opened)
        return float(self._request("build", peer=peer)["compile_s"])

    def close(self) -> None:
        if self.process is not None:
            self.process.close()
            self.process = None

    def _request(self, op: str, **arguments: object) -> dict:
        if self.process is None:
            self.process = WorkerProcess({}, self.folder / "builder.log")
        try:
            return self.process.request(op, timeout_s=BUILD_TIMEOUT_S, **arguments)
        except WorkerError as error:
            if error.dead:
                self.close()
            raise


def bench(
    models: Sequence[str],
    peers: Sequence[str] = DENSE_PEERS,
    *,
    threads: int = 1,
    runs: int = 50,
    seconds: float = 20.0,
    target: str = "x86_64",
    device: str | None = None,
    transform_script: str | None = None,
    progress: Progress | None = None,
) -> BenchReport:
    """Time every model on every peer.

    Args:
        models: zoo specs (``zoo:`` may be left out; ``layer:c=64,h=16`` too) and paths of .onnx or .pt2 files.
        peers: names from :data:`dlas.benchmarks.peers.PEERS`; exactly these are measured.
        threads: threads that each peer computes with.
        runs: timed calls per row, at least.
        seconds: time after which a slow peer gets no further turn (it has at least three timed calls).
        target: what our own compiler compiles for.
        device: what that runs on (an IREE device), None: what the target's code runs on.
        transform_script: file of the script that our own compiler takes; for one model.
        progress: called at each step.

    Returns:
        A row per model and peer, in the order given. A peer that cannot run has its reason as status.

    Raises:
        UsageError: an unknown peer or model, or an impossible number of threads or runs.
    """
    plan = make_plan(models, peers, threads, runs, seconds, target, device, transform_script)
    steps = _Steps(plan.steps, progress)
    rows: list[Row] = []
    with tempfile.TemporaryDirectory(prefix="dlas-bench-", ignore_cleanup_errors=True) as folder, ExitStack() as stack:
        builder = _Builder(Path(folder))
        stack.callback(builder.close)
        for index, source in enumerate(plan.sources):
            case = Path(folder) / str(index)
            case.mkdir()
            rows += _bench_model(plan, source, case, builder, steps)
            for file in case.iterdir():
                file.unlink()
    distributions = dict.fromkeys(package for peer in plan.peers for package in PEERS[peer].requires.values())
    return BenchReport(host(), versions(("torch", *distributions)), tuple(rows))


def make_plan(
    models: Sequence[str],
    peers: Sequence[str],
    threads: int,
    runs: int,
    seconds: float,
    target: str,
    device: str | None = None,
    transform_script: str | None = None,
) -> _Plan:
    for peer in peers:
        if peer not in PEERS:
            raise UsageError(f"unknown peer {peer!r}", where="peers", hint=f"known: {', '.join(PEERS)}")
    if not models or not peers:
        raise UsageError("nothing to measure", where="models" if not models else "peers")
    cpus = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    if not 1 <= threads <= cpus:
        raise UsageError(f"cannot measure {threads} threads", where="threads", hint=f"this host has 1 to {cpus}")
    if runs < 1 or seconds <= 0:
        raise UsageError("runs and seconds must be positive", where="runs" if runs < 1 else "seconds")
    sources = tuple(resolve(model) for model in dict.fromkeys(models))
    if transform_script is not None and len(sources) > 1:
        raise UsageError(f"one script for {len(sources)} models", where="transform_script", hint="give one model")
    return _Plan(sources, tuple(dict.fromkeys(peers)), threads, runs, seconds, target, device, transform_script)


def _bench_model(plan: _Plan, source: Source, folder: Path, builder: _Builder, steps: _Steps) -> list[Row]:
    entries = [_Entry(peer, Row(source.label, peer, plan.threads)) for peer in plan.peers]
    try:
        steps.step(f"{source.label}: building the model and its float64 reference")
        builder.open(source, folder, plan)
        for entry in entries:
            steps.step(f"{source.label}: compiling for {entry.peer}")
            _build(entry, source, builder)
        for entry in entries:
            steps.step(f"{source.label}: loading {entry.peer}")
            _prepare(entry, plan, source, folder)
        for number in range(1, ROUNDS + 1):
            steps.step(f"{source.label}: measuring, round {number} of {ROUNDS}")
            for entry in entries:
                _take_turn(entry, plan)
        for entry in entries:
            _finish(entry, folder)
    except WorkerError as error:  # the model itself: no peer can have it
        for entry in entries:
            entry.fail(f"model: {error}")
    finally:
        for entry in entries:
            if entry.process is not None:
                entry.process.close()
    return [entry.finished_row() for entry in entries]


def _build(entry: _Entry, source: Source, builder: _Builder) -> None:
    peer = PEERS[entry.peer]
    if peer.missing():
        entry.fail(f"not installed ({peer.remedy()})")
        return
    if source.kind not in peer.kinds:
        entry.fail(f"takes no {source.kind} model")
        return
    try:
        entry.figures["compile_s"] = builder.build(entry.peer)
    except WorkerError as error:
        entry.fail(str(error))


def _prepare(entry: _Entry, plan: _Plan, source: Source, folder: Path) -> None:
    if entry.reason is not None:
        return
    peer = PEERS[entry.peer]
    log = folder / f"{entry.peer}.log"
    entry.process = WorkerProcess(peer.environment(plan.threads), log, peer.python())
    try:
        entry.process.request("open", timeout_s=ANSWER_S, **plan.opening(source, folder))
        answer = entry.process.request("prepare", timeout_s=BUILD_TIMEOUT_S, peer=entry.peer)
    except WorkerError as error:
        entry.fail(str(error))
        return
    entry.figures["compile_s"] += answer["compile_s"]
    entry.call_s = answer["call_s"]


def _take_turn(entry: _Entry, plan: _Plan) -> None:
    """One round of one peer: its share of the calls, within its share of the time."""
    spent, calls = sum(entry.times_s), len(entry.times_s)
    if entry.process is None or (spent >= plan.seconds and calls >= LEAST_CALLS):
        return
    limit = plan.seconds / ROUNDS
    try:
        answer = entry.process.request(
            "measure",
            timeout_s=ANSWER_S + 10 * (limit + entry.call_s),
            min_calls=-(-plan.runs // ROUNDS),
            min_s=min(TURN_S, limit),
            max_s=limit,
        )
    except WorkerError as error:
        entry.fail(str(error))
        return
    entry.times_s += answer["times_s"]
    entry.cpu_s.append(answer["cpu_s"])


def _finish(entry: _Entry, folder: Path) -> None:
    """Peak memory and error of a peer that ran to the end."""
    if entry.process is None:
        return
    try:
        entry.figures["peak_rss_mb"] = entry.process.request("memory", timeout_s=ANSWER_S)["peak_rss_mb"]
    except WorkerError as error:
        entry.fail(str(error))
        return
    reference = folder / "reference.npz"
    if reference.exists():
        outputs = load_arrays(folder / f"outputs-{entry.peer}.npz")
        entry.figures["max_rel_err"] = max_relative_error(outputs, load_arrays(reference))

"""Time per kernel, from IREE's own tools: ``iree-benchmark-module`` records, ``iree-profile`` reads."""

from __future__ import annotations

import json
import subprocess
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import iree.runtime as rt
import numpy as np

from dlas.errors import DlasError, UsageError
from dlas.runtime.artifact import Artifact
from dlas.runtime.devices import INLINE, TASK, Device
from dlas.runtime.tensors import ELEMENT_TYPES

_TIMEOUT_S = 600


@dataclass(frozen=True)
class KernelTime:
    """One kernel's time in one inference: exported dispatch name, calls, microseconds of all its calls together, and
    its share (0 to 1) of all kernels' time."""

    name: str
    calls: int
    total_us: float
    share: float


def profile(artifact: Artifact, device: Device, arrays: Sequence[np.ndarray], *, runs: int = 20) -> list[KernelTime]:
    """The kernels of an inference, slowest first; see :meth:`dlas.runtime.Session.profile`."""
    if not device.is_local:
        raise UsageError(f"device {device.name!r} cannot be profiled", hint=f"use '{INLINE}' or '{TASK}'")
    if runs < 2:
        raise UsageError(f"runs={runs}", hint="at least 2: the first inference is left out")
    with tempfile.TemporaryDirectory(prefix="dlas-profile-") as directory:
        module, record = Path(directory, "module.vmfb"), Path(directory, "record.ireeprof")
        module.write_bytes(artifact.vmfb)
        run_tool(
            "iree-benchmark-module",
            f"--module={module}",
            f"--function={artifact.function}",
            *([f"--parameters=model={artifact.parameters}"] if artifact.parameters else []),
            *device.tool_flags(),
            *input_flags(arrays, Path(directory)),
            f"--benchmark_min_time={runs}x",
            "--device_profiling_mode=host-execution",
            f"--device_profiling_output={record}",
        )
        events = run_tool("iree-profile", "dispatch", "--format=jsonl", "--dispatch_events", str(record))
    return _kernel_times(events, runs)


def input_flags(arrays: Sequence[np.ndarray], directory: Path) -> list[str]:
    """Write `arrays` into `directory` and return the ``--input=`` flags by which IREE's tools read them."""
    flags = []
    for position, array in enumerate(arrays):
        path = directory / f"input{position}.bin"
        path.write_bytes(array.tobytes())
        kind = "x".join([*map(str, array.shape), ELEMENT_TYPES[array.dtype.name].mlir])
        flags.append(f"--input={kind}=@{path}")
    return flags


def run_tool(name: str, *arguments: str) -> str:
    """The standard output of a tool of the ``iree-base-runtime`` wheel. Raises DlasError with what it complained of."""
    command = [str(Path(rt.benchmark_exe()).with_name(name)), *arguments]
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=_TIMEOUT_S, check=False)
    except FileNotFoundError as error:
        raise DlasError("not found", where=command[0], hint="reinstall iree-base-runtime") from error
    except subprocess.TimeoutExpired as error:
        raise DlasError(f"not done after {_TIMEOUT_S} s", where=name) from error
    if done.returncode != 0:
        complaint = (done.stderr or done.stdout).strip().splitlines()
        raise DlasError(f"exit status {done.returncode}: {complaint[-1] if complaint else 'no message'}", where=name)
    return done.stdout


def _kernel_times(events: str, runs: int) -> list[KernelTime]:
    durations: dict[str, list[tuple[int, int]]] = {}
    for line in events.splitlines():
        event = json.loads(line)
        if event["type"] == "host_dispatch_event":
            durations.setdefault(event["key"], []).append((event["start_host_time_ns"], event["duration_ns"]))
    totals: dict[str, tuple[int, float]] = {}
    for name, timed in durations.items():
        calls, rest = divmod(len(timed), runs)
        if rest or not calls:
            raise DlasError(
                f"{len(timed)} calls recorded in {runs} inferences", where=name, hint="profile fewer runs at a time"
            )
        # Inferences follow one another, so a kernel's calls in order of time fall into one group per inference.
        per_run = np.array([duration for _, duration in sorted(timed)]).reshape(runs, calls).sum(axis=1)
        totals[name] = calls, float(np.median(per_run[1:])) / 1e3
    everything = sum(total for _, total in totals.values()) or 1.0
    kernels = [KernelTime(name, calls, total, total / everything) for name, (calls, total) in totals.items()]
    return sorted(kernels, key=lambda kernel: -kernel.total_us)

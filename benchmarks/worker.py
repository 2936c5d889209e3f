"""The process that builds models, or runs one of them on one peer: ``python -m dlas.benchmarks.worker``.

It answers one line of JSON on stdout for each line of JSON on stdin; whatever libraries print goes to stderr.
"""

from __future__ import annotations

import ctypes
import gc
import json
import os
import resource
import signal
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from dlas.errors import DlasError

from .peers import PEERS, Peer
from .source import Case, Source, flatten_outputs, save_arrays

SLOW_CALL_S = 0.2
"""A call this long needs no warm-up after a pause."""


class Server:
    """The requests that the runner makes, one method each; a method's result is the answer."""

    def __init__(self) -> None:
        self.case: Case | None = None
        self.peer: Peer | None = None
        self.last_call_s = 0.0

    def open(self, source: dict[str, str], folder: str, **options: Any) -> dict[str, Any]:
        """Choose the model that later requests are about; ``options``: further fields of :class:`Case`."""
        self.case = Case(Source(**source), Path(folder), **options)
        return {}

    def reference(self) -> dict[str, Any]:
        """Build the model and write its inputs and float64 outputs."""
        self._case().write_inputs_and_reference()
        return {}

    def build(self, peer: str) -> dict[str, Any]:
        """Compile ahead of time what ``peer`` will load."""
        instance = PEERS[peer]()
        if instance.needs_onnx:
            self._case().export_onnx()
        instance.build(self._case())
        return {"compile_s": instance.compile_s}

    def prepare(self, peer: str) -> dict[str, Any]:
        """Load the model, run it once and write its outputs."""
        case = self._case()
        self.peer = PEERS[peer]()
        self.peer.prepare(case)
        begin = time.perf_counter()
        outputs = flatten_outputs(self.peer.run())
        self.last_call_s = time.perf_counter() - begin
        gc.collect()
        gc.disable()  # none inside a timed call from here on
        save_arrays(case.folder / f"outputs-{peer}.npz", outputs)
        return {"compile_s": self.peer.compile_s, "call_s": self.last_call_s}

    def measure(self, min_calls: int, min_s: float, max_s: float) -> dict[str, Any]:
        """Time single calls until ``min_calls`` and ``min_s`` are reached, or ``max_s`` is."""
        assert self.peer is not None
        run, clock = self.peer.call, time.perf_counter
        if self.last_call_s < SLOW_CALL_S:
            run()
        times: list[float] = []
        cpu = time.process_time()
        begin = end = clock()
        while not times or (end - begin < max_s and (len(times) < min_calls or end - begin < min_s)):
            start = clock()
            run()
            end = clock()
            times.append(end - start)
        cpu = time.process_time() - cpu
        self.last_call_s = times[-1]
        return {"times_s": times, "cpu_s": cpu / len(times)}

    def explain(self, model: str, target: str) -> dict[str, Any]:
        """What our compiler made of a model, kernel by kernel, timed on one thread."""
        from dlas.compiler.explain import explain

        return explain(model, None, target).to_json()

    def memory(self) -> dict[str, Any]:
        """The most memory this process has held at a time."""
        return {"peak_rss_mb": peak_rss_mb()}

    def _case(self) -> Case:
        assert self.case is not None
        return self.case


def peak_rss_mb() -> float:
    """Peak resident memory of this process in MiB."""
    status = Path("/proc/self/status")
    if status.exists():  # getrusage would start from what the parent held when it forked
        for line in status.read_text().splitlines():
            if line.startswith("VmHWM:"):
                return int(line.split()[1]) / 1024
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak / 2**20 if sys.platform == "darwin" else peak / 1024


def describe(error: Exception) -> str:
    """An error as one line."""
    lines = str(error).strip().splitlines()
    first = lines[0] if lines else ""
    return first if isinstance(error, DlasError) else f"{type(error).__name__}: {first}".rstrip(": ")


def die_with_parent() -> None:
    """Have the kernel end this process when the runner dies: a stopped one would not see its stdin end."""
    if sys.platform == "linux":
        pr_set_pdeathsig = 1
        ctypes.CDLL(None).prctl(pr_set_pdeathsig, signal.SIGKILL)


def serve(handlers: Server) -> None:
    """Answer requests until stdin ends."""
    with os.fdopen(os.dup(1), "w") as channel:
        os.dup2(2, 1)
        for line in sys.stdin:
            request = json.loads(line)
            handler: Callable[..., dict[str, Any]] = getattr(handlers, request.pop("op"))
            try:
                answer = handler(**request)
            except Exception as error:  # an engine may raise anything; the runner makes a status of it
                answer = {"error": describe(error)}
            channel.write(json.dumps(answer) + "\n")
            channel.flush()


if __name__ == "__main__":
    die_with_parent()
    serve(Server())

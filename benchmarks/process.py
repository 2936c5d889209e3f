"""The runner's end of a worker process: requests with a deadline, pauses, and a reason when it dies."""

from __future__ import annotations

import json
import os
import selectors
import signal
import subprocess
import sys
import time
from collections.abc import Mapping
from pathlib import Path
from types import TracebackType
from typing import Any

from dlas import errors

REASON_LENGTH = 200

_ELSEWHERE = """
import runpy, sys, types
for name, path in zip(("dlas", "dlas.benchmarks"), sys.argv[1:]):
    sys.modules[name] = types.ModuleType(name)
    sys.modules[name].__path__ = [path]
runpy.run_module("dlas.benchmarks.worker", run_name="__main__")
"""
"""Runs the worker in a Python that has neither this package nor what its other modules import."""


class WorkerError(Exception):
    """A request that failed; its text is the status of the row. ``dead`` says that the process is gone."""

    def __init__(self, reason: str, *, dead: bool) -> None:
        super().__init__(reason if len(reason) <= REASON_LENGTH else reason[: REASON_LENGTH - 3] + "...")
        self.dead = dead


class WorkerProcess:
    """One ``dlas.benchmarks.worker`` in a session of its own, stopped (SIGSTOP) while it has no request.

    A stopped process cannot spin: the idle thread pools of one engine would take cores from the one under measurement.
    """

    def __init__(self, environment: Mapping[str, str], log: Path, interpreter: str = sys.executable) -> None:
        self._log = log
        if interpreter == sys.executable:
            command = ["-m", "dlas.benchmarks.worker"]
            paths = {"PYTHONPATH": os.pathsep.join(entry or str(Path.cwd()) for entry in sys.path)}
        else:
            command = ["-c", _ELSEWHERE, str(Path(errors.__file__).parent), str(Path(__file__).parent)]
            paths = {"PYTHONPATH": ""}
        with log.open("wb") as stderr:
            self._process = subprocess.Popen(
                [interpreter, *command],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=stderr,
                env={**os.environ, **environment, **paths, "PYTHONSAFEPATH": "1"},
                start_new_session=True,
            )

    def request(self, op: str, *, timeout_s: float, **arguments: Any) -> dict[str, Any]:
        """Send one request and wait for its answer.

        Raises:
            WorkerError: the worker answered with an error, died, or did not answer in time (it is killed then).
        """
        assert self._process.stdin is not None
        self._signal(signal.SIGCONT)
        try:
            self._process.stdin.write(json.dumps({"op": op, **arguments}).encode() + b"\n")
            self._process.stdin.flush()
            line = self._read_line(timeout_s)
        except BrokenPipeError:
            line = b""
        if line is None:
            self.close()
            raise WorkerError(f"timed out after {timeout_s:.0f} s in {op}", dead=True)
        if not line.endswith(b"\n"):
            raise WorkerError(f"{self._death()} in {op}", dead=True)
        self._signal(signal.SIGSTOP)
        answer: dict[str, Any] = json.loads(line)
        if "error" in answer:
            raise WorkerError(answer["error"], dead=False)
        return answer

    def close(self) -> None:
        """End the process and everything it started."""
        self._signal(signal.SIGKILL)
        self._process.wait()
        for pipe in (self._process.stdin, self._process.stdout):
            if pipe is not None and not pipe.closed:
                try:
                    pipe.close()
                except BrokenPipeError:
                    continue

    def __enter__(self) -> WorkerProcess:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.close()

    def _signal(self, number: signal.Signals) -> None:
        try:
            os.killpg(self._process.pid, number)
        except ProcessLookupError:
            return

    def _read_line(self, timeout_s: float) -> bytes | None:
        """A line from the worker; what there was at its end, without a newline; None if the time is over."""
        assert self._process.stdout is not None
        deadline, line = time.monotonic() + timeout_s, b""
        with selectors.DefaultSelector() as selector:
            selector.register(self._process.stdout, selectors.EVENT_READ)
            while not line.endswith(b"\n"):
                if not selector.select(max(0.0, deadline - time.monotonic())):
                    return None
                chunk = os.read(self._process.stdout.fileno(), 1 << 16)
                if not chunk:
                    return line
                line += chunk
        return line

    def _death(self) -> str:
        code = self._process.wait()
        how = f"crashed ({signal.Signals(-code).name})" if code < 0 else f"exited with code {code}"
        last = [line.strip() for line in self._log.read_text(errors="replace").splitlines() if line.strip()][-1:]
        return f"{how}: {last[0]}" if last else how

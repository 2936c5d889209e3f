"""The roofline of this host: peak f32 FLOP/s of one core and memory bandwidth, as the native probe measures them.

The probe (``runtime/native/probe.c``) is built by CMake when dlas is installed and a C compiler is there. It runs half
a second; its answer is kept per host in the user's cache folder.
"""

from __future__ import annotations

import functools
import hashlib
import json
import logging
import math
import os
import platform
import subprocess
import tempfile
from contextlib import suppress
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from importlib.metadata import PackageNotFoundError, distribution
from pathlib import Path

from dlas.errors import DlasError

_log = logging.getLogger(__name__)

_PROBE_TIMEOUT_S = 60


@dataclass(frozen=True)
class Roofline:
    """What one core of a host can do at best.

    Attributes:
        peak_gflops: f32 multiply-adds with the widest vectors, in GFLOP/s (an FMA is two operations).
        bandwidth_gbs: memory traffic from arrays larger than the caches, in GB/s: the better of reading and copying.
        simd_lanes: f32 elements of the vectors that ``peak_gflops`` was measured with.
        cached_at: when it was measured, ISO 8601 in UTC.
    """

    peak_gflops: float
    bandwidth_gbs: float
    simd_lanes: int
    cached_at: str

    def attainable_gflops(self, flops: int, moved_bytes: int) -> float:
        """The roof over a kernel of that many operations and bytes to and from memory, in GFLOP/s."""
        if moved_bytes <= 0:
            return self.peak_gflops
        return min(self.peak_gflops, self.bandwidth_gbs * flops / moved_bytes)


def find_probe() -> Path | None:
    """The installed probe binary, or None if it was not built.

    It is looked up where dlas was installed: an editable install leaves it there, away from the modules.
    """
    try:
        probe = Path(str(distribution("dlas").locate_file("dlas/runtime/bin/dlas-probe")))
    except PackageNotFoundError:  # a checkout on PYTHONPATH
        return None
    return probe if probe.is_file() else None


def measure(force: bool = False) -> Roofline | None:
    """The roofline of this host, from the cache unless ``force`` or measured for the first time.

    Returns None, and logs one warning per process, if the probe was not built.

    Raises:
        DlasError: the probe is there but fails.
    """
    probe = find_probe()
    if probe is None:
        _warn_once(
            "the roofline probe is not built (dlas was not installed, or without a C compiler): no share of peak"
        )
        return None
    cache = _cache_file(probe)
    if not force:
        cached = _read_cache(cache)
        if cached is not None:
            return cached
    roofline = _run_probe(probe)
    _write_cache(cache, roofline)
    return roofline


@functools.cache
def _warn_once(message: str) -> None:
    _log.warning(message)


def _run_probe(probe: Path) -> Roofline:
    try:
        done = subprocess.run([probe], capture_output=True, text=True, timeout=_PROBE_TIMEOUT_S, check=False)
    except (OSError, subprocess.TimeoutExpired) as error:
        raise DlasError(f"the roofline probe does not run: {error}", where=str(probe)) from error
    if done.returncode != 0:
        reason = done.stderr.strip() or f"exit code {done.returncode}"
        raise DlasError(f"the roofline probe failed: {reason}", where=str(probe))
    try:
        answer = json.loads(done.stdout)
        return Roofline(
            peak_gflops=_positive(answer["peak_gflops"]),
            bandwidth_gbs=max(_positive(answer["read_gbs"]), _positive(answer["copy_gbs"])),
            simd_lanes=int(_positive(answer["simd_lanes"])),
            cached_at=datetime.now(UTC).isoformat(timespec="seconds"),
        )
    except (ValueError, KeyError, TypeError) as error:
        raise DlasError(f"the roofline probe answered {done.stdout.strip()!r}", where=str(probe)) from error


def _positive(value: float) -> float:
    number = float(value)
    if not math.isfinite(number) or number <= 0:
        raise ValueError(f"{value!r} is not a positive number")
    return number


def _cache_file(probe: Path) -> Path:
    """One file per host, processor and probe: a home folder may be shared, and a probe may change."""
    root = os.environ.get("XDG_CACHE_HOME", "")
    folder = Path(root) if os.path.isabs(root) else Path.home() / ".cache"
    identity = "\n".join([platform.node(), _cpu_model(), hashlib.sha256(probe.read_bytes()).hexdigest()])
    return folder / "dlas" / f"roofline-{hashlib.sha256(identity.encode()).hexdigest()[:16]}.json"


def _cpu_model() -> str:
    with suppress(OSError), open("/proc/cpuinfo", encoding="utf-8", errors="replace") as file:
        for line in file:
            if line.startswith("model name"):
                return line.partition(":")[2].strip()
    return platform.processor() or platform.machine()


def _read_cache(path: Path) -> Roofline | None:
    """What the file holds; None if there is none or it is not a roofline (it is measured again then)."""
    try:
        values = json.loads(path.read_text(encoding="utf-8"))
        return Roofline(
            peak_gflops=_positive(values["peak_gflops"]),
            bandwidth_gbs=_positive(values["bandwidth_gbs"]),
            simd_lanes=int(_positive(values["simd_lanes"])),
            cached_at=str(values["cached_at"]),
        )
    except (OSError, ValueError, KeyError, TypeError):
        return None


def _write_cache(path: Path, roofline: Roofline) -> None:
    """Whole or not at all; a cache folder that cannot be written costs a measurement next time, no more."""
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with tempfile.NamedTemporaryFile("w", dir=path.parent, suffix=".tmp", encoding="utf-8", delete=False) as file:
            json.dump(asdict(roofline), file)
        os.replace(file.name, path)
    except OSError as error:
        _log.debug("cannot keep the roofline in %s: %s", path, error)

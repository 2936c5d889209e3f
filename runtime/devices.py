"""IREE devices by name and thread count, and what a module needs of this host."""

from __future__ import annotations

import atexit
import os
import platform
import re
import threading
import time
import warnings
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

import iree.runtime as rt

# The one way to a driver of its own thread count: iree.runtime.get_driver caches by name alone.
from iree.runtime import _binding

from dlas.errors import ArtifactError, UsageError
from dlas.runtime.tensors import first_line

INLINE, TASK = "local-sync", "local-task"
MAX_THREADS = 256
"""Workers of one task executor: IREE's topology silently stops there."""

_WORKERS_FLAG = "--task_topology_group_count"
_lock = threading.Lock()


@dataclass(frozen=True, eq=False)
class Device:
    """An open device. Sessions of equal name and thread count share one; it stays open as long as the process.

    Args:
        name: IREE's device URI, for example "local-task" or "cuda://0".
        threads: worker threads ("local-sync" runs on the calling thread).
        hal: the ``iree.runtime.HalDevice``.
        driver: its driver, kept alive.
    """

    name: str
    threads: int
    hal: Any
    driver: Any

    @property
    def is_local(self) -> bool:
        """True for the CPU of this host: its buffers are host memory."""
        return self.name in (INLINE, TASK)

    @property
    def driver_name(self) -> str:
        """IREE's name of its driver, for example "vulkan"."""
        return self.name.partition("://")[0]

    def subgroup_size(self) -> int | None:
        """Lanes of a subgroup, as the driver tells; None if it does not."""
        if self.is_local:
            return None
        path = self.name.partition("://")[2]
        for known in self.driver.query_available_devices():
            if not path or path == known["path"]:
                told = re.search(r"^subgroup: size=(\d+)", self.driver.dump_device_info(known["device_id"]), re.M)
                return int(told[1]) if told else None
        return None

    def tool_flags(self) -> list[str]:
        """The flags by which IREE's command-line tools open the same device."""
        workers = [f"{_WORKERS_FLAG}={self.threads}"] if self.name == TASK else []
        return [f"--device={self.name}", *workers]


_open_devices: dict[tuple[str, int], Device] = {}

# IREE 3.13 deadlocks now and then when a task device ends right after a call, so they stay open (their workers
# sleep), and the process gives them a moment to settle before it ends.
_task_devices: list[Device] = []
_SETTLE_S = 0.01


@atexit.register
def _settle() -> None:
    if _task_devices:
        time.sleep(_SETTLE_S)


@cache
def instance() -> rt.VmInstance:
    """The process's VM instance."""
    return rt.VmInstance()


def open_device(name: str = TASK, threads: int = 1, *, shared: bool = True, inline: bool = False) -> Device:
    """The device of that name with `threads` worker threads; `shared=False` opens one of its own.

    With `inline`, what was asked of "local-task" is "local-sync"'s to do: the calling thread's, without workers.

    Raises UsageError for an unknown or absent device and for a thread count it cannot have. More threads than this
    process has CPUs is granted with a RuntimeWarning: they share them.
    """
    _check_request(name, threads)
    if inline and name == TASK:
        name, threads = INLINE, 1
    with _lock:
        device = _open_devices.get((name, threads)) if shared else None
        if device is None:
            device = _create(name, threads)
            if shared:
                _open_devices[name, threads] = device
        return device


def _check_request(name: str, threads: int) -> None:
    drivers = sorted(rt.query_available_drivers())
    if name.partition("://")[0] not in drivers:
        raise UsageError(f"unknown device {name!r}", hint="known: " + ", ".join(drivers))
    if isinstance(threads, bool) or not isinstance(threads, int) or threads < 1:
        raise UsageError(f"threads={threads!r}", where=name, hint="a whole number, at least 1")
    if name != TASK and threads != 1:
        raise UsageError(
            f"threads={threads}",
            where=name,
            hint=f"it runs on the calling thread; use device='{TASK}'" if name == INLINE else "a GPU takes threads=1",
        )
    if threads > MAX_THREADS:
        raise UsageError(f"threads={threads}", where=name, hint=f"at most {MAX_THREADS}")
    cpus = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    if threads > cpus:
        warnings.warn(f"{threads} threads will share {cpus} CPUs", RuntimeWarning, stacklevel=4)


def _create(name: str, threads: int) -> Device:
    try:
        if name == TASK:
            # The flag is read when a driver is created, and belongs to the whole process: put it back at once.
            _binding.parse_flags(f"{_WORKERS_FLAG}={threads}")
        try:
            driver = _binding.create_hal_driver(name)
        finally:
            if name == TASK:
                _binding.parse_flags(f"{_WORKERS_FLAG}=0")
        device = Device(name, threads, driver.create_device_by_uri(name), driver)
        if name == TASK:
            _task_devices.append(device)
        return device
    except (RuntimeError, ValueError) as error:
        raise UsageError(f"device {name!r} cannot be opened: {first_line(error)}") from error


def check_device(target: dict[str, Any], device: Device) -> None:
    """Raise ArtifactError if code for `target` is not for this device: a GPU's on a CPU or the other way round, another
    driver's, or compiled for other subgroups than the device has (which would be silently wrong).

    Reads the keys "backend" and "subgroup_sizes" of a GPU, and those of :func:`check_host`; absent keys pass.
    """
    backend = target.get("backend")
    if backend is None:
        if device.is_local:
            check_host(target)
        elif target.get("triple"):
            raise ArtifactError(f"built for a CPU, and {device.name!r} is a GPU", hint=f"use device {TASK!r}")
        return
    if backend != device.driver_name:
        found = "this host's CPU" if device.is_local else f"device {device.name!r}"
        built = f"built for {target.get('name') or backend}, whose code {found} does not run"
        raise ArtifactError(built, hint=f"use device {backend!r}")
    sizes, lanes = target.get("subgroup_sizes"), device.subgroup_size()
    if sizes and lanes is not None and lanes not in sizes:
        raise ArtifactError(
            f"built for subgroups of {' or '.join(map(str, sizes))} lanes, those of {device.name!r} have {lanes}",
            hint="compile for this device's target: subgroup_sizes in its file",
        )


_ARCHITECTURES = {"amd64": "x86_64", "arm64": "aarch64"}
_CHECKED_FEATURES = ("avx", "amx", "fma", "f16c")
_CPU_NEEDS = {"x86-64-v3": ("avx2", "fma", "f16c"), "x86-64-v4": ("avx512f", "avx512bw", "avx512dq", "avx512vl")}


def check_host(target: dict[str, Any]) -> None:
    """Raise ArtifactError if code for `target` would not run on this CPU: another architecture, or vector
    instructions that it lacks (which would kill the process with SIGILL).

    Reads the keys "triple", "cpu" and "features" ("+avx512f,-amx-tile" or a list); an unknown host or an absent key
    passes.
    """
    host = platform.machine().lower()
    host = _ARCHITECTURES.get(host, host)
    wanted = str(target.get("triple") or "").partition("-")[0].lower()
    wanted = _ARCHITECTURES.get(wanted, wanted)
    if wanted and host and wanted != host:
        raise ArtifactError(f"built for {wanted}, this host is {host}", hint="compile for this host's target")
    features = target.get("features") or ()
    listed = features.split(",") if isinstance(features, str) else features
    needed = {_plain(name[1:]): name[1:] for name in listed if name.startswith("+")}
    needed |= {_plain(name): name for name in _CPU_NEEDS.get(str(target.get("cpu")), ())}
    available = _host_features()
    missing = [name for key, name in needed.items() if key.startswith(_CHECKED_FEATURES) and key not in available]
    if available and missing:
        raise ArtifactError(
            f"built for a CPU with {', '.join(sorted(missing))}, which this one lacks",
            hint="compile for this host's target",
        )


@cache
def _host_features() -> frozenset[str]:
    """The CPU's feature flags as Linux names them, without punctuation; empty where they cannot be read."""
    try:
        lines = Path("/proc/cpuinfo").read_text(encoding="ascii", errors="replace").splitlines()
    except OSError:
        return frozenset()
    flags = next((line.partition(":")[2] for line in lines if line.startswith("flags")), "")
    return frozenset(_plain(flag) for flag in flags.split())


def _plain(feature: str) -> str:
    return feature.replace("-", "").replace("_", "").replace(".", "").lower()

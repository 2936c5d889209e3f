"""What can be read from the CPU this process runs on (Linux: ``/proc/cpuinfo`` and ``/sys/devices/system/cpu``).

Nothing here fails: a value that cannot be read is left out, and the target file's own value stands.
"""

from __future__ import annotations

import os
import platform
import re
from pathlib import Path
from typing import Any

X86_MACHINES = ("x86_64", "amd64")

# AMD's family 19h (Zen 3 and 4) works on 512-bit vectors in two halves: one FMA per cycle where others start two.
# Source: Software Optimization Guide for the AMD Zen 4 microarchitecture (57647), section 2.11.
_HALVES = ("AuthenticAMD", "25")

# Widest first: the /proc/cpuinfo flags a level needs, and the f32 lanes and count of its vector registers.
_X86_SIMD = (
    (frozenset({"avx512f"}), 16, 32),
    (frozenset({"avx2", "fma"}), 8, 16),
    (frozenset({"sse2"}), 4, 16),
)
_WIDEST = 16

# All of them start two FMAs of 256 bits per cycle, and AVX512VL names 32 such registers.
# Source: Intel Optimization Reference Manual; AMD's guides for families 19h and 1Ah.
_NARROW = 2


def is_x86_host() -> bool:
    return platform.machine().lower() in X86_MACHINES


def detect_x86(root: Path = Path("/")) -> dict[str, Any]:
    """Target fields read from this x86-64 host; ``root`` is where ``proc`` and ``sys`` are looked up."""
    cpus = _read_cpuinfo(root / "proc" / "cpuinfo")
    found: dict[str, Any] = {"cores": _count_cores(cpus)}
    if cpus:
        flags = frozenset(cpus[0].get("flags", "").split())
        for needed, lanes, registers in _X86_SIMD:
            if needed <= flags:
                found |= {"simd_lanes": lanes, "vector_registers": registers}
                break
        if found.get("simd_lanes") == _WIDEST and _maker(cpus[0]) == _HALVES:
            found["fma_units"] = 1
        if found.get("simd_lanes") == _WIDEST and "avx512vl" in flags:
            found["narrow_fma_units"] = _NARROW
        found["f16"] = "avx512_fp16" in flags
        found["description"] = f"this host ({cpus[0].get('model name', 'unknown x86-64').strip()})"
    found |= _read_caches(root / "sys" / "devices" / "system" / "cpu" / "cpu0" / "cache")
    clock = _read_clock(root / "sys" / "devices" / "system" / "cpu" / "cpu0" / "cpufreq" / "cpuinfo_max_freq", cpus)
    if clock:
        found["clock_ghz"] = clock
    return found


def _read_text(path: Path) -> str:
    try:
        return path.read_text(encoding="utf-8", errors="replace")
    except OSError:
        return ""


def _read_cpuinfo(path: Path) -> list[dict[str, str]]:
    """One dictionary per logical processor."""
    blocks = _read_text(path).split("\n\n")
    cpus = []
    for block in blocks:
        pairs = (line.partition(":") for line in block.splitlines())
        fields = {key.strip(): value.strip() for key, _, value in pairs}
        if "processor" in fields:
            cpus.append(fields)
    return cpus


def _maker(cpu: dict[str, str]) -> tuple[str, str]:
    """Vendor and family."""
    return cpu.get("vendor_id", ""), cpu.get("cpu family", "")


def _count_cores(cpus: list[dict[str, str]]) -> int:
    """Physical cores this process may use: hyper-threads of one core share its FMA units and count once."""
    usable = os.sched_getaffinity(0) if hasattr(os, "sched_getaffinity") else set(range(os.cpu_count() or 1))
    cores = {
        (cpu.get("physical id", "0"), cpu.get("core id", cpu["processor"]))
        for cpu in cpus
        if cpu["processor"].isdigit() and int(cpu["processor"]) in usable
    }
    return len(cores) or len(usable) or 1


def _read_caches(folder: Path) -> dict[str, int]:
    """``l1d_kb``, ``l2_kb``, ``l3_kb`` as the kernel reports them for CPU 0."""
    keys = {"1": "l1d_kb", "2": "l2_kb", "3": "l3_kb"}
    units = {"": 1 / 1024, "K": 1, "M": 1024, "G": 1024 * 1024}
    found = {}
    for index in sorted(folder.glob("index*")):
        key = keys.get(_read_text(index / "level").strip())
        size = re.fullmatch(r"(\d+)([KMG]?)", _read_text(index / "size").strip())
        if key and size and _read_text(index / "type").strip() in ("Data", "Unified"):
            kilobytes = int(int(size[1]) * units[size[2]])
            if kilobytes > 0:
                found[key] = kilobytes
    return found


def _read_clock(max_frequency: Path, cpus: list[dict[str, str]]) -> float | None:
    """GHz: the highest the governor allows (kHz in sysfs), else what /proc/cpuinfo shows now (MHz)."""
    text = _read_text(max_frequency).strip()
    if text.isdigit() and int(text) > 0:
        return round(int(text) / 1e6, 2)
    try:
        megahertz = float(cpus[0]["cpu MHz"])
    except (IndexError, KeyError, ValueError):
        return None
    return round(megahertz / 1e3, 2) if megahertz > 0 else None

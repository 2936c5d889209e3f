"""The device that code is compiled for, read from a declarative TOML file and checked key by key.

A file with the key ``backend`` is a GPU's (:mod:`dlas.compiler.targets.gpu`), any other a CPU's.
"""

from __future__ import annotations

import tomllib
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, TypeAlias

from dlas.compiler.targets.detect import detect_x86, is_x86_host
from dlas.compiler.targets.gpu import GpuTarget
from dlas.compiler.targets.keys import Rule, check, integer, text
from dlas.compiler.targets.llvm import check_processor
from dlas.errors import TargetError

_FOLDER = Path(__file__).parent

# In a target file: read the numbers from the machine this process runs on.
_HOST_CPU = "host"
# What "host" means on a machine of another architecture: the baseline, cross-compiled.
_X86_BASELINE_CPU = "x86-64"

_COMMON_FLAGS = ("--iree-hal-target-device=local", "--iree-hal-local-target-device-backends=llvm-cpu")


@dataclass(frozen=True, kw_only=True)
class Target:
    """One CPU. Schedules read the numbers, :meth:`iree_flags` gives the rest to the code generator.

    Attributes:
        name: what ``--target`` takes.
        description: one line for ``dlas targets``.
        triple: LLVM target triple.
        cpu: LLVM processor name, or ``host`` for the machine that compiles.
        features: LLVM features on top of the processor's own, e.g. ``+avx512vnni,-fma``; none if empty.
        simd_lanes: f32 elements in one vector register.
        vector_registers: how many vector registers the instruction set names.
        fma_units: full-width vector FMAs one core starts per cycle.
        fma_latency: cycles until the result of an FMA can be used.
        l1d_kb: level-1 data cache of one core, in KB.
        l2_kb: level-2 cache a core can use, in KB.
        l3_kb: level-3 cache, in KB; 0 if there is none.
        cores: physical cores.
        clock_ghz: clock in GHz, None if unknown.
        f16: whether vector arithmetic on f16 is native.
        narrow_fma_units: vector FMAs of half the lanes that one core starts per cycle, where models may have layers of
            half-width vectors beside those of full width; None: all have full width.
    """

    name: str
    description: str
    triple: str
    cpu: str
    features: str
    simd_lanes: int
    vector_registers: int
    fma_units: int
    fma_latency: int
    l1d_kb: int
    l2_kb: int
    l3_kb: int
    cores: int
    f16: bool
    clock_ghz: float | None = None
    narrow_fma_units: int | None = None

    @property
    def is_host(self) -> bool:
        """Whether code is generated for the processor that compiles it."""
        return self.cpu == _HOST_CPU

    def iree_flags(self) -> list[str]:
        """Flags for ``iree-compile`` and for a compiler session: the device, and the processor to generate for."""
        flags = list(_COMMON_FLAGS)
        if not self.is_host:  # IREE takes the host's own triple then, and its features with it
            flags.append(f"--iree-llvmcpu-target-triple={self.triple}")
        flags.append(f"--iree-llvmcpu-target-cpu={self.cpu}")
        if self.features:
            flags.append(f"--iree-llvmcpu-target-cpu-features={self.features}")
        return flags

    @property
    def device_attribute(self) -> None:
        """The flags name the device."""
        return None

    def check(self, where: str | None = None) -> None:
        """Checks that LLVM generates code for this processor; those of the shipped targets are known to work.

        Raises:
            TargetError: naming ``where``, the field and its value.
        """
        shipped = load_target(self.name) if self.name in list_targets() else None
        if not isinstance(shipped, Target) or self.iree_flags() != shipped.iree_flags():
            check_processor(self.triple, self.cpu, self.features, self.iree_flags(), where or f"target {self.name}")

    def to_dict(self) -> dict[str, Any]:
        """Plain values for the JSON beside an artifact."""
        return asdict(self)


# What IREE's llvm-cpu generates code for here; LLVM crashes on an architecture that it does not know.
_ARCHITECTURES = ("x86_64", "aarch64", "riscv64")

# One line per key. The upper bounds catch a wrong unit (bytes for KB, MHz for GHz), not ambition.
_RULES = {
    "name": text(),
    "description": text(),
    "triple": Rule(
        str,
        "an LLVM triple that begins with " + " or ".join(_ARCHITECTURES),
        lambda value: value.partition("-")[0] in _ARCHITECTURES,
    ),
    "cpu": text(),
    "features": Rule(
        str,
        "a comma-separated list of +feature or -feature, or an empty string",
        lambda value: all(item[:1] in "+-" and len(item) > 1 for item in value.split(",")) if value else True,
    ),
    "simd_lanes": Rule(int, "a power of two from 1 to 64", lambda value: 1 <= value <= 64 and value & (value - 1) == 0),
    "vector_registers": integer(1, 256),
    "fma_units": integer(1, 16),
    "fma_latency": integer(1, 64, "cycles"),
    "narrow_fma_units": integer(1, 16, required=False),
    "l1d_kb": integer(1, 4096, "KB"),
    "l2_kb": integer(1, 1 << 20, "KB"),
    "l3_kb": integer(0, 1 << 22, "KB, 0 for none"),
    "cores": integer(1, 4096),
    "clock_ghz": Rule(float, "a number above 0 and up to 20 GHz", lambda value: 0 < value <= 20, required=False),
    "f16": Rule(bool, "true or false", lambda value: True),
}


AnyTarget: TypeAlias = Target | GpuTarget


def list_targets() -> list[str]:
    """Names that :func:`load_target` knows."""
    return sorted(path.stem for path in _FOLDER.glob("*.toml"))


def load_target(name_or_path: str | Path) -> AnyTarget:
    """The target of that name, or of that ``.toml`` file.

    ``x86_64`` is the machine that compiles: its numbers are detected. On a machine of another architecture it is the
    x86-64 baseline.

    Raises:
        TargetError: no such target or file, a file with a missing, unknown or impossible value, or one for whose
            processor LLVM generates no code.
    """
    if isinstance(name_or_path, Path) or name_or_path.endswith(".toml") or "/" in name_or_path:
        target = _read(Path(name_or_path), str(name_or_path))
        target.check(str(name_or_path))
        return target
    known = list_targets()
    if name_or_path not in known:
        raise TargetError(
            f"unknown target '{name_or_path}'", hint=f"known: {', '.join(known)}; or a path to a .toml file"
        )
    return _read(_FOLDER / f"{name_or_path}.toml", f"{name_or_path}.toml")


def _read(path: Path, where: str) -> AnyTarget:
    try:
        with path.open("rb") as file:
            values = tomllib.load(file)
    except OSError as error:
        raise TargetError(f"cannot read the target file: {error.strerror}", where=where) from error
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise TargetError(f"not a TOML file: {error}", where=where) from error
    if "backend" in values:
        return GpuTarget.read(values, where)
    _check(values, where)
    if values["cpu"] == _HOST_CPU:
        values |= detect_x86() if is_x86_host() else {"cpu": _X86_BASELINE_CPU}
        _check(values, f"{where}, as detected on this host")
    return Target(**values)


def _check(values: dict[str, Any], where: str) -> None:
    check(values, _RULES, where)
    if "narrow_fma_units" in values and values["simd_lanes"] < 2:
        raise TargetError(
            f"narrow_fma_units = {values['narrow_fma_units']} with simd_lanes = {values['simd_lanes']}",
            where=where,
            hint="there is no vector of half a lane; leave it out",
        )
    if values["cpu"] == _HOST_CPU and values["features"]:
        raise TargetError(
            f"features = {values['features']!r} with cpu = 'host'",
            where=where,
            hint="the host's features are all of its processor's; name a cpu to change them",
        )

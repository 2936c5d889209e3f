"""The device that code is compiled for, read from a declarative TOML file and checked key by key."""

from __future__ import annotations

import tomllib
from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from dlas.compiler.targets.detect import detect_x86, is_x86_host
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
    """One device. Schedules read the numbers, :meth:`iree_flags` gives the rest to the code generator.

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

    def check(self, where: str | None = None) -> None:
        """Checks that LLVM generates code for this processor; those of the shipped targets are known to work.

        Raises:
            TargetError: naming ``where``, the field and its value.
        """
        shipped = load_target(self.name) if self.name in list_targets() else None
        if shipped is None or self.iree_flags() != shipped.iree_flags():
            check_processor(self.triple, self.cpu, self.features, self.iree_flags(), where or f"target {self.name}")

    def to_dict(self) -> dict[str, Any]:
        """Plain values for the JSON beside an artifact."""
        return asdict(self)


@dataclass(frozen=True)
class _Rule:
    """What one key of a target file may hold."""

    kind: type
    allowed: str
    accepts: Callable[[Any], bool]
    required: bool = True

    def refuses(self, value: Any) -> bool:
        if self.kind is float:
            typed = isinstance(value, int | float) and not isinstance(value, bool)
        else:
            typed = type(value) is self.kind  # bool is an int to isinstance
        return not typed or not self.accepts(value)


def _text(required: bool = True) -> _Rule:
    return _Rule(str, "a non-empty string", lambda value: bool(value.strip()), required)


def _integer(low: int, high: int, unit: str = "") -> _Rule:
    return _Rule(int, f"an integer from {low} to {high}{unit and ' ' + unit}", lambda value: low <= value <= high)


# What IREE's llvm-cpu generates code for here; LLVM crashes on an architecture that it does not know.
_ARCHITECTURES = ("x86_64", "aarch64", "riscv64")

# One line per key. The upper bounds catch a wrong unit (bytes for KB, MHz for GHz), not ambition.
_RULES = {
    "name": _text(),
    "description": _text(),
    "triple": _Rule(
        str,
        "an LLVM triple that begins with " + " or ".join(_ARCHITECTURES),
        lambda value: value.partition("-")[0] in _ARCHITECTURES,
    ),
    "cpu": _text(),
    "features": _Rule(
        str,
        "a comma-separated list of +feature or -feature, or an empty string",
        lambda value: all(item[:1] in "+-" and len(item) > 1 for item in value.split(",")) if value else True,
    ),
    "simd_lanes": _Rule(
        int, "a power of two from 1 to 64", lambda value: 1 <= value <= 64 and value & (value - 1) == 0
    ),
    "vector_registers": _integer(1, 256),
    "fma_units": _integer(1, 16),
    "fma_latency": _integer(1, 64, "cycles"),
    "l1d_kb": _integer(1, 4096, "KB"),
    "l2_kb": _integer(1, 1 << 20, "KB"),
    "l3_kb": _integer(0, 1 << 22, "KB, 0 for none"),
    "cores": _integer(1, 4096),
    "clock_ghz": _Rule(float, "a number above 0 and up to 20 GHz", lambda value: 0 < value <= 20, required=False),
    "f16": _Rule(bool, "true or false", lambda value: True),
}


def list_targets() -> list[str]:
    """Names that :func:`load_target` knows."""
    return sorted(path.stem for path in _FOLDER.glob("*.toml"))


def load_target(name_or_path: str | Path) -> Target:
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


def _read(path: Path, where: str) -> Target:
    try:
        with path.open("rb") as file:
            values = tomllib.load(file)
    except OSError as error:
        raise TargetError(f"cannot read the target file: {error.strerror}", where=where) from error
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise TargetError(f"not a TOML file: {error}", where=where) from error
    _check(values, where)
    if values["cpu"] == _HOST_CPU:
        values |= detect_x86() if is_x86_host() else {"cpu": _X86_BASELINE_CPU}
        _check(values, f"{where}, as detected on this host")
    return Target(**values)


def _check(values: dict[str, Any], where: str) -> None:
    for key, value in values.items():
        if key not in _RULES:
            raise TargetError(f"unknown key '{key}' = {value!r}", where=where, hint=f"known: {', '.join(_RULES)}")
        if _RULES[key].refuses(value):
            raise TargetError(f"{key} = {value!r}", where=where, hint=f"must be {_RULES[key].allowed}")
    missing = [key for key, rule in _RULES.items() if rule.required and key not in values]
    if missing:
        raise TargetError(
            f"missing {', '.join(missing)}", where=where, hint=f"{missing[0]}: {_RULES[missing[0]].allowed}"
        )
    if values["cpu"] == _HOST_CPU and values["features"]:
        raise TargetError(
            f"features = {values['features']!r} with cpu = 'host'",
            where=where,
            hint="the host's features are all of its processor's; name a cpu to change them",
        )

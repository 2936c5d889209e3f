"""GPUs as targets: what ``#iree_gpu.target`` says of a device, as the keys of a target file.

IREE knows some GPUs by name. Others it knows too little of: it takes the subgroups of an unknown Vulkan device to have
32 lanes, and its matrix-vector products are silently wrong where they have not. So a file gives all that IREE asks.
"""

from __future__ import annotations

import re
from collections.abc import Collection
from dataclasses import asdict, dataclass
from functools import cache
from pathlib import Path
from typing import Any

from dlas.compiler.targets.keys import Rule, check, integer, text
from dlas.compiler.targets.llvm import compile_tiny
from dlas.errors import TargetError


@dataclass(frozen=True)
class Backend:
    """A code generator of IREE's: its device, its name, and the format of its executables."""

    device: str
    generator: str
    format: str


BACKENDS = {
    "cuda": Backend("cuda", "cuda", "cuda-nvptx-fb"),
    "vulkan": Backend("vulkan", "vulkan-spirv", "vulkan-spirv-fb"),
}


@dataclass(frozen=True, kw_only=True)
class GpuTarget:
    """One GPU, in the words of ``#iree_gpu.target``.

    Attributes:
        name: what ``--target`` takes.
        description: one line for ``dlas targets``.
        backend: a key of :data:`BACKENDS`; also the driver that runs the code.
        architecture: the device's name there, e.g. ``sm_90``.
        features: of the instruction set, e.g. ``+ptx84`` or ``spirv:v1.6,cap:Shader``.
        compute: types of arithmetic.
        storage: widths of what memory holds.
        subgroup: operations across the lanes of a subgroup.
        dot: dot products of small integers.
        mma: matrix instructions.
        subgroup_sizes: lanes of a subgroup (a warp); the first is what schedules take.
        max_threads: of a workgroup.
        max_workgroup_size: in x, y and z.
        max_workgroups: of a dispatch, in x, y and z.
        workgroup_memory: bytes that a workgroup shares.
        sparse_share: a pruned convolution is computed by its non-zeros up to this share of them.
        sparse_share_pointwise: the same for pointwise ones, which are matrix products to IREE.
    """

    name: str
    description: str
    backend: str
    architecture: str
    features: str
    compute: tuple[str, ...]
    storage: tuple[str, ...]
    subgroup: tuple[str, ...]
    dot: tuple[str, ...]
    mma: tuple[str, ...]
    subgroup_sizes: tuple[int, ...]
    max_threads: int
    max_workgroup_size: tuple[int, ...]
    max_workgroups: tuple[int, ...]
    workgroup_memory: int
    sparse_share: float
    sparse_share_pointwise: float

    @property
    def is_host(self) -> bool:
        """Never: a GPU's code is not for the processor that compiles it."""
        return False

    @property
    def device_attribute(self) -> str:
        """The ``#hal.device.target`` of a module that is compiled for this device."""
        backend = BACKENDS[self.backend]
        wgp = {
            "compute": "|".join(self.compute),
            "storage": "|".join(self.storage),
            "subgroup": "|".join(self.subgroup) or "none",
            "dot": "|".join(self.dot),
            "mma": f"[{', '.join(f'<{name}>' for name in self.mma)}]" if self.mma else "",
            "subgroup_size_choices": list(self.subgroup_sizes),
            "max_workgroup_sizes": list(self.max_workgroup_size),
            "max_thread_count_per_workgroup": self.max_threads,
            "max_workgroup_memory_bytes": self.workgroup_memory,
            "max_workgroup_counts": list(self.max_workgroups),
        }
        limits = ", ".join(f"{key} = {value}" for key, value in wgp.items() if value != "")
        gpu = f'#iree_gpu.target<arch = "{self.architecture}", features = "{self.features}", wgp = <{limits}>>'
        generator = f'"{backend.generator}", "{backend.format}", {{iree_codegen.target_info = {gpu}}}'
        return f'#hal.device.target<"{backend.device}", [#hal.executable.target<{generator}>]>'

    def iree_flags(self) -> list[str]:
        """None: the module's :attr:`device_attribute` says it all."""
        return []

    @classmethod
    def read(cls, values: dict[str, Any], where: str) -> GpuTarget:
        """The target of a file's values.

        Raises:
            TargetError: naming ``where``, the key and what it may hold.
        """
        check(values, _RULES, where)
        lanes = values["subgroup_sizes"][0]
        threads = min(values["max_threads"], values["max_workgroup_size"][0])
        if threads < lanes:
            raise TargetError(
                f"subgroup_sizes = {values['subgroup_sizes']!r} with room for {threads} threads in a workgroup",
                where=where,
                hint="max_threads and max_workgroup_size must hold a subgroup",
            )
        lists = {key: tuple(value) for key, value in values.items() if isinstance(value, list)}
        return cls(**(values | lists))

    def check(self, where: str | None = None) -> None:
        """Checks that IREE generates code for this device; those of the shipped targets are known to work.

        Raises:
            TargetError: naming ``where`` and what IREE says.
        """
        if self.device_attribute in _shipped_attributes():
            return
        returncode, said = compile_tiny((), self.device_attribute)
        unknown = re.search(r"^'.*' is not a recognized (feature|processor)", said, re.M)  # which LLVM ignores
        if returncode != 0 or unknown:
            errors = re.findall(r"error: (.*)", said, re.I) or [f"iree-compile ends with {returncode}"]
            reason = unknown[0] if unknown else errors[0].partition(" #hal.executable.target")[0]
            raise TargetError(
                f"IREE generates no code for backend = {self.backend!r}, architecture = {self.architecture!r}, "
                f"features = {self.features!r}: {reason}",
                where=where or f"target {self.name}",
                hint="the shipped files of this backend are known to work",
            )

    def to_dict(self) -> dict[str, Any]:
        """Plain values for the JSON beside an artifact."""
        return asdict(self)


@cache
def _shipped_attributes() -> frozenset[str]:
    import tomllib

    found = set()
    for path in Path(__file__).parent.glob("*.toml"):
        values = tomllib.loads(path.read_text(encoding="utf-8"))
        if "backend" in values:
            found.add(GpuTarget.read(values, path.name).device_attribute)
    return frozenset(found)


def _words(known: Collection[str], least: Collection[str] = ()) -> Rule:
    """A list of some of ``known``, all of ``least`` among them."""
    needed = f" that has {' and '.join(least)}" if least else ""
    return Rule(
        list,
        f"a list of some of {', '.join(known)}{needed}",
        lambda value: all(word in known for word in value) and set(least) <= set(value),
    )


def _three(high: int) -> Rule:
    """Limits in x, y and z."""
    return Rule(
        list,
        f"three integers from 1 to {high}",
        lambda value: len(value) == 3 and all(type(n) is int and 1 <= n <= high for n in value),
    )


_SHARE = Rule(float, "a number from 0 to 1", lambda value: 0 <= value <= 1)
_QUOTED = re.compile(r"[\w.+:,-]*")

# One line per key. Text goes into an attribute between quotes.
_RULES = {
    "name": text(),
    "description": text(),
    "backend": Rule(
        str, f"one of {', '.join(BACKENDS)} (a CPU's file has no backend)", lambda value: value in BACKENDS
    ),
    "architecture": Rule(
        str, "a name of letters, digits and underscores", lambda value: bool(re.fullmatch(r"\w+", value))
    ),
    "features": Rule(
        str, "a comma-separated list without spaces, or an empty string", lambda value: bool(_QUOTED.fullmatch(value))
    ),
    # Schedules are for f32, and their offsets are i32.
    "compute": _words(("fp64", "fp32", "fp16", "int64", "int32", "int16", "int8"), ("fp32", "int32")),
    "storage": _words(("b64", "b32", "b16", "b8"), ("b32",)),
    "subgroup": _words(("shuffle", "arithmetic")),
    "dot": _words(("dp4xi8toi32",)),
    "mma": Rule(
        list,
        "a list of IREE's names of matrix instructions, e.g. NV_MMA_SYNC_F32_16x8x16_F16",
        lambda value: all(isinstance(name, str) and re.fullmatch(r"\w+", name) for name in value),
    ),
    "subgroup_sizes": Rule(
        list,
        "a list of powers of two from 1 to 128",
        lambda value: bool(value) and all(type(n) is int and n in (1, 2, 4, 8, 16, 32, 64, 128) for n in value),
    ),
    "max_threads": integer(1, 1 << 12),
    "max_workgroup_size": _three(1 << 12),
    "max_workgroups": _three((1 << 31) - 1),
    "workgroup_memory": integer(0, 1 << 20, "bytes"),
    "sparse_share": _SHARE,
    "sparse_share_pointwise": _SHARE,
}

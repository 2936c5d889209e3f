"""The passes of this room and of the layout by name, for ``dlas opt``; all run in IREE's context."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from iree.compiler import ir

from dlas.passes.blocked_layout import BlockedLayout
from dlas.passes.generics import layer_of, walk
from dlas.passes.lower_lanes import lower_lanes
from dlas.passes.outline_kernels import OutlinedKernels
from dlas.passes.pad_groups import pad_groups
from dlas.passes.part_writes import isolate_part_writes
from dlas.passes.pixel_kernels import PixelKernels
from dlas.passes.registry import Note, Pass, register
from dlas.passes.sequence_kernels import SequenceKernels
from dlas.passes.sparsifier_kernels import SparsifierKernels
from dlas.passes.vector_math import lower_vector_math
from dlas.schedules.gpu_rules import GpuRules
from dlas.schedules.knobs import VectorUnit
from dlas.schedules.rules import Rules

# An op of a dialect that is not loaded would be created unregistered.
_DIALECTS = (
    *("affine", "arith", "flow", "func", "hal", "iree_tensor_ext", "linalg", "math", "scf", "tensor", "util", "vector"),
)


def _load_dialects(context: ir.Context) -> None:
    for name in _DIALECTS:
        _ = context.dialects[name]


@dataclass(frozen=True)
class _RulesPass(Pass):
    """A pass that asks the default rules of a vector unit.

    Attributes:
        lanes: f32 lanes of a vector register, which is the block of the layout.
        registers: vector registers.
        winograd: the largest output tile of Winograd's domain, 0 for none.
        strassen: 0 keeps matrix products from Strassen's algorithm.
        cores: that share a kernel's workgroups.
        narrow: FMAs per cycle on vectors of half the lanes, for blocks of as many channels; 0: there are none.
    """

    lanes: int = 8
    registers: int = 16
    winograd: int = 4
    strassen: int = 1
    cores: int = 1
    narrow: int = 0

    def __post_init__(self) -> None:
        _check_unit(self.lanes, self.registers)
        if self.narrow and self.lanes < 2:
            raise ValueError(f"narrow={self.narrow}: there is no half of {self.lanes} lanes")

    @property
    def rules(self) -> Rules:
        unit = VectorUnit(self.lanes, self.registers)
        narrow = unit.narrowed(self.narrow or None)
        return Rules(unit, self.winograd, cores=self.cores, narrow=narrow, strassen=bool(self.strassen))


@register("dlas-pad-groups", context="iree")
@dataclass(frozen=True)
class PadGroups(_RulesPass):
    """:func:`dlas.passes.pad_groups.pad_groups` on every function; options as for ``dlas-blocked-layout``."""

    def run(self, module: Any) -> list[Note]:
        _load_dialects(module.context)
        functions = [op for op in walk(module, "func.func", "util.func") if op.regions[0].blocks]
        return [Note(self.name, *note) for function in functions for note in pad_groups(function, self.rules)]


@register("dlas-blocked-layout", context="iree")
@dataclass(frozen=True)
class BlockedLayoutPass(_RulesPass):
    """:class:`dlas.passes.blocked_layout.BlockedLayout` with the default rules of a vector unit.

    Attributes:
        lanes: f32 lanes of a vector register, which is the block of the layout.
        registers: vector registers.
        winograd: the largest output tile of Winograd's domain, 0 for none.
        cores: that share a kernel's workgroups.
        narrow: FMAs per cycle on vectors of half the lanes, for blocks of as many channels; 0: there are none.
    """

    def run(self, module: Any) -> list[Note]:
        _load_dialects(module.context)
        return _form_kernels(self.name, BlockedLayout(self.rules), module)


@register("dlas-sequence-kernels", context="iree")
@dataclass(frozen=True)
class SequenceKernelsPass(Pass):
    """:class:`dlas.passes.sequence_kernels.SequenceKernels` with the default rules of a vector unit.

    Attributes:
        lanes: f32 lanes of a vector register.
        registers: vector registers.
    """

    lanes: int = 8
    registers: int = 16

    def __post_init__(self) -> None:
        _check_unit(self.lanes, self.registers)

    def run(self, module: Any) -> list[Note]:
        _load_dialects(module.context)
        rules = Rules(VectorUnit(self.lanes, self.registers))
        return _form_kernels(self.name, SequenceKernels(rules), module)


@register("dlas-sparsifier-kernels", context="iree")
@dataclass(frozen=True)
class SparsifierKernelsPass(_RulesPass):
    """:class:`dlas.passes.sparsifier_kernels.SparsifierKernels`; options as for ``dlas-blocked-layout``."""

    def run(self, module: Any) -> list[Note]:
        _load_dialects(module.context)
        return _form_kernels(self.name, SparsifierKernels(self.rules), module)


@register("dlas-pixel-kernels", context="iree")
@dataclass(frozen=True)
class PixelKernelsPass(Pass):
    """:class:`dlas.passes.pixel_kernels.PixelKernels` with the default rules of a GPU.

    Attributes:
        subgroup: lanes of a subgroup.
        threads: of a workgroup, at most.
        workgroups: of a dispatch, at most.
        share: of non-zeros, up to which pruned convolutions are taken.
    """

    subgroup: int = 32
    threads: int = 1024
    workgroups: int = 65535
    share: float = 1.0

    def __post_init__(self) -> None:
        if self.subgroup < 1 or self.subgroup & (self.subgroup - 1):
            raise ValueError(f"subgroup={self.subgroup} is not a power of two")
        if self.threads < self.subgroup:
            raise ValueError(f"threads={self.threads} are less than a subgroup of {self.subgroup}")

    def run(self, module: Any) -> list[Note]:
        _load_dialects(module.context)
        rules = GpuRules(self.subgroup, self.threads, self.workgroups, self.share, self.share)
        return _form_kernels(self.name, PixelKernels(rules), module)


@register("dlas-isolate-part-writes", context="iree")
@dataclass(frozen=True)
class IsolatePartWrites(Pass):
    """:func:`dlas.passes.part_writes.isolate_part_writes` on every function."""

    def run(self, module: Any) -> list[Note]:
        _load_dialects(module.context)
        for function in walk(module, "func.func", "util.func"):
            if function.regions[0].blocks:
                isolate_part_writes(function)
        return []


def _check_unit(lanes: int, registers: int) -> None:
    if lanes < 1 or lanes & (lanes - 1):
        raise ValueError(f"lanes={lanes} is not a power of two")
    if registers < 3:
        raise ValueError(f"registers={registers}: an accumulator, a weight and an input need 3")


_Former = BlockedLayout | SequenceKernels | SparsifierKernels | PixelKernels


def _form_kernels(name: str, former: _Former, module: Any) -> list[Note]:
    """Runs a pass that forms kernels on every function; the notes say which, and what was refused."""
    notes: list[Note] = []
    for function in walk(module, "func.func", "util.func"):
        if not function.regions[0].blocks:
            continue
        report = former.run(function)
        for kernel in report.kernels.values():
            layers = ", ".join(dict.fromkeys(filter(None, kernel.layers)))
            knobs = " ".join(f"{key}={value}" for key, value in kernel.choice.knobs.items())
            text = f"{kernel.kind}: {kernel.choice.schedule}{{{knobs}}}: {kernel.choice.reason}"
            notes.append(Note(name, layers, True, text))
        notes += [Note(name, layer, False, f"{op}: {reason}") for layer, op, reason in report.refused]
    return notes


@register("dlas-vector-math", context="iree")
@dataclass(frozen=True)
class VectorMath(Pass):
    """:func:`dlas.passes.vector_math.lower_vector_math` on every function."""

    def run(self, module: Any) -> list[Note]:
        _load_dialects(module.context)
        for function in walk(module, "func.func"):
            lower_vector_math(function)
        return []


@register("dlas-lower-lanes", context="iree")
@dataclass(frozen=True)
class LowerLanes(Pass):
    """:func:`dlas.passes.lower_lanes.lower_lanes` on every function."""

    def run(self, module: Any) -> list[Note]:
        _load_dialects(module.context)
        notes: list[Note] = []
        for function in walk(module, "func.func"):
            layers = [layer_of(op) for op in walk(function, "linalg.generic") if "dlas.lanes" in op.attributes]
            if lower_lanes(function):
                notes.append(Note(self.name, ", ".join(dict.fromkeys(layers)), True, f"{len(layers)} lane ops"))
        return notes


@register("dlas-outline-kernels", context="iree")
@dataclass(frozen=True)
class OutlineKernels(Pass):
    """:class:`dlas.passes.outline_kernels.OutlinedKernels`: one executable per distinct kernel.

    Attributes:
        restore: whether the bodies go back in (where IREE's phases would have run between).
    """

    restore: bool = False

    def run(self, module: Any) -> list[Note]:
        _load_dialects(module.context)
        outlined = OutlinedKernels(module)
        if self.restore:
            outlined.restore()
        return [Note(self.name, "", True, f"{len(outlined.keys)} kernels")]

"""What the pipeline does for a CPU and for a GPU: one class each, with the same methods."""

from __future__ import annotations

from pathlib import Path
from typing import Protocol

from iree.compiler import ir

from dlas.compiler import codegen
from dlas.compiler.scripts import read_script
from dlas.compiler.targets import AnyTarget, GpuTarget, Target
from dlas.dialects import TransformScript
from dlas.errors import UsageError
from dlas.passes.blocked_layout import LayoutReport
from dlas.passes.part_writes import isolate_part_writes
from dlas.passes.plan import Kernel
from dlas.schedules.gpu_rules import GpuRules
from dlas.schedules.grid import kernel_cycles
from dlas.schedules.knobs import VectorUnit
from dlas.schedules.measured import load_measurements
from dlas.schedules.rules import Rules

WINOGRAD = 4
"""The largest output tile of Winograd's domain unless something else is asked for."""

STRASSEN = True
"""Whether matrix products may be computed by Strassen's algorithm unless something else is asked for."""


class Backend(Protocol):
    """How kernels are formed and lowered for a target."""

    lowering: codegen.Lowering

    def lay_out(self, module: ir.Module) -> LayoutReport:
        """Forms kernels (IREE's context)."""

    def guard(self, module: ir.Module) -> None:
        """Keeps what the layout left from code that IREE would get wrong."""

    def fallback_flags(self, layout: LayoutReport) -> tuple[str, ...]:
        """Flags of IREE's compiler for what the layout left to it."""

    def cycles(self, kernel: Kernel) -> int:
        """Roughly, of one core for a call; 0: not known."""


class CpuBackend:
    """Channel blocks and planes, with the schedules of a vector unit."""

    lowering = codegen.CPU_LOWERING

    def __init__(
        self, target: Target, winograd: int | None, strassen: bool | None, measured: str | Path | None
    ) -> None:
        self.unit = unit_of(target)
        self.rules = rules_for(
            target,
            WINOGRAD if winograd is None else winograd,
            measured,
            strassen=STRASSEN if strassen is None else strassen,
        )

    def lay_out(self, module: ir.Module) -> LayoutReport:
        return codegen.lay_out(module, self.rules)

    def guard(self, module: ir.Module) -> None:
        """Nothing to do."""

    def fallback_flags(self, layout: LayoutReport) -> tuple[str, ...]:
        # Concatenations move data: there is nothing to vectorise.
        return codegen.FALLBACK_FLAGS if any(op != "tensor.concat" for _, op, _ in layout.refused) else ()

    def cycles(self, kernel: Kernel) -> int:
        return int(kernel_cycles(self.unit, kernel.flops, kernel.bytes))


class GpuBackend:
    """Kernels for pruned convolutions; everything else is IREE's."""

    def __init__(self, target: GpuTarget, **options: object) -> None:
        """``options``: those for CPUs; none may be given."""
        for option, value in options.items():
            if value is not None:
                raise UsageError(
                    f"{option}={value} is an option for CPUs",
                    where=f"target {target.name}",
                    hint=f"leave {option} out: GPUs have no such schedules",
                )
        subgroup = target.subgroup_sizes[0]
        threads = min(target.max_threads, target.max_workgroup_size[0])
        shares = (target.sparse_share, target.sparse_share_pointwise)
        self.rules = GpuRules(subgroup, threads, target.max_workgroups[0], *shares)
        self.lowering = codegen.gpu_lowering(subgroup)
        self.backend = target.backend

    def lay_out(self, module: ir.Module) -> LayoutReport:
        return codegen.lay_out_for_gpu(module, self.rules)

    def guard(self, module: ir.Module) -> None:
        if self.backend == "vulkan":
            for function in codegen.functions_of(module):
                isolate_part_writes(function)

    def fallback_flags(self, layout: LayoutReport) -> tuple[str, ...]:
        return ()

    def cycles(self, kernel: Kernel) -> int:
        return 0


def backend_for(
    target: AnyTarget,
    winograd: int | None = None,
    strassen: bool | None = None,
    measured: str | Path | None = None,
    script: str | Path | TransformScript | None = None,
) -> Backend:
    """The backend of a target, with the options that are about its schedules (None: not given).

    Raises:
        UsageError: an option that makes no sense for the target, or a file that cannot be used.
    """
    if script is not None:
        read_script(script)
    if isinstance(target, GpuTarget):
        return GpuBackend(target, winograd=winograd, strassen=strassen, measured=measured, transform_script=script)
    return CpuBackend(target, winograd, strassen, measured)


def rules_for(
    target: Target, winograd: int = WINOGRAD, measured: str | Path | None = None, *, strassen: bool = STRASSEN
) -> Rules:
    """The default scheduling rules of a CPU."""
    unit = unit_of(target)
    known = load_measurements(measured, unit, target.name) if measured else None
    return Rules(unit, winograd, known, target.cores, narrow=unit.narrowed(target.narrow_fma_units), strassen=strassen)


def unit_of(target: Target) -> VectorUnit:
    """A core of the target, as schedules see it."""
    return VectorUnit(
        target.simd_lanes,
        target.vector_registers,
        target.fma_units,
        target.fma_latency,
        l2_kb=target.l2_kb,
        l1_kb=target.l1d_kb,
        l3_kb=target.l3_kb,
    )

"""The pipeline: named stages from a model to an artifact."""

from __future__ import annotations

import contextlib
import importlib.metadata
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from iree.compiler import ir

from dlas.compiler import codegen
from dlas.compiler.backends import STRASSEN, WINOGRAD, backend_for
from dlas.compiler.diagnostics import first_diagnostic
from dlas.compiler.frontends import ImportedModel, canonicalise, import_model, without_sparse_types
from dlas.compiler.scripts import request_schedules
from dlas.compiler.targets import AnyTarget, GpuTarget, load_target
from dlas.dialects import TransformScript
from dlas.errors import ArtifactError, CompileError, UsageError
from dlas.passes.blocked_layout import LayoutReport
from dlas.runtime.artifact import Artifact, KernelRecord

STAGES = ("import", "canonicalise", "optimise", "schedule", "codegen", "package")

Progress = Callable[[str, int, int], None]  # (stage that starts, its number from 0, stages to run)


WINOGRAD_TILES = (0, 2, 4)


@dataclass(frozen=True)
class Options:
    """How to compile.

    Attributes:
        stop_after: the last stage to run (one of :data:`STAGES`), None: all.
        dump_ir: a folder that gets the module after each stage.
        schedules: False leaves every kernel to IREE (the baseline of benchmarks).
        parameters: where weights of at least ``parameters_threshold`` bytes go as an IREE parameter archive
            (``.irpa``); None: all weights stay in the module.
        parameters_threshold: bytes.
        winograd: the largest output tile m of Winograd's F(m x m, 3 x 3) that 3x3 convolutions may use, and of the same
            for the phases of stride 2. 4 costs up to a decimal digit (errors around 1e-6 of the largest value instead
            of 3e-7), 2 nothing; 0 is none. None: the target's default, 4 on CPUs; GPUs have no such schedules.
        strassen: whether products of matrices may be computed by Strassen's algorithm, one level of it, which doubles
            their errors (1e-6 of the largest value instead of 5e-7 at 128 channels). None: the target's default, True
            on CPUs; GPUs have no such schedules.
        measured: the JSON of an earlier ``dlas explain`` for this target: its times stand in for the estimates of the
            layout assignment where a convolution, its schedule and knobs are the same; None: estimates only.
        transform_script: a transform script, or the path of its file, that says which schedules and knobs layers get
            (``dlas.knobs``); layers that it leaves out get theirs as always. For CPUs.
        iree_flags: further flags of IREE's compiler.
        progress: called when a stage starts.
    """

    stop_after: str | None = None
    dump_ir: str | Path | None = None
    schedules: bool = True
    parameters: str | Path | None = None
    parameters_threshold: int = 1024
    winograd: int | None = None
    strassen: bool | None = None
    measured: str | Path | None = None
    transform_script: str | Path | TransformScript | None = None
    iree_flags: tuple[str, ...] = ()
    progress: Progress | None = None

    def __post_init__(self) -> None:
        if self.stop_after is not None and self.stop_after not in STAGES:
            raise UsageError(f"unknown stage {self.stop_after!r}", hint="stages: " + ", ".join(STAGES))
        if self.winograd is not None and self.winograd not in WINOGRAD_TILES:
            known = ", ".join(map(str, WINOGRAD_TILES))
            raise UsageError(f"winograd={self.winograd} is not an output tile", hint=f"use one of {known} (0: none)")
        if self.transform_script is not None and not self.schedules:
            raise UsageError("a transform script chooses among schedules", hint="leave it out, or --no-schedules")
        if self.parameters_threshold < 0:
            raise UsageError(f"parameters_threshold={self.parameters_threshold} is negative")


@dataclass
class Compilation:
    """The state that the stages hand on."""

    model: Any
    example_inputs: Any
    target: AnyTarget
    options: Options
    imported: ImportedModel | None = None
    module: Any = None  # IREE's context, from "optimise" on
    layout: LayoutReport = field(default_factory=LayoutReport)
    scheduled: list[codegen.ScheduledKernel] = field(default_factory=list)
    vmfb: bytes = b""
    artifact: Artifact | None = None
    stages: dict[str, float] = field(default_factory=dict)

    def run(self) -> Compilation:
        """Runs the stages up to ``options.stop_after``."""
        last = self.options.stop_after or STAGES[-1]
        names = STAGES[: STAGES.index(last) + 1]
        with contextlib.ExitStack() as stack:
            for number, name in enumerate(names):
                if self.options.progress is not None:
                    self.options.progress(name, number, len(names))
                start = time.perf_counter()
                _STAGES[name](self, stack)
                self.stages[name] = time.perf_counter() - start
                self._dump(name, number)
        return self

    # -- stages ----------------------------------------------------------------------------------------------------

    def _import(self, stack: contextlib.ExitStack) -> None:
        # First: a wrong file or flag is soon told.
        options = self.options
        self._backend = backend_for(
            self.target, options.winograd, options.strassen, options.measured, options.transform_script
        )
        self._session = codegen.CodegenSession(self.target, self._iree_flags())
        self.imported = import_model(self.model, self.example_inputs)

    def _canonicalise(self, stack: contextlib.ExitStack) -> None:
        assert self.imported is not None
        self.imported = canonicalise(self.imported)

    def _optimise(self, stack: contextlib.ExitStack) -> None:
        assert self.imported is not None
        stack.enter_context(self._session.context())
        with self._explained("IREE's compiler does not read the model"):
            self.module = ir.Module.parse(without_sparse_types(self.imported))
            self._session.set_device(self.module)
        if self.options.transform_script is not None:
            request_schedules(self.module, self.options.transform_script)
        if self.options.schedules:
            self.layout = self._backend.lay_out(self.module)
            with self._explained("the blocked layout does not fit this model", "--no-schedules leaves it to IREE"):
                self.module.operation.verify()
        self._backend.guard(self.module)

    def _schedule(self, stack: contextlib.ExitStack) -> None:
        if flags := self._backend.fallback_flags(self.layout):
            self._session.set_flags(*flags)
        if self.options.parameters is not None:
            codegen.outline_constants(self.module)
        codegen.form_executables(self._session, self.module)
        self.scheduled = codegen.schedule_kernels(self.module, self.layout.kernels, self._backend.lowering)

    def _codegen(self, stack: contextlib.ExitStack) -> None:
        self.vmfb = self._session.run_phases(self.module, first=codegen.SOURCES, last=None).vm_bytecode()

    def _package(self, stack: contextlib.ExitStack) -> None:
        assert self.imported is not None
        self.artifact = Artifact(
            vmfb=self.vmfb,
            inputs=self.imported.inputs,
            outputs=self.imported.outputs,
            target=self.target.to_dict(),
            kernels=tuple(self._records()),
            versions=versions(),
            model=self.imported.name,
            options={
                "schedules": self.options.schedules,
                "winograd": self._chosen(self.options.winograd, WINOGRAD),
                "strassen": self._chosen(self.options.strassen, STRASSEN),
                "iree_flags": list(self.options.iree_flags),
            },
            stages=self.stages,
            parameters=self._parameters(),
        )

    # -- details ---------------------------------------------------------------------------------------------------

    @contextlib.contextmanager
    def _explained(self, what: str, hint: str | None = None) -> Iterator[None]:
        """Makes a :class:`CompileError` of what MLIR says against the module."""
        assert self.imported is not None
        try:
            yield
        except ir.MLIRError as error:
            raise CompileError(f"{what}: {first_diagnostic(error)}", where=self.imported.name, hint=hint) from error

    def _chosen(self, option: int | None, default: int) -> int | None:
        """What an option for CPUs came to; None on a GPU."""
        if isinstance(self.target, GpuTarget):
            return None
        return default if option is None else option

    def _iree_flags(self) -> list[str]:
        flags = list(self.options.iree_flags)
        if self.options.parameters is not None:
            flags += [
                f"--iree-parameter-export=model={self.options.parameters}",
                f"--iree-parameter-export-minimum-size={self.options.parameters_threshold}",
            ]
        return flags

    def _parameters(self) -> Path | None:
        """The archive, if there was a weight to put into it."""
        path = Path(self.options.parameters) if self.options.parameters else None
        return path if path is not None and path.exists() else None

    def _records(self) -> Iterator[KernelRecord]:
        for item in self.scheduled:
            kernel = item.kernel
            if kernel is None:
                yield KernelRecord(item.export, item.layer, item.ops, None, {}, item.reason, 0, 0)
                continue
            layers = ", ".join(dict.fromkeys(layer for layer in kernel.layers if layer))
            choice = kernel.choice
            yield KernelRecord(
                item.export,
                layers,
                kernel.kind,
                choice.schedule if item.applied else None,
                dict(choice.knobs),
                choice.reason if item.applied else item.reason,
                kernel.flops,
                kernel.bytes,
                choice.problem,
                len(kernel.layers),
                kernel.workgroups,
                self._backend.cycles(kernel),
            )

    def _dump(self, name: str, number: int) -> None:
        if self.options.dump_ir is None:
            return
        folder = Path(self.options.dump_ir)
        if self.module is not None:
            text = self.module.operation.get_asm(large_elements_limit=16, large_resource_limit=16)
        else:
            assert self.imported is not None
            text = self.imported.parse().operation.get_asm(large_elements_limit=16, large_resource_limit=16)
        if name == "package":
            return
        try:
            folder.mkdir(parents=True, exist_ok=True)
            (folder / f"{number}-{name}.mlir").write_text(text)
        except OSError as error:
            raise ArtifactError(f"cannot be written: {error.strerror or error}", where=str(folder)) from error


_STAGES: dict[str, Callable[[Compilation, contextlib.ExitStack], None]] = {
    "import": Compilation._import,
    "canonicalise": Compilation._canonicalise,
    "optimise": Compilation._optimise,
    "schedule": Compilation._schedule,
    "codegen": Compilation._codegen,
    "package": Compilation._package,
}


def versions() -> dict[str, str]:
    """Versions of the packages that shape the code."""
    found = {}
    for package in ("dlas", "torch", "torch-mlir", "iree-base-compiler", "iree-base-runtime", "onnx", "numpy"):
        with contextlib.suppress(importlib.metadata.PackageNotFoundError):
            found[package] = importlib.metadata.version(package)
    return found


def compile_model(model: Any, example_inputs: Any, target: str | Path | AnyTarget, options: Options) -> Compilation:
    """Runs the pipeline; see :func:`dlas.compiler.api.compile`."""
    chosen = load_target(target) if isinstance(target, str | Path) else target
    chosen.check()
    return Compilation(model, example_inputs, chosen, options).run()

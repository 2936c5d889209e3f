"""The IREE boundary: the only module that drives IREE's compiler.

A compilation is one compiler session in this process. The module crosses into the session's own context as bytecode,
is laid out there, and runs to IREE's ``executable-sources`` phase, where every kernel is a ``func.func`` of its own.
Each kernel gets its schedule there, and the remaining phases emit the code.
"""

from __future__ import annotations

import ctypes
import os
import re
import sys
import tempfile
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass

import iree.compiler.api as iree_api
from iree.compiler import ir
from iree.compiler.api import ctypes_dl
from iree.compiler.passmanager import PassManager

from dlas.compiler.targets import AnyTarget, Target
from dlas.errors import CompileError, ScheduleError, UsageError
from dlas.passes.blocked_layout import BlockedLayout, LayoutReport
from dlas.passes.constants import constant_bytes
from dlas.passes.outline_kernels import OutlinedKernels, kernel_of
from dlas.passes.pad_groups import pad_groups
from dlas.passes.pixel_kernels import PixelKernels
from dlas.passes.plan import Kernel
from dlas.passes.sequence_kernels import SequenceKernels
from dlas.passes.sparsifier_kernels import SparsifierKernels
from dlas.passes.vector_math import lower_vector_math
from dlas.schedules.gpu_rules import GpuRules
from dlas.schedules.rules import Rules, apply_schedule

SOURCES = "executable-sources"
MULTIPLYING = (
    *("conv", "grouped", "depthwise", "pointwise", "separable", "sparse"),
    *("matmul", "attention", "batch_matmul"),
)

# What runs on a kernel after its schedule: bufferise and lower vectors (IREE's own CPU pipelines).
_AFTER_SCHEDULE = (
    "iree-codegen-math-transform",
    "canonicalize",
    "cse",
    "iree-codegen-optimize-tensor-insert-extract-slices",
    "canonicalize",
    "cse",
    # What a kernel names as a buffer (``bufferization.to_buffer``) has lost this part of its type before, bindings have
    # not: of another type than its binding, a buffer would be a copy.
    "iree-codegen-erase-hal-descriptor-type-from-memref",
    "iree-codegen-llvmcpu-bufferization-pipeline",
    "canonicalize",
    "cse",
    "iree-codegen-remove-single-iteration-loop",
    "iree-codegen-llvmcpu-vector-lowering-pipeline",
)

# IREE's default demotes f64 to f32, inputs and outputs too.
_COMMON_FLAGS = (
    "--iree-opt-level=O2",
    "--iree-input-type=none",
    "--iree-input-demote-f64-to-f32=false",
)

# IREE's default stack limit (32 KB) refuses embedding + layer norm kernels; powers of two only.
_CPU_FLAGS = ("--iree-llvmcpu-stack-allocation-limit=131072",)

# What runs on a planned kernel that its schedule does not fit: plain loops. IREE's own strategies are no choice here,
# because they would distribute a kernel anew whose workgroups are already settled.
_WITHOUT_SCHEDULE = (
    "iree-codegen-llvmcpu-bufferization-pipeline",
    "convert-linalg-to-loops",
    "canonicalize",
    "cse",
    "iree-codegen-llvmcpu-vector-lowering-pipeline",
)

# What no schedule takes is up to 8x faster with LLVM's own vectorisers (what schedules made is up to 9% slower).
FALLBACK_FLAGS = (
    "--iree-llvmcpu-loop-vectorization",
    "--iree-llvmcpu-slp-vectorization",
    "--iree-llvmcpu-loop-unrolling",
)

# What runs on a GPU kernel: bufferise, and make threads of the loop that is mapped to them. IREE makes PTX or SPIR-V of
# what is left, as of its own kernels.
_TO_THREADS = (
    "iree-codegen-math-transform",
    "iree-codegen-iree-comprehensive-bufferize",
    "canonicalize",
    "cse",
    "iree-codegen-gpu-distribute-forall",
    "fold-memref-alias-ops",
    "canonicalize",
    "cse",
)

_DIALECTS = (
    *("affine", "arith", "bufferization", "flow", "func", "hal", "iree_codegen", "iree_tensor_ext", "linalg", "math"),
    *("memref", "scf", "tensor", "util", "vector"),
)


@dataclass(frozen=True)
class Diagnostic:
    """A message of IREE's: severity 0 note, 1 warning, 2 error, 3 remark."""

    severity: int
    message: str


@dataclass
class ScheduledKernel:
    """A kernel in the compiled module: its export, and the record of its schedule (None: IREE's own code).

    ``applied`` is False where IREE's own code generation took over; ``reason`` says why.
    """

    export: str
    kernel: Kernel | None
    applied: bool = True
    reason: str = ""
    ops: str = ""
    layer: str = ""


@contextmanager
def _captured_stderr() -> Iterator[list[str]]:
    """The lines that native code writes to the process's stderr meanwhile, there when the block has ended."""
    lines: list[str] = []
    sys.stderr.flush()
    kept = os.dup(2)
    with tempfile.TemporaryFile() as file:
        os.dup2(file.fileno(), 2)
        try:
            yield lines
        finally:
            os.dup2(kept, 2)
            os.close(kept)
            file.seek(0)
            lines += file.read().decode(errors="replace").splitlines()


@dataclass(frozen=True)
class Lowering:
    """How kernels become code once their schedules are applied.

    Attributes:
        devices: whose kernels these are, for records.
        scheduled: passes of a kernel with a schedule.
        unscheduled: passes of a planned kernel that its schedule does not fit; None: that is a failure.
        subgroup: lanes of a subgroup; None on a CPU, which has no threads in a workgroup.
        expand: what to do with the functions of math.
    """

    devices: str
    scheduled: tuple[str, ...]
    unscheduled: tuple[str, ...] | None
    subgroup: int | None = None
    expand: Callable[[ir.Operation], object] | None = None

    def info(self, passes: Sequence[str], kernel: Kernel) -> ir.Attribute:
        """The ``translation_info`` by which IREE runs these passes on a kernel."""
        threads = "" if self.subgroup is None else f" workgroup_size = [{kernel.choice.knobs['threads']}, 1, 1]"
        lanes = "" if self.subgroup is None else f" subgroup_size = {self.subgroup}"
        pipeline = f'#iree_codegen.pass_pipeline<"{",".join(passes)}">'
        return ir.Attribute.parse(f"#iree_codegen.translation_info<pipeline = {pipeline}{threads}{lanes}>")


CPU_LOWERING = Lowering("CPUs", _AFTER_SCHEDULE, _WITHOUT_SCHEDULE, expand=lower_vector_math)


def gpu_lowering(subgroup: int) -> Lowering:
    """That of a GPU with so many lanes in a subgroup."""
    return Lowering("GPUs", _TO_THREADS, None, subgroup)


class CodegenSession:
    """One compiler session for one target."""

    def __init__(self, target: AnyTarget, extra_flags: Sequence[str] = ()) -> None:
        self.target = target
        self.session = iree_api.Session()
        self.set_flags(*target.iree_flags(), *_COMMON_FLAGS, *(_CPU_FLAGS if isinstance(target, Target) else ()))
        for flag in extra_flags:
            self.set_flags(flag)

    def set_flags(self, *flags: str) -> None:
        """Sets flags of IREE's compiler for the invocations to come.

        Raises:
            UsageError: a flag that IREE does not know, or its value.
        """
        where = f"IREE flag '{' '.join(flags)}'"
        with _captured_stderr() as said:
            try:
                self.session.set_flags(*flags)
                return
            except ValueError as error:
                failure = error
        if "option not found" in str(failure):
            hint = "most that iree-compile --help lists can be given"
            raise UsageError("IREE's compiler has no such flag", where=where, hint=hint) from failure
        reason = said[0].partition(" option: ")[2] if said else str(failure).rpartition("flags:")[2].strip()
        raise UsageError(reason, where=where) from failure

    @contextmanager
    def context(self) -> Iterator[ir.Context]:
        """The session's MLIR context, entered."""
        with self.session.context as context, ir.Location.unknown():
            for dialect in _DIALECTS:
                _ = context.dialects[dialect]  # an op of a dialect that is not loaded is created unregistered
            yield context

    def set_device(self, module: ir.Module) -> None:
        """Says in a module of the session's context what device it is for, where the session's flags do not."""
        if self.target.device_attribute is not None:
            device = ir.Attribute.parse(self.target.device_attribute)
            module.operation.attributes["hal.device.targets"] = ir.ArrayAttr.get([device])

    def run_phases(self, module: ir.Module, *, first: str | None, last: str | None) -> Invocation:
        """Runs IREE's phases after ``first`` up to ``last`` on ``module``, in place.

        Raises:
            CompileError: with the diagnostics that name an op or layer.
        """
        invocation = Invocation(self, module, first, last)
        if not invocation.execute():
            raise CompileError(*explain_diagnostics(invocation.diagnostics))
        return invocation


class Invocation:
    """An IREE invocation on a borrowed module, with its diagnostics captured."""

    def __init__(self, session: CodegenSession, module: ir.Module, first: str | None, last: str | None) -> None:
        self._invocation = session.session.invocation()
        self.diagnostics: list[Diagnostic] = []
        library = ctypes_dl._dylib
        pointer = self._invocation._inv_p
        self._callback = _CALLBACK(self._collect)  # kept alive as long as the invocation
        library.ireeCompilerInvocationEnableCallbackDiagnostics(pointer, 0, self._callback, None)
        # Not after each of its hundreds of passes: what enters is verified, and what leaves is run.
        library.ireeCompilerInvocationSetVerifyIR(pointer, False)
        if first is not None:
            library.ireeCompilerInvocationSetCompileFromPhase(pointer, first.encode())
        if last is not None:
            library.ireeCompilerInvocationSetCompileToPhase(pointer, last.encode())
        self._invocation.import_module(module.operation)

    def _collect(self, severity: int, message: int, length: int, _: int | None) -> None:
        text = ctypes.string_at(message, length).decode(errors="replace")
        self.diagnostics.append(Diagnostic(severity, text))

    def execute(self) -> bool:
        """Runs the phases; False where IREE reports a failure."""
        return bool(self._invocation.execute())

    def vm_bytecode(self) -> bytes:
        """The compiled module as the contents of a ``.vmfb``."""
        output = iree_api.Output.open_membuffer()
        self._invocation.output_vm_bytecode(output)
        return bytes(output.map_memory())


_CALLBACK = ctypes.CFUNCTYPE(None, ctypes.c_int, ctypes.c_void_p, ctypes.c_size_t, ctypes.c_void_p)


def _declare() -> None:
    # The wheel's Python layer does not wrap these functions of the stable C API.
    library = ctypes_dl._dylib
    for name in ("ireeCompilerInvocationSetCompileFromPhase", "ireeCompilerInvocationSetCompileToPhase"):
        function = getattr(library, name)
        function.argtypes, function.restype = [ctypes.c_void_p, ctypes.c_char_p], None
    library.ireeCompilerInvocationSetVerifyIR.argtypes = [ctypes.c_void_p, ctypes.c_bool]
    library.ireeCompilerInvocationSetVerifyIR.restype = None
    function = library.ireeCompilerInvocationEnableCallbackDiagnostics
    function.argtypes = [ctypes.c_void_p, ctypes.c_int, _CALLBACK, ctypes.c_void_p]
    function.restype = None


_declare()


def explain_diagnostics(diagnostics: Sequence[Diagnostic]) -> tuple[str, ...]:
    """The first error in one line."""
    errors = [d.message for d in diagnostics if d.severity == 2] or [d.message for d in diagnostics]
    if not errors:
        return ("IREE failed without a diagnostic",)
    text = re.sub(r"#hal\.executable\.target<.*", "", errors[0].splitlines()[0])
    return (text.strip(),)


def outline_constants(module: ir.Module) -> None:
    """Makes globals of the constants: what is exported as parameters."""
    PassManager.parse("builtin.module(iree-flow-outline-constants)").run(module.operation)


def lay_out(module: ir.Module, rules: Rules) -> LayoutReport:
    """Blocked layout and kernel formation on every function of the module (IREE's context)."""
    report = LayoutReport()
    rules = rules.for_model(constant_bytes(module.operation))
    layout, sequences, fallback = BlockedLayout(rules), SequenceKernels(rules), SparsifierKernels(rules)
    for view in module.body.operations:
        op = view.operation
        if op.name in ("func.func", "util.func") and op.regions[0].blocks:
            report.padded += [(layer, text) for layer, done, text in pad_groups(op, rules) if done]
            for part in (layout.run(op), sequences.run(op)):
                report.kernels.update(part.kernels)
                report.refused += part.refused
                report.assignments += part.assignments
                report.choices += part.choices
                report.apart += part.apart
                report.seconds += part.seconds
            part = fallback.run(op)
            taken = {choice[:2] for choice in part.choices}
            report.refused = [entry for entry in report.refused if entry[:2] not in taken] + part.refused
            report.kernels.update(part.kernels)
            report.seconds += part.seconds
    return report


def form_executables(session: CodegenSession, module: ir.Module) -> None:
    """Runs IREE's phases to ``executable-sources``, with the bodies of planned kernels set aside meanwhile.

    Raises:
        CompileError: see :meth:`CodegenSession.run_phases`.
    """
    outlined = OutlinedKernels(module)
    session.run_phases(module, first=None, last=SOURCES)
    outlined.restore()


def lay_out_for_gpu(module: ir.Module, rules: GpuRules) -> LayoutReport:
    """Kernel formation for a GPU on every function of the module (IREE's context); layouts stay as they are."""
    report = LayoutReport()
    kernels = PixelKernels(rules)
    for function in functions_of(module):
        part = kernels.run(function)
        report.kernels.update(part.kernels)
        report.refused += part.refused
        report.seconds += part.seconds
    return report


def functions_of(module: ir.Module) -> list[ir.Operation]:
    """The functions of a module that have bodies."""
    functions = (view.operation for view in module.body.operations)
    return [op for op in functions if op.name in ("func.func", "util.func") and op.regions[0].blocks]


def schedule_kernels(
    module: ir.Module, kernels: dict[str, Kernel], lowering: Lowering = CPU_LOWERING
) -> list[ScheduledKernel]:
    """Applies each kernel's schedule at the ``executable-sources`` phase and sets how the rest is lowered.

    On a CPU, a kernel that its schedule does not fit becomes plain loops, and its record says why.

    Raises:
        CompileError: a planned kernel is missing, or does not fit on a GPU.
        ScheduleError: one that a transform script asks for does not fit.
    """
    scheduled: list[ScheduledKernel] = []
    for function in find_ops(module.operation, lambda op: op.name == "func.func"):
        export = ir.StringAttr(function.attributes["sym_name"]).value
        key = kernel_of(function)
        if key is None:
            scheduled.append(_unscheduled(export, function, lowering.devices))
            continue
        kernel = kernels[key]
        untouched = function.clone(ip=ir.InsertionPoint(function)).operation
        try:
            apply_schedule(kernel, function)
            verify_scheduled(kernel, function)
            if lowering.expand is not None:
                lowering.expand(function)
        except ScheduleError as error:
            if kernel.choice.asked:  # there is nothing to fall back to
                raise
            if lowering.unscheduled is None:
                raise CompileError(str(error)) from error
            function.erase()
            untouched.attributes["translation_info"] = lowering.info(lowering.unscheduled, kernel)
            scheduled.append(ScheduledKernel(export, kernel, applied=False, reason=str(error)))
            continue
        untouched.erase()
        function.attributes["translation_info"] = lowering.info(lowering.scheduled, kernel)
        scheduled.append(ScheduledKernel(export, kernel))
    missing = set(kernels) - {s.kernel.key for s in scheduled if s.kernel is not None}
    if missing:
        names = ", ".join(sorted(missing))
        raise CompileError(f"kernels without code: {names}", hint="IREE dropped a planned dispatch")
    return scheduled


def verify_scheduled(kernel: Kernel, function: ir.Operation) -> None:
    """Checks what the schedule made: no linalg op or copy is left, and what multiplies does so in vector FMAs.

    Raises:
        ScheduleError: with the op that is left, or the FMAs that are missing.
    """
    where = f"layer {', '.join(filter(None, kernel.layers)) or kernel.key}"
    left = find_ops(function, lambda op: op.name.startswith("linalg.") and op.name != "linalg.yield")
    if left:
        raise ScheduleError(f"{left[0].name} is left after schedule {kernel.choice.schedule}", where=where)
    copied = find_ops(function, _is_copy)
    if copied:
        raise ScheduleError(f"a copy without vectors is left after schedule {kernel.choice.schedule}", where=where)
    if kernel.kind in MULTIPLYING and not find_ops(
        function, lambda op: op.name in ("vector.fma", "vector.outerproduct", "math.fma")
    ):
        raise ScheduleError(f"no vector.fma after schedule {kernel.choice.schedule}", where=where)


def _is_copy(op: ir.Operation) -> bool:
    """A slice of one tensor inserted into another: what bufferises to a loop over scalars."""
    if op.name != "tensor.insert_slice":
        return False
    source = getattr(op.operands[0].owner, "operation", None)
    return source is not None and source.name == "tensor.extract_slice"


def _unscheduled(export: str, function: ir.Operation, devices: str) -> ScheduledKernel:
    named = find_ops(function, lambda op: "dlas.layer" in op.attributes)
    layer = ir.StringAttr(named[0].attributes["dlas.layer"]).value if named else ""
    reason = f"no schedule for these ops on {devices}: IREE's own code generation"
    return ScheduledKernel(export, None, False, reason, _op_summary(function), layer)


def _op_summary(function: ir.Operation) -> str:
    names = [op.name for op in find_ops(function, lambda op: op.name.startswith(("linalg.", "iree_linalg_ext.")))]
    return " + ".join(name for name in names if name != "linalg.yield") or "data movement"


def find_ops(root: ir.Operation, wanted: Callable[[ir.Operation], bool]) -> list[ir.Operation]:
    """Every op under ``root`` that ``wanted`` takes, in order."""
    found: list[ir.Operation] = []

    def visit(op: ir.Operation) -> ir.WalkResult:
        if wanted(op.operation):
            found.append(op.operation)
        return ir.WalkResult.ADVANCE

    root.walk(visit)
    return found

"""Compilers that leave an artifact: ours, IREE with its defaults, TVM."""

from __future__ import annotations

import re
from typing import Any, ClassVar

from dlas.errors import DlasError

from ..source import Case
from .base import TORCH_KINDS, Peer

IREE_FLAGS = (
    "--iree-hal-target-device=local",
    "--iree-hal-local-target-device-backends=llvm-cpu",
    "--iree-llvmcpu-target-cpu=host",
    "--iree-opt-level=O2",
)


class Dlas(Peer):
    """``dlas.compile`` with its defaults, or a transform script."""

    name = "dlas"
    requires: ClassVar = {"iree.compiler": "iree-base-compiler", "iree.runtime": "iree-base-runtime"}

    def build(self, case: Case) -> None:
        import dlas

        model = f"zoo:{case.source.text}" if case.source.kind == "zoo" else case.source.text
        with self.compiling():
            options = dlas.Options(transform_script=case.transform_script)
            artifact = dlas.compile(model, target=case.target, options=options)
        artifact.save(case.folder / f"{self.name}.vmfb")

    def prepare(self, case: Case) -> None:
        from dlas import runtime

        artifact = runtime.Artifact.load(case.folder / f"{self.name}.vmfb")
        local = "local-sync" if case.threads == 1 else "local-task"
        device = (case.device if self.name == Dlas.name else None) or artifact.target.get("backend") or local
        # Elsewhere than on "local-task", threads are the device's own affair.
        threads = case.threads if device == "local-task" else 1
        self.session = runtime.load(artifact, device=device, threads=threads)
        self.inputs = case.load_inputs()
        self.call = self.session.bind(*self.inputs)  # type: ignore[method-assign]

    def run(self) -> Any:
        return self.session(*self.inputs)


class Iree(Dlas):
    """Stock IREE at -O2 on torch-mlir's import: no pass and no schedule of ours, in the session that ours runs in."""

    name = "iree"
    requires: ClassVar = {**Dlas.requires, "torch_mlir": "torch-mlir"}

    def build(self, case: Case) -> None:
        from iree.compiler import CompilerToolError, compile_str

        from dlas.compiler.frontends import import_model
        from dlas.runtime.artifact import Artifact

        with self.compiling():
            imported = (
                import_model(case.source.text, None) if case.source.kind == "onnx" else import_model(*case.module())
            )
            try:
                vmfb = compile_str(imported.bytecode, input_type="auto", extra_args=list(IREE_FLAGS))
            except CompilerToolError as error:
                raise DlasError(f"iree-compile: {first_complaint(str(error))}") from error
        artifact = Artifact(
            vmfb=vmfb,
            inputs=imported.inputs,
            outputs=imported.outputs,
            target={"iree_flags": list(IREE_FLAGS)},
            kernels=(),
            versions={},
            model=case.source.label,
        )
        artifact.save(case.folder / f"{self.name}.vmfb")


def first_complaint(diagnostics: str) -> str:
    """The first error in what a compiler says, without its place; the last line where it names none."""
    if found := re.search(r"\berror: (.+)", diagnostics):
        return found[1].strip()
    # Behind what iree-compile said come its command line and advice; before it, its exit status.
    said = diagnostics.partition("Invoked with:")[0].replace("Diagnostics:\n", "")
    return (said.strip().splitlines() or ["no message"])[-1].strip()


class Tvm(Peer):
    """Apache TVM: Relax's default pipeline for LLVM and this processor on the exported program, no tuning. That
    pipeline schedules nothing for CPUs: a convolution stays the loops of its definition."""

    name = "tvm"
    requires: ClassVar = {"tvm": "apache-tvm"}
    kinds = TORCH_KINDS

    @classmethod
    def environment(cls, threads: int) -> dict[str, str]:
        return {**super().environment(threads), "TVM_NUM_THREADS": str(threads)}

    def build(self, case: Case) -> None:
        import torch
        import tvm
        from tvm import relax
        from tvm.relax.frontend.torch import from_exported_program

        module, inputs = case.module()
        with self.compiling():
            program = torch.export.export(module, inputs).run_decompositions()
            imported = relax.transform.LegalizeOps()(from_exported_program(program))
            tvm.compile(imported, target=tvm.target.Target.from_device("cpu")).export_library(
                str(case.folder / "tvm.so")
            )

    def prepare(self, case: Case) -> None:
        import tvm
        from tvm import relax

        device = tvm.cpu()
        machine = relax.VirtualMachine(tvm.runtime.load_module(str(case.folder / "tvm.so")), device)
        self.main = machine["main"]
        self.inputs = [tvm.runtime.tensor(x, device) for x in case.load_inputs()]

    def run(self) -> Any:
        return [output.numpy() for output in self.main(*self.inputs)]

    def call(self) -> Any:
        return self.main(*self.inputs)

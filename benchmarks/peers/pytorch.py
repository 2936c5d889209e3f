"""PyTorch, eager and compiled."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, ClassVar

from ..source import Case
from .base import TORCH_KINDS, Peer


class TorchEager(Peer):
    """``module(*inputs)`` in inference mode."""

    name = "torch"
    requires: ClassVar = {"torch": "torch"}
    kinds = TORCH_KINDS

    def prepare(self, case: Case) -> None:
        import torch

        torch.set_num_threads(case.threads)
        self.module: Any = case.source.load_module()[0]
        self.inputs = [torch.from_numpy(x) for x in case.load_inputs()]
        self.inference_mode = torch.inference_mode

    def run(self) -> Any:
        with self.inference_mode():
            return self.module(*self.inputs)


class TorchCompile(TorchEager):
    """``torch.compile`` with its defaults (Inductor)."""

    name = "torch.compile"

    @classmethod
    def environment(cls, threads: int) -> dict[str, str]:
        # One compile thread: Inductor's pool of worker processes would outlive the compilation. No caches: what an
        # earlier run compiled would pass for a fast compiler.
        inductor = {"TORCHINDUCTOR_COMPILE_THREADS": "1", "TORCHINDUCTOR_FORCE_DISABLE_CACHES": "1"}
        return {**super().environment(threads), **inductor}

    def prepare(self, case: Case) -> None:
        import torch

        super().prepare(case)
        self.module = torch.compile(self.module)
        with self.compiling():
            self.run()


class AotInductor(Peer):
    """Inductor's code for the exported program, compiled ahead of time to a package that needs no Python."""

    name = "aotinductor"
    requires: ClassVar = {"torch": "torch"}
    kinds = TORCH_KINDS

    def build(self, case: Case) -> None:
        import torch
        from torch._inductor import aoti_compile_and_package

        module, inputs = case.source.load_module()
        configs = {"compile_threads": 1, "force_disable_caches": True}
        with self.compiling(), torch.no_grad(), _code_for(case.threads):
            program = torch.export.export(module, inputs)
            aoti_compile_and_package(program, package_path=str(_package(case)), inductor_configs=configs)

    def prepare(self, case: Case) -> None:
        import torch
        from torch._inductor import aoti_load_package

        torch.set_num_threads(case.threads)
        self.package: Any = aoti_load_package(str(_package(case)))
        self.inputs = [torch.from_numpy(x) for x in case.load_inputs()]
        self.inference_mode = torch.inference_mode

    def run(self) -> Any:
        with self.inference_mode():
            return self.package(*self.inputs)


def _package(case: Case) -> Path:
    return case.folder / "aotinductor.pt2"


@contextmanager
def _code_for(threads: int) -> Iterator[None]:
    """Has torch, and Inductor, which decides by it what is worth threads, compute with so many."""
    import torch

    before = torch.get_num_threads()
    torch.set_num_threads(threads)
    try:
        yield
    finally:
        torch.set_num_threads(before)

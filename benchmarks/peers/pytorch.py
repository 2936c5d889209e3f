"""PyTorch, eager and compiled."""

from __future__ import annotations

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
        # One compile thread: Inductor's pool of worker processes would outlive the compilation.
        return {**super().environment(threads), "TORCHINDUCTOR_COMPILE_THREADS": "1"}

    def prepare(self, case: Case) -> None:
        import torch

        super().prepare(case)
        self.module = torch.compile(self.module)
        with self.compiling():
            self.run()

"""Run compiled models: artifacts, sessions, benchmarks and profiles.

Stands alone: importing this package needs numpy and ``iree.runtime`` only, never torch, torch-mlir or the compiler
wheel (``dlas.runtime.torch_backend`` is the one module that imports torch, and nothing here imports it).
"""

from __future__ import annotations

from dlas.runtime.artifact import Artifact, KernelRecord, TensorSpec
from dlas.runtime.benchmark import BenchmarkReport, measure
from dlas.runtime.profile import KernelTime
from dlas.runtime.session import BoundCall, Session, load

__all__ = [
    "Artifact",
    "BenchmarkReport",
    "BoundCall",
    "KernelRecord",
    "KernelTime",
    "Session",
    "TensorSpec",
    "load",
    "measure",
]

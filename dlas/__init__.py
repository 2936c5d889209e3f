"""dlas: a tensor compiler backend in Python on MLIR (torch-mlir, transform-dialect schedules, IREE).

The public surface; every name is imported on first use, so that ``dlas.runtime`` works without torch, torch-mlir
or the compiler wheel.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from dlas.compiler.api import Options, compile
    from dlas.compiler.prune import prune
    from dlas.runtime import Artifact, Session, load

__version__ = "0.1.0"

_PUBLIC = {
    "compile": "dlas.compiler.api",
    "Options": "dlas.compiler.api",
    "prune": "dlas.compiler.prune",
    "Artifact": "dlas.runtime",
    "Session": "dlas.runtime",
    "load": "dlas.runtime",
    "DlasError": "dlas.errors",
}

__all__ = ["Artifact", "DlasError", "Options", "Session", "__version__", "compile", "load", "prune"]


def __getattr__(name: str) -> Any:
    if name not in _PUBLIC:
        raise AttributeError(f"module 'dlas' has no attribute {name!r}")
    return getattr(importlib.import_module(_PUBLIC[name]), name)

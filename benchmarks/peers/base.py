"""What a peer is: how it compiles a model, loads it, and runs one inference."""

from __future__ import annotations

import importlib.util
import sys
import time
from abc import ABC, abstractmethod
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, ClassVar

from ..source import Case

TORCH_KINDS = frozenset({"zoo", "pt2"})
ALL_KINDS = frozenset({"zoo", "pt2", "onnx"})


class Peer(ABC):
    """One engine under measurement.

    :meth:`build` is called in the process that holds the torch module and leaves files in ``case.folder``;
    :meth:`prepare` and :meth:`run` in a process of the peer's own, whose thread settings :meth:`environment` gave
    before anything was imported, so that its memory is that of inference alone.
    """

    name: ClassVar[str]
    requires: ClassVar[dict[str, str]]
    """Importable module -> the distribution that brings it."""
    kinds: ClassVar[frozenset[str]] = ALL_KINDS
    """The kinds of model it takes (see :class:`dlas.benchmarks.source.Source`)."""
    needs_onnx: ClassVar[bool] = False

    def __init__(self) -> None:
        self.compile_s = 0.0

    @classmethod
    def missing(cls) -> list[str]:
        """The distributions that are not installed."""
        return [package for module, package in cls.requires.items() if not _importable(module)]

    @classmethod
    def remedy(cls) -> str:
        """What to do about what is missing."""
        return f"pip install {' '.join(cls.missing())}"

    @classmethod
    def python(cls) -> str:
        """The Python that runs the model, in which this package is found but its dependencies need not be."""
        return sys.executable

    @classmethod
    def environment(cls, threads: int) -> dict[str, str]:
        """Variables of the process that runs the model."""
        return dict.fromkeys(("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS"), str(threads))

    def build(self, case: Case) -> None:  # noqa: B027  (most engines compile when they load)
        """Compile ahead of time into ``case.folder``."""

    @abstractmethod
    def prepare(self, case: Case) -> None:
        """Load the model and its inputs, ready for :meth:`run`."""

    @abstractmethod
    def run(self) -> Any:
        """One inference on the prepared inputs; returns its outputs."""

    def call(self) -> Any:
        """What is timed: one inference with inputs bound beforehand, where the engine can, and outputs left in it."""
        return self.run()

    @contextmanager
    def compiling(self) -> Iterator[None]:
        """Count the time of this block as compilation."""
        begin = time.perf_counter()
        try:
            yield
        finally:
            self.compile_s += time.perf_counter() - begin


def _importable(module: str) -> bool:
    try:
        return importlib.util.find_spec(module) is not None
    except ModuleNotFoundError:  # the parent of a dotted name is not there
        return False

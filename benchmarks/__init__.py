"""Benchmarks against peers: ``bench`` is what the ``dlas bench`` command calls."""

from __future__ import annotations

from .peers import PEERS
from .report import BenchReport, Row
from .runner import Progress, bench

__all__ = ["PEERS", "BenchReport", "Progress", "Row", "bench"]

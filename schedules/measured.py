"""Measured times of kernels, which stand in for estimates: what ``dlas explain --json`` wrote of an earlier compile."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from dlas.errors import UsageError
from dlas.passes.plan import Choice
from dlas.schedules.knobs import VectorUnit

Key = tuple[str, str, tuple[tuple[str, int], ...]]  # problem, schedule, knobs


@dataclass(frozen=True)
class Measurements:
    """Cycles of one call, by problem (:attr:`dlas.passes.conv.ConvShape.problem`), schedule and knobs."""

    cycles: Mapping[Key, float] = field(default_factory=dict)

    def get(self, choice: Choice) -> float | None:
        """The measured cycles of a choice; None if it was not measured."""
        return self.cycles.get(_key(choice.problem, choice.schedule, choice.knobs))


def load_measurements(path: str | Path, unit: VectorUnit, target: str) -> Measurements:
    """Reads what ``dlas explain MODEL --json`` printed for this target on this host.

    Raises:
        UsageError: no such file, not that command's JSON, for another target, or without times.
    """
    where = str(path)
    hint = "a file of `dlas explain MODEL --json`"
    try:
        data = json.loads(Path(path).read_text())
    except OSError as error:
        raise UsageError(f"cannot be read: {error.strerror or error}", where=where, hint=hint) from error
    except ValueError as error:
        raise UsageError(f"not JSON: {error}", where=where, hint=hint) from error
    try:
        found, roofline, kernels = data["target"], data["roofline"], data["kernels"]
        if found != target:
            raise UsageError(f"measured for target {found!r}, not {target!r}", where=where)
        if roofline is None:
            raise UsageError("has no measured peak to turn times into cycles by", where=where, hint=hint)
        gigahertz = float(roofline["peak_gflops"]) / (2 * unit.lanes * unit.fma_units)
        times: dict[Key, list[float]] = {}
        for kernel in kernels:
            if kernel["problem"] and kernel["schedule"] and kernel["calls"]:
                key = _key(kernel["problem"], kernel["schedule"], kernel["knobs"])
                times.setdefault(key, []).append(1e3 * gigahertz * kernel["time_us"] / kernel["calls"])
    except (KeyError, TypeError, AttributeError, ZeroDivisionError) as error:
        raise UsageError(f"lacks what `dlas explain --json` writes: {error}", where=where, hint=hint) from error
    if not times:
        raise UsageError("has no timed convolution", where=where, hint=hint)
    return Measurements({key: sum(each) / len(each) for key, each in times.items()})


def _key(problem: str, schedule: str, knobs: Mapping[str, Any]) -> Key:
    return problem, schedule, tuple(sorted((name, int(value)) for name, value in knobs.items()))

"""What passes decide before they touch the module: plans, refusals, and the record of each kernel."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field


@dataclass(frozen=True)
class Refusal:
    """Why a pass or schedule leaves an op alone; ``dlas explain`` prints the reason."""

    reason: str


@dataclass(frozen=True)
class Choice:
    """A schedule for one kernel: its name, its knobs, and why it was chosen.

    ``problem`` says what it computes, for comparing kernels of several models (empty where nothing compares them).
    """

    schedule: str
    knobs: Mapping[str, int]
    reason: str
    problem: str = field(default="", repr=False, compare=False)


@dataclass
class Kernel:
    """One kernel that the layout pass formed; ``layers`` grows when several layers share it.

    Attributes:
        key: identity of the kernel, on its ops as ``dlas.kernel``.
        kind: class of the kernel, e.g. ``grouped`` or ``pack``.
        choice: its schedule.
        extents: loop extents the schedule needs.
        layers: source layers that run it.
        flops, bytes: of one call.
    """

    key: str
    kind: str
    choice: Choice
    extents: Mapping[str, int]
    layers: list[str] = field(default_factory=list)
    flops: int = 0
    bytes: int = 0

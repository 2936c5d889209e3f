"""What passes decide before they touch the module: plans, refusals, and the record of each kernel."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field


@dataclass(frozen=True)
class Refusal:
    """Why a pass or schedule leaves an op alone; ``dlas explain`` prints the reason."""

    reason: str


@dataclass(frozen=True)
class Choice:
    """A schedule for one kernel: its name, its knobs, and why it was chosen.

    ``problem`` says what it computes, for comparing kernels of several models (empty where nothing compares them).
    ``asked``: a transform script asks for it, so that there is nothing to fall back to.
    """

    schedule: str
    knobs: Mapping[str, int]
    reason: str
    problem: str = field(default="", repr=False, compare=False)
    asked: bool = field(default=False, compare=False)


@dataclass
class Kernel:
    """One kernel that the layout pass formed; ``layers`` grows when several layers share it.

    Attributes:
        key: identity of the kernel, on its ops as ``dlas.kernel``.
        kind: class of the kernel, e.g. ``grouped`` or ``pack``.
        choice: its schedule.
        extents: loop extents the schedule needs.
        layers: source layers that run it.
        flops, bytes: of one call; the mean where calls differ.
        workgroups: of one call; the mean where calls differ.
    """

    key: str
    kind: str
    choice: Choice
    extents: Mapping[str, int]
    layers: list[str] = field(default_factory=list)
    flops: int = 0
    bytes: int = 0
    workgroups: int = 1

    def add_call(self, layer: str, flops: int, moved: int, workgroups: int) -> None:
        """Counts a call of the kernel for a layer."""
        calls = len(self.layers)
        self.layers.append(layer)
        self.flops, self.bytes, self.workgroups = (
            round((mean * calls + value) / (calls + 1))
            for mean, value in ((self.flops, flops), (self.bytes, moved), (self.workgroups, workgroups))
        )


@dataclass(frozen=True)
class Grid:
    """How a kernel's tiles are dealt out to workgroups; a tile is some channel blocks of an image, rows are its rows.

    Attributes:
        tiles: tiles that one workgroup computes, one after the other.
        rows: rows of a tile that one workgroup computes, in the kernel's units; None: all. Not with several tiles.
    """

    tiles: int = 1
    rows: int | None = None

    def bands(self, units: int) -> int:
        """Workgroups per tile of ``units`` rows."""
        return -(-units // self.rows) if self.rows else 1

    def workgroups(self, tiles: int, units: int) -> int:
        """Workgroups of a kernel of ``tiles`` tiles of ``units`` rows."""
        return -(-tiles // self.tiles) * self.bands(units)


GridPolicy = Callable[[int, int, int, int], Grid]
"""The grid of a kernel from its tiles, the rows of each, its operations and its bytes."""


def one_tile_each(tiles: int, units: int, flops: int, moved: int) -> Grid:
    """The grid without a policy: a workgroup per tile."""
    return Grid()

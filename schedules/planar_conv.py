"""Dense convolutions on planes: the knobs that their kernels, which are emitted as vector code, are emitted for."""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass

from dlas.errors import ScheduleError
from dlas.passes.conv import ConvShape
from dlas.passes.planar import LINE, RegisterTile, reads_in_place, tap_places
from dlas.schedules.costs import row_copy_cycles
from dlas.schedules.knobs import VectorUnit
from dlas.schedules.sparse_cost import KEPT, NOT_KEPT, straddling

MAX_TAPS = 25
"""Taps of a kernel, which are unrolled."""

# Loads also take issue slots of the FMAs: cycles per load; cycles per vector of the result; per line of a tile's input
# that comes from level 2, where all of it does not stay in level 1; bytes of the input and result per cycle, and those
# of phases that do not stay in level 2. Fitted to layers of 24 to 960 channels, 1x1 and 3x3 in 1, 8 and 16 groups.
_SLOTS, _RESULT, _LINE_FROM_L2, _STREAMED, _SPILLED = 0.08, 3.0, 2.1, 24.0, 12.0
# Cycles of a workgroup at least, where there are several.
_WORKGROUP = 16_000


@dataclass(frozen=True)
class PlanarConvKnobs:
    """Knobs of :meth:`dlas.passes.planar_conv_kernels.PlanarConvKernels.planar_conv`.

    Attributes:
        t_k: output channels that stay in registers, T_K, a divisor of those of a group.
        accumulators: vectors of pixels of each that stay in registers, at most.
        k_w: output channels of a workgroup, a multiple of ``t_k``.
        run: register tiles of pixels of a workgroup.
    """

    t_k: int
    accumulators: int
    k_w: int
    run: int

    def __post_init__(self) -> None:
        for name in ("t_k", "accumulators", "k_w", "run"):
            if getattr(self, name) < 1:
                raise ScheduleError(f"{name}={getattr(self, name)} is not positive", where="planar_conv")
        if self.k_w % self.t_k:
            raise ScheduleError(f"k_w={self.k_w} is no multiple of t_k={self.t_k}", where="planar_conv")


@dataclass(frozen=True)
class PlanarTile:
    """Knobs of the kernel with its estimated cycles for one image, copies that it needs included."""

    knobs: PlanarConvKnobs
    cycles: float


def planar_tile(unit: VectorUnit, shape: ConvShape, cores: int) -> PlanarTile:
    """The knobs with the fewest estimated cycles."""
    return min(planar_tiles(unit, shape, cores), key=lambda tile: tile.cycles)


def planar_tiles(unit: VectorUnit, shape: ConvShape, cores: int) -> Iterator[PlanarTile]:
    """Every register tile that fits, one for each ``t_k`` and number of vectors."""
    in_place, taps = reads_in_place(shape), shape.k_h * shape.k_w
    columns = (shape.k_w - 1) * shape.dilation[1] // shape.stride[1]
    pitch = shape.out_w + (max(shape.pads[1], shape.pads[3]) if in_place else columns)
    pixels = (shape.out_h - 1) * pitch + shape.out_w
    split = (1 - 1 / shape.k_w) * straddling(unit.lanes, 1)  # the first column is aligned, others begin anywhere
    if not any(shape.pads) and in_place:  # NCHW's own planes
        split = straddling(unit.lanes, shape.out_h * shape.out_w)
    streamed = 4 * (shape.c_in * shape.in_h * shape.in_w + shape.c_out * shape.out_h * shape.out_w) / _STREAMED
    copies, rows = 0.0, shape.k_h
    if not in_place:
        places = tap_places(shape, shape.pads)
        used = len({phase for phase, _, _ in places})
        rows = len({(phase, row) for phase, row, _ in places})
        copied = shape.in_h * shape.in_w + used * (shape.out_h + shape.k_h - 1) * pitch
        copies = row_copy_cycles(shape.c_in * copied) + max(0, 4 * shape.c_in * copied - 1024 * unit.l2_kb) / _SPILLED
    for t_k in (t for t in range(1, 9) if shape.k_per_group % t == 0):
        for vectors in range(1, unit.registers):
            if t_k * vectors + min(t_k, vectors) + 1 > unit.registers:
                break
            register = RegisterTile.of(pixels, unit.lanes, vectors)
            accumulators = t_k * register.vectors
            step = max(accumulators, unit.fma_units * unit.fma_latency) / unit.fma_units
            # The input of a tile is read again for every T_K channels.
            lines = rows * (math.ceil(register.vectors * unit.lanes / LINE) + (1 if split else 0))
            panel = 64 * shape.c_per_group * lines / (1024 * unit.l1_kb)
            missed = lines * min(1.0, max(0.0, panel - KEPT) / (NOT_KEPT - KEPT))
            loads = t_k + register.vectors * (1 + split)
            multiply = max(step, loads / unit.loads) + _SLOTS * loads
            per_channel = taps * multiply + missed * _LINE_FROM_L2
            tile = shape.c_out // t_k * (shape.c_per_group * per_channel + accumulators * _RESULT)
            total = register.count * tile + streamed
            yield PlanarTile(_knobs(shape, t_k, register, total, cores), total + copies)


def _knobs(shape: ConvShape, t_k: int, register: RegisterTile, cycles: float, cores: int) -> PlanarConvKnobs:
    """Workgroups of all channels of a group and as many register tiles as leave enough of them."""
    wanted = max(1, min(int(shape.batch * cycles / _WORKGROUP), 8 * cores if cores > 1 else 1))
    parts = max(1, math.ceil(wanted / (shape.batch * shape.groups)))
    run = math.ceil(register.count / parts)
    whole = shape.batch * shape.groups // wanted if parts == 1 else 1
    groups = max(n for n in range(1, max(1, whole) + 1) if shape.groups % n == 0)
    return PlanarConvKnobs(t_k, register.vectors, groups * shape.k_per_group, run)

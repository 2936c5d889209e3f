"""Estimated cycles of kernels and of transforms between layouts: what the layout assignment weighs.

Rates were measured on a core with 8 lanes, 2 FMA units and 20 GB/s from memory, on kernels alone.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

from dlas.passes.conv import ConvShape
from dlas.passes.layout_assignment import NCHW, PLANAR, block_of
from dlas.schedules.knobs import VectorUnit, lane_tile
from dlas.schedules.knobs import packed_cycles as best_packed_cycles
from dlas.schedules.winograd_cost import lane_tile_operations

DISPATCH = 5000.0
"""Cycles that a kernel costs beyond its work: 1.5 us."""

# Bytes per cycle, reads and writes together: B x B transposes in registers, rows of an NCHW tensor, whole vectors; and
# those between blocks of two sizes (25 to 39 were measured on a core with AVX-512, on 0.2 to 2.4 MB).
_TRANSPOSED, _PADDED, _STREAMED, _REPACKED = 11.0, 17.0, 12.0, 24.0

# The same of transposes to and from channels-last: by IREE from and to NCHW, by copies of vectors from and to blocks
# (6.6 to 7.4, and 15 to 19, were measured on 1.2 MB each way).
_LAST_TRANSPOSED, _LAST_COPIED = 7.0, 16.0

# Share of the vector units' rate that kernels of lanes reach, and what a shuffle takes of an operation's time.
_LANES_SHARE, _SHUFFLE = 0.9, 0.15

# Bytes per cycle from level 2 of weights that feed one multiply-add each (16 channels per group at 16 lanes).
_LANE_WEIGHTS = 24.0

# How many times longer IREE's own code takes for NCHW pooling and reductions (2 to 15 and 1 to 3 were measured).
_IREE_WINDOW, _IREE_STREAM = 8.0, 1.5


def transform_cycles(unit: VectorUnit, shape: Sequence[int], source: str, target: str) -> float:
    """A pack or unpack of an activation; a repack between blocks of two sizes; to or from planes, by NCHW."""
    batch, channels, height, width = shape
    blocks = [block for name in (source, target) if (block := block_of(name)) is not None]
    lanes = max(blocks, default=unit.lanes)
    if height * width == 1 and PLANAR not in (source, target):
        return 0.0 if channels % lanes == 0 else DISPATCH  # a reshape
    padded = -(-channels // lanes) * lanes
    if len(blocks) == 2:
        return DISPATCH + 8 * batch * padded * height * width / _REPACKED
    columns = -(-width // lanes) * lanes  # a partial transpose takes as long as a whole one
    cycles = DISPATCH + 8 * batch * padded * height * columns / _TRANSPOSED
    rows = DISPATCH + 8 * math.prod(shape) / _PADDED
    planar = (source, target).count(PLANAR)
    if NCHW in (source, target):
        return rows if planar else cycles
    return rows + cycles


def channels_last_cycles(unit: VectorUnit, shape: Sequence[int], layout: str) -> float:
    """A transpose between channels-last and another layout; between it and NCHW it is IREE's."""
    block = block_of(layout)
    if block is None:
        return DISPATCH + 8 * math.prod(shape) / _LAST_TRANSPOSED
    batch, channels, height, width = shape
    return DISPATCH + 8 * batch * -(-channels // block) * block * height * width / _LAST_COPIED


def stream_cycles(elements: int, layout: str, *, fused: bool = False) -> float:
    """Reading and writing ``elements`` f32 in all, in a kernel of its own or ``fused`` into one."""
    slower = _IREE_STREAM if layout == NCHW and not fused else 1.0
    return (0.0 if fused else DISPATCH) + 4 * elements / _STREAMED * slower


def window_cycles(unit: VectorUnit, shape: ConvShape, layout: str) -> float:
    """Pooling; ``shape`` gives the window as a depthwise convolution would."""
    outputs = shape.batch * -(-shape.c_out // unit.lanes) * shape.out_h * shape.out_w
    cycles = outputs * shape.k_h * shape.k_w / (unit.fma_units * _LANES_SHARE)
    return DISPATCH + cycles * (_IREE_WINDOW if layout == NCHW else 1.0)


def pad_cycles(shape: ConvShape) -> float:
    """Zeros around the NCHW input of a convolution, 0 where it has no padding."""
    if not any(shape.pads):
        return 0.0
    top, left, bottom, right = shape.pads
    planes = shape.batch * shape.c_in
    padded = (shape.in_h + top + bottom) * (shape.in_w + left + right)
    return DISPATCH + 4 * planes * (shape.in_h * shape.in_w + padded) / _PADDED


def row_copy_cycles(elements: int) -> float:
    """A kernel that copies rows, ``elements`` read and written in all."""
    return DISPATCH + 4 * elements / _PADDED


def packed_cycles(
    unit: VectorUnit, shape: ConvShape, merge: int, vectors: int, pixels: int, model: float = math.inf
) -> float:
    """:func:`dlas.schedules.packed_conv.packed_conv` with ``vectors`` x ``pixels`` accumulators.

    ``model`` is the size of the model's weights in bytes.
    """
    whole, rest = divmod(shape.out_w, pixels)
    row = whole * unit.cycles(vectors, pixels) + (unit.cycles(vectors, rest) if rest else 0.0)
    best = unit.cycles(2, 4) / 8
    slower = max(1.0, row / (vectors * shape.out_w) / best)
    return shape.batch * best_packed_cycles(unit, shape, merge, model) * slower


def lane_cycles(unit: VectorUnit, shape: ConvShape) -> float:
    """:func:`dlas.schedules.lane_conv.lane_conv`; shuffles have an execution unit of their own."""
    tile = lane_tile(unit, shape.out_w, shape.k_w)
    columns = ((tile - 1) * shape.stride[1] + (shape.k_w - 1) * shape.dilation[1] + 1) / tile  # read per pixel and row
    shuffles = _SHUFFLE * shape.k_h * columns if shape.c_per_group > 1 else 0.0
    outputs = shape.batch * shape.out_h * shape.out_w * -(-shape.c_out // unit.lanes)
    operations_ = outputs * shape.c_per_group * (shape.k_h * shape.k_w + shuffles)
    return operations_ / (unit.fma_units * _LANES_SHARE)


def winograd_lane_cycles(unit: VectorUnit, shape: ConvShape, m: int) -> float:
    """:func:`dlas.schedules.winograd_conv.winograd_lane_conv`; each tile reads the weights of its channel block."""
    products, transforms = lane_tile_operations(m, shape.c_per_group)
    weights = 4 * (m + 2) ** 2 * shape.c_per_group * unit.lanes
    streamed = weights / _LANE_WEIGHTS if weights > 0.75 * 1024 * unit.l1_kb else 0.0
    tiles = shape.batch * math.prod(shape.tiles(m)) * -(-shape.c_out // unit.lanes)
    busy = (products / unit.fma_units + transforms / unit.others) / _LANES_SHARE
    return tiles * max(busy, streamed)


def w_lanes_cycles(unit: VectorUnit, shape: ConvShape, vectors: int, channels: int) -> float:
    """:func:`dlas.schedules.w_lanes.w_lanes` with ``channels`` x ``vectors`` accumulators."""
    steps = shape.macs / (unit.lanes * vectors * channels)
    return steps * unit.cycles(vectors, channels) / _LANES_SHARE

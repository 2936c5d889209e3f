"""The planar layout: flattened, padded planes ``[N, C, plane]``, where a shift of the kernel is a shift of the index.

A plane has ``pitch`` elements per row, the last ``pitch - width`` of them zeros that serve as the right padding of one
row and the left padding of the next, and rows of zeros above and below. A vector along the plane runs across rows, so
narrow images fill vectors too; what it computes in the columns of zeros is dropped or masked.

    plane:  [lead, zeros above][row 0 | zeros][row 1 | zeros] ... [zeros below, room for whole register tiles]
                               ^ start         ^ start + pitch
"""

from __future__ import annotations

import math
from collections.abc import Collection, Sequence
from dataclasses import dataclass, field

import numpy as np
from iree.compiler import ir

from dlas.passes.conv import ConvShape
from dlas.passes.reshape import Pads

NO_PADS: Pads = (0, 0, 0, 0)
LINE = 16
"""Elements of a cache line."""


@dataclass(frozen=True)
class Plane:
    """The geometry of one channel's plane.

    Attributes:
        height, width: of the image.
        pitch: elements from a row to the next.
        start: position of the first pixel.
        pads: (top, left, bottom, right) that are zero around the image.
        cover: elements from ``start`` that whole register tiles write.
        size: elements of the plane.
    """

    height: int
    width: int
    pitch: int
    start: int
    pads: Pads
    cover: int
    size: int

    @property
    def pixels(self) -> int:
        """Elements from the first pixel to behind the last."""
        return (self.height - 1) * self.pitch + self.width

    @property
    def is_dense(self) -> bool:
        """Whether these are NCHW's own planes."""
        return self == Plane.dense(self.height, self.width)

    @classmethod
    def dense(cls, height: int, width: int) -> Plane:
        """NCHW's own planes."""
        return cls(height, width, width, 0, NO_PADS, height * width, height * width)

    @classmethod
    def padded(
        cls,
        height: int,
        width: int,
        pads: Pads,
        pitch: int,
        lanes: int,
        accumulators: Collection[int],
        multiple: int = 1,
    ) -> Plane:
        """Planes with these pads, at least this pitch, and a multiple, for register tiles of up to so many vectors."""
        top, left, bottom, right = pads
        pitch = -(-max(pitch, width + max(left, right)) // multiple) * multiple
        pixels = (height - 1) * pitch + width
        cover = max(RegisterTile.of(pixels, lanes, count).cover for count in (1, *accumulators))
        if pads == NO_PADS and (pitch, cover) == (width, pixels):
            return cls.dense(height, width)
        start = -(-(top * pitch + left) // lanes) * lanes
        size = start + cover + max(bottom * pitch + right, pitch - width + lanes)
        # Rows are copied, and what follows them is zeroed, in whole vectors. An odd number of cache lines: planes of
        # equal remainder modulo 4 KB would evict each other.
        return cls(height, width, pitch, start, pads, cover, (-(-size // LINE) | 1) * LINE)

    def mask(self) -> np.ndarray:
        """All bits set for pixels among the ``cover`` elements from ``start``, none for what lies between."""
        column = np.arange(self.cover) % self.pitch
        inside = (column < self.width) & (np.arange(self.cover) < self.pixels)
        return np.where(inside, np.int32(-1), np.int32(0))


@dataclass(frozen=True)
class Planar:
    """A tensor in the planar layout: ``value`` is ``[N, C, plane.size]``."""

    value: ir.Value
    shape: tuple[int, ...]
    plane: Plane


@dataclass(frozen=True)
class Phases:
    """The input of a convolution, its padding included, split by the strides: ``[N, phases, C, size]``.

    Phase (a, b) has the padded rows a, a + S_h, ... and columns b, b + S_w, ..., at the pitch of the *result*: each
    tap then reads one phase at a constant distance. Where they are *shifted*, b is a tap's own column instead of that
    modulo S_w: there are copies for all K_w columns, and the distance is whole rows.

    Attributes:
        stride: S_h, S_w.
        pads: (top, left, bottom, right) of zeros around the image.
        used: the phases that taps read, in the order in which they are stored.
        rows: of a phase.
        pitch: elements from a row to the next.
        size: elements of a phase.
        shifted: whether phases are shifted.
    """

    stride: tuple[int, int]
    pads: Pads
    used: tuple[tuple[int, int], ...]
    rows: int
    pitch: int
    size: int
    shifted: bool = False

    def mask(self, height: int, width: int) -> np.ndarray:
        """``[phases, size]``: all bits set for the pixels of an image, none for the zeros around it."""
        rows, columns = np.divmod(np.arange(self.size), self.pitch)
        masks = []
        for a, b in self.used:
            row = rows * self.stride[0] + a - self.pads[0]
            column = columns * self.stride[1] + b - self.pads[1]
            inside = (rows < self.rows) & (row >= 0) & (row < height) & (column >= 0) & (column < width)
            masks.append(np.where(inside, np.int32(-1), np.int32(0)))
        return np.stack(masks)


@dataclass
class PhaseDemand:
    """What the strided (or shrinking) convolutions of one value read, together."""

    pads: Pads = NO_PADS
    shapes: list[ConvShape] = field(default_factory=list)
    shifted: bool = False

    def phases(self, out: Plane, lanes: int) -> Phases:
        """The phases that all of them find their taps in."""
        stride = self.shapes[0].stride
        taps = [place for shape in self.shapes for place in tap_places(shape, self.pads, self.shifted)]
        used = tuple(sorted({phase for phase, _, _ in taps}))
        down, along = max(row for _, row, _ in taps), max(column for _, _, column in taps)
        rows = out.height + down
        size = max(down * out.pitch + along + out.cover, rows * out.pitch + lanes)
        return Phases(stride, self.pads, used, rows, out.pitch, (-(-size // LINE) | 1) * LINE, self.shifted)


def tap_places(shape: ConvShape, pads: Pads, shifted: bool = False) -> list[tuple[tuple[int, int], int, int]]:
    """For each tap (K_h, K_w order), its phase and the row and column there that output (0, 0) reads."""
    places = []
    for y in range(shape.k_h):
        for x in range(shape.k_w):
            row = y * shape.dilation[0] + pads[0] - shape.pads[0]
            column = x * shape.dilation[1] + pads[1] - shape.pads[1]
            first = column if shifted else column % shape.stride[1]
            places.append(((row % shape.stride[0], first), row // shape.stride[0], (column - first) // shape.stride[1]))
    return places


def reads_in_place(shape: ConvShape) -> bool:
    """Whether output and input rows correspond one to one, so that no phases are needed."""
    return shape.stride == (1, 1) and (shape.in_h, shape.in_w) == (shape.out_h, shape.out_w)


@dataclass(frozen=True)
class RegisterTile:
    """How a plane's pixels are divided among register tiles.

    Attributes:
        count: of tiles; the last one begins early where it would reach over the end.
        vectors: of each.
        cover: pixels that they write; more than there are only where there is one tile.
    """

    count: int
    vectors: int
    cover: int

    @classmethod
    def of(cls, pixels: int, lanes: int, accumulators: int) -> RegisterTile:
        """The fewest tiles, of the fewest vectors."""
        whole = math.ceil(pixels / lanes)
        count = math.ceil(whole / accumulators)
        vectors = math.ceil(whole / count)
        return cls(count, vectors, max(pixels, vectors * lanes))


@dataclass(frozen=True)
class Csr:
    """A sparse filter, split in chunks of input channels; rows are output channels.

    Attributes:
        positions: ``[chunks * K + 1]`` i32: where the non-zeros of a row of a chunk begin.
        offsets: ``[nnz]`` i32: what each non-zero multiplies, as a position in the input relative to the pixel.
        values: ``[nnz]`` f32.
        chunks: number of chunks.
    """

    positions: np.ndarray
    offsets: np.ndarray
    values: np.ndarray
    chunks: int


def compress(shape: ConvShape, weights: np.ndarray, channels: int, places: np.ndarray) -> Csr:
    """Weights ``[K, C_PG, K_h, K_w]`` to CSR with the column of a non-zero rewritten to its input offset.

    Args:
        channels: input channels of a chunk.
        places: ``[C, K_h * K_w]``: the offset for each input channel and tap.
    """
    k, taps = shape.c_out, shape.k_h * shape.k_w
    rows, columns = np.nonzero(weights.reshape(k, -1))
    values = weights.reshape(k, -1)[rows, columns]
    channel = columns // taps
    chunks = -(-shape.c_per_group // channels)
    offsets = places[channel + rows // shape.k_per_group * shape.c_per_group, columns % taps]
    place = channel // channels * k + rows
    order = np.argsort(place, kind="stable")
    positions = np.zeros(chunks * k + 1, np.int32)
    np.cumsum(np.bincount(place, minlength=chunks * k), out=positions[1:])
    return Csr(positions, offsets[order].astype(np.int32), np.ascontiguousarray(values[order], np.float32), chunks)


@dataclass(frozen=True)
class PlanarSite:
    """A sparse convolution: the value that it reads, its shape, and of its knobs what its planes depend on."""

    data: ir.Value
    shape: ConvShape
    accumulators: int
    shifted: bool

    @property
    def in_place(self) -> bool:
        return reads_in_place(self.shape) and not self.shifted

    @property
    def key(self) -> tuple[ir.Value, tuple[int, int], tuple[int, int], bool]:
        """What sites that share their phases have in common."""
        return self.data, self.shape.stride, (self.shape.out_h, self.shape.out_w), self.shifted


class PlanarGeometry:
    """The planes of a function: one geometry per image size, wide enough for every sparse convolution there.

    Elementwise operands of equal size must have equal planes, so sizes and not tensors have geometries.

    Args:
        sites: the sparse convolutions.
        lanes: of a vector.
    """

    def __init__(self, sites: Sequence[PlanarSite], lanes: int) -> None:
        self.lanes = lanes
        self.demands: dict[tuple[ir.Value, tuple[int, int], tuple[int, int], bool], PhaseDemand] = {}
        self._pads: dict[tuple[int, int], Pads] = {}
        self._pitch: dict[tuple[int, int], int] = {}
        self._aligned: set[tuple[int, int]] = set()
        self._accumulators: dict[tuple[int, int], set[int]] = {}
        for site in sites:
            shape = site.shape
            out = (shape.out_h, shape.out_w)
            self._accumulators.setdefault(out, set()).add(site.accumulators)
            if site.shifted:
                self._aligned.add(out)
            if site.in_place:
                self._pads[out] = _widest(self._pads.get(out, NO_PADS), shape.pads)
            else:
                demand = self.demands.setdefault(site.key, PhaseDemand(shifted=site.shifted))
                demand.shapes.append(shape)
                demand.pads = _widest(demand.pads, shape.pads)
        for (_, _, out, shifted), demand in self.demands.items():
            places = [place for shape in demand.shapes for place in tap_places(shape, demand.pads, shifted)]
            self._pitch[out] = max(self._pitch.get(out, 0), out[1] + max(column for _, _, column in places))

    def plane(self, height: int, width: int) -> Plane:
        """The planes of images of this size."""
        size = (height, width)
        pads, pitch = self._pads.get(size, NO_PADS), self._pitch.get(size, 0)
        multiple = self.lanes if size in self._aligned else 1
        return Plane.padded(height, width, pads, pitch, self.lanes, self._accumulators.get(size, ()), multiple)

    def phases(self, site: PlanarSite) -> Phases:
        """How the input of a convolution is split."""
        out = self.plane(site.shape.out_h, site.shape.out_w)
        return self.demands[site.key].phases(out, self.lanes)


def _widest(pads: Pads, more: Pads) -> Pads:
    return tuple(map(max, pads, more))  # type: ignore[return-value]

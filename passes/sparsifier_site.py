"""What a pruned layer is to the sparsifier: a CSR matrix over distances in the flattened input, and tiles of pixels."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from math import prod

import numpy as np
from iree.compiler import ir

from dlas.passes.constants import bindings, read_constant, read_scalar
from dlas.passes.generics import defining_op, element_type, shape_of
from dlas.passes.grouped_volume import GroupedVolume
from dlas.passes.plan import Refusal
from dlas.passes.sparse_weights import SPARSE

Triple = tuple[int, int, int]

_CONV_3D = "linalg.conv_3d_ncdhw_fcdhw"
_SPATIAL: dict[str, int] = {
    "linalg.conv_2d_nchw_fchw": 2,
    "linalg.conv_2d_ngchw_gfchw": 2,
    "linalg.depthwise_conv_2d_nchw_chw": 2,
    _CONV_3D: 3,
}
"""Spatial dimensions of each convolution."""

_MATMUL = "linalg.matmul"
_PLAIN = ("(d0, d1, d2) -> (d0, d2)", "(d0, d1, d2) -> (d2, d1)", "(d0, d1, d2) -> (d0, d1)")
_BITS = {"f64": 64, "f32": 32, "f16": 32}  # that each type is computed in
_ROW = 512  # pixels of a row of a linear layer's, whose rows are its pixels
_LARGEST = 2**30  # elements: there may be twice as many with the padding
_PANEL = 16 * 1024  # bytes of a tile, so that inputs of neighbouring taps meet in the level-1 cache


@dataclass(frozen=True)
class SparseProduct:
    """What the schedule is chosen for.

    Attributes:
        channels: of the result.
        nonzeros, size: of the weights.
        batch, steps: images, and tiles of pixels of each.
        pixels: of a tile.
        macs: of the dense product.
        moved: elements that are copied before and after.
        bits: of an element.
        kind: ``linear``, ``grouped``, ``2-D``, ``3-D`` or ``3-D pointwise``.
    """

    channels: int
    nonzeros: int
    size: int
    batch: int
    steps: int
    pixels: int
    macs: int
    moved: int
    bits: int
    kind: str


@dataclass(frozen=True)
class SparsifierSite:
    """A pruned layer as a convolution over three spatial dimensions.

    Attributes:
        op: the layer.
        weights: ``[K, C_PG, kd, kh, kw]``.
        groups, batch: their numbers.
        extents: of the padded input. A linear layer's rows are pixels of a plane.
        out: extents of the result.
        strides, dilations: of the kernel.
        bits: of an element, as it is computed.
    """

    op: ir.Operation
    weights: np.ndarray
    groups: int
    batch: int
    extents: Triple
    out: Triple
    strides: Triple
    dilations: Triple
    bits: int

    @classmethod
    def analyze(cls, op: ir.Operation) -> SparsifierSite | Refusal | None:
        """The layer; None for weights that are not pruned. Refuses what the kernel cannot compute."""
        volume = GroupedVolume.read(op)
        if SPARSE not in op.attributes or op.name not in (*_SPATIAL, _MATMUL) and volume is None:
            return None
        weights = read_constant(op.operands[1])
        if weights is None or weights.all():
            return None
        kind = str(element_type(op.operands[0]))
        if kind not in _BITS or str(element_type(op.operands[1])) != kind:
            return Refusal(f"MLIR's sparsifier: no kernel of {element_type(op.operands[1])} weights")
        if min(*shape_of(op.operands[0]), *shape_of(op.results[0])) < 0:
            return Refusal("MLIR's sparsifier: dynamic shapes")
        if prod(shape_of(op.operands[0])) >= _LARGEST:
            return Refusal("MLIR's sparsifier: distances in the input do not fit 32 bits")
        if op.name == _MATMUL:
            return cls._matmul(op, weights, _BITS[kind])
        if volume is not None:
            return cls._conv(op, weights, _BITS[kind], 3, volume.strides, volume.dilations)
        rank = _SPATIAL[op.name]
        return cls._conv(op, weights, _BITS[kind], rank, _numbers(op, "strides", rank), _numbers(op, "dilations", rank))

    @classmethod
    def _conv(
        cls,
        op: ir.Operation,
        weights: np.ndarray,
        bits: int,
        rank: int,
        strides: tuple[int, ...],
        dilations: tuple[int, ...],
    ) -> SparsifierSite:
        groups = 1
        if op.name in ("linalg.conv_2d_ngchw_gfchw", "linalg.generic"):
            groups, weights = len(weights), weights.reshape(-1, *weights.shape[2:])
        elif op.name.startswith("linalg.depthwise"):
            groups, weights = len(weights), weights[:, None]
        weights = weights.reshape(*weights.shape[:2], *[1] * (3 - rank), *weights.shape[2:])
        data, result = shape_of(op.operands[0]), shape_of(op.results[0])
        extents, out = _triple(data[-rank:]), _triple(result[-rank:])
        return cls(op, weights, groups, data[0], extents, out, _triple(strides), _triple(dilations), bits)

    @classmethod
    def _matmul(cls, op: ir.Operation, weights: np.ndarray, bits: int) -> SparsifierSite | Refusal:
        maps = op.attributes.get("indexing_maps", None)
        if maps is not None and tuple(str(attr.value) for attr in maps) != _PLAIN:
            return Refusal("MLIR's sparsifier: transposed or broadcast operands")
        rows = shape_of(op.operands[0])[0]
        height = -(-rows // _ROW)
        plane = (1, height, -(-rows // height))
        return cls(op, weights.T[:, :, None, None, None], 1, 1, plane, plane, (1, 1, 1), (1, 1, 1), bits)

    @property
    def starts_from_zero(self) -> bool:
        """Whether nothing else is added to the product."""
        fill = defining_op(self.op.operands[2])
        return fill is not None and fill.name == "linalg.fill" and read_scalar(fill.operands[0]) == 0

    @property
    def is_matmul(self) -> bool:
        """Whether it is a linear layer."""
        return self.op.name == _MATMUL

    @property
    def kind(self) -> str:
        """What dense code it would be; see :class:`SparseProduct`."""
        if self.is_matmul or self.groups > 1:
            return "linear" if self.is_matmul else "grouped"
        if self.op.name != _CONV_3D:
            return "2-D"
        return "3-D pointwise" if prod(self.weights.shape[2:]) == 1 else "3-D"

    @property
    def channels(self) -> int:
        """Of the input."""
        return self.groups * self.weights.shape[1]

    @property
    def plane(self) -> Triple:
        """Extents of a phase of the input: its part by each remainder of the strides."""
        depth, height, width = (-(-n // s) for n, s in zip(self.extents, self.strides, strict=True))
        return depth, height, width

    @property
    def tile_rows(self) -> int:
        """Rows of the result that a tile has."""
        most = max(1, _PANEL // (self.plane[2] * self.bits // 8))
        return -(-self.out[1] // self.tiles_for(most))

    def tiles_for(self, rows: int) -> int:
        """Tiles of at most so many rows, in a plane of the result."""
        return -(-self.out[1] // rows)

    @property
    def tiles(self) -> int:
        """Tiles in a plane of the result."""
        return self.tiles_for(self.tile_rows)

    @property
    def tile_pixels(self) -> int:
        """Pixels of a tile, with those between rows."""
        return self.tile_rows * self.plane[2]

    @cached_property
    def csr(self) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """Positions, coordinates and values; a coordinate is a weight's distance in the flattened input."""
        k, c, *taps = np.nonzero(self.weights)
        phase, place = np.zeros_like(k), np.zeros_like(k)
        steps = zip(taps, self.dilations, self.strides, self.plane, strict=True)
        for tap, dilation, stride, extent in steps:
            phase = phase * stride + tap * dilation % stride
            place = place * extent + tap * dilation // stride
        channel = k // (len(self.weights) // self.groups) * self.weights.shape[1] + c
        columns = (channel * prod(self.strides) + phase) * prod(self.plane) + place
        order = np.lexsort((columns, k))
        positions = np.zeros(len(self.weights) + 1, np.int64)
        np.cumsum(np.bincount(k, minlength=len(self.weights)), out=positions[1:])
        values = self.weights[k, c, taps[0], taps[1], taps[2]]
        return positions, columns[order], values[order]

    @property
    def reach(self) -> int:
        """Columns of the matrix."""
        columns = self.csr[1]
        return int(columns.max()) + 1 if len(columns) else 1

    @property
    def product(self) -> SparseProduct:
        """What the schedule is chosen for."""
        image = self.channels * prod(self.extents)
        steps = self.out[0] * self.tiles
        result = len(self.weights) * steps * self.tile_pixels
        return SparseProduct(
            channels=len(self.weights),
            nonzeros=len(self.csr[1]),
            size=self.weights.size,
            batch=self.batch,
            steps=steps,
            pixels=self.tile_pixels,
            macs=self.batch * self.weights.size * prod(self.out),
            moved=self.batch * (2 * image + result),
            bits=self.bits,
            kind=self.kind,
        )


def _triple(numbers: tuple[int, ...]) -> Triple:
    """The last three of the numbers with ones before them."""
    first, second, third = (1, 1, 1, *numbers)[-3:]
    return first, second, third


def _numbers(op: ir.Operation, name: str, count: int) -> tuple[int, ...]:
    if name not in op.attributes:
        return (1,) * count  # the default of a named op
    return tuple(int(number) for number in bindings(op).DenseIntElementsAttr(op.attributes[name]))

"""Compressed weights of linear layers, as the kernels of :mod:`dlas.passes.sparse_linear_kernels` read them.

CSR with the non-zeros in another order and the columns in 16 bits. Tiles of outputs are far apart, and within a tile
parts of the columns ("chunks"), so that a kernel finds what it walks side by side:

    for tile of outputs: for chunk of columns: for output of the tile:  its non-zeros there, by column
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

LARGEST_CHUNK = 1 << 16
"""Columns of a chunk that 16 bits can tell apart."""

GATHER_GROUP = 8
"""Non-zeros of a group that is gathered at once."""


@dataclass(frozen=True)
class RowGroups:
    """Non-zeros in groups of equal size; a group is of one output and one chunk.

    Attributes:
        positions: ``[tiles * chunks * outputs of a tile + 1]`` i32: the first group of each.
        columns: ``[groups * group]`` u16, relative to the chunk.
        values: ``[groups * group]`` f32.
        chunks: number of chunks.
        nonzeros: that there are; the groups have more.
    """

    positions: np.ndarray
    columns: np.ndarray
    values: np.ndarray
    chunks: int
    nonzeros: int


def compress_rows(weights: np.ndarray, outputs: int, chunk: int, group: int) -> RowGroups:
    """Weights ``[K, N]`` in groups; a last tile of fewer outputs is filled up with empty ones.

    Behind the last group there may be some that nothing reads: layers of about as many non-zeros have arrays of equal
    sizes, and so one kernel. What a group lacks are further parts of its last weight, halves of halves: they add up to
    it, and meet an input that it meets anyway. (Zeros would make NaN of infinities.)

    Args:
        outputs: of a tile.
        chunk: columns of a chunk.
        group: non-zeros of a group.
    """
    assert chunk <= LARGEST_CHUNK
    k, n = weights.shape
    tiles, chunks = -(-n // outputs), -(-k // chunk)
    rows, columns = np.nonzero(np.ascontiguousarray(weights.T))
    values = weights[columns, rows]
    place = (rows // outputs * chunks + columns // chunk) * outputs + rows % outputs
    if chunks > 1:
        order = np.argsort(place, kind="stable")
        place, columns, values = place[order], columns[order], values[order]
    counts = np.bincount(place, minlength=tiles * chunks * outputs)
    positions = np.zeros(len(counts) + 1, np.int64)
    np.cumsum(-(-counts // group), out=positions[1:])
    first = np.cumsum(counts) - counts
    where = (positions[:-1] * group - first)[place] + np.arange(len(place))
    total = _rounded(int(positions[-1])) * group
    all_columns, all_values = np.zeros(total, np.uint16), np.zeros(total, np.float32)
    all_columns[where], all_values[where] = columns % chunk, values
    missing = -counts % group
    last = positions[:-1] * group + counts - 1
    for number in range(1, group):
        lacking = missing >= number
        before = last[lacking] + number - 1
        all_values[before] /= 2
        all_values[before + 1] = all_values[before]
        all_columns[before + 1] = all_columns[before]
    return RowGroups(positions.astype(np.int32), all_columns, all_values, chunks, len(values))


def _rounded(groups: int) -> int:
    """So many groups or up to a sixteenth more, at least one: IREE has no tensors without elements."""
    step = 1 << max(0, groups.bit_length() - 5)
    return -(-max(groups, 1) // step) * step


def packed_words(columns: np.ndarray, group: int) -> np.ndarray:
    """The columns as words, as wide as fits a group but no wider than 64 bits; the first column has the lowest bits."""
    width = min(group, 4)
    return columns.astype("<u2").view({1: "<i2", 2: "<i4", 4: "<i8"}[width])

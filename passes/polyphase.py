"""The polyphase form of a convolution of stride 2: what its phases are, and where they lie.

The input is split by the parity of rows and columns, and so is the filter. The convolution is the sum over the four
phases of convolutions of stride 1 by filters of half the size, which Winograd's domain is for; the sum over phases, and
that over channels, is taken in the domain.

    out[h, w] = sum over c, y, x:  in[c, 2h + y, 2w + x] * g[c, y, x]
              = sum over c, v, u:  sum over y, x:  in[c, 2(h + y) + v, 2(w + x) + u] * g[c, 2y + v, 2x + u]
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from dlas.passes.conv import ConvShape
from dlas.passes.toom_cook import Filtering, transform_weights

PHASES = 2
"""Along each dimension; the stride."""


@dataclass(frozen=True)
class Polyphase:
    """How a convolution of stride 2 is computed in tiles of m x m outputs.

    Attributes:
        shape: of the convolution.
        m: outputs of a tile per side.
        tiles: of a row of tiles that are in the domain at a time.
        block: B, f32 lanes of a vector.
    """

    shape: ConvShape
    m: int
    tiles: int
    block: int

    @property
    def rows(self) -> Filtering:
        """The filtering along columns, by what a phase has of the kernel's rows."""
        return Filtering(self.m, -(-self.shape.k_h // PHASES))

    @property
    def columns(self) -> Filtering:
        """The filtering along rows."""
        return Filtering(self.m, -(-self.shape.k_w // PHASES))

    @property
    def points(self) -> int:
        """Of a tile in the domain."""
        return self.rows.alpha * self.columns.alpha

    @property
    def channels(self) -> int:
        """Phases of channels: what a sum in the domain is over."""
        return PHASES**2 * self.shape.c_in

    @property
    def step(self) -> int:
        """Columns (or rows) of the input from one tile to the next."""
        return PHASES * self.m

    @property
    def parts(self) -> int:
        """Of a row of tiles; the last one starts so early that it is as long as the others."""
        return -(-self.shape.tiles(self.m)[1] // self.tiles)

    @property
    def vectors(self) -> int:
        """That hold a number for each tile of a part."""
        return -(-self.tiles // self.block)

    @property
    def reach(self) -> int:
        """Tiles to the right whose first columns a tile reads, too."""
        return (PHASES * self.columns.alpha - 1) // self.step

    @property
    def vectors_read(self) -> int:
        """That hold a number for each tile of a part and those that it reaches."""
        return -(-(self.tiles + self.reach) // self.block)

    @property
    def input_shape(self) -> list[int]:
        """Of the input in phases, ``[N, C, rows, step, tiles]``: column ``step * t + j`` at (j, t), zeros around it."""
        tile_rows, tile_columns = self.shape.tiles(self.m)
        rows = self.step * (tile_rows - 1) + PHASES * self.rows.alpha
        room = tile_columns - self.tiles + self.vectors_read * self.block
        return [self.shape.batch, self.shape.c_in, rows, self.step, -(-room // self.block) * self.block]

    def scratch(self, k_blocks: int) -> list[list[int]]:
        """Shapes of what a workgroup keeps of a part, with ``k_blocks`` channel blocks of the result at a time.

        These are: the inputs of a phase transformed along columns; the transformed input; products of a row of
        points; products transformed along rows.
        """
        alpha_h, alpha_w, width = self.rows.alpha, self.columns.alpha, self.vectors * self.block
        return [
            [alpha_h, self.step, max(self.vectors_read * self.block, width + self.reach)],
            [alpha_h, alpha_w, self.channels, width],
            [alpha_w, k_blocks, self.tiles, self.block],
            [k_blocks, alpha_h, self.tiles * self.m, self.block],
        ]

    def pack_weights(self, weights: np.ndarray, t_o: int) -> np.ndarray:
        """Weights ``[K, C, K_h, K_w]`` by phases, transformed, to ``[K/T_O, alpha_h, alpha_w, 4*C, T_O/B, B]``."""
        k, c, k_h, k_w = weights.shape
        rows, columns = self.rows, self.columns
        pads = (0, -k % t_o), (0, 0), (0, PHASES * rows.r - k_h), (0, PHASES * columns.r - k_w)
        phases = np.pad(weights, pads).reshape(-1, c, rows.r, PHASES, columns.r, PHASES).transpose(0, 1, 3, 5, 2, 4)
        points = transform_weights(phases, rows, columns).astype(np.float32)
        split = points.reshape(-1, t_o // self.block, self.block, self.channels, rows.alpha, columns.alpha)
        return np.ascontiguousarray(split.transpose(0, 4, 5, 3, 1, 2))

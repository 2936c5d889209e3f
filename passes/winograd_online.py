"""The products of winograd_conv where the filter transform is online: weights are 3x3 taps in memory.

Transformed at compile time, F(4x4, 3x3)'s weights are 4 times as many, and where tiles are few the time goes to reading
them. Here a row of ``G g G^T`` is made in registers each time it is needed:

    for a, for T tiles:  acc[m + 2][T] : vector<B> = M[a]
      for i:             u[m + 2] : vector<B> = (G g[i] G^T)[a]
        for b, t:        acc[b][t] += splat(V[a, b][t, i]) * u[b]                           (``root``)
      M[a] = acc

The factors of G are not applied to the weights but by the output's transform.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

from iree.compiler import ir

from dlas.passes import dispatch as d
from dlas.passes import vectors as v
from dlas.passes.kernel_frame import dims
from dlas.passes.winograd import TAPS, filter_1d, filter_row
from dlas.passes.winograd_nest import WinogradNest

_UNROLL = 2  # channels of a step
_AHEAD = 8192  # weights between one that is read and one that is prefetched, or the channels at hand


@dataclass
class OnlineNest(WinogradNest):
    """The loops of one workgroup; ``filter_shape`` is K_W/T_O, C_PG/depth, depth, taps, 1, B."""

    scaled = True

    def __post_init__(self) -> None:
        super().__post_init__()
        knobs = self.choice.knobs
        taps = TAPS**2 * self.block
        self.unroll = math.gcd(self.block, _UNROLL)
        self.matrix, self.step = knobs["depth"] * taps, self.unroll * taps
        self.turns *= self.alpha
        # The channels at hand are read once for each row of the transform.
        self.ahead = max(_AHEAD, self.matrix)

    def _multiply(
        self, data: ir.Value, wt: ir.Value, products: ir.Value, number: ir.Value, depth: ir.Value, tiles: int
    ) -> ir.Value:
        d0, d1, d2 = dims(0, 1, 2)
        first = v.affine((d0 * self.depths + d1) * self.matrix + d2, number, depth, self.first)
        ow = min(self.choice.knobs["ow"], tiles)
        whole, rest = divmod(tiles, ow)
        turns = self.turns // self.alpha

        for a in range(self.alpha):

            def several(t: ir.Value, carried: list[ir.Value], a: int = a) -> list[ir.Value]:
                turn = v.affine(d0 + a * turns, t)
                return [self._row(data, wt, carried[0], first, a, v.affine(d0 * ow, t), turn, ow)]

            products = v.loop(whole, [products], several)[0]
            if rest:
                tile, turn = d.index_constant(whole * ow), d.index_constant(a * turns + whole)
                products = self._row(data, wt, products, first, a, tile, turn, rest)
        return products

    def _row(
        self,
        data: ir.Value,
        wt: ir.Value,
        products: ir.Value,
        first: ir.Value,
        a: int,
        tile: ir.Value,
        turn: ir.Value,
        width: int,
    ) -> ir.Value:
        """Row ``a`` of the points of ``width`` tiles from ``tile`` on, with weights from ``first`` on."""
        d0, d1 = dims(0, 1)
        taps = TAPS**2 * self.block
        arithmetic = v.VectorArithmetic(self.vector)
        # One read and one write for all: bufferization compares each read of a tensor with each write to it.
        place, shape = [a * self.alpha, 0, tile, 0], [self.alpha, 1, width]
        if self.depths == 1:
            sums = [v.constant_vector(0.0, self.vector)] * math.prod(shape)
        else:
            sums = v.rows(self.read(products, place, v.Indices(), shape))

        def step(number: ir.Value, carried: list[ir.Value]) -> list[ir.Value]:
            index, acc = v.Indices(), list(carried)
            self._prefetch(v.affine(d0 + d1 * self.step, first, number), turn)
            for i in range(self.unroll):
                channel = v.affine(d0 * self.unroll + i, number)
                place = v.affine(d0 + d1 * taps, first, channel)

                def tap(row: int, column: int, place: ir.Value = place) -> ir.Value:
                    return self.read(wt, [v.plus(place, (row * TAPS + column) * self.block)], index)

                # Rows that are not needed are not read: dead code.
                columns = [[tap(row, c) for row in range(TAPS)] for c in range(TAPS)]
                values = [filter_row(self.m, a, column, arithmetic) for column in columns]
                for b, value in enumerate(filter_1d(self.m, values, arithmetic)):
                    for j in range(width):
                        point, at = a * self.alpha + b, b * width + j
                        splat = v.splat(data, [point, v.affine(d0 + j, tile), channel], self.vector, index)
                        acc[at] = v.mark(v.emit("vector.fma", [splat, value, acc[at]], self.vector), "root")
            return acc

        sums = v.loop(self.depth * self.block // self.unroll, sums, step)
        return v.write(v.block(sums, shape), products, place, v.Indices())

"""Which schedules and knobs linear layers, attention and what else works along rows get."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, replace

from dlas.passes.layout_assignment import NCHW, Implementation
from dlas.passes.plan import Choice, Refusal
from dlas.schedules import costs
from dlas.schedules.knobs import register_tile
from dlas.schedules.sparse_linear import LinearTile, dense_cycles, matmul_tile, matvec_tile
from dlas.schedules.strassen_matmul import StrassenMatmulTile, plain_cycles, strassen_matmul_tiles
from dlas.schedules.unit_rules import SPARSE_MARGIN, SPARSE_SHARE, UnitRules

# Vectors of a step along a row, so that sums do not wait for each other; elements of a workgroup, so that starting
# one costs little beside its work.
_ROW_STEP = 4
_ROW_ELEMENTS = 16384

# Attention: vectors of a step along a row of scores; bytes of scores that a workgroup keeps, for they are read again.
_SCORE_STEP = 2
_SCORES_BYTES = 32768

# Rows of a batched product per workgroup.
_PRODUCT_ROWS = 64


class SequenceRules(UnitRules):
    """The policy for what works along rows."""

    def matmul(self, m: int, n: int, k: int) -> Choice | Refusal:
        """The schedule of ``[m, k] x [k, n]``."""
        return self._dense_matmul(m, n, k)[0]

    def _dense_matmul(self, m: int, n: int, k: int) -> tuple[Choice, float]:
        """The schedule of a product with dense weights, and its estimated cycles."""
        products = self._strassen_matmul(m, n, k)
        if not isinstance(products, Refusal):
            return products
        plain = self.plain_matmul(m, n, k)
        reason = f"{plain.reason} (not strassen_matmul: {products.reason})"
        return replace(plain, reason=reason), dense_cycles(self.unit, m, n, k, self.model)

    def _strassen_matmul(self, m: int, n: int, k: int) -> tuple[Choice, float] | Refusal:
        """By Strassen's algorithm, where it is estimated to be faster."""
        if not self.strassen:
            return Refusal("--no-strassen forbids it")
        tiles = strassen_matmul_tiles(self.unit, m, n, k, self.cores, self.model)
        if isinstance(tiles, Refusal):
            return tiles
        tile = min(tiles, key=lambda tile: (tile.cycles, tile.k_w))
        share = tile.cycles / plain_cycles(self.unit, m, n, k)
        if share >= 1:
            return Refusal(f"estimated at {share:.0%} of matmul's time")
        return self.strassen_matmul_choice(tile, m, n, k), tile.cycles

    def strassen_matmul_choice(self, tile: StrassenMatmulTile, m: int, n: int, k: int) -> Choice:
        """``strassen_matmul`` with this tile."""
        knobs = {name: value for name, value in asdict(tile).items() if name != "cycles"}
        share = tile.cycles / plain_cycles(self.unit, m, n, k)
        accumulators = f"{tile.rows}x{tile.t_o // self.block} accumulators of {self.block} lanes"
        reason = f"7 products of halves, {accumulators}: estimated at {share:.0%} of matmul's time"
        return Choice("strassen_matmul", {**knobs, "block": self.block}, reason)

    def plain_matmul(self, m: int, n: int, k: int) -> Choice:
        """``matmul``: all multiply-adds."""
        blocks = -(-n // self.block)
        if m == 1:
            # One row: an accumulator per vector of columns, as many as hide the latency of an FMA.
            wanted = self.unit.fma_units * self.unit.fma_latency
            vectors = 1
            while vectors * 2 <= min(wanted, blocks):
                vectors *= 2
            rows = 1
        else:
            vectors, rows = register_tile(self.unit, 2 if blocks > 1 else 1, m)
        depth = k if k <= 16 else next((depth for depth in (16, 8, 4) if k % depth == 0), 8)
        knobs = {"t_o": vectors * self.block, "rows": rows, "depth": depth}
        return Choice("matmul", knobs, f"{rows}x{vectors} accumulators of {self.block} lanes")

    def matmul_ways(self, m: int, n: int, k: int, nonzeros: int) -> Sequence[Implementation] | Refusal:
        """The ways to compute ``[m, k] x [k, n]`` with so many non-zero weights, the dense one first."""
        share = nonzeros / (n * k)
        if share > SPARSE_SHARE:
            return Refusal(f"{share:.0%} of the weights are not zero")
        problem = f"matmul {m}x{k}x{n}"
        dense, cycles = self._dense_matmul(m, n, k)
        ways = [(replace(dense, problem=problem), cycles)]
        tiles = {"sparse_matvec": matvec_tile, "sparse_matmul": matmul_tile}
        for name, make in tiles.items():
            tile = make(self.unit, m, n, k, nonzeros, self.model)
            if tile is not None:
                choice = self.sparse_linear_choice(name, tile, {}, share)
                ways.append((replace(choice, problem=f"{problem} nonzeros={nonzeros}"), tile.cycles * SPARSE_MARGIN))
        found = []
        for choice, estimate in ways:
            measured = self.measured.get(choice)
            found.append(Implementation((), NCHW, estimate + costs.DISPATCH if measured is None else measured, choice))
        return found

    def sparse_linear_choice(self, name: str, tile: LinearTile, knobs: Mapping[str, int], share: float) -> Choice:
        """A sparse kernel of a linear layer with this tile and other values of some ``knobs``."""
        return Choice(name, {**tile.knobs, **knobs}, f"{share:.1%} of the weights are not zero: {tile.text}")

    def rows(self, rows: int, columns: int) -> Choice:
        """The schedule of a program along ``rows`` rows."""
        width = self._row_width(columns, _ROW_STEP)
        at_a_time = max(1, min(rows, _ROW_ELEMENTS // columns))
        knobs = {"width": width, "rows": at_a_time}
        return Choice("rows", knobs, f"{at_a_time} rows at a time, steps of {width} columns")

    def attention(self, m: int, n: int, k: int, context_n: int) -> Choice | Refusal:
        """The schedule of attention: scores ``[m, k] x [k, n]``, context ``[m, n] x [n, context_n]``."""
        room = _SCORES_BYTES // (4 * -(-n // self.block) * self.block)
        if room < 1:
            return Refusal(f"a row of {n} scores does not fit {_SCORES_BYTES // 1024} KB of scratch")
        product = self.batch_matmul(m, min(n, context_n), min(k, n), room)
        knobs = {**product.knobs, "width": self._row_width(n, _SCORE_STEP)}
        return Choice("attention", knobs, f"{knobs['m']} rows of {n} scores on the stack, {product.reason}")

    def batch_matmul(self, m: int, n: int, k: int, room: int = _PRODUCT_ROWS) -> Choice:
        """The schedule of a batch of ``[m, k] x [k, n]``, with at most ``room`` rows at a time."""
        vectors, rows = register_tile(self.unit, 2 if n >= 2 * self.block else 1, min(m, room))
        at_a_time = m if m <= room else max(rows, room // rows * rows)
        depth = next((depth for depth in (16, 8, 4) if k % depth == 0), 8) if k > 16 else k
        knobs = {"m": at_a_time, "t_o": vectors * self.block, "rows": rows, "depth": depth}
        return Choice("batch_matmul", knobs, f"{rows}x{vectors} accumulators of {self.block} lanes")

    def _row_width(self, columns: int, vectors: int) -> int:
        """Columns of a step: the largest power of two up to so many vectors that a row has."""
        return min(vectors * self.unit.lanes, 1 << (columns.bit_length() - 1))

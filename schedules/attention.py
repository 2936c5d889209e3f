"""The schedules of products of activations: attention, batched matrix products, and the packing of their operands."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from dlas.dialects import TransformScript
from dlas.errors import ScheduleError
from dlas.schedules.frame import finish
from dlas.schedules.plain import PlainKnobs


@dataclass(frozen=True)
class ProductKnobs:
    """Knobs of :func:`batch_matmul`.

    Attributes:
        m: rows of a workgroup.
        t_o: columns of a register tile, T_O.
        rows: rows of a register tile.
        depth: steps of the unrolled reduction.
    """

    m: int
    t_o: int
    rows: int
    depth: int

    def __post_init__(self) -> None:
        if self.t_o < 1 or self.t_o & (self.t_o - 1):
            raise ScheduleError(f"t_o={self.t_o} is not a power of two", where="attention", hint="use 8, 16, 32 or 64")
        if min(self.m, self.rows, self.depth) < 1:
            raise ScheduleError(f"m={self.m}, rows={self.rows}, depth={self.depth}: not positive", where="attention")


@dataclass(frozen=True)
class AttentionKnobs(ProductKnobs):
    """Knobs of :func:`attention`.

    Attributes:
        m: rows of a workgroup.
        t_o: columns of a register tile of both products, T_O.
        rows: rows of a register tile.
        depth: steps of the unrolled reductions.
        width: elements of a row of scores per step of the program between the products, a power of two.
    """

    width: int = 16

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.width < 1 or self.width & (self.width - 1):
            raise ScheduleError(f"width={self.width} is not a power of two", where="attention")


def attention(knobs: AttentionKnobs, extents: Mapping[str, int]) -> TransformScript:
    """For one workgroup: M rows of one head. What is between the products is vector code already.

    before: for r, n, k:  S[r, n] += Q[r, k] * K[k, n];  for r: program(S[r])
            for r, v, n:  O[r, v] += S[r, n] * V[n, v]
    after:  each product as in :func:`batch_matmul`, S on the stack

    Args:
        knobs: the tiles.
        extents: ``m``, ``n``, ``k`` of the scores, ``context_n`` and ``context_k`` of the context.
    """
    script = TransformScript("attention")
    tile_product(script, "scores", knobs, extents["m"], extents["n"], extents["k"])
    tile_product(script, "context", knobs, extents["m"], extents["context_n"], extents["context_k"])
    finish(script, contract=True)
    return script


def batch_matmul(knobs: ProductKnobs, extents: Mapping[str, int]) -> TransformScript:
    """For one workgroup: M rows of one product of the batch.

    before: for r, n, k:  out[r, n] += x[r, k] * y[k, n]
    after:  for n/T_O: for r/ROWS: acc[ROWS] : vector<T_O>
              for k/DEPTH: for k (unrolled): acc[r] += splat(x[r, k]) * y[k, n : +T_O]

    Args:
        knobs: the tiles.
        extents: ``m``, ``n``, ``k``.
    """
    script = TransformScript("batch_matmul")
    tile_product(script, "root", knobs, extents["m"], extents["n"], extents["k"])
    finish(script, contract=True)
    return script


def tile_product(script: TransformScript, role: str, knobs: ProductKnobs, m: int, n: int, k: int) -> None:
    """Register tiles of the product with ``role``; its zeros move into the tile."""
    script.comment(f"Register tiles of {role}: columns, then rows, then the unrolled reduction.")
    for size, extent, axis in ((knobs.t_o, n, 1), (knobs.rows, m, 0)):
        if size < extent:
            _, loops = script.fuse(script.match_role(role), [size if axis == i else 0 for i in range(2)])
            if extent % size:
                script.peel(loops[0])
            script.cleanup()
    if knobs.depth < k:
        _, loops = script.tile(script.match_role(role), [0, 0, knobs.depth])
        if k % knobs.depth:
            script.peel(loops[0])
        script.cleanup()


def pack_matrix(knobs: PlainKnobs, extents: Mapping[str, int]) -> TransformScript:
    """One matrix of a batch, row by row, from where it lies between others.

    before: for c, r:  out[r, c] = x[c, r]             (or, not transposed, for r, c:  out[r, c] = x[r, c])
    after:  for c/B: for r/B:  out[r : +B, c : +B] : vector<B x B> = transpose(x[c : +B, r : +B])

    Args:
        knobs: the block B; OW elements of a row at a time where nothing is transposed.
        extents: ``rows``, ``columns``, ``transposed`` (0/1).
    """
    script = TransformScript("pack_matrix")
    rows, columns, block = extents["rows"], extents["columns"], knobs.block
    transposed = [(1, block, columns), (2, block, rows)]
    tiles = transposed if extents["transposed"] else [(1, 1, rows), (2, knobs.ow, columns)]
    sizes = [0, 0, 0]
    for axis, size, extent in tiles:
        sizes[axis] = size if size < extent else 0
    _, loops = script.tile(script.match_role("epilogue"), sizes)
    partial = [extent % size for _, size, extent in tiles if size < extent]
    for loop, rest in reversed(list(zip(loops, partial, strict=True))):
        if rest:
            script.peel(loop)
    script.cleanup()
    script.tile(script.match_role("border"), [0, 1, 0])
    finish(script, contract=False, copies=True)
    script.comment("The transpose leaves the write for the registers.")
    script.apply_patterns("vector.transfer_permutation_patterns", "vector.cast_away_vector_leading_one_dim")
    script.lower_transposes()
    return script

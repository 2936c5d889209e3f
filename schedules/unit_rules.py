"""What all parts of the default policy share: the vector unit, the cores and the model that they choose for."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Self

from dlas.schedules.knobs import VectorUnit
from dlas.schedules.measured import Measurements

# Weights are worth a look at their zeros up to this share of non-zeros; skipping them must be estimated to be faster by
# this factor.
SPARSE_SHARE = 0.7
SPARSE_MARGIN = 1.1

# How many times longer kernels take on vectors of half the lanes where twice as many FMAs start per cycle: there are
# twice as many loads, shuffles and loops beside them (1.03 to 1.24 were measured on a Zen 4 where blocks are full).
_NARROW = 1.1


class UnitRules:
    """What a policy chooses for.

    Args:
        unit: what the target's cores have.
        narrow: the same core working on vectors of fewer lanes, for channel blocks of as many; None: it gains nothing.
        winograd: the largest output tile m of Winograd's domain to use: 4, 2 (as exact as the sums), or 0: none.
        measured: times that stand in for estimates.
        cores: of the target; any number of them up to all may share a kernel's workgroups.
        model: bytes of the model's weights, which may stay in a cache from one inference to the next.
        strassen: whether products of matrices may be computed by Strassen's algorithm.

    Attributes:
        block: channels of a block, B, the lanes of the unit.
        slower: a factor of the estimated cycles of kernels between blocks.
        blocks: of the layouts to choose from, the largest first.
    """

    narrow: Self | None

    def __init__(
        self: Self,  # said for mypy, which takes it for UnitRules here
        unit: VectorUnit,
        winograd: int = 4,
        measured: Measurements | None = None,
        cores: int = 1,
        model: float = math.inf,
        narrow: VectorUnit | None = None,
        strassen: bool = True,
    ) -> None:
        self.unit, self.winograd, self.measured, self.strassen = unit, winograd, measured or Measurements(), strassen
        self.cores, self.model = cores, model
        self.block = unit.lanes
        self.slower = 1.0
        self.narrow = (
            None if narrow is None else type(self)(narrow, winograd, self.measured, cores, model, strassen=strassen)
        )
        if self.narrow is not None:
            self.narrow.slower = _NARROW
        self.blocks: Sequence[int] = (self.block, *(() if self.narrow is None else self.narrow.blocks))

    def for_model(self, weights: int) -> Self:
        """The same policy for a model with so many bytes of weights."""
        narrow = None if self.narrow is None else self.narrow.unit
        return type(self)(self.unit, self.winograd, self.measured, self.cores, weights, narrow, self.strassen)

    def of_block(self, block: int) -> Self:
        """The policy for kernels on blocks of so many channels."""
        if block == self.block:
            return self
        assert self.narrow is not None, f"blocks are of {self.block} channels, not {block}"
        return self.narrow.of_block(block)

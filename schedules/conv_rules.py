"""Which schedules and knobs a convolution gets from its shape and the target's vector unit."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, replace

from dlas.passes.conv import ConvShape
from dlas.passes.layout_assignment import NCHW, PLANAR, Implementation, blocked
from dlas.passes.plan import Choice, Refusal
from dlas.schedules import costs
from dlas.schedules.knobs import lane_tile, packed_cycles, register_tile
from dlas.schedules.planar_conv import MAX_TAPS, PlanarTile, planar_tile
from dlas.schedules.polyphase_cost import PolyphaseTile, polyphase_tile
from dlas.schedules.separable_cost import (
    FusedProducts,
    SeparablePair,
    SeparableTile,
    SeparableWay,
    fused_products,
    pays,
    separable_savings,
    shared_tiles,
)
from dlas.schedules.sparse_conv import SPARSE_VARIANTS
from dlas.schedules.sparse_cost import SparseTile, sparse_tiles
from dlas.schedules.strassen_cost import StrassenTile, strassen_tile, takes_strassen
from dlas.schedules.unit_rules import SPARSE_MARGIN, SPARSE_SHARE, UnitRules
from dlas.schedules.winograd_cost import WinogradTile, winograd_lane_tile, winograd_tile

# As many groups may be merged into an ordinary convolution: IREE's own code is 8 and more times slower.
_MERGE_ALL = 8


class ConvRules(UnitRules):
    """The policy for convolutions."""

    def implementations(self, shape: ConvShape) -> Sequence[Implementation] | Refusal:
        """The ways to compute a convolution, with their layouts and estimated cycles; or why there is none."""
        found = [way for block in self.blocks for way in self.of_block(block)._between_blocks(shape)]
        alone = self.w_lanes(shape)
        if alone is not None:
            found.append(self._implementation(shape, NCHW, NCHW, *alone))
        return found or self.unfit(shape)

    def _between_blocks(self, shape: ConvShape) -> Iterator[Implementation]:
        """The ways to compute a convolution that write blocks of the unit's lanes."""
        layout = blocked(self.block)
        for choice, cycles in self._blocked_choices(shape):
            direct = bool(choice.knobs.get("direct"))
            yield self._implementation(shape, NCHW if direct else layout, layout, choice, cycles)
        phases = self.polyphase(shape)
        if not isinstance(phases, Refusal):
            yield self._implementation(shape, NCHW, layout, *phases, padded=True)

    def _implementation(
        self, shape: ConvShape, reads: str, writes: str, choice: Choice, cycles: float, *, padded: bool = False
    ) -> Implementation:
        """``padded``: the kernel pads its input itself."""
        choice = replace(choice, problem=shape.problem)
        measured = self.measured.get(choice)
        kernel = cycles * self.slower + costs.DISPATCH if measured is None else measured
        pad = costs.pad_cycles(shape) if reads == NCHW and not padded else 0.0
        return Implementation((reads,), writes, kernel + pad, choice)

    def prefers_planes(self, shape: ConvShape) -> bool:
        """Whether a convolution's groups neither fill blocks nor divide one."""
        c_pg, k_pg, block = shape.c_per_group, shape.k_per_group, self.block
        shuffled = c_pg == k_pg and block % c_pg == 0
        return shape.groups > 1 and not shuffled and bool(c_pg % block or k_pg % block)

    def planar(self, shape: ConvShape) -> Implementation | Refusal:
        """A convolution from planes to planes."""
        taps = shape.k_h * shape.k_w
        if taps > MAX_TAPS:
            return Refusal(f"a kernel of {taps} elements, of which planar_conv unrolls {MAX_TAPS}")
        choice, cycles = self.planar_choice(shape, planar_tile(self.unit, shape, self.cores))
        return self._planar_implementation(shape, choice, cycles)

    def planar_choice(self, shape: ConvShape, tile: PlanarTile) -> tuple[Choice, float]:
        """``planar_conv`` with the knobs of a tile, and its estimated cycles for all images."""
        knobs = asdict(tile.knobs)
        reason = f"lanes along planes, {knobs['t_k']}x{knobs['accumulators']} accumulators of {self.block} pixels"
        return Choice("planar_conv", knobs, reason), shape.batch * tile.cycles

    def _planar_implementation(self, shape: ConvShape, choice: Choice, estimate: float) -> Implementation:
        choice = replace(choice, problem=shape.problem)
        measured = self.measured.get(choice)
        return Implementation((PLANAR,), PLANAR, estimate + costs.DISPATCH if measured is None else measured, choice)

    def sparse(self, shape: ConvShape, nonzeros: int, algorithm: str = "any") -> Implementation | Refusal:
        """A convolution by its non-zero weights, from planes to planes, by an algorithm of ``dlas.sparse``."""
        share = nonzeros / (shape.c_out * shape.c_per_group * shape.k_h * shape.k_w)
        if share > SPARSE_SHARE:
            return Refusal(f"{share:.0%} of the weights are not zero")
        tiles = sparse_tiles(self.unit, shape, nonzeros, SPARSE_VARIANTS[algorithm])
        choice = self.sparse_choice(shape, nonzeros, tiles)
        return self._sparse_implementation(choice, shape.batch * tiles[0].cycles)

    def sparse_choice(self, shape: ConvShape, nonzeros: int, tiles: Sequence[SparseTile]) -> Choice:
        """``sparse_conv`` with the first of these tiles; the others are told of."""
        share = nonzeros / (shape.c_out * shape.c_per_group * shape.k_h * shape.k_w)
        tile, *others = tiles
        vectors = f"{tile.variant}, up to {tile.accumulators} accumulators of {self.block} pixels"
        reason = f"{share:.1%} of the weights are not zero: {vectors}, {tile.channels} input channels at a time"
        if others:
            reason += " (" + ", ".join(f"{o.variant}: {o.cycles / tile.cycles:.2f}x its time" for o in others) + ")"
        return Choice("sparse_conv", tile.knobs, reason, f"{shape.problem} nonzeros={nonzeros}")

    def _sparse_implementation(self, choice: Choice, estimate: float) -> Implementation:
        measured = self.measured.get(choice)
        cycles = estimate * SPARSE_MARGIN + costs.DISPATCH if measured is None else measured
        return Implementation((PLANAR,), PLANAR, cycles, choice)

    def separable(self, first: ConvShape, before: Choice, shape: ConvShape) -> Choice | Refusal:
        """A convolution by lanes and the pointwise one behind it as one kernel, where that is estimated to pay.

        ``before``: the choice of the first one.
        """
        m = before.knobs.get("m", 0)
        tiles = shared_tiles(self.unit, first, m, self.cores)
        if not tiles:
            rows = f"{m} rows" if m else "a row"
            return Refusal(f"{rows} of {first.out_w} pixels of {first.c_out} channels do not fit the scratch")
        ways = [self.separable_way(first, shape, m, tiles[-1])]
        for tile in tiles if self.strassen else []:
            products = fused_products(self.unit, (first, shape), tile, self.model)
            ways += [self.separable_way(first, shape, m, tile, way) for way in products]
        found = [(way, separable_savings(self.unit, way.pair, way.tile, self.cores)) for way in ways]
        way, savings = max(found, key=lambda each: each[1][1])
        worst = pays(way.pair, savings)
        if worst is not None:
            with_threads = f" with {worst} threads" if worst > 1 else ""
            return Refusal(f"apart they are estimated to be faster by {-savings[worst]:.0f} cycles{with_threads}")
        saved = ", ".join(f"{threads}: {cycles:.0f}" for threads, cycles in savings.items())
        return Choice("separable_conv", way.knobs, f"{way.reason}; estimated cycles saved, by threads: {saved}")

    def separable_way(
        self, first: ConvShape, shape: ConvShape, m: int, tile: SeparableTile, products: FusedProducts | None = None
    ) -> SeparableWay:
        """``separable_conv`` with this tile of the first convolution, the second by sums or by Strassen's algorithm."""
        lanes = costs.winograd_lane_cycles(self.unit, first, m) if m else costs.lane_cycles(self.unit, first)
        packed = self.packed(shape, 1).knobs
        vectors, ow, t_o = packed["t_o"] // self.block, packed["ow"], packed["t_o"]
        cycles = costs.packed_cycles(self.unit, shape, 1, vectors, ow, self.model)
        apart, shares = cycles, (-(-shape.c_out // t_o), shape.out_h)
        own = strassen_tile(self.unit, shape, self.cores, self.model) if self.strassen else None
        if own is not None and shape.batch * own.cycles < cycles:
            apart = shape.batch * own.cycles
            shares = -(-shape.c_out // own.k_w), -(-shape.out_h // own.rows)
        if products is not None:
            vectors, t_o, cycles = products.vectors, products.vectors * self.block, shape.batch * products.cycles
        pair = SeparablePair(first, shape, m, t_o, (lanes, apart), shares, cycles, products is not None)
        knobs = {**asdict(tile), "t_o": t_o, "ow": ow, "block": self.block}
        if products is not None:
            knobs["strassen"] = products.pixels
        pixels = ow if products is None else products.pixels
        algorithm = "" if products is None else "7 products of halves, "
        reason = f"{tile.rows} rows at a time, {algorithm}{vectors}x{pixels} accumulators of {self.block} lanes"
        return SeparableWay(tile, pair, knobs, reason)

    def unfit(self, shape: ConvShape) -> Refusal:
        """Why a convolution has no schedule."""
        channels = f"{shape.groups} groups of {shape.c_per_group} to {shape.k_per_group} channels"
        return Refusal(f"{channels} do not fill blocks of {self.block} by merging groups")

    def _blocked_choices(self, shape: ConvShape) -> Iterator[tuple[Choice, float]]:
        """Schedules that write blocks, with the estimated cycles of their kernels."""
        merge = self.merge(shape)
        if merge is not None and (found := self._winograd(shape, merge)) is not None:
            yield found
        if (lanes := self.lane(shape)) is not None:
            yield lanes
        if merge is not None:
            choice = self.packed(shape, merge)
            vectors, ow = choice.knobs["t_o"] // self.block, choice.knobs["ow"]
            yield choice, costs.packed_cycles(self.unit, shape, merge, vectors, ow, self.model)
        if self.strassen and takes_strassen(self.unit, shape):
            tile = strassen_tile(self.unit, shape, self.cores, self.model)
            if tile is not None:
                yield self.strassen_choice(tile), shape.batch * tile.cycles

    def lane(self, shape: ConvShape) -> tuple[Choice, float] | None:
        """``lane_conv`` for groups that are equal parts of a block."""
        c_pg = shape.c_per_group
        if shape.groups == 1 or c_pg != shape.k_per_group or self.block % c_pg:
            return None
        ow = lane_tile(self.unit, shape.out_w, shape.k_w)
        kind = "depthwise" if c_pg == 1 else f"{c_pg} channels per group"
        choice = Choice("lane_conv", {"ow": ow, "block": self.block}, f"{kind}: lanes on channels")
        return choice, costs.lane_cycles(self.unit, shape)

    def packed(self, shape: ConvShape, merge: int) -> Choice:
        """``packed_conv`` with so many groups merged."""
        block, c_pg = self.block, shape.c_per_group
        k_blocks = -(-(shape.k_per_group * merge) // block)
        vectors, ow = register_tile(self.unit, k_blocks, shape.out_w)
        knobs = {"t_o": vectors * block, "ow": ow, "block": block, "merge": merge}
        if shape.groups == 1 and c_pg < block:
            knobs["direct"] = 1
            if shape.stride[1] > 1:  # a few channels are too little work for a loop over columns (1.7x at 3x3 stride 2)
                knobs["unroll_kw"] = 1
        return Choice("packed_conv", knobs, self.packed_reason(shape, knobs))

    def packed_reason(self, shape: ConvShape, knobs: Mapping[str, int]) -> str:
        """What to say of ``packed_conv`` with these knobs."""
        t_o, merge = knobs["t_o"], knobs["merge"]
        reason = f"T_O={t_o}, {t_o // self.block}x{knobs['ow']} accumulators of {self.block} lanes"
        if merge > 1:
            reason += f", {merge} groups of {shape.c_per_group} channels merged"
        if knobs.get("direct"):
            reason += ", input read in NCHW"
            phases = self.polyphase(shape)
            if shape.stride[1] > 1 and isinstance(phases, Refusal):
                reason += f" (not polyphase_conv: {phases.reason})"
        return reason

    def _winograd(self, shape: ConvShape, merge: int) -> tuple[Choice, float] | None:
        """F(m x m, 3 x 3) where it is estimated to be faster than the sums themselves."""
        found: list[tuple[Choice, float]] = []
        if self.takes_winograd_lanes(shape):
            m = winograd_lane_tile(self.unit, shape, self.winograd)
            if m is not None:
                cycles = costs.winograd_lane_cycles(self.unit, shape, m)
                found.append((self.winograd_lane_choice(shape, m), cycles))
        if merge == 1 and self.takes_winograd(shape):
            tile = winograd_tile(self.unit, shape, self.winograd, merge, self.model)
            if tile is not None:
                found.append((self.winograd_choice(shape, tile, merge), shape.batch * tile.cycles))
        return min(found, key=lambda choice: choice[1], default=None)

    def takes_winograd(self, shape: ConvShape) -> bool:
        """Whether ``winograd_conv`` can compute a convolution."""
        return _is_plain_3x3(shape) and min(shape.c_per_group, shape.k_per_group) >= self.block

    def takes_winograd_lanes(self, shape: ConvShape) -> bool:
        """Whether ``winograd_lane_conv`` can compute a convolution."""
        per_group = shape.c_per_group
        small = 1 < per_group == shape.k_per_group <= self.block and self.block % per_group == 0
        return _is_plain_3x3(shape) and small

    def winograd_lane_choice(self, shape: ConvShape, m: int) -> Choice:
        """``winograd_lane_conv`` with this output tile."""
        reason = f"F({m}x{m}, 3x3), {shape.c_per_group} channels per group: lanes on channels"
        return Choice("winograd_lane_conv", {"m": m, "block": self.block}, reason)

    def winograd_choice(self, shape: ConvShape, tile: WinogradTile, merge: int) -> Choice:
        """``winograd_conv`` with this tile."""
        knobs = {name: value for name, value in asdict(tile).items() if name != "cycles"}
        share = tile.cycles / packed_cycles(self.unit, shape, merge, self.model)
        accumulators = f"{tile.t_o // self.block}x{tile.ow} accumulators of {self.block} lanes"
        if tile.online:
            accumulators = f"{tile.m + 2}x{tile.ow} accumulators of {self.block} lanes, filter transform online"
        reason = f"F({tile.m}x{tile.m}, 3x3), {accumulators}: estimated at {share:.0%} of packed_conv's time"
        return Choice("winograd_conv", {**knobs, "block": self.block, "merge": merge}, reason)

    def strassen_choice(self, tile: StrassenTile) -> Choice:
        """``strassen_conv`` with this tile."""
        knobs = {name: value for name, value in asdict(tile).items() if name != "cycles"}
        accumulators = f"{tile.t_o // self.block}x{tile.pixels} accumulators of {self.block} lanes"
        return Choice("strassen_conv", {**knobs, "block": self.block}, f"7 products of halves, {accumulators}")

    def polyphase(self, shape: ConvShape) -> tuple[Choice, float] | Refusal:
        """A convolution of stride 2 by its phases in Winograd's domain, with its estimated cycles."""
        tile = polyphase_tile(self.unit, shape, self.winograd)
        return tile if isinstance(tile, Refusal) else self.polyphase_choice(shape, tile)

    def polyphase_choice(self, shape: ConvShape, tile: PolyphaseTile) -> tuple[Choice, float]:
        """``polyphase_conv`` with the knobs of a tile, and its estimated cycles for all images."""
        knobs = {name: value for name, value in asdict(tile).items() if name != "cycles"}
        vectors = tile.t_o // self.block
        taps = f"{-(-shape.k_h // 2)}x{-(-shape.k_w // 2)}"
        reason = f"F({tile.m}x{tile.m}, {taps}) of 4 phases, {vectors}x{tile.ow} accumulators of {self.block} lanes"
        return Choice("polyphase_conv", {**knobs, "block": self.block}, reason), shape.batch * tile.cycles

    def w_lanes(self, shape: ConvShape) -> tuple[Choice, float] | None:
        """Vectors along the row of NCHW tensors, for groups of fewer channels than a vector."""
        lanes, per_group = self.unit.lanes, shape.k_per_group
        if shape.groups == 1 or shape.c_per_group == 1 or shape.c_per_group >= lanes or shape.stride[1] > 1:
            return None
        if shape.out_w % lanes:
            return None
        t_o = next(t for t in (8, 4, 2, 1) if per_group % t == 0)
        enough = self.unit.fma_units * self.unit.fma_latency
        wide = [
            v
            for v in (4, 2, 1)
            if shape.out_w % (v * lanes) == 0 and self.unit.fits(v, t_o) and v * t_o >= min(enough, 8)
        ]
        if not wide:  # no tile of a row hides the latency of an FMA
            return None
        knobs = {"t_o": t_o, "ow": wide[0] * lanes, "lanes": lanes}
        reason = f"NCHW in and out, {t_o}x{wide[0]} accumulators of {lanes} pixels"
        return Choice("w_lanes", knobs, reason), costs.w_lanes_cycles(self.unit, shape, wide[0], t_o)

    def merge(self, shape: ConvShape) -> int | None:
        """The fewest groups that fill blocks of both the input's and the output's channels when merged.

        Few groups that never do are merged all: zeros cost less than leaving the convolution to IREE.
        """
        if shape.groups == 1:
            return 1
        for merge in range(1, shape.groups + 1):
            if shape.groups % merge == 0 and not (
                merge * shape.c_per_group % self.block or merge * shape.k_per_group % self.block
            ):
                return merge
        return shape.groups if shape.groups <= _MERGE_ALL else None


def _is_plain_3x3(shape: ConvShape) -> bool:
    return (shape.k_h, shape.k_w, *shape.stride, *shape.dilation) == (3, 3, 1, 1, 1, 1)

"""The rule that picks a schedule per kernel from its shape and the target's vector unit, and applies it."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, fields, replace
from typing import Any

from iree.compiler import ir
from iree.compiler.dialects.transform import interpreter

from dlas.dialects import TransformScript
from dlas.errors import ScheduleError
from dlas.passes.conv import ConvShape
from dlas.passes.knob_request import KnobRequest
from dlas.passes.layout_assignment import NCHW, PLANAR, Implementation, block_of, blocked
from dlas.passes.lower_lanes import lower_lanes
from dlas.passes.plan import Choice, Grid, Kernel, Refusal
from dlas.passes.sparsifier_site import SparseProduct
from dlas.schedules import costs
from dlas.schedules.attention import AttentionKnobs, ProductKnobs, attention, batch_matmul, pack_matrix
from dlas.schedules.grid import kernel_cycles, plan_grid
from dlas.schedules.knobs import (
    VectorUnit,
    lane_tile,
    packed_cycles,
    register_tile,
)
from dlas.schedules.lane_conv import LaneConvKnobs, lane_conv, lane_conv_finish
from dlas.schedules.matmul import MatmulKnobs, matmul
from dlas.schedules.measured import Measurements
from dlas.schedules.packed_conv import PackedConvKnobs, packed_conv
from dlas.schedules.plain import PlainKnobs, elementwise, lane_shuffle, pad, reduce, transpose
from dlas.schedules.planar_conv import MAX_TAPS, PlanarConvKnobs, PlanarTile, planar_tile
from dlas.schedules.polyphase_conv import PolyphaseInputKnobs, PolyphaseKnobs, polyphase_conv, polyphase_input
from dlas.schedules.polyphase_cost import PolyphaseTile, polyphase_tile
from dlas.schedules.requests import DENSE_MATMUL, ask_conv, ask_matmul, ask_separable
from dlas.schedules.rows import RowKnobs, rows
from dlas.schedules.separable_conv import SeparableConvKnobs, separable_conv
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
from dlas.schedules.sparse_conv import SPARSE_VARIANTS, SparseConvKnobs
from dlas.schedules.sparse_cost import SparseTile, sparse_tiles
from dlas.schedules.sparse_linear import (
    LinearTile,
    SparseMatmulKnobs,
    SparseMatvecKnobs,
    dense_cycles,
    matmul_tile,
    matvec_tile,
)
from dlas.schedules.sparse_pixel_conv import SparsePixelConvKnobs
from dlas.schedules.sparsifier import SparsifierKnobs, choose_sparsifier
from dlas.schedules.strassen_conv import StrassenKnobs, strassen_conv
from dlas.schedules.strassen_cost import StrassenTile, strassen_tile, takes_strassen
from dlas.schedules.strassen_matmul import (
    StrassenMatmulKnobs,
    StrassenMatmulTile,
    plain_cycles,
    strassen_matmul,
    strassen_matmul_tiles,
)
from dlas.schedules.w_lanes import WLanesKnobs, w_lanes
from dlas.schedules.winograd_conv import (
    WinogradKnobs,
    WinogradLaneKnobs,
    winograd_conv,
    winograd_input,
    winograd_lane_conv,
)
from dlas.schedules.winograd_cost import WinogradTile, winograd_lane_tile, winograd_tile

# As many groups may be merged into an ordinary convolution: IREE's own code is 8 and more times slower.
_MERGE_ALL = 8

# Vectors of a step along a row, so that sums do not wait for each other; elements of a workgroup, so that starting
# one costs little beside its work.
_ROW_STEP = 4
_ROW_ELEMENTS = 16384

# Attention: vectors of a step along a row of scores; bytes of scores that a workgroup keeps, for they are read again.
_SCORE_STEP = 2
_SCORES_BYTES = 32768

# Rows of a batched product per workgroup.
_PRODUCT_ROWS = 64

# Weights are worth a look at their zeros up to this share of non-zeros; skipping them must be estimated to be faster by
# this factor.
_SPARSE_SHARE = 0.7
_SPARSE_MARGIN = 1.1

# How many times longer kernels take on vectors of half the lanes where twice as many FMAs start per cycle: there are
# twice as many loads, shuffles and loops beside them (1.03 to 1.24 were measured on a Zen 4 where blocks are full).
_NARROW = 1.1

ASKED = "asked for by the transform script: "
"""What the reason of such a choice begins with."""

Step = Callable[[ir.Operation], Any] | TransformScript


@dataclass(frozen=True)
class Schedule:
    """A line of the table: the knobs' class, the steps that apply it, and what it is for."""

    knobs: type
    steps: Callable[[Any, Mapping[str, int]], list[Step]]
    summary: str


SCHEDULES: dict[str, Schedule] = {
    "packed_conv": Schedule(
        PackedConvKnobs,
        lambda knobs, extents: [packed_conv(knobs, extents)],
        "grouped, ordinary and pointwise convolutions in channel blocks (GSPC)",
    ),
    "lane_conv": Schedule(
        LaneConvKnobs,
        lambda knobs, extents: [lane_conv(knobs, extents), lower_lanes, lane_conv_finish()],
        "depthwise and small-group convolutions by lane shuffles; pooling",
    ),
    "separable_conv": Schedule(
        SeparableConvKnobs,
        lambda knobs, extents: [separable_conv(knobs, extents)],
        "a depthwise or small-group and the pointwise convolution behind it, some rows at a time",
    ),
    "winograd_conv": Schedule(
        WinogradKnobs,
        lambda knobs, extents: [winograd_conv(knobs, extents)],
        "3x3 convolutions of stride 1, grouped or not, in Winograd's domain",
    ),
    "winograd_input": Schedule(
        WinogradLaneKnobs,
        lambda knobs, extents: [winograd_input(knobs, extents)],
        "the input of winograd_conv, transformed once for all its workgroups",
    ),
    "winograd_lane_conv": Schedule(
        WinogradLaneKnobs,
        lambda knobs, extents: [winograd_lane_conv(knobs, extents)],
        "3x3 convolutions of stride 1 with a few channels per group, in Winograd's domain by lane shuffles",
    ),
    "strassen_conv": Schedule(
        StrassenKnobs,
        lambda knobs, extents: [strassen_conv(knobs, extents)],
        "pointwise convolutions by Strassen's algorithm: 7/8 of the multiply-adds",
    ),
    "planar_conv": Schedule(
        PlanarConvKnobs,
        lambda knobs, extents: [],
        "groups whose channels fill no block, and what is between them: lanes along flattened padded planes",
    ),
    "polyphase_conv": Schedule(
        PolyphaseKnobs,
        lambda knobs, extents: [polyphase_conv(knobs, extents)],
        "convolutions of stride 2 with few input channels, by their phases in Winograd's domain",
    ),
    "polyphase_input": Schedule(
        PolyphaseInputKnobs,
        lambda knobs, extents: [polyphase_input(knobs, extents)],
        "the padded input of polyphase_conv, phase by phase",
    ),
    "sparse_conv": Schedule(
        SparseConvKnobs,
        lambda knobs, extents: [],
        "convolutions of pruned weights by their non-zeros (CSR), on flattened padded planes",
    ),
    "sparse_matvec": Schedule(
        SparseMatvecKnobs,
        lambda knobs, extents: [],
        "linear layers of pruned weights by their non-zeros, for a row or a few",
    ),
    "sparse_matmul": Schedule(
        SparseMatmulKnobs,
        lambda knobs, extents: [],
        "linear layers of pruned weights by their non-zeros, lanes on the rows",
    ),
    "pack_rows": Schedule(PlainKnobs, lambda knobs, extents: [], "rows side by side in lanes, for sparse_matmul"),
    "sparsifier": Schedule(
        SparsifierKnobs,
        lambda knobs, extents: [],
        "pruned weights that none of ours takes (3-D, f64, f16): the loops of MLIR's sparsifier, raised to vectors",
    ),
    "sparse_pixel_conv": Schedule(
        SparsePixelConvKnobs,
        lambda knobs, extents: [],
        "convolutions of pruned weights on GPUs: a thread per output pixel walks the non-zeros (CSR)",
    ),
    "row_copy": Schedule(
        PlainKnobs,
        lambda knobs, extents: [],
        "rows between NCHW, planes, and the phases of strides; elementwise ops there",
    ),
    "lane_shuffle": Schedule(
        PlainKnobs, lambda knobs, extents: [lane_shuffle(knobs, extents)], "channel shuffles in channel blocks"
    ),
    "repack": Schedule(
        PlainKnobs,
        lambda knobs, extents: [lane_shuffle(knobs, extents)],
        "from channel blocks of one size to those of another",
    ),
    "channels_last": Schedule(
        PlainKnobs,
        lambda knobs, extents: [lane_shuffle(knobs, extents)],
        "between channel blocks and tensors whose last dimension is the channels; elementwise ops on the way",
    ),
    "w_lanes": Schedule(
        WLanesKnobs,
        lambda knobs, extents: [w_lanes(knobs, extents)],
        "small-group convolutions that stand alone: NCHW in and out, lanes along the row",
    ),
    "matmul": Schedule(
        MatmulKnobs, lambda knobs, extents: [matmul(knobs, extents)], "linear layers: matrix products by packed weights"
    ),
    "strassen_matmul": Schedule(
        StrassenMatmulKnobs,
        lambda knobs, extents: [strassen_matmul(knobs, extents)],
        "linear layers by Strassen's algorithm: 7/8 of the multiply-adds",
    ),
    "strassen_input": Schedule(PlainKnobs, lambda knobs, extents: [], "sums of inputs of strassen_matmul, row by row"),
    "attention": Schedule(
        AttentionKnobs,
        lambda knobs, extents: [attention(knobs, extents)],
        "attention: scores, softmax and context of some rows of a head",
    ),
    "batch_matmul": Schedule(
        ProductKnobs, lambda knobs, extents: [batch_matmul(knobs, extents)], "batched products of two activations"
    ),
    "pack_matrix": Schedule(
        PlainKnobs, lambda knobs, extents: [pack_matrix(knobs, extents)], "keys and values, matrix by matrix"
    ),
    "rows": Schedule(
        RowKnobs, lambda knobs, extents: [rows(knobs, extents)], "softmax, layer norm and their like, row by row"
    ),
    "elementwise": Schedule(
        PlainKnobs, lambda knobs, extents: [elementwise(knobs, extents)], "elementwise ops and copies in channel blocks"
    ),
    "transpose": Schedule(
        PlainKnobs, lambda knobs, extents: [transpose(knobs, extents)], "pack and unpack at the blocked layout's edges"
    ),
    "pad": Schedule(PlainKnobs, lambda knobs, extents: [pad(knobs, extents)], "zeros around an NCHW tensor"),
    "reduce": Schedule(PlainKnobs, lambda knobs, extents: [reduce(knobs, extents)], "reductions over height and width"),
}


class Rules:
    """The default policy for one vector unit.

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

    def __init__(
        self,
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
            None if narrow is None else Rules(narrow, winograd, self.measured, cores, model, strassen=strassen)
        )
        if self.narrow is not None:
            self.narrow.slower = _NARROW
        self.blocks: Sequence[int] = (self.block, *(() if self.narrow is None else self.narrow.blocks))

    def for_model(self, weights: int) -> Rules:
        """The same policy for a model with so many bytes of weights."""
        narrow = None if self.narrow is None else self.narrow.unit
        return Rules(self.unit, self.winograd, self.measured, self.cores, weights, narrow, self.strassen)

    def of_block(self, block: int) -> Rules:
        """The policy for kernels on blocks of so many channels."""
        if block == self.block:
            return self
        assert self.narrow is not None, f"blocks are of {self.block} channels, not {block}"
        return self.narrow.of_block(block)

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
        if share > _SPARSE_SHARE:
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
        cycles = estimate * _SPARSE_MARGIN + costs.DISPATCH if measured is None else measured
        return Implementation((PLANAR,), PLANAR, cycles, choice)

    def asked(
        self, shape: ConvShape, request: KnobRequest, nonzeros: int, algorithm: str | None
    ) -> Implementation | Refusal:
        """A convolution as a transform script asks for it, or why that cannot be.

        Of blocks it gets those that the request names, else the largest that its other knobs fit.
        """
        block = request.knobs.get("block", self.block)
        if block != self.block and block in self.blocks:
            return self.of_block(block).asked(shape, request, nonzeros, algorithm)
        found = self._asked(shape, request, nonzeros, algorithm)
        if isinstance(found, Refusal) and "block" not in request.knobs and self.narrow is not None:
            narrow = self.narrow.asked(shape, request, nonzeros, algorithm)
            if isinstance(narrow, Implementation) and narrow.blocks:
                return narrow
        return found

    def _asked(
        self, shape: ConvShape, request: KnobRequest, nonzeros: int, algorithm: str | None
    ) -> Implementation | Refusal:
        unknown = _unknown_knob(request)
        found = unknown or ask_conv(self, shape, request, nonzeros, algorithm)
        if isinstance(found, Refusal):
            return found
        choice, cycles = _asked(found[0]), found[1]
        if choice.schedule == "sparse_conv":
            return self._sparse_implementation(choice, cycles)
        if choice.schedule == "planar_conv":
            return self._planar_implementation(shape, choice, cycles)
        layout = blocked(self.block)
        if choice.schedule == "polyphase_conv":
            return self._implementation(shape, NCHW, layout, choice, cycles, padded=True)
        writes = NCHW if choice.schedule == "w_lanes" else layout
        reads = NCHW if writes == NCHW or choice.knobs.get("direct") else layout
        return self._implementation(shape, reads, writes, choice, cycles)

    def asked_matmul(
        self, m: int, n: int, k: int, request: KnobRequest, nonzeros: int, algorithm: str | None
    ) -> Implementation | Refusal:
        """``[m, k] x [k, n]`` as a transform script asks for it, or why that cannot be."""
        unknown = _unknown_knob(request)
        found = unknown or ask_matmul(self, m, n, k, request, nonzeros, algorithm)
        if isinstance(found, Refusal):
            return found
        problem = f"matmul {m}x{k}x{n}" + ("" if request.schedule in DENSE_MATMUL else f" nonzeros={nonzeros}")
        choice = replace(_asked(found[0]), problem=problem)
        measured = self.measured.get(choice)
        return Implementation((), NCHW, found[1] + costs.DISPATCH if measured is None else measured, choice)

    def asked_separable(
        self, first: ConvShape, before: Choice, shape: ConvShape, request: KnobRequest
    ) -> Choice | Refusal:
        """A convolution by lanes and the pointwise one behind it as one kernel, as a transform script asks for it."""
        found = ask_separable(self, first, before, shape, request)
        return found if isinstance(found, Refusal) else _asked(found)

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

    def transform_cycles(self, shape: Sequence[int], source: str, target: str) -> float:
        """Cycles to bring an activation from one layout to another."""
        return costs.transform_cycles(self.unit, shape, source, target)

    def window_cycles(self, shape: ConvShape, layout: str) -> float:
        """Cycles of pooling; ``shape`` gives the window as a depthwise convolution would."""
        block = block_of(layout)
        unit = self.unit if block is None else self.of_block(block).unit
        return costs.window_cycles(unit, shape, layout)

    def channels_last_cycles(self, shape: Sequence[int], layout: str) -> float:
        """Cycles of a transpose between channels-last and another layout."""
        return costs.channels_last_cycles(self.unit, shape, layout)

    def stream_cycles(self, elements: int, layout: str, *, fused: bool = False) -> float:
        """Cycles to read and write so many elements in all, in a kernel of its own or ``fused`` into one."""
        return costs.stream_cycles(elements, layout, fused=fused)

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
        if share > _SPARSE_SHARE:
            return Refusal(f"{share:.0%} of the weights are not zero")
        problem = f"matmul {m}x{k}x{n}"
        dense, cycles = self._dense_matmul(m, n, k)
        ways = [(replace(dense, problem=problem), cycles)]
        tiles = {"sparse_matvec": matvec_tile, "sparse_matmul": matmul_tile}
        for name, make in tiles.items():
            tile = make(self.unit, m, n, k, nonzeros, self.model)
            if tile is not None:
                choice = self.sparse_linear_choice(name, tile, {}, share)
                ways.append((replace(choice, problem=f"{problem} nonzeros={nonzeros}"), tile.cycles * _SPARSE_MARGIN))
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

    def sparsifier(self, product: SparseProduct) -> Choice | Refusal:
        """The fallback for pruned weights, or why dense code is faster."""
        return choose_sparsifier(self.unit, self.cores, product)

    def plain(self, kind: str, height: int, width: int) -> Choice:
        """The schedule of a kernel without multiply-accumulates."""
        if kind == "pooling":
            return Choice("lane_conv", {"ow": lane_tile(self.unit, width, 0), "block": self.block}, "lanes on channels")
        if kind in ("pack", "unpack"):
            width = height if width == 1 else width  # a column is packed as a row
            # A last tile of one pixel would be a copy of scalars.
            widths = range(min(self.block, width), 0, -1)
            ow = next((n for n in widths if width % n != 1), 1)
            return Choice("transpose", {"ow": ow, "block": self.block}, f"{self.block}x{ow} transposes in registers")
        if kind == "pack_matrix":
            return Choice(
                "pack_matrix", {"ow": 4 * self.block, "block": self.block}, "a matrix at a time, in registers"
            )
        if kind == "rows":
            reason = f"{self.block}x{self.block} transposes in registers"
            return Choice("pack_rows", {"ow": self.block, "block": self.block}, reason)
        if kind == "sums":
            return Choice("strassen_input", {"ow": self.block, "block": self.block}, "made once, for all workgroups")
        if kind in ("planar", "unplanar", "phases", "planes"):
            return Choice("row_copy", {"ow": self.block, "block": self.block}, "whole vectors of a row")
        if kind == "repack":
            reason = f"blocks of {self.block} channels, vector by vector"
            return Choice("repack", {"ow": 1, "block": self.block}, reason)
        if kind == "channels_last":
            return Choice("channels_last", {"ow": 1, "block": self.block}, "a pixel's channels, vector by vector")
        if kind == "shuffle":
            return Choice("lane_shuffle", {"ow": 1, "block": self.block}, "a block of each group by lane shuffles")
        if kind == "pad":
            return Choice("pad", {"ow": self.block, "block": self.block}, "whole vectors of a row")
        if kind == "reduce":
            return Choice("reduce", {"ow": 1, "block": self.block}, "lanes on channels")
        return Choice("elementwise", {"ow": min(4, width), "block": self.block}, "lanes on channels")

    def grid(self, tiles: int, rows: int, flops: int, moved: int) -> Grid:
        """How a kernel's tiles, and the rows of each, are dealt out (see :mod:`dlas.schedules.grid`)."""
        return plan_grid(self.cores, tiles, rows, kernel_cycles(self.unit, flops, moved))


def _is_plain_3x3(shape: ConvShape) -> bool:
    return (shape.k_h, shape.k_w, *shape.stride, *shape.dilation) == (3, 3, 1, 1, 1, 1)


def _asked(choice: Choice) -> Choice:
    return replace(choice, reason=ASKED + choice.reason, asked=True)


def _unknown_knob(request: KnobRequest) -> Refusal | None:
    schedule = SCHEDULES.get(request.schedule)
    known = [] if schedule is None else [field.name for field in fields(schedule.knobs) if field.type == "int"]
    unknown = [name for name in request.knobs if schedule is not None and name not in known]
    return Refusal(f"{request.schedule} has no knob {unknown[0]!r}: {', '.join(known)}") if unknown else None


def knobs_of(choice: Choice) -> Any:
    """The choice's knobs as the schedule's dataclass.

    Raises:
        ScheduleError: an unknown schedule or knob, or a value that cannot work.
    """
    schedule = SCHEDULES.get(choice.schedule)
    if schedule is None:
        raise ScheduleError(f"unknown schedule {choice.schedule!r}", hint="known: " + ", ".join(SCHEDULES))
    known = {field.name for field in fields(schedule.knobs)}
    unknown = sorted(set(choice.knobs) - known)
    if unknown:
        raise ScheduleError(
            f"unknown knob {unknown[0]!r}",
            where=f"schedule {choice.schedule}",
            hint="known: " + ", ".join(sorted(known)),
        )
    return schedule.knobs(**choice.knobs)


def apply_schedule(kernel: Kernel, function: ir.Operation) -> None:
    """Applies the kernel's schedule to its ``func.func`` in place.

    Raises:
        ScheduleError: a step does not apply, with the layers of the kernel and the interpreter's reason.
    """
    schedule = SCHEDULES[kernel.choice.schedule]
    for step in schedule.steps(knobs_of(kernel.choice), kernel.extents):
        if not isinstance(step, TransformScript):
            step(function)
            continue
        script = step.module(function.context)
        try:
            interpreter.apply_named_sequence(function, script.body.operations[0], script)
        except ValueError as error:
            reason = " ".join(str(error).split())
            raise ScheduleError(
                f"schedule {kernel.choice.schedule} does not apply: {reason}",
                where=f"layer {', '.join(layer for layer in kernel.layers if layer) or kernel.key}",
                hint="knobs " + ", ".join(f"{k}={v}" for k, v in kernel.choice.knobs.items()),
            ) from error
    function.attributes["dlas.schedule"] = ir.StringAttr.get(kernel.choice.schedule)

"""The forms in which the values of a function exist: in channel blocks of several sizes, on planes, split into phases.

Each is made once, where it is first asked for, by a kernel that brings the value from the layout that it was made in.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping

from iree.compiler import ir

from dlas.passes.blocked_kernels import KernelEmitter
from dlas.passes.conv import ConvSite
from dlas.passes.kernel_frame import Blocked
from dlas.passes.layout_assignment import PLANAR, block_of
from dlas.passes.layout_graph import LayoutGraph, LayoutPolicy
from dlas.passes.plan import Choice, Kernel
from dlas.passes.planar import Phases, Planar, PlanarGeometry, PlanarSite
from dlas.passes.reshape import Pads, reshape_collapse, reshape_expand
from dlas.passes.sparse_linear_kernels import RowTiles
from dlas.passes.strassen_matmul_kernels import RowPairs

NO_PADS: Pads = (0, 0, 0, 0)


class LayoutForms:
    """What there is of each value, and the emitters of the kernels that make the rest.

    Args:
        graph: in which layout each value is made.
        policy: the schedules of the kernels.
        demands: for values that are read with padding, the halo and its value.

    Attributes:
        kernels: the record of all emitters.
        emitters: by channels of a block.
        blocked: values in blocks of so many channels.
        planes: ``[N, C, 1, 1]`` values as ``[N, C/B, B]``.
        planar: values on planes.
    """

    def __init__(
        self, graph: LayoutGraph, policy: LayoutPolicy, demands: Mapping[ir.Value, tuple[Pads, float]]
    ) -> None:
        self.graph, self.policy, self.demands = graph, policy, demands
        self.kernels: dict[str, Kernel] = {}
        self.emitters = {
            block: KernelEmitter(block, policy.of_block(block).grid, self.kernels) for block in policy.blocks
        }
        self.blocked: dict[tuple[ir.Value, int], Blocked] = {}
        self.planes: dict[tuple[ir.Value, int], ir.Value] = {}
        self.planar: dict[ir.Value, Planar] = {}
        self._phases: dict[tuple[ir.Value, Phases], ir.Value] = {}
        self._rows: dict[tuple[ir.Value, RowTiles], ir.Value] = {}  # matrices with their rows in lanes
        self._sums: dict[tuple[ir.Value, RowPairs], ir.Value] = {}  # what Strassen's algorithm multiplies of matrices
        self._emitter = self.emitters[policy.block]  # of planes and rows
        self.geometry = PlanarGeometry(
            [
                planar_site(site, chosen.choice)
                for op, site in graph.planar
                if (chosen := graph.chosen(op)) is not None and chosen.result == PLANAR and chosen.choice is not None
            ],
            policy.block,
        )

    def made(self, value: ir.Value) -> Blocked | Planar | None:
        """What a value is made as, if not in NCHW."""
        layout = self.graph.layout(value)
        if layout == PLANAR:
            return self.planar.get(value)
        block = block_of(layout)
        return None if block is None else self.blocked.get((value, block))

    def values(self) -> Iterable[ir.Value]:
        """All that exist in other forms than NCHW."""
        return dict.fromkeys([*(value for value, _ in self.blocked), *self.planar])

    def keep(self, blocked: Blocked, value: ir.Value) -> None:
        """Says what kernel result stands for a value."""
        self.blocked[value, blocked.block] = blocked

    def in_blocks(self, value: ir.Value, block: int, pads: Pads = NO_PADS, pad_value: float = 0.0) -> Blocked:
        """A value in blocks of so many channels, with at least this halo."""
        halo, fill = self.demands.get(value, (pads, pad_value))
        if any(pads) and (fill != pad_value or any(h < p for h, p in zip(halo, pads, strict=True))):
            halo, fill = pads, pad_value
        emitter, policy = self.emitters[block], self.policy.of_block(block)
        known = self.blocked.get((value, block))
        if known is None:
            height, width = ir.ShapedType(value.type).shape[2:]
            made = self.made(value)
            if isinstance(made, Blocked):
                known = emitter.repack(value, made, halo, fill, policy.plain("repack", height, width), "")
            else:
                halo = halo if width > 1 else NO_PADS  # of a column: a copy gives it
                known = emitter.pack(value, halo, fill, policy.plain("pack", height, width), "")
            self.keep(known, value)
        fits = all(h >= p for h, p in zip(known.halo, pads, strict=True))
        if fits and (known.halo_value == pad_value or not any(pads)):
            return known
        height, width = known.shape[2:]
        return emitter.copy(known, pads, pad_value, policy.plain("copy", height, width), "")

    def plane(self, value: ir.Value, block: int) -> ir.Value:
        """``[N, C, 1, 1]`` as ``[N, C/B, B]``."""
        if (value, block) not in self.planes:
            batch, channels = ir.ShapedType(value.type).shape[:2]
            flat = reshape_collapse(value, [batch, channels], [[0], [1, 2, 3]])
            self.planes[value, block] = reshape_expand(flat, [batch, channels // block, block], [[0], [1, 2]])
        return self.planes[value, block]

    def in_nchw(self, form: Blocked | Planar) -> ir.Value:
        """A value from another form."""
        if isinstance(form, Planar):
            return self._emitter.from_planar(form, self.policy.plain("unplanar", *form.shape[2:]), "")
        emitter, policy = self.emitters[form.block], self.policy.of_block(form.block)
        if form.shape[3] == 1 and any(form.halo):
            form = emitter.copy(form, NO_PADS, 0.0, policy.plain("copy", *form.shape[2:]), "")
        return emitter.unpack(form, policy.plain("unpack", *form.shape[2:]), "")

    def on_planes(self, value: ir.Value) -> Planar:
        """A value on planes, zeros around it."""
        if value not in self.planar:
            height, width = ir.ShapedType(value.type).shape[2:]
            choice = self.policy.plain("planar", height, width)
            source = self._emitter.dense_planes(value)
            self.planar[value] = self._emitter.to_planar(source, self.geometry.plane(height, width), choice, "")
        return self.planar[value]

    def planar_input(self, site: ConvSite, choice: Choice, layer: str) -> Planar | tuple[ir.Value, Phases]:
        """What a convolution on planes reads: a value as it is, or split into phases."""
        planar = planar_site(site, choice)
        if planar.in_place:
            return self.on_planes(site.data)
        phases = self.geometry.phases(planar)
        return self.in_phases(site.data, phases, layer), phases

    def in_phases(self, value: ir.Value, phases: Phases, layer: str) -> ir.Value:
        """A value split into phases."""
        if (value, phases) not in self._phases:
            copy = self.policy.plain("phases", *ir.ShapedType(value.type).shape[2:])
            known = self.planar.get(value)
            source = self._emitter.dense_planes(value) if known is None else known
            self._phases[value, phases] = self._emitter.to_phases(source, phases, copy, layer)
        return self._phases[value, phases]

    def keep_phases(self, value: ir.Value, phases: Phases, split: ir.Value) -> None:
        """Says what kernel result stands for the phases of a value."""
        self._phases[value, phases] = split

    def packed_rows(self, value: ir.Value, choice: Choice) -> ir.Value:
        """The rows of a matrix in lanes, for the sparse products that read it."""
        m, k = ir.ShapedType(value.type).shape
        tiles = RowTiles(m, choice.knobs["vectors"], self.policy.block)
        if (value, tiles) not in self._rows:
            plain = self.policy.plain("rows", m, k)
            self._rows[value, tiles] = self._emitter.pack_rows(value, tiles, plain, "")
        return self._rows[value, tiles]

    def strassen_sums(self, value: ir.Value, choice: Choice, layer: str) -> ir.Value:
        """The sums of a matrix's quarters, for the products by Strassen's algorithm that read it."""
        m, k = ir.ShapedType(value.type).shape
        pairs = RowPairs(m, k, choice.knobs["rows"], choice.knobs["block"])
        if (value, pairs) not in self._sums:
            self._sums[value, pairs] = self._emitter.strassen_input(
                value, pairs, self.policy.plain("sums", m, k), layer
            )
        return self._sums[value, pairs]


def per_plane(value: ir.Value) -> ir.Value:
    """``[N, C, 1, 1]`` as ``[N, C]``."""
    return reshape_collapse(value, ir.ShapedType(value.type).shape[:2], [[0], [1, 2, 3]])


def planar_site(site: ConvSite, choice: Choice) -> PlanarSite:
    """A convolution with a schedule for planes, as their geometry sees it."""
    return PlanarSite(site.data, site.shape, choice.knobs["accumulators"], bool(choice.knobs.get("shift")))

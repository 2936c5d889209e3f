"""The frame that all kernels of the blocked layout share: slices, borders, epilogues, and the record of each kernel.

Inside a workgroup the loops are always in the order (k, h, w, o | reductions): k counts channel blocks, o the lanes
of a block. The ops carry ``dlas.role``: ``init``, ``root`` (what reduces), ``epilogue`` (elementwise tail) and
``border`` (zeros, or the padding value, around the interior).
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np
from iree.compiler import ir

from dlas.passes import dispatch as d
from dlas.passes import vectors as v
from dlas.passes.constants import make_constant
from dlas.passes.elementwise import Access, Elementwise
from dlas.passes.plan import Choice, GridPolicy, Kernel, one_tile_each
from dlas.passes.reshape import Pads

IDENTITY = (0, 1, 2, 3)
_MASK = (-1, -1)  # stands for the lane mask where others name (op, operand)
_GREATER = 2  # arith's ordered "greater than"


@dataclass(frozen=True)
class Blocked:
    """A tensor in the blocked layout: ``value`` is ``[N, ceil(C/B), H + halo, W + halo, B]``."""

    value: ir.Value
    shape: tuple[int, ...]
    block: int
    halo: Pads = (0, 0, 0, 0)
    halo_value: float = 0.0

    @property
    def blocks(self) -> int:
        """Channel blocks, the last one padded."""
        return -(-self.shape[1] // self.block)

    @property
    def room(self) -> int:
        """Channel blocks that the tensor has: more than ``blocks`` where others are to be put behind them."""
        return int(ir.ShapedType(self.value.type).shape[1])


@dataclass(frozen=True)
class ResultSpec:
    """A result that a kernel writes: the value it stands for, and the halo around it."""

    value: ir.Value
    halo: Pads = (0, 0, 0, 0)
    halo_value: float = 0.0


@dataclass
class Epilogue:
    """Elementwise ops at the tail of a kernel.

    Attributes:
        ops: in program order; each reads results of earlier ones, of the root, or extra inputs.
        source: the value that the root computes, or None where the first op reads only extra inputs.
        full: blocked tensors that the ops read, by the value they stand for.
        plane: ``[N, C/B, B]`` tensors by the ``[N, C, 1, 1]`` value that they stand for.
        full_plain: ``[M, N]`` tensors that the ops of a matrix product read.
    """

    ops: Sequence[Elementwise]
    source: ir.Value | None
    full: Mapping[ir.Value, Blocked] = field(default_factory=dict)
    plane: Mapping[ir.Value, ir.Value] = field(default_factory=dict)
    full_plain: Sequence[ir.Value] = ()


@dataclass
class Root:
    """What reduces in a kernel, as callbacks on the body of the dispatch.

    Attributes:
        inputs: tensors that it reads.
        emit: given the body, its bindings of ``inputs``, the tile's coordinates and the accumulator, emits the op.
        init: initial value of the accumulator.
        varying: by position, the dimension of an input whose extent each call gives.
        numbers: what else each call gives, as ``numbers`` of the body.
    """

    inputs: Sequence[ir.Value]
    emit: Callable[[d.DispatchBody, Sequence[ir.Value], Tile, ir.Value], ir.Value]
    init: float = 0.0
    varying: Mapping[int, int] = field(default_factory=dict)
    numbers: Sequence[int] = ()


@dataclass(frozen=True)
class Slices:
    """A workgroup's slices of what its epilogue reads and writes.

    Attributes:
        sources: tensors with their maps over (k, h, w, o), by the value they stand for.
        lanes: per-channel vectors ``[tile_blocks, B]``, by (op, operand).
        outs: ``[tile_blocks, H, W, B]``, one per result.
    """

    sources: dict[ir.Value, tuple[ir.Value, ir.AffineMap]]
    lanes: dict[tuple[int, int], ir.Value]
    outs: list[ir.Value]


@dataclass
class LoopNest:
    """What reduces in a kernel that loops over parts of its result, epilogue included.

    Attributes:
        inputs: tensors that it reads.
        emit: given the body, its bindings of ``inputs``, the tile's coordinates and the slices, emits the loops and
            returns the results.
    """

    inputs: Sequence[ir.Value]
    emit: Callable[[d.DispatchBody, Sequence[ir.Value], Tile, Slices], list[ir.Value]]


@dataclass(frozen=True)
class Rows:
    """The rows of a tile that a workgroup computes.

    Attributes:
        first, count: in pixels.
        units: first and last (excluded) in the kernel's units, None: all.
        band, bands: the workgroup's number among those of the tile, and how many there are.
    """

    first: d.Size
    count: d.Size
    units: tuple[ir.Value, ir.Value] | None = None
    band: ir.Value | None = None
    bands: int = 1


@dataclass(frozen=True)
class Tile:
    """A place in the result: image, number of the tile within it, first channel block, rows.

    ``scratch`` are tensors that the kernel may write; it leaves here what it made of them.
    """

    image: int | ir.Value
    index: ir.Value
    block: ir.Value
    rows: Rows
    scratch: list[ir.Value] = field(default_factory=list)


def dims(*positions: int) -> list[ir.AffineExpr]:
    """Affine dimensions by position."""
    return [ir.AffineExpr.get_dim(position) for position in positions]


def constant(value: int) -> ir.AffineExpr:
    """An affine expression that is a number."""
    return ir.AffineExpr.get_constant(value)


class KernelFrame:
    """Emits dispatches at the current insertion point and keeps the record of each distinct kernel."""

    def __init__(self, block: int, grid: GridPolicy = one_tile_each, kernels: dict[str, Kernel] | None = None) -> None:
        """``kernels``: the record to keep, which emitters of several blocks share; None: one of its own."""
        self.block, self.grid = block, grid
        self.kernels: dict[str, Kernel] = {} if kernels is None else kernels
        self.element = ir.F32Type.get()

    # -- the frame that all kernels share ------------------------------------------------------------------------

    def windowed(
        self,
        *,
        kind: str,
        choice: Choice,
        layer: str,
        shape: tuple[int, ...],
        tile_blocks: int,
        root: Root | LoopNest | None,
        epilogue: Epilogue,
        results: Sequence[ResultSpec],
        extents: Mapping[str, int],
        flops: int = 0,
        unit: int = 1,
        scratch: Sequence[Sequence[int]] = (),
        any_blocks: bool = False,
    ) -> list[Blocked]:
        """A kernel over ``shape`` (of the result) in tiles of ``tile_blocks`` channel blocks; see :meth:`dispatch`.

        ``any_blocks``: it is one kernel for any number of channel blocks (of one image, and without a root).
        """
        batch, channels, height, width = shape
        blocks = -(-channels // self.block)
        tiles = blocks // tile_blocks
        vectors = self._channel_vectors(epilogue, blocks)
        if epilogue.ops and channels % self.block:
            vectors[_MASK] = self._lane_mask(channels, blocks)
        full = list(epilogue.full.items())
        plane = list(epilogue.plane.items())
        root_inputs = list(root.inputs) if root else []
        inputs = [
            *root_inputs,
            *(blocked.value for _, blocked in full),
            *(value for _, value in plane),
            *vectors.values(),
        ]
        types = [self.result_type(shape, result.halo) for result in results]

        def emit(b: d.DispatchBody, tile: Tile) -> None:
            # A loop nest finds its rows itself.
            rows = Rows(0, height) if isinstance(root, LoopNest) else tile.rows
            tile_shape = [tile_blocks, rows.count, width, self.block]
            bindings = iter(b.inputs)
            root_bindings = [next(bindings) for _ in root_inputs]
            sources: dict[ir.Value, tuple[ir.Value, ir.AffineMap]] = {}
            identity = d.affine_map(4, dims(*IDENTITY))
            for key, blocked in full:
                offsets = [tile.image, tile.block, v.plus(rows.first, blocked.halo[0]), blocked.halo[1], 0]
                sources[key] = (b.load(next(bindings), offsets, [1, *tile_shape], tile_shape), identity)
            for key, _ in plane:
                sizes = [1, tile_blocks, self.block]
                sources[key] = (
                    b.load(next(bindings), [tile.image, tile.block, 0], sizes, sizes[1:]),
                    d.affine_map(4, dims(0, 3)),
                )
            lanes = {}
            for key_ in vectors:
                sizes = [tile_blocks, self.block]
                lanes[key_] = b.load(next(bindings), [tile.block, 0], sizes, sizes)
            places = [
                [tile.image, tile.block, v.plus(rows.first, result.halo[0]), result.halo[1], 0] for result in results
            ]
            outs = [
                b.load(binding, place, [1, *tile_shape], tile_shape)
                for binding, place in zip(b.outputs, places, strict=True)
            ]
            if isinstance(root, LoopNest):
                values = root.emit(b, root_bindings, tile, Slices(sources, lanes, outs))
            elif root is not None:
                init = d.fill(d.float_constant(root.init, self.element), outs[0], "init")
                value = root.emit(b, root_bindings, tile, init)
                if epilogue.source is not None:
                    sources[epilogue.source] = (value, identity)
                values = [value]
            if epilogue.ops and not isinstance(root, LoopNest):
                values = self.emit_epilogue(epilogue, sources, lanes, outs, results)
            for value, binding, place in zip(values, b.outputs, places, strict=True):
                b.store(value, binding, place, [1, *tile_shape])
            for result, binding in zip(results, b.outputs, strict=True):
                self.emit_border(b, binding, result, tile, tile_blocks, height, width)

        varying = dict(root.varying) if isinstance(root, Root) else {}
        if any_blocks:
            leading = [1] * (len(full) + len(plane)) + [0] * len(vectors) + [1] * len(types)
            varying = dict(enumerate(leading))
        values = self.dispatch(
            batch=batch,
            tiles=tiles,
            tile_blocks=tile_blocks,
            height=height,
            inputs=inputs,
            types=types,
            emit=emit,
            flops=flops,
            unit=unit,
            scratch=scratch,
            varying=varying,
            numbers=root.numbers if isinstance(root, Root) else (),
            any_tiles=any_blocks,
        )
        moved = sum(tensor_bytes(value.type) for value in (*inputs, *values))
        extents = {**extents, "epilogue": int(bool(epilogue.ops))}
        self.record(d.dispatch_of(values[0]), kind, choice, layer, extents, flops, moved)
        return [
            Blocked(value, shape, self.block, result.halo, result.halo_value)
            for value, result in zip(values, results, strict=True)
        ]

    def dispatch(
        self,
        *,
        batch: int,
        tiles: int,
        tile_blocks: int,
        height: int,
        inputs: Sequence[ir.Value],
        types: Sequence[ir.RankedTensorType],
        emit: Callable[[d.DispatchBody, Tile], None],
        flops: int = 0,
        unit: int = 1,
        scratch: Sequence[Sequence[int]] = (),
        varying: Mapping[int, int] | None = None,
        numbers: Sequence[int] = (),
        any_tiles: bool = False,
    ) -> list[ir.Value]:
        """A dispatch over images, tiles of channel blocks, and bands of rows, dealt out as the grid policy says.

        Args:
            batch, tiles: images, and tiles of each.
            tile_blocks: channel blocks of a tile.
            height: rows of a tile.
            inputs, types: what it reads, and the types of its results.
            emit: emits the code of one tile.
            flops: of the kernel.
            unit: rows that stay together.
            scratch: shapes of tensors to lend to ``emit``. The loop over tiles carries them: made in it, IREE would
                hoist and copy them.
            varying, numbers: see :func:`dlas.passes.dispatch.create_dispatch`.
            any_tiles: each call gives the number of tiles, too (of one image).
        """
        assert batch == 1 or not any_tiles
        units = -(-height // unit)
        moved = sum(tensor_bytes(type) for type in (*(value.type for value in inputs), *types))
        grid = self.grid(batch * tiles, units, flops, moved)
        bands = grid.bands(units)
        number, index = ir.AffineExpr.get_dim(0), ir.IndexType.get()

        def one(b: d.DispatchBody, place: ir.Value, rows: Rows, lent: list[ir.Value]) -> list[ir.Value]:
            image: int | ir.Value = 0
            place_in_image = place
            if batch > 1:
                image = v.affine(ir.AffineExpr.get_floor_div(number, tiles), place)
                place_in_image = v.affine(ir.AffineExpr.get_mod(number, tiles), place)
            tile = Tile(image, place_in_image, v.affine(number * tile_blocks, place_in_image), rows, lent)
            emit(b, tile)
            return tile.scratch

        def body(b: d.DispatchBody) -> None:
            lent = [d.empty(shape, self.element) for shape in scratch]
            if bands > 1:
                assert grid.rows is not None and grid.tiles == 1
                band = v.affine(ir.AffineExpr.get_mod(number, bands), b.workgroup)
                place = v.affine(ir.AffineExpr.get_floor_div(number, bands), b.workgroup)
                one(b, place, _band(band, bands, grid.rows, units, unit, height), lent)
            elif grid.tiles == 1 and not any_tiles:
                one(b, b.workgroup, Rows(0, height), lent)
            else:
                count: v.Range = grid.tiles
                if any_tiles:
                    total, each = b.numbers[-2:]
                    first = v.emit("arith.muli", [b.workgroup, each], index)
                    left = v.emit("arith.subi", [total, first], index)
                    count = d.index_constant(0), v.minimum(each, left)
                else:
                    first = v.affine(number * grid.tiles, b.workgroup)
                if not any_tiles and batch * tiles % grid.tiles:
                    last = v.affine_min([constant(grid.tiles), number * -grid.tiles + batch * tiles], b.workgroup)
                    count = d.index_constant(0), last

                def step(t: ir.Value, lent: list[ir.Value]) -> list[ir.Value]:
                    return one(b, v.affine(number + ir.AffineExpr.get_dim(1), first, t), Rows(0, height), lent)

                v.loop(count, lent, step)

        given = [*numbers, *([tiles, grid.tiles] if any_tiles else [])]
        workgroups = grid.workgroups(batch * tiles, units)
        return d.create_dispatch(workgroups, inputs, types, body, varying=varying, numbers=given)

    def result_type(self, shape: Sequence[int], halo: Pads) -> ir.RankedTensorType:
        batch, channels, height, width = shape
        blocks = -(-channels // self.block)
        top, left, bottom, right = halo
        return d.tensor_type([batch, blocks, top + height + bottom, left + width + right, self.block], self.element)

    def emit_border(
        self,
        b: d.DispatchBody,
        binding: ir.Value,
        result: ResultSpec,
        tile: Tile,
        blocks: int,
        height: int,
        width: int,
    ) -> None:
        top, left, bottom, right = result.halo
        first, count = tile.rows.first, tile.rows.count
        above: d.Size = top
        below: d.Size = bottom
        if tile.rows.band is not None:  # the first band writes what is above, and the last what is below
            number, last = ir.AffineExpr.get_dim(0), tile.rows.bands - 1
            above = v.affine_max([constant(0), number * -top + top], tile.rows.band) if top else 0
            below = v.affine_max([constant(0), number * bottom - (last - 1) * bottom], tile.rows.band) if bottom else 0
        strips: list[tuple[d.Size, int, d.Size, int]] = [
            (0, 0, above, left + width + right),
            (top + height, 0, below, left + width + right),
            (v.plus(first, top), 0, count, left),
            (v.plus(first, top), left + width, count, right),
        ]
        for row, column, rows, columns in strips:
            if rows != 0 and columns:
                offsets = [tile.image, tile.block, row, column, 0]
                sizes = [1, blocks, rows, columns, self.block]
                target = b.load(binding, offsets, sizes, sizes[1:])
                value = d.fill(d.float_constant(result.halo_value, self.element), target, "border")
                b.store(value, binding, offsets, sizes)

    # -- epilogues -------------------------------------------------------------------------------------------------

    def _channel_vectors(self, epilogue: Epilogue, blocks: int) -> dict[tuple[int, int], ir.Value]:
        """Per-channel constants of the epilogue as ``[C/B, B]`` tensors, by (op, operand)."""
        vectors = {}
        for i, op in enumerate(epilogue.ops):
            for j, operand in enumerate(op.operands):
                if operand.access is Access.CHANNEL and operand.constant is not None:
                    padded = np.zeros(blocks * self.block, np.float32)
                    padded[: operand.constant.size] = operand.constant
                    vectors[i, j] = make_constant(padded.reshape(blocks, self.block), self.element)
        return vectors

    def _lane_mask(self, channels: int, blocks: int) -> ir.Value:
        """1 for a channel and 0 for the padding of the last block, as ``[C/B, B]``."""
        mask = np.zeros(blocks * self.block, np.float32)
        mask[:channels] = 1
        return make_constant(mask.reshape(blocks, self.block), self.element)

    def emit_epilogue(
        self,
        epilogue: Epilogue,
        sources: Mapping[ir.Value, tuple[ir.Value, ir.AffineMap]],
        lanes: Mapping[tuple[int, int], ir.Value],
        outs: Sequence[ir.Value],
        results: Sequence[ResultSpec],
        lane_dims: Sequence[int] = (0, 3),
        rank: int = 4,
    ) -> list[ir.Value]:
        """The epilogue as one ``linalg.generic`` over the tile."""
        inputs = [value for value, _ in sources.values()]
        maps = [map_ for _, map_ in sources.values()]
        inputs += lanes.values()
        maps += [d.affine_map(rank, dims(*lane_dims))] * len(lanes)
        identity = d.affine_map(rank, dims(*range(rank)))

        def body(arguments: Sequence[ir.Value]) -> list[ir.Value]:
            known = dict(zip(sources, arguments, strict=False))
            lane_values = dict(zip(lanes, arguments[len(sources) :], strict=False))
            return self.apply_epilogue(epilogue, known, lane_values, results)

        return d.generic(
            inputs,
            outs,
            [*maps, *[identity] * len(outs)],
            "p" * rank,
            body,
            {"dlas.role": ir.StringAttr.get("epilogue")},
        )

    def apply_epilogue(
        self,
        epilogue: Epilogue,
        known: Mapping[ir.Value, ir.Value],
        lanes: Mapping[tuple[int, int], ir.Value],
        results: Sequence[ResultSpec],
    ) -> list[ir.Value]:
        """The epilogue of one element, or of one vector of elements.

        Args:
            epilogue: its ops.
            known: scalars or vectors by the value they are elements of.
            lanes: the same for per-channel constants, by (op, operand).
            results: what to return.
        """
        known = dict(known)
        shape = next(iter({**known, **lanes}.values())).type
        for i, op in enumerate(epilogue.ops):
            block = op.op.regions[0].blocks[0]
            arguments: dict[ir.Value, ir.Value] = {}
            for j, operand in enumerate(op.operands):
                if (i, j) in lanes:
                    value = lanes[i, j]
                elif operand.access is Access.SCALAR:
                    value = like(self._scalar(operand.value, operand.constant), shape)
                else:
                    value = known[operand.value]
                arguments[block.arguments[j]] = value
            known[op.op.results[0]] = clone_body(block, arguments, shape)
        values = [known[result.value] for result in results]
        if _MASK not in lanes:
            return values
        # An epilogue may make infinities of padding, which zero weights in the consumer would not stop.
        zero = like(d.float_constant(0.0, self.element), shape)
        inside = ir.Operation.create(
            "arith.cmpf",
            results=[type_like(ir.IntegerType.get_signless(1), shape)],
            operands=[lanes[_MASK], zero],
            attributes={"predicate": ir.IntegerAttr.get(ir.IntegerType.get_signless(64), _GREATER)},
        ).result
        return [
            ir.Operation.create("arith.select", results=[v.type], operands=[inside, v, zero]).result for v in values
        ]

    def _scalar(self, value: ir.Value, constant: np.ndarray | None) -> ir.Value:
        if constant is not None:
            return d.float_constant(float(constant[0]), self.element)
        return value.owner.operation.clone().results[0]

    # -- records ---------------------------------------------------------------------------------------------------

    def record(
        self,
        op: ir.Operation,
        kind: str,
        choice: Choice,
        layer: str,
        extents: Mapping[str, int],
        flops: int,
        moved: int,
    ) -> None:
        # Printing an op numbers all values of the function around it: outside of it, only its own.
        casts = [use.owner.operation for result in op.results for use in result.uses]
        place = ir.InsertionPoint(casts[0]) if casts else ir.InsertionPoint.current
        op.detach_from_parent()
        body = op.get_asm(use_local_scope=True)
        place.insert(op)
        text = _rename_values(body) + repr((kind, choice, sorted(extents.items()), [str(v.type) for v in op.operands]))
        key = f"{kind}_{hashlib.sha1(text.encode()).hexdigest()[:12]}"

        def mark(inner: ir.Operation) -> ir.WalkResult:
            if "dlas.role" in inner.attributes:
                inner.attributes["dlas.kernel"] = ir.StringAttr.get(key)
            return ir.WalkResult.ADVANCE

        op.walk(mark)
        workgroups = ir.IntegerAttr(op.operands[0].owner.attributes["value"]).value
        kernel = self.kernels.setdefault(key, Kernel(key, kind, choice, dict(extents), [], flops, moved, workgroups))
        kernel.add_call(layer, flops, moved, workgroups)


def _rename_values(text: str) -> str:
    """The text with its SSA names numbered in order of appearance: equal for equal bodies."""
    names: dict[str, str] = {}
    return re.sub(r"%[\w.$-]+", lambda match: names.setdefault(match.group(), f"%v{len(names)}"), text)


def _band(band: ir.Value, bands: int, rows: int, units: int, unit: int, height: int) -> Rows:
    """The rows of one of the ``bands`` of a tile: ``rows`` units each, as many as are left in the last."""
    number = ir.AffineExpr.get_dim(0)
    pixels = rows * unit
    first = v.affine(number * pixels, band)
    count: d.Size = pixels
    if height % pixels:
        count = v.affine_min([constant(pixels), number * -pixels + height], band)
    low = v.affine(number * rows, band)
    high = v.affine_min([number * rows + rows, constant(units)], band)
    return Rows(first, count, (low, high), band, bands)


def multiply_add(arguments: Sequence[ir.Value]) -> list[ir.Value]:
    product = binary("arith.mulf", arguments[0], arguments[1])
    return [binary("arith.addf", arguments[2], product)]


def fused_multiply_add(arguments: Sequence[ir.Value]) -> list[ir.Value]:
    """``out = fma(x, w, out)``: what a reduction over one element vectorises to, there being no contraction."""
    x, weight, accumulator = arguments
    return [ir.Operation.create("math.fma", results=[accumulator.type], operands=[x, weight, accumulator]).result]


def binary(name: str, left: ir.Value, right: ir.Value) -> ir.Value:
    return ir.Operation.create(name, results=[left.type], operands=[left, right]).result


def clone_body(
    block: ir.Block, known: dict[ir.Value, ir.Value], shape: ir.Type, result: ir.Value | None = None
) -> ir.Value:
    """Clones the ops of an elementwise body at the insertion point, on vectors where ``shape`` is one.

    Returns what the body yields, or its value ``result``; then nothing that needs more than ``known`` is cloned.
    """
    for view in block.operations:
        op = view.operation
        if op.name == "linalg.yield":
            return _known(op.operands[0] if result is None else result, known, shape)
        if result is not None and not all(_is_known(operand, known, block) for operand in op.operands):
            continue
        operands = [_known(operand, known, shape) for operand in op.operands]
        if not operands:  # a constant
            results = [like(result_, shape) for result_ in op.clone().operation.results]
        else:
            results = list(
                ir.Operation.create(
                    op.name,
                    results=[type_like(result_.type, shape) for result_ in op.results],
                    operands=operands,
                    attributes={name: op.attributes[name] for name in op.attributes},
                ).results
            )
        known.update(zip(op.results, results, strict=True))
    raise AssertionError("a linalg body ends with linalg.yield")


def _is_known(value: ir.Value, known: dict[ir.Value, ir.Value], block: ir.Block) -> bool:
    """Whether there is a stand-in of a body's value, or it is defined outside the body."""
    if value in known:
        return True
    owner = value.owner
    return not isinstance(owner, ir.Block) and owner.operation.block != block


def _known(value: ir.Value, known: dict[ir.Value, ir.Value], shape: ir.Type) -> ir.Value:
    if value not in known:  # a constant defined outside the body
        known[value] = like(value.owner.operation.clone().operation.results[0], shape)
    return known[value]


def type_like(element: ir.Type, shape: ir.Type) -> ir.Type:
    return ir.VectorType.get(ir.VectorType(shape).shape, element) if isinstance(shape, ir.VectorType) else element


def like(scalar: ir.Value, shape: ir.Type) -> ir.Value:
    """The scalar, or the vector that has it in all lanes where ``shape`` is a vector type."""
    if not isinstance(shape, ir.VectorType):
        return scalar
    return ir.Operation.create("vector.broadcast", results=[type_like(scalar.type, shape)], operands=[scalar]).result


def tensor_bytes(type: ir.Type) -> int:
    shaped = ir.ShapedType(type)
    return int(np.prod(list(shaped.shape))) * 4

"""What a transform script asks for (:mod:`dlas.passes.knob_request`), completed and checked.

Knobs that are not given are those that the rules would choose for the schedule; those that are given are used as they
are, or refused with what is allowed.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Collection, Mapping
from dataclasses import replace
from typing import TYPE_CHECKING

from dlas.passes.conv import ConvShape
from dlas.passes.knob_request import KnobRequest
from dlas.passes.plan import Choice, Refusal
from dlas.passes.sparse_linear import LARGEST_CHUNK
from dlas.passes.winograd import SIZES
from dlas.schedules import costs
from dlas.schedules.knobs import SCRATCH_BYTES, VectorUnit
from dlas.schedules.planar_conv import MAX_TAPS, planar_tiles
from dlas.schedules.polyphase_cost import polyphase_tiles
from dlas.schedules.separable_cost import (
    fused_products,
    separable_savings,
    separable_tiles,
    shared_tiles,
    tile_scratch,
)
from dlas.schedules.sparse_conv import PREFETCHES, SPARSE_VARIANTS
from dlas.schedules.sparse_cost import sparse_tiles, workgroup_channels
from dlas.schedules.sparse_linear import dense_cycles, matmul_tile, matvec_tile
from dlas.schedules.strassen_cost import strassen_tiles, takes_strassen
from dlas.schedules.strassen_matmul import strassen_matmul_tiles
from dlas.schedules.winograd_cost import online_room, winograd_tiles

if TYPE_CHECKING:
    from dlas.schedules.rules import Rules

Found = tuple[Choice, float]
"""A choice, and its estimated cycles for all images."""

Given = Mapping[str, int]

_SHOWN = 8  # of allowed values in a message


class _Unfit(Exception):
    """A value that does not fit, with what would."""


def ask_conv(
    rules: Rules, shape: ConvShape, request: KnobRequest, nonzeros: int, algorithm: str | None
) -> Found | Refusal:
    """The schedule that is asked for a convolution; ``algorithm``: ``dlas.sparse`` of its weights, None: no zeros."""
    ask = _CONV.get(request.schedule)
    if ask is None and request.schedule != "sparse_conv":
        known = ", ".join(["sparse_conv", *_CONV])
        return Refusal(f"schedule {request.schedule!r} is none of a convolution: {known}")
    try:
        if ask is None:
            return _sparse_conv(rules, shape, request, nonzeros, algorithm)
        _no_variant(request)
        return ask(rules, shape, request.knobs)
    except _Unfit as unfit:
        return Refusal(f"{request.schedule}: {unfit}")


DENSE_MATMUL = ("matmul", "strassen_matmul")
"""The schedules of linear layers that read all weights."""


def ask_matmul(
    rules: Rules, m: int, n: int, k: int, request: KnobRequest, nonzeros: int, algorithm: str | None
) -> Found | Refusal:
    """The schedule that is asked for ``[m, k] x [k, n]``."""
    ask = _MATMUL.get(request.schedule)
    if ask is None:
        return Refusal(f"schedule {request.schedule!r} is none of a linear layer: {', '.join(_MATMUL)}")
    try:
        _no_variant(request)
        if request.schedule not in DENSE_MATMUL and algorithm not in ("any", "direct"):
            raise _Unfit(f"the weights are {_typed(algorithm)}")
        return ask(rules, m, n, k, nonzeros, request.knobs)
    except _Unfit as unfit:
        return Refusal(f"{request.schedule}: {unfit}")


def ask_separable(
    rules: Rules, first: ConvShape, before: Choice, shape: ConvShape, request: KnobRequest
) -> Choice | Refusal:
    """The knobs that are asked for a convolution by lanes and the pointwise one behind it as one kernel."""
    m, given, block = before.knobs.get("m", 0), request.knobs, rules.block
    tiles = {tile.rows: tile for tile in separable_tiles(rules.unit, first, m)}
    shared = shared_tiles(rules.unit, first, m, rules.cores)
    try:
        if not shared:
            raise _Unfit(f"{m or 1} rows of {first.c_out} channels do not fit the scratch")
        _check(given, "block", [block])
        _check(given, "m", [m])
        _check(given, "rows", list(tiles))
        tile = tiles[given.get("rows", shared[-1].rows)]
        widths = range(m, first.tiles(m)[1] * m + 1, m) if m else range(1, _lane_pixels(rules, shape) + 1)
        fitting = [n for n in widths if tile_scratch(rules.unit, first, replace(tile, pixels=n)) <= SCRATCH_BYTES]
        _check(given, "pixels", fitting, f" beside rows={tile.rows}")
        tile = replace(tile, pixels=given.get("pixels", tile.pixels))
        ways = [rules.separable_way(first, shape, m, tile)]
        if given.get("strassen") or not {"strassen", "t_o", "ow"} & set(given):
            products = fused_products(rules.unit, (first, shape), tile, rules.model, every="strassen" in given)
            ways += [rules.separable_way(first, shape, m, tile, way) for way in products if rules.strassen]
        if given.get("strassen"):
            for name in ("strassen", "t_o"):
                _check(given, name, sorted({way.knobs.get(name, 0) for way in ways}), f" beside rows={tile.rows}")
                ways = [way for way in ways if way.knobs.get(name, 0) == given.get(name, way.knobs.get(name, 0))]
        way = max(ways, key=lambda way: separable_savings(rules.unit, way.pair, tile, rules.cores)[1])
        knobs = {**way.knobs, **given}
        if not knobs.get("strassen"):
            blocks = -(-shape.c_out // block)
            _check_tile(rules, knobs, [block * v for v in range(1, 5) if blocks % v == 0], shape.out_w)
    except _Unfit as unfit:
        return Refusal(f"separable_conv: {unfit}")
    return Choice("separable_conv", knobs, "with the convolution before it")


# -- convolutions ------------------------------------------------------------------------------------------------------


def _packed_conv(rules: Rules, shape: ConvShape, given: Given) -> Found:
    merge = rules.merge(shape)
    if merge is None:
        raise _Unfit(rules.unfit(shape).reason)
    choice = rules.packed(shape, merge)
    knobs = {**choice.knobs, **given}
    block = rules.block
    _check(given, "block", rules.blocks)
    for name in ("merge", "direct"):
        _check(given, name, [choice.knobs.get(name, 0)])
    _check(given, "unroll_kw", [0, 1])
    blocks = -(-(shape.k_per_group * merge) // block)
    _check_tile(rules, knobs, [block * v for v in range(1, blocks + 1) if blocks % v == 0], shape.out_w)
    cycles = costs.packed_cycles(rules.unit, shape, merge, knobs["t_o"] // block, knobs["ow"], rules.model)
    return Choice("packed_conv", knobs, rules.packed_reason(shape, knobs)), cycles


def _lane_conv(rules: Rules, shape: ConvShape, given: Given) -> Found:
    found = rules.lane(shape)
    if found is None:
        raise _Unfit(f"groups of {shape.c_per_group} to {shape.k_per_group} channels are not equal parts of a block")
    choice, cycles = found
    _check(given, "block", rules.blocks)
    _check(given, "ow", range(1, _lane_pixels(rules, shape) + 1))
    return replace(choice, knobs={**choice.knobs, **given}), cycles


def _w_lanes(rules: Rules, shape: ConvShape, given: Given) -> Found:
    found = rules.w_lanes(shape)
    if found is None:
        raise _Unfit("takes small groups of stride 1 whose rows fill vectors")
    choice, _ = found
    lanes, knobs = rules.unit.lanes, {**choice.knobs, **given}
    _check(given, "lanes", [lanes])
    _check(given, "t_o", [t for t in range(1, shape.k_per_group + 1) if shape.k_per_group % t == 0])
    fitting = [ow for ow in range(lanes, shape.out_w + 1, lanes) if shape.out_w % ow == 0]
    _check(given, "ow", [ow for ow in fitting if rules.unit.fits(ow // lanes, knobs["t_o"])])
    vectors = knobs["ow"] // lanes
    if not rules.unit.fits(vectors, knobs["t_o"]):
        raise _Unfit(_no_room(rules.unit, knobs["t_o"], vectors))
    return replace(choice, knobs=knobs), costs.w_lanes_cycles(rules.unit, shape, vectors, knobs["t_o"])


def _planar_conv(rules: Rules, shape: ConvShape, given: Given) -> Found:
    taps = shape.k_h * shape.k_w
    if taps > MAX_TAPS:
        raise _Unfit(f"unrolls {MAX_TAPS} elements of a kernel at most, not {taps}")
    tiles = list(planar_tiles(rules.unit, shape, rules.cores))
    for name in ("t_k", "accumulators"):
        _check(given, name, sorted({getattr(tile.knobs, name) for tile in tiles}), _beside(given, name))
        tiles = [tile for tile in tiles if given.get(name, getattr(tile.knobs, name)) == getattr(tile.knobs, name)]
    best = min(tiles, key=lambda tile: tile.cycles)
    t_k = best.knobs.t_k
    _check(given, "k_w", [k for k in range(t_k, shape.c_out + 1, t_k) if shape.c_out % k == 0])
    _check(given, "run", range(1, shape.out_h * shape.out_w + 1))
    return rules.planar_choice(shape, replace(best, knobs=replace(best.knobs, **given)))


def _winograd_conv(rules: Rules, shape: ConvShape, given: Given) -> Found:
    if not rules.takes_winograd(shape):
        raise _Unfit("takes 3x3 convolutions of stride 1 whose groups fill blocks")
    _check(given, "block", rules.blocks)
    _check(given, "merge", [1])
    tiles = [tile for tile in winograd_tiles(rules.unit, shape, 1, rules.model) if tile.m <= rules.winograd]
    for name in ("m", "rows", "columns", "depth", "t_o", "k_w", "staged", "prefetch", "online"):
        if name in given:
            _check(given, name, sorted({getattr(tile, name) for tile in tiles}), _beside(given, name))
            tiles = [tile for tile in tiles if getattr(tile, name) == given[name]]
    if not tiles:
        raise _Unfit(f"no output tile of at most {rules.winograd} (--winograd) fits the scratch")
    best = min(tiles, key=lambda tile: tile.cycles)
    vectors = best.t_o // rules.block
    most = max(ow for ow in range(1, best.rows * best.columns + 1) if ow == 1 or rules.unit.fits(vectors, ow))
    if best.online:
        most = min(best.rows * best.columns, online_room(rules.unit, best.m))
    _check(given, "ow", range(1, most + 1))
    tile = replace(best, ow=given.get("ow", best.ow))
    return rules.winograd_choice(shape, tile, 1), shape.batch * tile.cycles


def _winograd_lane_conv(rules: Rules, shape: ConvShape, given: Given) -> Found:
    if not rules.takes_winograd_lanes(shape):
        raise _Unfit("takes 3x3 convolutions of stride 1 with equal parts of a block as groups")
    sizes = [m for m in SIZES if m <= rules.winograd]
    _check(given, "block", rules.blocks)
    _check(given, "m", sizes)
    if not sizes:
        raise _Unfit("--winograd 0 leaves no output tile")
    m = given.get("m", min(sizes, key=lambda m: costs.winograd_lane_cycles(rules.unit, shape, m)))
    return rules.winograd_lane_choice(shape, m), costs.winograd_lane_cycles(rules.unit, shape, m)


def _strassen_conv(rules: Rules, shape: ConvShape, given: Given) -> Found:
    if not takes_strassen(rules.unit, shape):
        raise _Unfit(f"takes pointwise convolutions of stride 1 without groups, of more than {rules.block} channels")
    if not rules.strassen:
        raise _Unfit("--no-strassen forbids it")
    _check(given, "block", rules.blocks)
    every = "pixels" in given
    tiles = list(strassen_tiles(rules.unit, shape, rules.cores, rules.model, every=every))
    for name in ("t_o", "pixels", "k_w", "rows"):
        if name in given:
            _check(given, name, sorted({getattr(tile, name) for tile in tiles}), _beside(given, name))
            tiles = [tile for tile in tiles if getattr(tile, name) == given[name]]
    if not tiles:
        raise _Unfit("no two register tiles of output channels, or no inputs of them, fit")
    best = min(tiles, key=lambda tile: tile.cycles)
    return rules.strassen_choice(best), shape.batch * best.cycles


def _polyphase_conv(rules: Rules, shape: ConvShape, given: Given) -> Found:
    found = polyphase_tiles(rules.unit, shape, rules.winograd)
    if isinstance(found, Refusal):
        raise _Unfit(found.reason)
    tiles = found
    _check(given, "block", rules.blocks)
    for name in ("m", "tiles", "t_o"):
        if name in given:
            _check(given, name, sorted({getattr(tile, name) for tile in tiles}), _beside(given, name))
            tiles = [tile for tile in tiles if getattr(tile, name) == given[name]]
    best = min(tiles, key=lambda tile: tile.cycles)
    vectors = best.t_o // rules.block
    _check(given, "ow", [ow for ow in range(1, best.tiles + 1) if ow == 1 or rules.unit.fits(vectors, ow)])
    return rules.polyphase_choice(shape, replace(best, ow=given.get("ow", best.ow)))


def _separable_conv(rules: Rules, shape: ConvShape, given: Given) -> Found:
    """What the layout assignment knows of it: a pointwise convolution in blocks."""
    if shape.kind != "pointwise" or shape.stride != (1, 1) or any(shape.pads):
        raise _Unfit("takes a pointwise convolution of stride 1 (and the grouped one before it)")
    return _packed_conv(rules, shape, {})


def _sparse_conv(rules: Rules, shape: ConvShape, request: KnobRequest, nonzeros: int, algorithm: str | None) -> Found:
    if algorithm is None:
        raise _Unfit("the weights are dense")
    given = dict(request.knobs)
    allowed = [name for name in SPARSE_VARIANTS[algorithm] if name != "shift" or shape.k_w > 1]
    flags = [name for name in ("shift", "pack", "tile") if given.pop(name, 0)]
    named = [*flags, *([] if request.variant is None else [request.variant])]
    for name in named:
        if name not in allowed:
            raise _Unfit(f"variant {name!r} is none of this layer's: {', '.join(allowed)}")
    if len(set(named)) > 1:
        raise _Unfit(f"variants {' and '.join(named)} exclude each other")
    variants = named[:1] or allowed
    prefetch = given.pop("prefetch", None)
    if prefetch:
        if PREFETCHES not in variants:
            raise _Unfit(f"prefetch={prefetch} is for variant {PREFETCHES!r}: it may be 0 for {', '.join(variants)}")
        variants = [PREFETCHES]
    _check(given, "accumulators", range(1, rules.unit.registers - 1))
    _check(given, "channels", range(1, shape.c_per_group + 1))
    whole = min(workgroup_channels(shape, variant) for variant in variants)
    _check(given, "k_w", [k for k in range(1, whole + 1) if whole % k == 0])
    tiles = sparse_tiles(rules.unit, shape, nonzeros, variants, given)
    if not tiles:
        knobs = ", ".join(f"{name}={value}" for name, value in given.items())
        raise _Unfit(f"{knobs} need more than {SCRATCH_BYTES // 1024} KB of scratch: fewer of each fit")
    best = tiles[0]
    if prefetch is not None:
        beside = f" with accumulators={best.accumulators}"
        _check({"prefetch": prefetch}, "prefetch", range(shape.batch * best.tiles), beside)
        best = replace(best, prefetch=prefetch)
    return rules.sparse_choice(shape, nonzeros, [best]), shape.batch * best.cycles


_CONV: dict[str, Callable[[Rules, ConvShape, Given], Found]] = {
    "packed_conv": _packed_conv,
    "lane_conv": _lane_conv,
    "w_lanes": _w_lanes,
    "planar_conv": _planar_conv,
    "winograd_conv": _winograd_conv,
    "winograd_lane_conv": _winograd_lane_conv,
    "strassen_conv": _strassen_conv,
    "polyphase_conv": _polyphase_conv,
    "separable_conv": _separable_conv,
}

# -- linear layers -----------------------------------------------------------------------------------------------------


def _matmul(rules: Rules, m: int, n: int, k: int, nonzeros: int, given: Given) -> Found:
    choice = rules.plain_matmul(m, n, k)
    knobs, block = {**choice.knobs, **given}, rules.block
    most = block << max(0, math.ceil(math.log2(n / block)))
    sizes = [block << i for i in range(8) if block << i <= most]
    _check(given, "depth", range(1, k + 1))
    _check(given, "t_o", sizes)
    _check(given, "rows", range(1, m + 1))
    vectors, rows = knobs["t_o"] // block, knobs["rows"]
    # A single row uses each vector of weights once, straight from memory.
    if vectors > rules.unit.registers - 2 if rows == 1 else not rules.unit.fits(vectors, rows):
        raise _Unfit(_no_room(rules.unit, vectors, rows))
    return replace(choice, knobs=knobs), dense_cycles(rules.unit, m, n, k, rules.model)


def _strassen_matmul(rules: Rules, m: int, n: int, k: int, nonzeros: int, given: Given) -> Found:
    if not rules.strassen:
        raise _Unfit("--no-strassen forbids it")
    tiles = strassen_matmul_tiles(rules.unit, m, n, k, rules.cores, rules.model)
    if isinstance(tiles, Refusal):
        raise _Unfit(tiles.reason)
    _check(given, "block", [rules.block])
    for name in ("t_o", "rows", "k_w"):
        if name in given:
            _check(given, name, sorted({getattr(tile, name) for tile in tiles}), _beside(given, name))
            tiles = [tile for tile in tiles if getattr(tile, name) == given[name]]
    best = min(tiles, key=lambda tile: (tile.cycles, tile.k_w))
    return rules.strassen_matmul_choice(best, m, n, k), best.cycles


def _sparse_matvec(rules: Rules, m: int, n: int, k: int, nonzeros: int, given: Given) -> Found:
    _check_outputs(rules, n, given)
    _check(given, "chunk", range(1, min(k, LARGEST_CHUNK) + 1))
    tile = matvec_tile(rules.unit, m, n, k, nonzeros, rules.model)
    return rules.sparse_linear_choice("sparse_matvec", tile, given, nonzeros / (n * k)), tile.cycles


def _sparse_matmul(rules: Rules, m: int, n: int, k: int, nonzeros: int, given: Given) -> Found:
    unit = rules.unit
    tile = matmul_tile(unit, m, n, k, nonzeros, rules.model)
    if tile is None:
        raise _Unfit(f"{k} inputs are fewer than a vector of {unit.lanes}")
    knobs = {**tile.knobs, **given}
    if "group" in given and "chains" not in given:
        knobs["chains"] = min(knobs["chains"], knobs["group"])
    _check(given, "group", [1, 2, 4, 8])
    _check(given, "chains", range(1, knobs["group"] + 1))
    _check(given, "vectors", range(1, -(-m // unit.lanes) + 1))
    _check(given, "chunk", range(1, min(k, LARGEST_CHUNK) + 1))
    _check_outputs(rules, n, given)
    if knobs["vectors"] * knobs["chains"] > unit.registers - 2:
        raise _Unfit(_no_room(unit, knobs["vectors"], knobs["chains"]))
    if 4 * knobs["n_w"] * knobs["vectors"] * unit.lanes > SCRATCH_BYTES:
        rows = knobs["vectors"] * unit.lanes
        raise _Unfit(f"n_w={knobs['n_w']} sums of {rows} rows need more than {SCRATCH_BYTES // 1024} KB of scratch")
    return rules.sparse_linear_choice("sparse_matmul", tile, knobs, nonzeros / (n * k)), tile.cycles


_MATMUL: dict[str, Callable[[Rules, int, int, int, int, Given], Found]] = {
    "matmul": _matmul,
    "strassen_matmul": _strassen_matmul,
    "sparse_matvec": _sparse_matvec,
    "sparse_matmul": _sparse_matmul,
}

# -- checks ------------------------------------------------------------------------------------------------------------


def _check(given: Given, name: str, allowed: Collection[int], beside: str = "") -> None:
    if name not in given or given[name] in allowed:
        return
    if isinstance(allowed, range) and len(allowed) > 1:
        told = f"{allowed[0]} to {allowed[-1]}"
    else:
        values = list(allowed)
        told = ", ".join(map(str, values[:_SHOWN])) + (f", ... {values[-1]}" if len(values) > _SHOWN else "")
    raise _Unfit(f"{name}={given[name]} does not fit{beside}: it may be {told or 'nothing'}")


def _check_tile(rules: Rules, knobs: Given, widths: Collection[int], most: int) -> None:
    """A register tile of ``t_o`` channels by ``ow`` pixels of a row."""
    _check(knobs, "t_o", widths)
    _check(knobs, "ow", range(1, most + 1))
    vectors = knobs["t_o"] // rules.block
    if not rules.unit.fits(vectors, knobs["ow"]):
        raise _Unfit(_no_room(rules.unit, vectors, knobs["ow"]))


def _check_outputs(rules: Rules, n: int, given: Given) -> None:
    lanes = rules.unit.lanes
    _check(given, "n_w", range(lanes, -(-n // lanes) * lanes + 1, lanes))


def _lane_pixels(rules: Rules, shape: ConvShape) -> int:
    return max(1, min(shape.out_w, rules.unit.registers - 2))


def _no_room(unit: VectorUnit, first: int, second: int) -> str:
    return f"{first}x{second} accumulators and their operands do not fit {unit.registers} registers"


def _beside(given: Given, name: str) -> str:
    others = [f"{key}={value}" for key, value in given.items() if key != name]
    return f" beside {', '.join(others)}" if others else ""


def _no_variant(request: KnobRequest) -> None:
    if request.variant is not None:
        raise _Unfit(f"has no variants (found variant = {request.variant!r})")


def _typed(algorithm: str | None) -> str:
    return "dense" if algorithm is None else f"typed for {algorithm!r}"

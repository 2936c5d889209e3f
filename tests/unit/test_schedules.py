"""The rule that picks schedules, what knobs may be, packed weights, and what the layout's analyses refuse."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from dataclasses import replace
from typing import Any

import numpy as np
import pytest

pytest.importorskip("iree.compiler")

from iree.compiler import ir  # noqa: E402

from dlas.errors import ScheduleError  # noqa: E402
from dlas.passes.blocked_kernels import pack_weights  # noqa: E402
from dlas.passes.conv import ConvShape, ConvSite  # noqa: E402
from dlas.passes.elementwise import Access, Elementwise  # noqa: E402
from dlas.passes.generics import walk  # noqa: E402
from dlas.passes.matmul import MatmulSite  # noqa: E402
from dlas.passes.plan import Choice, Kernel, Refusal  # noqa: E402
from dlas.passes.window import ReduceSite, WindowSite  # noqa: E402
from dlas.schedules.knobs import SCRATCH_BYTES, VectorUnit  # noqa: E402
from dlas.schedules.rules import SCHEDULES, Rules, apply_schedule, knobs_of  # noqa: E402
from dlas.schedules.separable_cost import SeparableTile, separable_tiles, tile_scratch  # noqa: E402

AVX2 = VectorUnit(lanes=8, registers=16)


def conv_shape(c_in: int, c_out: int, groups: int = 1, kernel: int = 3) -> ConvShape:
    return ConvShape(1, c_in, c_out, groups, 16, 16, 16, 16, kernel, kernel, pads=(kernel // 2,) * 4)


# -- the rule ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("shape", "kind", "schedule", "merge", "reason"),
    [
        (conv_shape(64, 64), "conv", "packed_conv", 1, "accumulators of 8 lanes"),
        (conv_shape(20, 12), "conv", "packed_conv", 1, "accumulators of 8 lanes"),
        (conv_shape(3, 32), "conv", "packed_conv", 1, "input read in NCHW"),
        (conv_shape(64, 64, kernel=1), "pointwise", "packed_conv", 1, "accumulators of 8 lanes"),
        (conv_shape(64, 64, 4), "grouped", "packed_conv", 1, "accumulators of 8 lanes"),
        (conv_shape(64, 128, 4), "grouped", "packed_conv", 1, "accumulators of 8 lanes"),
        (conv_shape(48, 48, 4), "grouped", "packed_conv", 2, "2 groups of 12 channels merged"),
        (conv_shape(64, 128, 16), "grouped", "packed_conv", 2, "2 groups of 4 channels merged"),
        (conv_shape(64, 64, 16), "grouped", "lane_conv", None, "4 channels per group: lanes on channels"),
        (conv_shape(64, 64, 32), "grouped", "lane_conv", None, "2 channels per group: lanes on channels"),
        (conv_shape(64, 64, 64), "depthwise", "lane_conv", None, "depthwise: lanes on channels"),
        (conv_shape(12, 12, 12), "depthwise", "lane_conv", None, "depthwise: lanes on channels"),
        (conv_shape(30, 30, 3), "grouped", "packed_conv", 3, "3 groups of 10 channels merged"),
        (conv_shape(15, 15, 5), "grouped", "packed_conv", 5, "5 groups of 3 channels merged"),
        (conv_shape(16, 2, 2), "grouped", "packed_conv", 2, "2 groups of 8 channels merged"),
        (conv_shape(8, 16, 8), "depthwise", "packed_conv", 8, "8 groups of 1 channels merged"),
    ],
)
def test_rule(shape: ConvShape, kind: str, schedule: str, merge: int | None, reason: str, between_blocks: Any) -> None:
    choice = between_blocks(Rules(AVX2, winograd=0), shape)
    assert (shape.kind, choice.schedule, choice.knobs.get("merge")) == (kind, schedule, merge)
    assert reason in choice.reason
    knobs_of(choice)


@pytest.mark.parametrize(
    ("shape", "reason"),
    [
        (conv_shape(90, 90, 9), "9 groups of 10 to 10 channels do not fill blocks of 8 by merging groups"),
        (conv_shape(44, 22, 11), "11 groups of 4 to 2 channels do not fill blocks of 8 by merging groups"),
    ],
)
def test_rule_refuses(shape: ConvShape, reason: str) -> None:
    assert Rules(AVX2).implementations(shape) == Refusal(reason)


def depthwise(c: int, size: int, stride: int = 1) -> ConvShape:
    return ConvShape(1, c, c, c, size * stride, size * stride, size, size, 3, 3, (stride, stride), pads=(1, 1, 1, 1))


def pointwise(c: int, k: int, size: int) -> ConvShape:
    return ConvShape(1, c, k, 1, size, size, size, size, 1, 1)


@pytest.mark.parametrize(
    ("first", "second", "l3_kb", "rows"),
    [
        (depthwise(32, 112), pointwise(32, 64, 112), 32768, 4),  # 1.6 MB between them
        (depthwise(64, 16), pointwise(64, 64, 16), 32768, 16),  # small: a kernel less
        (depthwise(256, 28), pointwise(256, 256, 28), 32768, None),  # 256 KB of weights for every part
        (depthwise(256, 28), pointwise(256, 256, 28), 0, 2),  # no level 3: 800 KB to memory and back
        (depthwise(64, 56, 2), pointwise(64, 128, 56), 32768, None),
        (depthwise(4096, 7), pointwise(4096, 8, 7), 32768, None),  # a row of 115 KB
    ],
)
def test_rule_for_depthwise_and_pointwise(first: ConvShape, second: ConvShape, l3_kb: int, rows: int | None) -> None:
    choice = Rules(replace(AVX2, l3_kb=l3_kb)).separable(first, LANES, second)
    assert (choice.knobs["rows"] if isinstance(choice, Choice) else None) == rows
    if isinstance(choice, Choice):
        assert knobs_of(choice).ow <= second.out_w


SERVER = replace(AVX2, l2_kb=1024, l3_kb=32768)
LANES, TILES = (Choice(name, {"m": m}, "") for name, m in (("lane_conv", 0), ("winograd_lane_conv", 4)))


@pytest.mark.parametrize(
    ("per_group", "c", "size", "cores", "rows", "reason"),
    [
        (4, 64, 16, 1, 16, "estimated cycles saved, by threads: 1: 1300"),
        (4, 64, 16, 2, 4, "by threads: 1: 302, 2: "),  # parts for each core, whose weights are read again
        (4, 32, 32, 2, 8, "by threads: 1: "),
        (8, 128, 8, 2, 4, "by threads: 1: "),
        (8, 128, 8, 4, None, "estimated to be faster by \\d+ cycles with 4 threads"),  # two rows of tiles
        (4, 128, 28, 2, None, "estimated to be faster by \\d+ cycles with 2 threads"),  # seven: 4 and 3
        (16, 256, 14, 1, None, "estimated to be faster by \\d+ cycles$"),  # weights of 850 KB
        (4, 1024, 14, 1, None, "4 rows of 14 pixels of 1024 channels do not fit the scratch"),
    ],
)
def test_rule_for_groups_and_pointwise(
    per_group: int, c: int, size: int, cores: int, rows: int | None, reason: str
) -> None:
    unit = replace(SERVER, lanes=max(8, per_group))
    first = ConvShape(1, c, c, c // per_group, size, size, size, size, 3, 3, pads=(1, 1, 1, 1))
    choice = Rules(unit, cores=cores).separable(first, TILES, pointwise(c, c, size))
    assert (choice.knobs["rows"] if isinstance(choice, Choice) else None) == rows
    assert re.search(reason, choice.reason), choice.reason
    if isinstance(choice, Choice):
        assert knobs_of(choice).m == 4 and choice.knobs["pixels"] == size


def test_a_row_of_tiles_is_cut_where_it_does_not_fit_the_scratch() -> None:
    """56 pixels of 16 lanes take 43 KB beside the 56 KB of the rows between the two convolutions."""
    unit = replace(SERVER, lanes=16, registers=32)
    first = ConvShape(1, 64, 64, 16, 56, 56, 56, 56, 3, 3, pads=(1, 1, 1, 1))
    tiles = list(separable_tiles(unit, first, 4))
    assert tiles == [SeparableTile(rows=4, pixels=28, m=4)]
    assert (
        tile_scratch(unit, first, tiles[0]) <= SCRATCH_BYTES < tile_scratch(unit, first, replace(tiles[0], pixels=56))
    )


@pytest.mark.parametrize("kind", ["pooling", "pack", "unpack", "reduce", "elementwise", "copy"])
def test_rule_for_plain_kernels(kind: str) -> None:
    transposes = kind in ("pack", "unpack")
    for width in (1, 3, 8, 9, 17, 30, 57):
        choice = Rules(AVX2).plain(kind, 5, width)
        knobs_of(choice)
        columns = 5 if transposes and width == 1 else width  # a column of 5 pixels is a row
        assert 1 <= choice.knobs["ow"] <= columns
        assert not transposes or columns % choice.knobs["ow"] != 1


@pytest.mark.parametrize(("m", "n", "k"), [(1, 1000, 512), (1, 10, 20), (128, 768, 768), (7, 10, 20), (2, 3, 5)])
def test_rule_for_matrix_products(m: int, n: int, k: int) -> None:
    choice = Rules(AVX2).matmul(m, n, k)
    assert isinstance(choice, Choice)
    knobs = knobs_of(choice)
    assert 1 <= knobs.rows <= m
    assert knobs.t_o % AVX2.lanes == 0
    assert 1 <= knobs.depth <= k


@pytest.mark.parametrize(
    ("m", "n", "k", "strassen", "reason"),
    [
        (8, 3072, 768, True, r"estimated at [1-9]\d\d% of matmul's time"),
        (7, 64, 64, True, "no two register tiles fit 7 rows and the registers"),
        (1, 64, 64, True, "no two register tiles fit a row and the registers"),
        (64, 64, 24, True, "takes a multiple of 16 inputs, and more than 8 outputs"),
        (64, 8, 64, True, "takes a multiple of 16 inputs, and more than 8 outputs"),
        (512, 3072, 768, False, "--no-strassen forbids it"),
    ],
)
def test_plain_matrix_products_say_why(m: int, n: int, k: int, strassen: bool, reason: str) -> None:
    rules = Rules(AVX2, strassen=strassen)
    choice = rules.matmul(m, n, k)
    assert isinstance(choice, Choice)
    assert choice.schedule == "matmul"
    assert re.fullmatch(rf"\dx\d accumulators of 8 lanes \(not strassen_matmul: {reason}\)", choice.reason)
    ways = rules.matmul_ways(m, n, k, n * k // 10)
    assert not isinstance(ways, Refusal)
    assert ways[0].choice.reason == choice.reason


# -- knobs -------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("schedule", "knobs", "message"),
    [
        ("winograd", {}, "unknown schedule 'winograd' (known: packed_conv, "),
        ("lane_conv", {"ow": 4, "block": 8, "t_o": 8}, "schedule lane_conv: unknown knob 't_o' (known: block, ow)"),
        ("lane_conv", {"ow": 0, "block": 8}, "lane_conv: ow=0 is not positive"),
        ("planar_conv", {"t_k": 3, "accumulators": 4, "k_w": 6, "run": 0}, "planar_conv: run=0 is not positive"),
        ("planar_conv", {"t_k": 4, "accumulators": 3, "k_w": 6, "run": 1}, "k_w=6 is no multiple of t_k=4"),
        ("elementwise", {"ow": -1, "block": 8}, "plain: ow=-1 is not positive"),
        ("packed_conv", {"t_o": 16, "ow": 4, "block": 6}, "packed_conv: block=6 is not a power of two"),
        ("packed_conv", {"t_o": 12, "ow": 4, "block": 8}, "t_o=12 is not a multiple of block=8 (use 8, 16 or 32)"),
        ("packed_conv", {"t_o": 0, "ow": 4, "block": 8}, "t_o=0 is not a multiple of block=8"),
        ("packed_conv", {"t_o": 8, "ow": 0, "block": 8}, "packed_conv: ow=0 is not positive"),
        ("packed_conv", {"t_o": 8, "ow": 1, "block": 8, "order": "cy"}, "order='cy' does not name c, y and x once"),
        ("matmul", {"t_o": 24, "rows": 1, "depth": 8}, "matmul: t_o=24 is not a power of two"),
        ("matmul", {"t_o": 8, "rows": 0, "depth": 8}, "matmul: rows=0, depth=8: not positive"),
        ("strassen_matmul", {"rows": 4, "t_o": 12, "k_w": 24, "block": 8}, "t_o=12 is not a multiple of block=8"),
        ("strassen_matmul", {"rows": 4, "t_o": 8, "k_w": 24, "block": 8}, "k_w=24 is not a multiple of 2 * t_o=16"),
        ("strassen_matmul", {"rows": 0, "t_o": 8, "k_w": 16, "block": 8}, "strassen_matmul: rows=0: not positive"),
    ],
)
def test_wrong_knobs(schedule: str, knobs: dict[str, Any], message: str) -> None:
    with pytest.raises(ScheduleError) as caught:
        knobs_of(Choice(schedule, knobs, ""))
    assert message in str(caught.value)


def test_every_schedule_says_what_it_is_for() -> None:
    assert all(schedule.summary for schedule in SCHEDULES.values())


def test_a_schedule_that_does_not_apply_names_layer_and_knobs() -> None:
    """The record says five columns, so the schedule peels a partial tile; the kernel has four."""
    choice = Choice("packed_conv", {"t_o": 8, "ow": 2, "block": 8}, "")
    kernel = Kernel("key", "grouped", choice, {"h": 4, "w": 5, "epilogue": 1}, ["layer1.conv"])
    text = """
    func.func @kernel(%x: f32, %y: tensor<1x4x4x8xf32>) -> tensor<1x4x4x8xf32> {
      %0 = linalg.fill {dlas.role = "epilogue"} ins(%x : f32) outs(%y : tensor<1x4x4x8xf32>) -> tensor<1x4x4x8xf32>
      return %0 : tensor<1x4x4x8xf32>
    }"""
    with ir.Context(), ir.Location.unknown():
        module = ir.Module.parse(text)
        (function,) = walk(module, "func.func")
        with pytest.raises(ScheduleError) as caught:
            apply_schedule(kernel, function)
    assert str(caught.value).startswith("layer layer1.conv: schedule packed_conv does not apply: ")
    assert caught.value.hint == "knobs t_o=8, ow=2, block=8"


# -- packed weights ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("c_in", "c_out", "groups", "merge", "t_i", "t_o"),
    [
        (16, 32, 1, 1, 8, 16),
        (32, 32, 2, 1, 8, 8),
        (16, 32, 4, 2, 8, 16),
        (12, 20, 1, 1, 8, 8),
        (3, 10, 1, 1, None, 16),
        (8, 8, 8, 8, 8, 8),
    ],
)
def test_packed_weights(c_in: int, c_out: int, groups: int, merge: int, t_i: int | None, t_o: int) -> None:
    """Every weight is where the kernel reads it, zeros are everywhere else, and no other number appears."""
    shape = ConvShape(1, c_in, c_out, groups, 4, 4, 2, 3, 3, 2)
    weights = np.random.default_rng(0).standard_normal((c_out, c_in // groups, 3, 2), np.float32)
    merged, packed = pack_weights(shape, weights, merge, t_i, t_o)
    assert merged == groups // merge
    t_i = packed.shape[4]
    tiles = packed.shape[0] // merged
    expected = np.zeros_like(packed)
    for k in range(c_out):
        for c in range(c_in // groups):
            group = k // (c_out // groups)
            place, within = divmod(group, merge)
            channel = within * (c_in // groups) + c  # of the merged group
            output = k - place * merge * (c_out // groups)
            tile, lane = divmod(output, t_o)
            expected[place * tiles + tile, channel // t_i, :, :, channel % t_i, lane] = weights[k, c]
    np.testing.assert_array_equal(packed, expected)
    assert packed.flags.c_contiguous


# -- analyses ----------------------------------------------------------------------------------------------------------

MAPS = """
#id = affine_map<(a, b, c, d) -> (a, b, c, d)>
#channel = affine_map<(a, b, c, d) -> (b)>
#plane = affine_map<(a, b, c, d) -> (a, b, 0, 0)>
#column = affine_map<(a, b, c, d) -> (d)>
#swapped = affine_map<(a, b, c, d) -> (b, a, c, d)>
#rows = affine_map<(a, b, c, d) -> (a, b, c)>
"""
PARALLEL = '["parallel", "parallel", "parallel", "parallel"]'
REDUCE = '["parallel", "parallel", "reduction", "reduction"]'
ROWS = '["parallel", "parallel", "parallel", "reduction"]'
IMAGE = "tensor<2x8x4x4xf32>"


FindOp = Callable[[str, str, str], ir.Operation]


@pytest.fixture(scope="module")
def find_op() -> Iterator[FindOp]:
    """``find_op(arguments, body, name)``: the first op called ``name`` of a function with this body."""
    modules = []  # an operation does not keep its module alive
    with ir.Context(), ir.Location.unknown():

        def find(arguments: str, body: str, name: str) -> ir.Operation:
            modules.append(ir.Module.parse(f"{MAPS}\nfunc.func @main({arguments}) {{\n{body}\nreturn\n}}"))
            return walk(modules[-1], name)[0]

        yield find
        modules.clear()


def generic(maps: str, iterators: str, inputs: str, types: str, out: str, body: str) -> str:
    return (
        f"%y = linalg.generic {{indexing_maps = [{maps}], iterator_types = {iterators}}} "
        f"ins({inputs} : {types}) outs({out}) {{\n{body}\n}} -> {out.partition(': ')[2]}"
    )


ADD = "^bb0(%a: f32, %b: f32, %o: f32):\n%s = arith.addf %a, %b : f32\nlinalg.yield %s : f32"
SUM = "^bb0(%a: f32, %o: f32):\n%s = arith.addf %a, %o : f32\nlinalg.yield %s : f32"
COPY = "^bb0(%a: f32, %o: f32):\nlinalg.yield %a : f32"
WIDEN = "^bb0(%a: f16, %o: f32):\n%s = arith.extf %a : f16 to f32\nlinalg.yield %s : f32"


@pytest.mark.parametrize(
    ("maps", "type", "access"),
    [
        ("#id, #id, #id", IMAGE, Access.FULL),
        ("#id, #plane, #id", "tensor<2x8x1x1xf32>", Access.PLANE),
    ],
)
def test_elementwise_operands(find_op: FindOp, maps: str, type: str, access: Access) -> None:
    body = generic(maps, PARALLEL, "%x, %v", f"{IMAGE}, {type}", f"%x : {IMAGE}", ADD)
    site = Elementwise.analyze(find_op(f"%x: {IMAGE}, %v: {type}", body, "linalg.generic"))
    assert isinstance(site, Elementwise)
    assert [operand.access for operand in site.operands] == [Access.FULL, access]


@pytest.mark.parametrize(
    ("constant", "type", "map", "access"),
    [
        ("dense<[0., 1., 2., 3., 4., 5., 6., 7.]>", "tensor<8xf32>", "#channel", Access.CHANNEL),
        ("dense<3.0>", "tensor<8xf32>", "#channel", Access.SCALAR),
    ],
)
def test_elementwise_constants(find_op: FindOp, constant: str, type: str, map: str, access: Access) -> None:
    body = f"%v = arith.constant {constant} : {type}\n" + generic(
        f"#id, {map}, #id", PARALLEL, "%x, %v", f"{IMAGE}, {type}", f"%x : {IMAGE}", ADD
    )
    site = Elementwise.analyze(find_op(f"%x: {IMAGE}", body, "linalg.generic"))
    assert isinstance(site, Elementwise)
    assert site.operands[1].access is access


@pytest.mark.parametrize(
    ("arguments", "body", "reason"),
    [
        ("", generic("#id, #plane", REDUCE, "%x", IMAGE, "%p : tensor<2x8x1x1xf32>", SUM), "not parallel"),
        ("", generic("#id, #id", PARALLEL, "%x", IMAGE, f"%x : {IMAGE}", SUM), "the body reads its output"),
        ("", generic("#id, #swapped", PARALLEL, "%x", IMAGE, "%t : tensor<8x2x4x4xf32>", COPY), "permuted result"),
        (
            ", %v: tensor<4xf32>",
            generic("#id, #column, #id", PARALLEL, "%x, %v", f"{IMAGE}, tensor<4xf32>", f"%x : {IMAGE}", ADD),
            "operand of type tensor<4xf32> read through (d0, d1, d2, d3) -> (d3)",
        ),
        (
            ", %i: tensor<2x8x4x4xf16>",
            generic("#id, #id", PARALLEL, "%i", "tensor<2x8x4x4xf16>", f"%x : {IMAGE}", WIDEN),
            "not f32",
        ),
        (
            ", %q: tensor<?x8x4x4xf32>",
            generic("#id, #id", PARALLEL, "%q", "tensor<?x8x4x4xf32>", "%q : tensor<?x8x4x4xf32>", COPY),
            "not a static result of rank 2 or 4",
        ),
    ],
)
def test_elementwise_refuses(find_op: FindOp, arguments: str, body: str, reason: str) -> None:
    fixed = f"%x: {IMAGE}, %p: tensor<2x8x1x1xf32>, %t: tensor<8x2x4x4xf32>"
    assert Elementwise.analyze(find_op(fixed + arguments, body, "linalg.generic")) == Refusal(reason)


def conv(weights: str, init: str, attributes: str = "") -> str:
    return (
        f"{weights}\n{init}\n"
        f"%y = linalg.conv_2d_nchw_fchw {{{attributes}}} ins(%x, %w : tensor<1x4x5x7xf32>, tensor<8x4x3x3xf32>) "
        "outs(%i : tensor<1x8x3x5xf32>) -> tensor<1x8x3x5xf32>"
    )


CONSTANT = "%w = arith.constant dense<2.0> : tensor<8x4x3x3xf32>"
ZERO = (
    "%z = arith.constant 0.0 : f32\n%e = tensor.empty() : tensor<1x8x3x5xf32>\n"
    "%i = linalg.fill ins(%z : f32) outs(%e : tensor<1x8x3x5xf32>) -> tensor<1x8x3x5xf32>"
)


def test_convolution(find_op: FindOp) -> None:
    text = conv(CONSTANT, ZERO, 'dlas.layer = "stem"')
    site = ConvSite.analyze(find_op("%x: tensor<1x4x5x7xf32>", text, "linalg.conv_2d_nchw_fchw"))
    assert isinstance(site, ConvSite)
    assert site.layer == "stem"
    assert site.shape == ConvShape(1, 4, 8, 1, 5, 7, 3, 5, 3, 3)
    assert site.shape.macs == 8 * 3 * 5 * 4 * 9


@pytest.mark.parametrize(
    ("arguments", "weights", "init", "reason"),
    [
        (", %w: tensor<8x4x3x3xf32>", "", ZERO, "weights are not a constant"),
        (", %i: tensor<1x8x3x5xf32>", CONSTANT, "", "the accumulator does not start from zero"),
        ("", CONSTANT, ZERO.replace("constant 0.0", "constant 1.0"), "the accumulator does not start from zero"),
    ],
)
def test_convolution_refuses(find_op: FindOp, arguments: str, weights: str, init: str, reason: str) -> None:
    op = find_op("%x: tensor<1x4x5x7xf32>" + arguments, conv(weights, init), "linalg.conv_2d_nchw_fchw")
    assert ConvSite.analyze(op) == Refusal(reason)


def pooling(init: str, element: str = "f32") -> str:
    return (
        f"%w = tensor.empty() : tensor<2x3x{element}>\n%e = tensor.empty() : tensor<1x4x2x2x{element}>\n{init}\n"
        f"%y = linalg.pooling_nchw_max {{strides = dense<[2, 1]> : tensor<2xi64>, dilations = dense<1> : "
        f"tensor<2xi64>}} ins(%x, %w : tensor<1x4x5x4x{element}>, tensor<2x3x{element}>) "
        f"outs(%i : tensor<1x4x2x2x{element}>) -> tensor<1x4x2x2x{element}>"
    )


LOWEST = (
    "%z = arith.constant 0xFF800000 : f32\n"
    "%i = linalg.fill ins(%z : f32) outs(%e : tensor<1x4x2x2xf32>) -> tensor<1x4x2x2xf32>"
)


def test_pooling(find_op: FindOp) -> None:
    op = find_op("%x: tensor<1x4x5x4xf32>", pooling(LOWEST), "linalg.pooling_nchw_max")
    site = WindowSite.analyze(op)
    assert isinstance(site, WindowSite)
    assert (site.combine, site.init, site.kernel, site.stride) == ("arith.maximumf", -np.inf, (2, 3), (2, 1))
    assert site.pad == (0.0, (0, 0, 0, 0))


@pytest.mark.parametrize(
    ("arguments", "text", "reason"),
    [
        ("%x: tensor<1x4x5x4xf32>, %i: tensor<1x4x2x2xf32>", pooling(""), "unknown initial value"),
        (
            "%x: tensor<1x4x5x4xf64>, %i: tensor<1x4x2x2xf64>",
            pooling("", "f64"),
            "pooling of type tensor<1x4x2x2xf64>",
        ),
    ],
)
def test_pooling_refuses(find_op: FindOp, arguments: str, text: str, reason: str) -> None:
    op = find_op(arguments, text, "linalg.pooling_nchw_max")
    assert WindowSite.analyze(op) == Refusal(reason)


FILL = (
    "%z = arith.constant 0.0 : f32\n"
    "%i = linalg.fill ins(%z : f32) outs(%e : tensor<2x8x1x1xf32>) -> tensor<2x8x1x1xf32>\n"
)
MEAN = generic("#id, #plane", REDUCE, "%x", IMAGE, "%i : tensor<2x8x1x1xf32>", SUM)


def test_reduction(find_op: FindOp) -> None:
    op = find_op(f"%x: {IMAGE}, %e: tensor<2x8x1x1xf32>", FILL + MEAN, "linalg.generic")
    site = ReduceSite.analyze(op)
    assert isinstance(site, ReduceSite)
    assert (site.combine, site.init) == ("arith.addf", 0.0)


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        (MEAN.replace("%i", "%e"), "unknown initial value"),
        (FILL + MEAN.replace("arith.addf", "arith.mulf"), "the body is not one addf or maximumf"),
        (
            generic("#id, #rows", ROWS, "%x", IMAGE, "%r : tensor<2x8x4xf32>", SUM),
            "not a reduction over height and width",
        ),
    ],
)
def test_reduction_refuses(find_op: FindOp, text: str, reason: str) -> None:
    arguments = f"%x: {IMAGE}, %e: tensor<2x8x1x1xf32>, %r: tensor<2x8x4xf32>"
    assert ReduceSite.analyze(find_op(arguments, text, "linalg.generic")) == Refusal(reason)


def matmul(weights: str, init: str, element: str = "f32", rows: str = "4") -> str:
    return (
        f"{weights}\n{init}\n%y = linalg.matmul ins(%x, %w : tensor<{rows}x6x{element}>, tensor<6x5x{element}>) "
        f"outs(%i : tensor<{rows}x5x{element}>) -> tensor<{rows}x5x{element}>"
    )


MATRIX = "%w = arith.constant dense<2.0> : tensor<6x5xf32>"
START = "%z = arith.constant 0.0 : f32\n%i = linalg.fill ins(%z : f32) outs(%e : tensor<4x5xf32>) -> tensor<4x5xf32>"


def test_matrix_product(find_op: FindOp) -> None:
    op = find_op("%x: tensor<4x6xf32>, %e: tensor<4x5xf32>", matmul(MATRIX, START), "linalg.matmul")
    site = MatmulSite.analyze(op)
    assert isinstance(site, MatmulSite)
    assert (site.m, site.n, site.k) == (4, 5, 6)


@pytest.mark.parametrize(
    ("arguments", "text", "reason"),
    [
        (
            "%x: tensor<4x6xf32>, %w: tensor<6x5xf32>, %e: tensor<4x5xf32>",
            matmul("", START),
            "the right operand is not a constant",
        ),
        ("%x: tensor<4x6xf32>, %i: tensor<4x5xf32>", matmul(MATRIX, ""), "the accumulator does not start from zero"),
        ("%x: tensor<?x6xf32>, %i: tensor<?x5xf32>", matmul(MATRIX, "", rows="?"), "dynamic shape"),
        (
            "%x: tensor<4x6xf64>, %w: tensor<6x5xf64>, %i: tensor<4x5xf64>",
            matmul("", "", "f64"),
            "matrix product of f64 (f32 has a schedule)",
        ),
    ],
)
def test_matrix_product_refuses(find_op: FindOp, arguments: str, text: str, reason: str) -> None:
    assert MatmulSite.analyze(find_op(arguments, text, "linalg.matmul")) == Refusal(reason)


def test_blocks_of_half_the_lanes() -> None:
    """Each block has its kernels and layouts; 24 channels fill three blocks of 8, and one and a half of 16."""
    unit = VectorUnit(16, 32, 1)
    rules = Rules(unit, narrow=unit.narrowed(2))
    ways = {way.result: way for way in rules.implementations(conv_shape(24, 24, kernel=1))}
    assert set(ways) == {"nChw16c", "nChw8c"}
    assert [ways[name].choice.knobs["block"] for name in ("nChw16c", "nChw8c")] == [16, 8]
    assert ways["nChw8c"].cycles < ways["nChw16c"].cycles
    full = {way.result: way for way in rules.implementations(conv_shape(64, 64, kernel=1))}
    assert full["nChw16c"].cycles < full["nChw8c"].cycles
    repack, pack = (rules.transform_cycles((1, 64, 28, 28), "nChw8c", name) for name in ("nChw16c", "NCHW"))
    assert repack < 2 * pack, "not by way of NCHW"
    assert len({way.result for way in Rules(unit).implementations(conv_shape(24, 24, kernel=1))}) == 1

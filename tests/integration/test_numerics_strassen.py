"""Pointwise convolutions by Strassen's algorithm: numbers, alone and behind a grouped convolution, and who takes it."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest

torch = pytest.importorskip("torch")
pytest.importorskip("torch_mlir.ir")
pytest.importorskip("iree.compiler")

from torch import nn  # noqa: E402
from torch.nn import functional as F  # noqa: E402

from dlas.compiler.pipeline import Options, compile_model  # noqa: E402
from dlas.dialects import TransformScript  # noqa: E402
from dlas.errors import ScheduleError  # noqa: E402

Pair = tuple[int, int]
Check = Callable[..., Any]


class Pointwise(nn.Module):
    """A pointwise convolution with a residual and two results, one of which a padded convolution reads."""

    def __init__(self, c: int, k: int) -> None:
        super().__init__()
        self.pointwise = nn.Conv2d(c, k, 1)
        self.beside = nn.Conv2d(c, k, 3, padding=1)
        self.behind = nn.Conv2d(k, 8, 3, padding=1)

    def forward(self, x):
        y = self.pointwise(x) + self.beside(x)
        return self.behind(F.hardswish(y)), F.relu(y)


def script(**layers: dict[str, int | str]) -> TransformScript:
    made = TransformScript("strassen", "%module")
    for layer, knobs in layers.items():
        made.annotate(made.match_layer(layer), "dlas.knobs", knobs)
    return made


def asked(**knobs: int) -> dict[str, int | str]:
    return {"schedule": "strassen_conv", **knobs}


@pytest.mark.parametrize(
    ("c", "k", "size", "knobs"),
    [
        (2, 2, (12, 16), {"pixels": 8}),  # register tiles that lie in rows
        (4, 4, (9, 13), {"pixels": 8}),  # that reach over rows; the last pair overlaps
        (3, 6, (6, 8), {"pixels": 4, "t_o": 3}),  # a block without a partner, tiles in rows
        (5, 2, (7, 7), {"pixels": 5}),
        (2, 4, (3, 5), {"pixels": 8}),  # fewer pixels than a pair
        (7, 4, (1, 40), {}),
        (2, 8, (40, 1), {"t_o": 1}),
    ],
)
@pytest.mark.parametrize("rest", [0, 3])
def test_shapes(
    c: int, k: int, size: Pair, knobs: dict[str, int], rest: int, vectors: Any, agrees_with_float64: Check
) -> None:
    """``c`` and ``k`` in blocks; ``rest``: channels that the last ones lack."""
    lanes = vectors.simd_lanes
    knobs = {name: value * lanes if name == "t_o" else value for name, value in knobs.items()}
    torch.manual_seed(c * k + rest)
    network = Pointwise(c * lanes - rest, k * lanes - rest).eval()
    compilation = agrees_with_float64(
        network,
        [torch.randn(2, c * lanes - rest, *size)],
        target=replace(vectors, cores=1),
        transform_script=script(pointwise=asked(**knobs)),
    )
    found = {layer: choice for layer, _, choice in compilation.layout.choices}["pointwise"]
    assert found.schedule == "strassen_conv" and {name: found.knobs[name] for name in knobs} == knobs


@pytest.mark.parametrize("size", [(17, 16), (16, 21), (7, 7)])
def test_shared_by_threads(size: Pair, vectors: Any, agrees_with_float64: Check) -> None:
    """Bands of rows, the last one shorter; or output channels, where all pixels are in one."""
    lanes = vectors.simd_lanes
    torch.manual_seed(size[1])
    network = Pointwise(4 * lanes, 16 * lanes).eval()
    compilation = agrees_with_float64(
        network,
        [torch.randn(1, 4 * lanes, *size)],
        threads=(1, 3),
        target=replace(vectors, cores=3),
        transform_script=script(pointwise=asked()),
    )
    (record,) = (record for record in compilation.artifact.kernels if record.schedule == "strassen_conv")
    assert record.workgroups > 1


class Separable(nn.Module):
    """A grouped convolution and a pointwise one, with a padded convolution behind them."""

    def __init__(self, c: int, k: int, per_group: int) -> None:
        super().__init__()
        self.spatial = nn.Conv2d(c, c, 3, padding=1, groups=c // per_group)
        self.pointwise = nn.Conv2d(c, k, 1)
        self.behind = nn.Conv2d(k, 8, 3, padding=1)

    def forward(self, x):
        y = self.pointwise(F.relu(self.spatial(x)))
        return self.behind(F.relu(y + x if y.shape == x.shape else y))


@pytest.mark.parametrize(
    ("blocks", "per_group", "size", "first", "knobs"),
    [
        ((4, 4), 4, (14, 16), "winograd_lane_conv", {"rows": 4, "strassen": 8}),
        ((3, 2), 1, (10, 8), "lane_conv", {"rows": 5, "strassen": 8}),
        ((2, 4), 2, (11, 9), "lane_conv", {"rows": 11, "strassen": 5}),
        ((2, 2), 4, (19, 10), "winograd_lane_conv", {"rows": 8, "strassen": 8}),  # the last part has three rows
    ],
)
def test_behind_another(
    blocks: Pair,
    per_group: int,
    size: Pair,
    first: str,
    knobs: dict[str, int],
    vectors: Any,
    agrees_with_float64: Check,
    schedules_of: Check,
) -> None:
    c, k = (number * vectors.simd_lanes for number in blocks)
    torch.manual_seed(k)
    compilation = agrees_with_float64(
        Separable(c, k, per_group).eval(),
        [torch.randn(2, c, *size)],
        target=vectors,
        transform_script=script(
            spatial={"schedule": first}, pointwise={"schedule": "separable_conv", "t_o": vectors.simd_lanes, **knobs}
        ),
    )
    assert schedules_of(compilation)["spatial"] == "separable_conv"
    (record,) = (record for record in compilation.artifact.kernels if record.kind == "separable")
    assert {name: record.knobs[name] for name in knobs} == knobs
    assert (
        "7 products of halves" in {layer: choice for layer, _, choice in compilation.layout.choices}["pointwise"].reason
        or record.knobs["strassen"]
    )


def test_nobody_has_to_ask(avx512: Any, agrees_with_float64: Check, schedules_of: Check) -> None:
    """Many channels take it, few do not, and the option keeps all from it."""
    torch.manual_seed(5)
    network = nn.Sequential(nn.Conv2d(128, 256, 1), nn.ReLU(), nn.Conv2d(256, 32, 1), nn.Conv2d(32, 32, 1)).eval()
    target = replace(avx512, cores=1, fma_units=1, l2_kb=1024)
    inputs = [torch.randn(1, 128, 28, 28)]
    schedules = schedules_of(agrees_with_float64(network, inputs, target=target))
    assert schedules["0"] == "strassen_conv" and schedules["3"] == "packed_conv"
    without = schedules_of(agrees_with_float64(network, inputs, target=target, strassen=False))
    assert set(without.values()) == {"packed_conv"}


@pytest.mark.parametrize(
    ("knobs", "message"),
    [
        ({"pixels": 99}, "layer pointwise: strassen_conv: pixels=99 does not fit: it may be "),
        ({"t_o": 5}, "strassen_conv: t_o=5 does not fit: it may be 8, 16"),
        ({"k_w": 24}, "strassen_conv: k_w=24 does not fit: it may be 16, 32"),
        ({"m": 4}, "strassen_conv has no knob 'm': pixels, t_o, k_w, rows, block"),
    ],
)
def test_what_cannot_be_asked_for(knobs: dict[str, int], message: str, avx2: Check) -> None:
    options = Options(transform_script=script(pointwise=asked(**knobs)))
    with pytest.raises(ScheduleError) as error:
        compile_model(Pointwise(32, 32).eval(), (torch.randn(1, 32, 9, 11),), avx2(1), options)
    assert message in str(error.value)


def test_where_it_is_forbidden(avx2: Check) -> None:
    options = Options(transform_script=script(pointwise=asked()), strassen=False)
    with pytest.raises(ScheduleError, match="layer pointwise: strassen_conv: --no-strassen forbids it"):
        compile_model(Pointwise(32, 32).eval(), (torch.randn(1, 32, 9, 11),), avx2(1), options)


def test_layers_that_are_no_plain_product(avx2: Check) -> None:
    for layer, message in (
        (nn.Conv2d(32, 32, 3), "takes pointwise convolutions of stride 1 without groups, of more than 8 channels"),
        (nn.Conv2d(32, 32, 1, stride=2), "takes pointwise convolutions of stride 1"),
        (nn.Conv2d(8, 32, 1), "of more than 8 channels"),
        (nn.Conv2d(32, 24, 1), "no two register tiles of output channels, or no inputs of them, fit"),
    ):
        options = Options(transform_script=script(**{"0": asked()}))
        channels = layer.in_channels
        with pytest.raises(ScheduleError, match=message):
            compile_model(nn.Sequential(layer).eval(), (torch.randn(1, channels, 9, 11),), avx2(1), options)

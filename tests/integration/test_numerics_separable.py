"""A depthwise or small-group convolution and the pointwise one behind it as one kernel: numbers, and who has one."""

from __future__ import annotations

import re
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
from dlas.compiler.targets import load_target  # noqa: E402
from dlas.dialects import TransformScript  # noqa: E402
from dlas.errors import ScheduleError  # noqa: E402
from dlas.schedules import conv_rules  # noqa: E402

Pair = tuple[int, int]
Check = Callable[..., Any]


class Separable(nn.Module):
    """A convolution in groups and a pointwise one, with elementwise ops behind both."""

    def __init__(self, c: int, k: int, per_group: int, kernel: int, stride: int = 1, dilation: int = 1) -> None:
        super().__init__()
        self.spatial = nn.Conv2d(c, c, kernel, stride, kernel // 2 * dilation, dilation, groups=c // per_group)
        self.norm = nn.BatchNorm2d(c)
        self.pointwise = nn.Conv2d(c, k, 1)

    def forward(self, x):
        y = self.pointwise(F.hardswish(self.norm(self.spatial(x))))
        return F.relu(y + x) if y.shape == x.shape else F.relu6(y)


def padded_after(pair: Separable) -> nn.Module:
    """The pair with a batch norm that does something, and a padded convolution behind it: the halo is its to write."""
    network = nn.Sequential(pair, nn.Conv2d(pair.pointwise.out_channels, 8, 3, padding=1))
    with torch.no_grad():
        pair.norm.running_mean.uniform_(-1, 1)
        pair.norm.running_var.uniform_(0.5, 1.5)
        pair.norm.weight.uniform_(-1.5, 1.5)
        pair.norm.bias.uniform_(-1, 1)
    return network.eval()


def asked(first: dict[str, int | str], **knobs: int) -> TransformScript:
    """For the first two layers: this kernel of the first, and one for both."""
    script = TransformScript("pair", "%module")
    script.annotate(script.match_layer("0.spatial"), "dlas.knobs", first)
    script.annotate(script.match_layer("0.pointwise"), "dlas.knobs", {"schedule": "separable_conv", **knobs})
    return script


@pytest.fixture
def always(monkeypatch: pytest.MonkeyPatch) -> None:
    """One kernel is estimated to pay."""
    monkeypatch.setattr(conv_rules, "separable_savings", lambda *_: {1: 1.0})


def separable_record(compilation: Any) -> Any:
    (record,) = (record for record in compilation.artifact.kernels if record.kind == "separable")
    return record


@pytest.mark.parametrize(
    ("c", "k", "per_group", "kernel", "stride", "dilation", "size"),
    [
        (32, 32, 1, 3, 1, 1, (12, 17)),
        (24, 40, 1, 5, 1, 1, (9, 13)),
        (16, 20, 1, 3, 2, 1, (15, 22)),
        (8, 16, 1, 3, 1, 2, (7, 1)),
        (40, 40, 1, 3, 1, 2, (16, 9)),
        (64, 8, 1, 3, 2, 1, (10, 30)),
        (16, 16, 2, 3, 1, 1, (12, 17)),
        (24, 40, 4, 5, 1, 1, (9, 13)),
        (16, 20, 8, 3, 2, 1, (15, 22)),
        (16, 24, 4, 3, 2, 2, (11, 9)),
    ],
)
def test_sums_by_lanes(
    c: int,
    k: int,
    per_group: int,
    kernel: int,
    stride: int,
    dilation: int,
    size: Pair,
    avx2: Check,
    agrees_with_float64: Check,
    schedules_of: Check,
) -> None:
    torch.manual_seed(c)
    network = padded_after(Separable(c, k, per_group, kernel, stride, dilation))
    script = asked({"schedule": "lane_conv"})
    compilation = agrees_with_float64(network, [torch.randn(2, c, *size)], target=avx2(), transform_script=script)
    schedules = schedules_of(compilation)
    assert schedules["0.spatial"] == schedules["0.pointwise"] == "separable_conv"
    record, pixels = separable_record(compilation), 2 * -(-size[0] // stride) * -(-size[1] // stride)
    assert record.flops == 2 * pixels * (c * kernel * kernel * per_group + c * k) and record.knobs["m"] == 0


@pytest.mark.parametrize(
    ("c", "k", "per_group", "m", "size"),
    [
        (32, 32, 2, 4, (12, 17)),
        (16, 48, 4, 4, (13, 9)),  # rows and columns that tiles reach beyond
        (32, 20, 8, 4, (16, 16)),
        (32, 16, 16, 4, (9, 22)),  # a group is a block
        (48, 48, 2, 2, (7, 5)),
        (32, 32, 4, 2, (10, 11)),
    ],
)
def test_tiles_in_winograds_domain(
    c: int,
    k: int,
    per_group: int,
    m: int,
    size: Pair,
    vectors: Any,
    agrees_with_float64: Check,
    schedules_of: Check,
) -> None:
    per_group = min(per_group, vectors.simd_lanes)
    torch.manual_seed(k)
    network = padded_after(Separable(c, k, per_group, 3))
    script = asked({"schedule": "winograd_lane_conv", "m": m})
    compilation = agrees_with_float64(network, [torch.randn(2, c, *size)], target=vectors, transform_script=script)
    schedules = schedules_of(compilation)
    assert schedules["0.spatial"] == schedules["0.pointwise"] == "separable_conv"
    assert separable_record(compilation).knobs["m"] == m


@pytest.mark.parametrize("cores", [1, 3])
@pytest.mark.parametrize("knobs", [{"rows": 8, "pixels": 8}, {"rows": 4, "pixels": 4}, {"rows": 12, "pixels": 20}])
def test_parts_of_any_size(cores: int, knobs: dict[str, int], avx2: Check, agrees_with_float64: Check) -> None:
    """Of rows and of columns, the last ones shorter, on one core and dealt out to three."""
    torch.manual_seed(0)
    script = asked({"schedule": "winograd_lane_conv", "m": 4}, **knobs)
    network = padded_after(Separable(32, 32, 4, 3))
    compilation = agrees_with_float64(
        network, [torch.randn(1, 32, 21, 18)], threads=(1, 3), target=avx2(cores), transform_script=script
    )
    record = separable_record(compilation)
    assert {name: record.knobs[name] for name in knobs} == knobs and record.knobs["m"] == 4
    assert (record.workgroups > 1) == (cores > 1)


@pytest.mark.parametrize(
    ("knobs", "message"),
    [
        ({"m": 2}, "0.pointwise: separable_conv: m=2 does not fit: it may be 4"),
        ({"rows": 6}, "separable_conv: rows=6 does not fit: it may be 4, 8, 12"),
        ({"rows": 12, "pixels": 100}, "pixels=100 does not fit beside rows=12: it may be 4, 8, 12, 16, 20, 24"),
        ({"ow": 99}, "separable_conv: ow=99 does not fit: it may be 1 to 21"),
        ({"chunk": 1}, "separable_conv has no knob 'chunk': rows, pixels, t_o, ow, block, m"),
    ],
)
def test_what_cannot_be_asked_for(knobs: dict[str, int], message: str, avx2: Check) -> None:
    script = asked({"schedule": "winograd_lane_conv", "m": 4}, **knobs)
    options, inputs = Options(transform_script=script), (torch.randn(1, 32, 11, 21),)
    with pytest.raises(ScheduleError) as error:
        compile_model(padded_after(Separable(32, 32, 4, 3)), inputs, avx2(), options)
    assert message in str(error.value)


@pytest.mark.parametrize(("per_group", "first"), [(1, "lane_conv"), (2, "lane_conv"), (8, "winograd_lane_conv")])
def test_nobody_has_to_ask(
    per_group: int, first: str, always: None, avx2: Check, agrees_with_float64: Check, schedules_of: Check
) -> None:
    torch.manual_seed(1)
    network = padded_after(Separable(32, 32, per_group, 3))
    compilation = agrees_with_float64(network, [torch.randn(1, 32, 33, 32)], target=avx2())
    schedules = schedules_of(compilation)
    assert schedules["0.spatial"] == schedules["0.pointwise"] == "separable_conv"
    assert {layer: choice.schedule for layer, _, choice in compilation.layout.choices}["0.spatial"] == first
    assert bool(separable_record(compilation).knobs["m"]) == (first == "winograd_lane_conv")


def test_what_another_op_reads_is_not_kept_inside_a_kernel(
    always: None, avx2: Check, agrees_with_float64: Check, schedules_of: Check
) -> None:
    """A residual from the first result, squeeze and excitation on it, and channels that fill no block."""

    class Network(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.first, self.after = nn.Conv2d(16, 16, 3, padding=1, groups=16), nn.Conv2d(16, 16, 1)
            self.second, self.behind = nn.Conv2d(16, 16, 3, padding=1, groups=4), nn.Conv2d(16, 16, 1)
            self.gated, self.excite = nn.Conv2d(16, 16, 3, padding=1, groups=16), nn.Conv2d(16, 16, 1)
            self.project, self.thin = nn.Conv2d(16, 12, 1), nn.Conv2d(12, 12, 3, padding=1, groups=12)
            self.last = nn.Conv2d(12, 8, 1)

        def forward(self, x):
            y = F.relu(self.first(x))
            y = self.after(y) + y
            y = F.relu(self.second(y))
            y = self.behind(y) + y
            y = self.gated(y)
            y = self.project(y * torch.sigmoid(self.excite(y.mean((2, 3), keepdim=True))))
            return self.last(self.thin(y))

    torch.manual_seed(0)
    compilation = agrees_with_float64(Network().eval(), [torch.randn(1, 16, 10, 11)], target=avx2())
    assert "separable_conv" not in schedules_of(compilation).values()
    assert compilation.layout.apart == [
        ("first", "after", "the depthwise convolution's result is read elsewhere, too"),
        ("second", "behind", "the grouped convolution's result is read elsewhere, too"),
        ("thin", "last", "12 channels between them do not fill blocks of 8"),
    ]


def test_why_two_convolutions_have_a_kernel_each(agrees_with_float64: Check, schedules_of: Check) -> None:
    """The costs, a stride behind them, and groups of more channels than a block has."""
    torch.manual_seed(0)
    network = nn.Sequential(
        Separable(256, 256, 1, 3),
        nn.Conv2d(256, 16, 1),
        nn.Conv2d(16, 16, 3, groups=16),
        nn.Conv2d(16, 16, 1, stride=2),
        nn.Conv2d(16, 16, 3, padding=1, groups=8),
        nn.Conv2d(16, 64, 1, stride=2),
        nn.Conv2d(64, 64, 5, padding=2, groups=4),
        nn.Conv2d(64, 8, 1),
    )
    target = replace(load_target("x86_64-v3"), cores=1, l2_kb=512, l3_kb=32768)
    inputs = [torch.randn(1, 256, 14, 15)]
    compilation = agrees_with_float64(network.eval(), inputs, target=target, strassen=False)
    assert "separable_conv" not in schedules_of(compilation).values()
    costly, *others = compilation.layout.apart
    assert costly[:2] == ("0.spatial", "0.pointwise")
    assert re.fullmatch(r"apart they are estimated to be faster by \d+ cycles", costly[2])
    assert others == [
        ("2", "3", "the pointwise convolution has a stride or padding"),
        ("4", "5", "the pointwise convolution has a stride or padding"),
        ("6", "7", "the grouped convolution's schedule is packed_conv"),
    ]

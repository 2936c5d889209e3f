"""Convolutions of every shape compute what torch computes in float64, and get the schedule that is theirs.

Each case is a layer; a test compiles several independent ones as one module, which costs less than one by one. The
property tests over drawn networks are in ``tests/fuzz``.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import pytest

torch = pytest.importorskip("torch")
pytest.importorskip("torch_mlir.ir")
pytest.importorskip("iree.compiler")

from torch import nn  # noqa: E402
from torch.nn import functional as F  # noqa: E402

from dlas.compiler.targets import load_target  # noqa: E402
from dlas.errors import ScheduleError  # noqa: E402
from dlas.passes.conv import ConvShape  # noqa: E402
from dlas.passes.plan import Refusal  # noqa: E402
from dlas.schedules.knobs import VectorUnit  # noqa: E402
from dlas.schedules.planar_conv import PlanarConvKnobs, PlanarTile  # noqa: E402
from dlas.schedules.rules import SCHEDULES, Rules  # noqa: E402

ACTIVATIONS = ("none", "relu", "relu6", "hardswish", "silu")
Pair = tuple[int, int]


@dataclass(frozen=True)
class Case:
    """A layer: convolution, batch norm, residual, activation. ``padding`` is (left, right, top, bottom)."""

    c_in: int
    c_out: int
    kernel: Pair = (3, 3)
    groups: int = 1
    stride: Pair = (1, 1)
    dilation: Pair = (1, 1)
    padding: tuple[int, int, int, int] = (1, 1, 1, 1)
    size: Pair = (9, 11)
    batch: int = 1
    bias: bool = True
    norm: bool = False
    activation: str = "none"
    residual: bool = False


class Layer(nn.Module):
    def __init__(self, case: Case) -> None:
        super().__init__()
        self.case = case
        left, right, top, bottom = case.padding
        symmetric = left == right and top == bottom
        self.pad = None if symmetric else case.padding
        self.conv = nn.Conv2d(
            case.c_in,
            case.c_out,
            case.kernel,
            case.stride,
            (top, left) if symmetric else 0,
            case.dilation,
            case.groups,
            case.bias,
        )
        self.norm = nn.BatchNorm2d(case.c_out) if case.norm else nn.Identity()

    def forward(self, x):
        y = self.norm(self.conv(x if self.pad is None else F.pad(x, self.pad)))
        if self.case.residual:
            y = y + x
        return y if self.case.activation == "none" else getattr(F, self.case.activation)(y)


class Layers(nn.Module):
    """Independent layers: an input and a result each."""

    def __init__(self, cases: Sequence[Case]) -> None:
        super().__init__()
        self.layers = nn.ModuleList(map(Layer, cases))

    def forward(self, *inputs):
        return tuple(layer(x) for layer, x in zip(self.layers, inputs, strict=True))


def randomise(model: nn.Module) -> nn.Module:
    with torch.no_grad():
        for module in model.modules():
            if isinstance(module, nn.BatchNorm2d):
                module.running_mean.uniform_(-1, 1)
                module.running_var.uniform_(0.5, 1.5)
                module.weight.uniform_(-1.5, 1.5)
                module.bias.uniform_(-1, 1)
    return model.eval()


BASE = Case(16, 16)
GROUPED = Case(32, 32, groups=4)
DEPTHWISE = Case(24, 24, groups=24)

GRID: dict[str, list[Case]] = {
    "kernels": [
        *(replace(BASE, kernel=(k, k), padding=(k // 2,) * 4) for k in (1, 2, 4, 5, 7)),
        replace(BASE, kernel=(1, 7), padding=(3, 3, 0, 0)),
        replace(BASE, kernel=(5, 1), padding=(0, 0, 2, 2)),
        replace(BASE, kernel=(3, 2), padding=(0, 0, 0, 0)),
    ],
    "kernels of lanes": [
        *(replace(DEPTHWISE, kernel=(k, k), padding=(k // 2,) * 4) for k in (1, 2, 3, 5, 7)),
        replace(DEPTHWISE, kernel=(1, 7), padding=(3, 3, 0, 0)),
        replace(DEPTHWISE, kernel=(3, 2), padding=(0, 0, 0, 0)),
    ],
    "strides": [
        replace(base, stride=stride) for base in (BASE, GROUPED, DEPTHWISE) for stride in ((2, 2), (3, 3), (1, 2))
    ],
    "strides of pointwise": [
        replace(BASE, kernel=(1, 1), padding=(0, 0, 0, 0), stride=stride, size=(7, 10))
        for stride in ((1, 1), (2, 2), (2, 1), (1, 3))
    ],
    "dilations": [
        replace(base, dilation=dilation, padding=(2, 2, 2, 2), size=(10, 9))
        for base in (BASE, GROUPED, DEPTHWISE)
        for dilation in ((2, 2), (1, 3))
    ]
    + [replace(BASE, dilation=(2, 2), stride=(2, 2), padding=(2, 2, 2, 2))],
    "paddings": [
        replace(base, padding=padding)
        for base in (BASE, DEPTHWISE)
        for padding in ((0, 0, 0, 0), (1, 0, 0, 1), (2, 3, 0, 1), (0, 4, 3, 0))
    ],
    "groups": [
        replace(BASE, groups=2),
        replace(BASE, groups=4),
        replace(BASE, groups=8),
        replace(BASE, groups=16),
        replace(GROUPED, groups=2),
        GROUPED,
        Case(64, 64, groups=2),
        Case(12, 12, groups=12),
    ],
    "rows of whole vectors": [
        *(replace(GROUPED, groups=groups, size=(5, 16)) for groups in (8, 16, 32)),
        replace(GROUPED, groups=8, size=(6, 32), norm=True, activation="relu6", batch=2),
        replace(GROUPED, groups=16, size=(6, 48), residual=True, activation="relu"),
        replace(GROUPED, groups=16, size=(7, 16), stride=(2, 1)),
        replace(GROUPED, groups=8, size=(7, 16), dilation=(2, 2), padding=(2, 2, 1, 0)),
        replace(GROUPED, groups=8, size=(7, 16), kernel=(1, 1), padding=(0, 0, 0, 0)),
        replace(GROUPED, groups=8, size=(7, 18), kernel=(1, 3), padding=(0, 0, 0, 0), bias=False),
        Case(32, 64, groups=16, size=(5, 16)),
        Case(12, 18, groups=6, size=(5, 16)),
        Case(16, 16, size=(6, 16)),
    ],
    "Winograd's domain": [
        Case(32, 32, groups=4, size=(13, 17)),
        Case(32, 32, groups=2, size=(16, 24), norm=True, activation="relu6", residual=True, batch=2),
        Case(64, 64, size=(14, 18), activation="silu"),
        Case(24, 40, size=(12, 15), bias=False),
        Case(20, 28, size=(11, 14), activation="hardswish"),
        Case(64, 32, groups=4, size=(9, 31)),
        Case(32, 64, groups=2, size=(16, 9)),
        Case(32, 32, size=(19, 21), padding=(0, 2, 1, 0)),
        Case(32, 32, size=(20, 23), padding=(0, 0, 0, 0), residual=False, activation="relu"),
        Case(16, 16, groups=2, size=(32, 1)),
        Case(32, 32, groups=8, size=(16, 20), norm=True, activation="relu6", residual=True),
        Case(12, 12, groups=3, size=(24, 27), activation="hardswish", batch=2),
    ],
    "groups that fill no block": [
        Case(15, 15, groups=5),
        Case(30, 20, groups=5, stride=(2, 1), norm=True, activation="relu6"),
        Case(9, 6, groups=3, kernel=(1, 1), padding=(0, 0, 0, 0), batch=2),
        Case(14, 14, groups=7, size=(6, 13), residual=True, activation="silu"),
    ],
    "groups that change the channels": [
        Case(16, 32, groups=2),
        Case(32, 16, groups=2),
        Case(16, 32, groups=4),
        Case(8, 16, groups=8),
        Case(16, 32, groups=16),
        Case(4, 8, groups=4),
        Case(48, 24, groups=3),
    ],
    "channels that fill no block": [
        Case(12, 20),
        Case(1, 5),
        Case(1, 16, stride=(2, 2)),
        Case(3, 16, stride=(2, 2), kernel=(7, 7), padding=(3, 3, 3, 3)),
        Case(20, 20, groups=2),
        Case(9, 9, groups=3),
        Case(10, 10, groups=10),
        Case(17, 3, kernel=(1, 1), padding=(0, 0, 0, 0)),
    ],
    "batches": [
        *(replace(base, batch=batch, size=(5, 6)) for base in (BASE, GROUPED, DEPTHWISE) for batch in (2, 3)),
        Case(3, 8, batch=2),
        Case(1, 8, batch=2),
    ],
    "small outputs": [
        Case(16, 16, size=(1, 1)),
        Case(16, 16, size=(3, 3), padding=(0, 0, 0, 0)),
        Case(16, 16, kernel=(1, 1), size=(1, 1), padding=(0, 0, 0, 0)),
        Case(16, 16, kernel=(1, 1), size=(1, 5), padding=(0, 0, 0, 0), stride=(2, 2)),
        Case(16, 16, kernel=(1, 1), size=(2, 2), padding=(0, 0, 0, 0), stride=(2, 2)),
        Case(16, 16, size=(1, 7), stride=(2, 1)),
        Case(16, 16, size=(7, 1), stride=(1, 2)),
        replace(DEPTHWISE, size=(1, 1)),
        replace(DEPTHWISE, size=(2, 1), stride=(2, 2)),
        replace(GROUPED, size=(1, 2)),
    ],
    "odd sizes": [replace(base, size=size) for base in (BASE, GROUPED) for size in ((5, 13), (17, 3), (7, 23))],
    "activations": [
        replace(base, norm=norm, bias=not norm, activation=activation)
        for base, norm in ((BASE, True), (DEPTHWISE, False))
        for activation in ACTIVATIONS
    ],
    "residuals": [
        *(replace(base, residual=True, activation="relu") for base in (BASE, GROUPED, DEPTHWISE)),
        replace(BASE, residual=True, norm=True, batch=2),
        Case(12, 12, residual=True, activation="silu"),
    ],
}


@pytest.mark.parametrize("name", GRID)
def test_layers(name: str, agrees_with_float64, vectors) -> None:
    torch.manual_seed(len(name))
    cases = GRID[name]
    inputs = [torch.randn(case.batch, case.c_in, *case.size) for case in cases]
    agrees_with_float64(randomise(Layers(cases)), inputs, target=vectors)


# Channels per group -> the schedule, on any vector unit of 4 to 16 lanes.
@pytest.mark.parametrize(
    ("per_group", "schedule"), [(1, "lane_conv"), (2, "lane_conv"), (4, "lane_conv"), (32, "packed_conv")]
)
def test_schedule_within_a_network(per_group: int, schedule: str, agrees_with_float64, schedules_of) -> None:
    """Between two pointwise convolutions everything is in channel blocks: two kernels at the edges move data."""
    torch.manual_seed(per_group)
    network = nn.Sequential(
        nn.Conv2d(16, 64, 1),
        nn.ReLU(),
        nn.Conv2d(64, 64, 3, padding=1, groups=64 // per_group),
        nn.ReLU(),
        nn.Conv2d(64, 32, 1, stride=2),
    )
    compilation = agrees_with_float64(network.eval(), [torch.randn(1, 16, 8, 9)], winograd=0)
    assert schedules_of(compilation) == {"0": "packed_conv", "2": schedule, "4": "packed_conv"}
    kinds = [record.kind for record in compilation.artifact.kernels]
    assert kinds == ["pack", "pointwise", "depthwise" if per_group == 1 else "grouped", "pointwise", "unpack"]


@pytest.mark.parametrize("size", [(5, 17), (3, 9), (11, 1), (1, 1)])
def test_packs_of_planes_that_leave_one_pixel_over(size: Pair, agrees_with_float64) -> None:
    """Rows of a multiple of the block and one pixel, columns, and single pixels, with a halo around them."""
    torch.manual_seed(0)
    network = nn.Sequential(nn.Conv2d(16, 24, 3, padding=1), nn.ReLU(), nn.Conv2d(24, 20, 3, padding=1))
    compilation = agrees_with_float64(network.eval(), [torch.randn(2, 16, *size)])
    edges = [record for record in compilation.artifact.kernels if record.kind in ("pack", "unpack", "copy")]
    assert all(record.schedule is not None for record in edges), [record.reason for record in edges]


class Bottleneck(nn.Module):
    """Pointwise, grouped, pointwise, the first with an activation that is not zero at zero."""

    def __init__(self, groups: int, c_pg: int, k_pg: int, stride: int = 1, residual: bool = False) -> None:
        super().__init__()
        self.expand = nn.Conv2d(24, groups * c_pg, 1)
        self.spatial = nn.Conv2d(groups * c_pg, groups * k_pg, 3, stride, 1, groups=groups)
        self.project = nn.Conv2d(groups * k_pg, 24, 1)
        self.residual = residual

    def forward(self, x):
        y = torch.sigmoid(self.expand(x))
        z = F.hardswish(self.spatial(y))
        return self.project(z + y if self.residual else z)


@pytest.mark.parametrize(
    ("groups", "c_pg", "k_pg", "stride"), [(16, 9, 9, 1), (8, 6, 12, 2), (4, 36, 36, 1), (9, 10, 8, 1)]
)
def test_groups_that_fill_no_block_are_padded(
    groups: int, c_pg: int, k_pg: int, stride: int, agrees_with_float64, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(Rules, "planar", lambda rules, shape: Refusal("not in this test"))
    torch.manual_seed(groups)
    network = Bottleneck(groups, c_pg, k_pg, stride).eval()
    compilation = agrees_with_float64(network, [torch.randn(2, 24, 13, 18)])
    ((layer, what),) = compilation.layout.padded
    assert layer == "spatial" and f"{groups} groups of {c_pg} to {k_pg} channels padded to" in what
    pixels = 2 * -(-13 // stride) * -(-18 // stride)
    (record,) = (record for record in compilation.artifact.kernels if record.layer == "spatial")
    assert record.flops == 2 * 9 * c_pg * groups * k_pg * pixels  # the model's own


@pytest.mark.parametrize(("groups", "c_pg", "k_pg", "stride"), [(16, 9, 9, 1), (8, 6, 12, 2), (9, 10, 7, 1)])
def test_groups_that_fill_no_block_are_computed_on_planes(
    groups: int, c_pg: int, k_pg: int, stride: int, agrees_with_float64, schedules_of
) -> None:
    torch.manual_seed(groups)
    network = Bottleneck(groups, c_pg, k_pg, stride, residual=(c_pg, stride) == (k_pg, 1)).eval()
    compilation = agrees_with_float64(network, [torch.randn(2, 24, 31, 34)])
    assert schedules_of(compilation) == dict.fromkeys(("expand", "spatial", "project"), "planar_conv")


class Expanded(nn.Module):
    """A pointwise convolution to more channels, and one that reads every so many pixels of its result."""

    def __init__(
        self, kernel: tuple[int, int], stride: tuple[int, int], padding: tuple[int, int], dilation: int
    ) -> None:
        super().__init__()
        self.expand, self.norm = nn.Conv2d(7, 21, 1), nn.BatchNorm2d(21)
        self.spatial = nn.Conv2d(21, 15, kernel, stride, padding, dilation, groups=3)

    def forward(self, x):
        return self.spatial(F.hardtanh(self.norm(self.expand(x)), 0.1, 6.0))  # zeros would not stay zeros


class Twice(Expanded):
    """The same, and something else reads the result, too."""

    def forward(self, x):
        y = F.relu(self.expand(x))
        return self.spatial(y), y


@pytest.mark.parametrize("cores", [1, 3])
@pytest.mark.parametrize(
    ("kernel", "stride", "padding", "dilation"),
    [
        ((3, 3), (2, 2), (1, 1), 1),
        ((5, 5), (2, 2), (2, 2), 1),
        ((3, 3), (3, 2), (0, 2), 1),
        ((3, 2), (1, 2), (2, 0), 2),
        ((3, 3), (1, 1), (0, 0), 1),  # smaller than its input: one phase
        ((1, 1), (2, 2), (0, 0), 1),
    ],
)
def test_results_are_made_in_phases(
    kernel: Pair,
    stride: Pair,
    padding: Pair,
    dilation: int,
    cores: int,
    agrees_with_float64,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Of a convolution to more channels, the input is split and not the result."""
    monkeypatch.setattr(Rules, "implementations", lambda rules, shape: Refusal("not in this test"))
    torch.manual_seed(sum(kernel))
    network, target = Expanded(kernel, stride, padding, dilation), replace(load_target("x86_64-v3"), cores=cores)
    compilation = agrees_with_float64(randomise(network), [torch.randn(2, 7, 19, 26)], target=target)
    records = compilation.artifact.kernels
    assert [record.kind for record in records][:3] == ["phases", "pointwise", "grouped"]
    assert records[1].flops == 2 * 2 * 19 * 26 * 7 * 21, "zeros around phases are not counted"


def test_results_that_are_read_elsewhere_are_split(agrees_with_float64, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Rules, "implementations", lambda rules, shape: Refusal("not in this test"))
    network = randomise(Twice((3, 3), (2, 2), (1, 1), 1))
    compilation = agrees_with_float64(network, [torch.randn(1, 7, 12, 17)])
    kinds = [record.kind for record in compilation.artifact.kernels]
    assert kinds.index("pointwise") < kinds.index("phases") < kinds.index("grouped")


class Learned(nn.Module):
    """What is added to the result of a convolution is made of weights only, as positional embeddings are."""

    def __init__(self) -> None:
        super().__init__()
        self.spatial, self.project = nn.Conv2d(32, 24, 3, 1, 1), nn.Conv2d(16, 24, 1)
        self.mix = nn.Linear(10, 10)
        self.places = nn.Parameter(torch.randn(1, 16, 9, 10))

    def forward(self, x):
        return F.relu(self.spatial(x)) + self.mix(F.relu(self.project(self.places)))


def test_layers_of_constants(agrees_with_float64) -> None:
    """IREE would evaluate them when it compiles, and has no code of theirs then."""
    torch.manual_seed(0)
    compilation = agrees_with_float64(Learned().eval(), [torch.randn(1, 32, 9, 10)])
    schedules = {record.layer: record.schedule for record in compilation.artifact.kernels}
    assert schedules["project"] == "packed_conv" and schedules["mix"] == "batch_matmul"


PLANES = [
    Case(10, 15, groups=5, size=(9, 14), batch=2, norm=True, activation="relu6"),
    Case(14, 14, groups=7, size=(6, 13), residual=True, activation="silu"),
    Case(12, 20, groups=4, stride=(2, 1), size=(7, 10)),
    Case(9, 6, groups=3, stride=(2, 2), kernel=(5, 5), padding=(2, 2, 2, 2), size=(8, 19)),
    Case(20, 12, groups=2, dilation=(2, 1), padding=(1, 0, 2, 2), size=(7, 9)),
    Case(15, 30, kernel=(1, 1), padding=(0, 0, 0, 0), groups=3, size=(1, 5)),
    Case(70, 33, kernel=(1, 1), padding=(0, 0, 0, 0), size=(6, 11)),
    Case(6, 6, groups=2, kernel=(3, 1), padding=(0, 3, 1, 0), size=(5, 4), residual=False),
]


@pytest.mark.parametrize(
    ("t_k", "accumulators", "run", "cores"), [(1, 7, 1, 1), (2, 6, 2, 4), (3, 4, 3, 2), (8, 1, 9, 1)]
)
def test_planar_conv_with_any_knobs(
    t_k: int,
    accumulators: int,
    run: int,
    cores: int,
    agrees_with_float64,
    schedules_of,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Register tiles of every form, the last one over the one before, several in a workgroup or one."""

    def tile(unit: VectorUnit, shape: ConvShape, cores: int) -> PlanarTile:
        largest = max(t for t in range(1, t_k + 1) if shape.k_per_group % t == 0)
        knobs = PlanarConvKnobs(largest, accumulators, shape.k_per_group if cores > 1 else shape.c_out, run)
        return PlanarTile(knobs, 1.0)

    monkeypatch.setattr("dlas.schedules.conv_rules.planar_tile", tile)
    monkeypatch.setattr(Rules, "implementations", lambda rules, shape: Refusal("not in this test"))
    torch.manual_seed(t_k)
    inputs = [torch.randn(case.batch, case.c_in, *case.size) for case in PLANES]
    target = replace(load_target("x86_64-v3"), cores=cores)
    compilation = agrees_with_float64(randomise(Layers(PLANES)), inputs, target=target)
    assert set(schedules_of(compilation).values()) == {"planar_conv"}


def test_channels_with_other_users_are_not_padded(agrees_with_float64) -> None:
    torch.manual_seed(0)
    compilation = agrees_with_float64(Bottleneck(16, 9, 9, residual=True).eval(), [torch.randn(1, 24, 13, 18)])
    assert compilation.layout.padded == []


@pytest.mark.parametrize(("m", "tolerance"), [(2, 2e-6), (4, 2e-5)])
def test_polyphase(
    m: int, tolerance: float, agrees_with_float64, schedules_of, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Stems of stride 2: kernels of 5 to 7, odd and even images, any padding, a partial block of channels, batch 2."""
    rule = Rules.polyphase
    monkeypatch.setattr(Rules, "polyphase", lambda self, shape: (rule(self, shape)[0], 0.0))  # small as they are
    torch.manual_seed(m)
    stems = {
        "seven": (nn.Conv2d(3, 16, 7, stride=2, padding=3), (2, 3, 37, 53)),
        "valid": (nn.Conv2d(3, 64, 7, stride=2), (1, 3, 31, 22)),
        "five": (nn.Conv2d(3, 24, 5, stride=2, padding=(1, 2)), (1, 3, 34, 40)),
        "six": (nn.Conv2d(4, 20, 6, stride=2, padding=2), (1, 4, 28, 29)),
        "five_by_seven": (nn.Conv2d(2, 32, (5, 7), stride=2, padding=(0, 3)), (1, 2, 23, 60)),
    }

    class Stems(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            for name, (conv, _) in stems.items():
                self.add_module(name, conv)
            self.norm = nn.BatchNorm2d(16)
            self.norm.running_mean.normal_()
            self.norm.running_var.uniform_(0.5, 2)
            self.pool = nn.MaxPool2d(3, 2, 1)

        def forward(self, first: torch.Tensor, *rest: torch.Tensor) -> tuple[torch.Tensor, ...]:
            layers = [getattr(self, name) for name in stems]
            found = [F.relu(layer(x)) for layer, x in zip(layers[1:], rest, strict=True)]
            return (self.pool(F.relu(self.norm(layers[0](first)))), *found)

    inputs = [torch.randn(shape) for _, shape in stems.values()]
    compilation = agrees_with_float64(Stems().eval(), inputs, tolerance=tolerance, winograd=m)
    schedules = {layer: name for layer, name in schedules_of(compilation).items() if layer in stems}
    assert schedules == dict.fromkeys(stems, "polyphase_conv")
    assert {kernel.knobs["m"] for kernel in compilation.artifact.kernels if "m" in kernel.knobs} == {m}


def test_polyphase_in_bands(agrees_with_float64) -> None:
    """Rows of tiles dealt out to several cores, the last of them short, write the halo that the next layer reads."""
    torch.manual_seed(5)
    network = nn.Sequential(nn.Conv2d(3, 64, 7, stride=2, padding=3), nn.ReLU(), nn.Conv2d(64, 16, 3, padding=1))
    target = replace(load_target("x86_64-v3"), cores=3)
    compilation = agrees_with_float64(network.eval(), [torch.randn(2, 3, 77, 90)], target=target)
    kernels = {kernel.schedule: kernel for kernel in compilation.artifact.kernels}
    assert kernels["polyphase_conv"].workgroups > 2


def test_what_surrounds_a_convolution(agrees_with_float64) -> None:
    """Pooling of all kinds, concatenation, several uses of a value, and an op that the layout does not know."""

    class Network(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.stem = nn.Conv2d(3, 16, 3, stride=2, padding=1)
            self.left = nn.Conv2d(16, 16, 3, padding=1, groups=16)
            self.right = nn.Conv2d(16, 16, 1)
            self.squeeze = nn.Conv2d(16, 4, 1)
            self.excite = nn.Conv2d(4, 16, 1)
            self.last = nn.Conv2d(32, 24, 3, padding=1, groups=2)
            self.head = nn.Linear(24, 10)

        def forward(self, x):
            x = F.max_pool2d(F.relu(self.stem(x)), 3, 2, 1)
            left, right = F.relu6(self.left(x)), F.silu(self.right(x))
            scale = torch.sigmoid(self.excite(F.relu(self.squeeze(right.mean((2, 3), keepdim=True)))))
            both = torch.cat([left + x, right * scale], 1)
            both = F.channel_shuffle(F.avg_pool2d(both, 2), 2)
            last = self.last(F.pad(both, (1, 0, 0, 1)))
            return self.head(F.adaptive_avg_pool2d(last, 1).flatten(1)), F.max_pool2d(last, 2)

    torch.manual_seed(0)
    agrees_with_float64(Network().eval(), [torch.randn(2, 3, 34, 38)])


class Shuffle(nn.Module):
    """Two pointwise convolutions with a channel shuffle between them, as in ShuffleNet."""

    def __init__(self, channels: int, groups: int) -> None:
        super().__init__()
        self.groups = groups
        self.first = nn.Conv2d(16, channels, 1)
        self.spatial = nn.Conv2d(channels, channels, 3, padding=1, groups=channels)

    def forward(self, x):
        return self.spatial(F.channel_shuffle(F.relu(self.first(x)), self.groups))


@pytest.mark.parametrize(("channels", "groups", "cores"), [(32, 2, 1), (64, 4, 3), (192, 8, 2)])
def test_channel_shuffle(channels: int, groups: int, cores: int, agrees_with_float64) -> None:
    torch.manual_seed(groups)
    target = replace(load_target("x86_64-v3"), cores=cores)
    inputs = [torch.randn(2, 16, 11, 6)]
    compilation = agrees_with_float64(Shuffle(channels, groups).eval(), inputs, target=target)
    assert "lane_shuffle" in {kernel.schedule for kernel in compilation.artifact.kernels}
    assert [kernel.kind for kernel in compilation.artifact.kernels].count("pack") == 1


def test_channel_shuffle_across_lanes_is_left_to_iree(agrees_with_float64) -> None:
    compilation = agrees_with_float64(Shuffle(24, 3).eval(), [torch.randn(1, 16, 5, 7)], fallbacks=True)
    (reason,) = (reason for _, op, reason in compilation.layout.refused if op == "tensor.collapse_shape")
    assert reason == "3 groups of 8 channels: no whole blocks of 8, 3 lanes apart"


def test_a_value_padded_in_two_ways(agrees_with_float64) -> None:
    """By zeros of two widths for two convolutions, and by -inf for pooling; the input itself is a result too."""

    class Network(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.first = nn.Conv2d(8, 16, 1)
            self.narrow = nn.Conv2d(16, 16, 3, padding=1, groups=4)
            self.wide = nn.Conv2d(16, 16, 5, padding=2, groups=16)

        def forward(self, x):
            y = self.first(x)
            return y, F.max_pool2d(y, 3, 2, 1), self.narrow(y), self.wide(y)

    torch.manual_seed(0)
    agrees_with_float64(Network().eval(), [torch.randn(1, 8, 9, 10)])


def test_a_head_beside_the_features(agrees_with_float64, schedules_of) -> None:
    """What replaces the result of one layer must not hide the users of another."""

    class Network(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.head, self.first, self.second = (
                nn.Linear(16, 10),
                nn.Conv2d(16, 16, 1),
                nn.Conv2d(16, 16, 3, padding=1),
            )

        def forward(self, x):
            y = self.first(x)
            scores = self.head(y.mean((2, 3)))
            return scores, F.relu(self.second(y)), torch.cat([scores, self.head(self.second(x).mean((2, 3)))], 1)

    torch.manual_seed(0)
    compilation = agrees_with_float64(Network().eval(), [torch.randn(1, 16, 5, 6)], winograd=0)
    assert schedules_of(compilation) == {"first": "packed_conv", "second": "packed_conv"}
    unscheduled = [record.kind for record in compilation.artifact.kernels if record.schedule is None]
    assert not [kind for kind in unscheduled if "fill" in kind], "a convolution or product that no schedule took"


@pytest.mark.parametrize("name", ["quotient", "logarithm", "reciprocal root"])
def test_the_padding_of_a_block_stays_out_of_the_result(name: str, agrees_with_float64) -> None:
    """12 channels: the last block has lanes that stand for nothing, where these functions are not finite."""

    class Network(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.left, self.last = nn.Conv2d(8, 12, 1), nn.Conv2d(12, 8, 1)
            self.register_buffer("offset", torch.rand(1, 12, 1, 1) + 1)

        def forward(self, x):
            left = self.left(x)
            functions = {
                "quotient": lambda: F.relu6(left + 1) / left,
                "logarithm": lambda: torch.log(F.relu(left) + self.offset),
                "reciprocal root": lambda: torch.rsqrt(left * left + self.offset),
            }
            return self.last(functions[name]())

    torch.manual_seed(0)
    agrees_with_float64(Network().eval(), [torch.randn(1, 8, 5, 6)])


def test_a_schedule_that_does_not_fit_is_recorded_and_the_result_is_right(monkeypatch, agrees_with_float64) -> None:
    def refuse(knobs: Any, extents: Any) -> Any:
        raise ScheduleError("no tile fits", where="packed_conv")

    monkeypatch.setitem(SCHEDULES, "packed_conv", replace(SCHEDULES["packed_conv"], steps=refuse))
    torch.manual_seed(0)
    network = nn.Sequential(nn.Conv2d(16, 16, 3, padding=1), nn.ReLU(), nn.Conv2d(16, 16, 3, groups=16))
    compilation = agrees_with_float64(network.eval(), [torch.randn(1, 16, 7, 8)], fallbacks=True, winograd=0)
    records = {record.layer: record for record in compilation.artifact.kernels}
    assert (records["0"].schedule, records["0"].reason) == (None, "packed_conv: no tile fits")
    assert records["2"].schedule == "lane_conv"

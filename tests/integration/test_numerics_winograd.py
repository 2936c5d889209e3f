"""Convolutions in Winograd's domain agree with float64 as well as documented, whatever is staged or prefetched."""

from __future__ import annotations

from dataclasses import replace

import pytest

torch = pytest.importorskip("torch")
pytest.importorskip("torch_mlir.ir")
pytest.importorskip("iree.compiler")

from torch import nn  # noqa: E402

import dlas  # noqa: E402
from dlas.compiler.targets import load_target  # noqa: E402
from dlas.dialects import TransformScript  # noqa: E402


@pytest.mark.parametrize(("m", "tolerance"), [(2, 2e-6), (4, 2e-5)])
def test_winograd(m: int, tolerance: float, agrees_with_float64, schedules_of) -> None:
    """A chain in the domain, tiles over both edges, with the accuracy that each tile is documented with."""
    torch.manual_seed(m)
    network = nn.Sequential(
        nn.Conv2d(32, 64, 3, padding=1, groups=2),
        nn.ReLU(),
        nn.Conv2d(64, 64, 3, padding=1, groups=4),
        nn.ReLU(),
        nn.Conv2d(64, 64, 3, padding=1),
    )
    inputs = [torch.randn(2, 32, 18, 21)]
    compilation = agrees_with_float64(network.eval(), inputs, tolerance=tolerance, winograd=m)
    assert set(schedules_of(compilation).values()) == {"winograd_conv"}
    assert {kernel.knobs["m"] for kernel in compilation.artifact.kernels if "m" in kernel.knobs} <= {2, m}
    edges = [kernel.kind for kernel in compilation.artifact.kernels if kernel.schedule != "winograd_conv"]
    assert edges == ["pack", "unpack"], "the halo of whole tiles is written by the producer"


@pytest.mark.parametrize(("m", "staged", "groups", "ow"), [(2, 1, 2, 3), (4, 0, 1, 4), (4, 1, 2, 1)])
def test_winograd_weights_prefetched(m: int, staged: int, groups: int, ow: int, agrees_with_float64) -> None:
    """Tiles that the register tile does not divide, batch 2; the last lines ask for none behind the weights."""
    torch.manual_seed(m + ow)
    network = nn.Sequential(nn.Conv2d(128, 96, 3, padding=1, groups=groups), nn.ReLU())
    knobs = {"schedule": "winograd_conv", "m": m, "staged": staged, "ow": ow, "prefetch": 1}
    script = TransformScript("prefetched", "%module")
    script.annotate(script.match_layer("0"), "dlas.knobs", knobs)
    compilation = agrees_with_float64(network.eval(), [torch.randn(2, 128, 9, 13)], transform_script=script)
    found = [kernel.knobs for kernel in compilation.artifact.kernels if kernel.schedule == "winograd_conv"]
    assert [knobs["prefetch"] for knobs in found] == [1]


@pytest.mark.parametrize(
    ("m", "channels", "size", "knobs"),
    [
        (4, (96, 64, 1), (9, 13), {"staged": 1, "prefetch": 1}),  # in parts of the channels, which are reloaded
        (4, (96, 128, 2), (7, 8), {"staged": 0, "prefetch": 0, "ow": 1}),
        (2, (64, 80, 1), (5, 11), {"staged": 1, "prefetch": 1, "ow": 1}),  # register tiles that leave some
        (2, (20, 28, 1), (14, 6), {"prefetch": 1}),  # channels that fill no block
        (4, (512, 32, 1), (4, 5), {"staged": 1, "prefetch": 0}),
    ],
)
def test_winograd_with_the_filter_transform_online(
    m: int, channels: tuple[int, int, int], size: tuple[int, int], knobs: dict[str, int], agrees_with_float64
) -> None:
    """Tiles over both edges, batch 2, an epilogue with a residual."""
    c_in, c_out, groups = channels
    torch.manual_seed(c_in + m)

    class Network(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.conv = nn.Conv2d(c_in, c_out, 3, padding=1, groups=groups)

        def forward(self, x: torch.Tensor, y: torch.Tensor) -> torch.Tensor:
            return nn.functional.relu(self.conv(x) + y)

    script = TransformScript("online", "%module")
    asked = {"schedule": "winograd_conv", "m": m, "online": 1, **knobs}
    script.annotate(script.match_layer("conv"), "dlas.knobs", asked)
    inputs = [torch.randn(2, c_in, *size), torch.randn(2, c_out, *size)]
    compilation = agrees_with_float64(
        Network().eval(), inputs, tolerance={2: 2e-6, 4: 2e-5}[m], transform_script=script
    )
    (found,) = [kernel for kernel in compilation.artifact.kernels if kernel.schedule == "winograd_conv"]
    assert {name: found.knobs[name] for name in asked if name != "schedule"} == {"m": m, "online": 1, **knobs}
    assert "filter transform online" in found.reason


@pytest.mark.parametrize(("per_group", "m", "tolerance"), [(4, 4, 2e-5), (8, 4, 2e-5), (8, 2, 2e-6)])
def test_winograd_by_lanes(per_group: int, m: int, tolerance: float, agrees_with_float64, schedules_of) -> None:
    """Groups of half a block and of a whole one, whose sums cross its halves."""
    torch.manual_seed(per_group + m)
    network = nn.Sequential(
        nn.Conv2d(24, 24, 3, padding=1, groups=24 // per_group),
        nn.ReLU(),
        nn.Conv2d(24, 24, 3, padding=1, groups=24 // per_group, bias=False),
        nn.Hardswish(),
        nn.Conv2d(24, 40, 3),  # a pointwise one would be of the same kernel
    )
    compilation = agrees_with_float64(network.eval(), [torch.randn(2, 24, 19, 23)], tolerance=tolerance, winograd=m)
    grouped = [kernel for kernel in compilation.artifact.kernels if kernel.kind == "grouped"]
    assert [(kernel.schedule, kernel.knobs["m"]) for kernel in grouped] == [("winograd_lane_conv", m)] * 2


@pytest.mark.parametrize(("groups", "height", "width", "cores"), [(1, 13, 14, 1), (2, 11, 14, 3)])
def test_winograd_input_transformed_once(groups: int, height: int, width: int, cores: int, agrees_with_float64) -> None:
    """Tiles over both edges, batch 2, one workgroup or several."""
    torch.manual_seed(groups)
    channels = 256 * groups
    network = nn.Sequential(nn.Conv2d(channels, channels, 3, padding=1, groups=groups), nn.ReLU())
    target = replace(load_target("x86_64-v3"), cores=cores)
    compilation = agrees_with_float64(network.eval(), [torch.randn(2, channels, height, width)], target=target)
    schedules = {kernel.schedule: kernel for kernel in compilation.artifact.kernels}
    assert schedules["winograd_conv"].knobs["staged"] == 1
    assert (schedules["winograd_input"].workgroups > 1) == (cores > 1)


def test_scratch_of_many_tiles_fits_the_stack(agrees_with_float64) -> None:
    """Winograd's scratch is near its bound, for more tiles of channels than a worker is dealt at once."""
    torch.manual_seed(0)
    network = nn.Sequential(nn.Conv2d(576, 576, 3, padding=1, groups=2))
    agrees_with_float64(network.eval(), [torch.randn(1, 576, 14, 14)], threads=(2,))


def test_parts_at_the_edge_use_the_scratch_of_the_others() -> None:
    """14 rows in parts of 8, with as many tiles in the last as in the first: one scratch, or the stack overflows."""
    target = replace(load_target("x86_64-v4"), fma_units=1, l2_kb=1024, l3_kb=32768)
    network = nn.Sequential(nn.Conv2d(256, 256, 3, padding=1, groups=8), nn.ReLU())
    artifact = dlas.compile(network.eval(), (torch.randn(1, 256, 14, 14),), target=target)
    (record,) = (record for record in artifact.kernels if record.kind == "grouped")
    assert (record.schedule, record.knobs["m"], record.knobs["rows"]) == ("winograd_conv", 4, 2)

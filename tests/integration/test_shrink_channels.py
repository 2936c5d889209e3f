"""Channel-pruned models become smaller ones with the same results."""

from __future__ import annotations

import pytest

torch = pytest.importorskip("torch")
pytest.importorskip("torch_mlir.ir")
pytest.importorskip("iree.compiler")

from torch import nn  # noqa: E402

import dlas  # noqa: E402


def _zero(conv: nn.Conv2d, channels: list[int], bias: float | None = None) -> None:
    with torch.no_grad():
        conv.weight[channels] = 0.0
        if conv.bias is not None and bias is not None:
            conv.bias[channels] = bias


class Residual(nn.Module):
    """A stem, two blocks that add to it, squeeze and excitation, and a head: everything that ties channels."""

    def __init__(self) -> None:
        super().__init__()
        self.stem = nn.Conv2d(3, 24, 3, 2, 1, bias=False)
        self.norm = nn.BatchNorm2d(24)
        self.pool = nn.MaxPool2d(3, 2, 1)
        self.first = nn.Conv2d(24, 40, 3, 1, 1)
        self.depthwise = nn.Conv2d(40, 40, 3, 1, 1, groups=40)
        self.second = nn.Conv2d(40, 24, 1)
        self.squeeze, self.excite = nn.Conv2d(24, 8, 1), nn.Conv2d(8, 24, 1)
        self.head = nn.Linear(24, 10)

    def forward(self, x):
        x = self.pool(torch.relu(self.norm(self.stem(x))))
        y = self.second(torch.relu(self.depthwise(torch.relu(self.first(x)))))
        gate = torch.sigmoid(self.excite(torch.relu(self.squeeze(y.mean((2, 3), keepdim=True)))))
        return self.head(torch.relu(x + y * gate).mean((2, 3)))


def _notes(compilation) -> dict[str, tuple[bool, str]]:
    notes = [note for note in compilation.imported.notes if note.pass_name == "dlas-shrink-channels"]
    return {note.layer: (note.done, note.text) for note in notes}


def test_a_residual_network(agrees_with_float64) -> None:
    torch.manual_seed(0)
    model = Residual().eval()
    _zero(model.stem, [0, 5, 6, 23])
    _zero(model.second, [0, 5, 7, 23], 0.0)
    _zero(model.first, list(range(3, 12)), -0.5)
    _zero(model.depthwise, list(range(3, 10)), -1.0)
    with torch.no_grad():  # of the two channels that the depthwise layer gets zeros in, one stays at a number
        model.depthwise.bias[10:12] = torch.tensor([-1.0, 1.0])
    _zero(model.squeeze, [2], -2.0)
    compilation = agrees_with_float64(model, [torch.randn(2, 3, 29, 34)])
    notes = _notes(compilation)
    assert notes["stem, second, excite"] == (True, "24 to 21 channels")
    assert notes["first"] == (True, "40 to 32 channels")
    assert notes["squeeze"] == (True, "8 to 7 channels")


def test_channels_held_above_zero_stay(agrees_with_float64) -> None:
    torch.manual_seed(1)
    model = nn.Sequential(nn.Conv2d(3, 16, 3, padding=1), nn.ReLU(), nn.Conv2d(16, 8, 3, padding=1)).eval()
    _zero(model[0], [1, 2, 3], 0.5)
    compilation = agrees_with_float64(model, [torch.randn(1, 3, 9, 8)])
    assert _notes(compilation)["0"] == (False, "3 channels are held at another number than zero")


def test_what_something_else_reads_stays(agrees_with_float64) -> None:
    torch.manual_seed(2)
    model = nn.Sequential(nn.Conv2d(3, 16, 3, padding=1, bias=False), nn.PixelShuffle(2)).eval()
    _zero(model[0], [1, 9])
    compilation = agrees_with_float64(model, [torch.randn(1, 3, 9, 8)])
    done, text = _notes(compilation)["0"]
    assert not done and "reads them" in text


class Grouped(nn.Module):
    """Groups that are made and read by others, with a residual sum across two of them."""

    def __init__(self) -> None:
        super().__init__()
        self.stem = nn.Conv2d(3, 64, 3, 2, 1)
        self.first = nn.Conv2d(64, 96, 3, 1, 1, groups=4)
        self.second = nn.Conv2d(96, 64, 3, 1, 1, groups=2)
        self.head = nn.Conv2d(64, 8, 1)

    def forward(self, x):
        x = torch.relu(self.stem(x))
        return self.head(torch.relu(self.second(torch.relu(self.first(x))) + x))


def _some(size: int, counts: list[int]) -> list[int]:
    """So many channels of each group of this size."""
    return [group * size + int(i) for group, count in enumerate(counts) for i in torch.randperm(size)[:count]]


def test_groups_stay_equal_and_whole_blocks(agrees_with_float64) -> None:
    torch.manual_seed(5)
    model = Grouped().eval()
    both = _some(16, [9, 8, 12, 8])
    _zero(model.stem, both, -0.5)
    _zero(model.second, both, -0.5)
    _zero(model.first, _some(24, [18, 11, 14, 9]), -1.0)
    compilation = agrees_with_float64(model, [torch.randn(2, 3, 21, 18)])
    assert _notes(compilation) == {"stem, second": (True, "64 to 32 channels"), "first": (True, "96 to 64 channels")}
    convolutions = [kernel for kernel in compilation.artifact.kernels if kernel.problem]
    macs = 2 * 11 * 9 * (9 * (3 * 32 + 8 * 64 + 32 * 32) + 32 * 8)
    assert sum(kernel.flops * kernel.calls for kernel in convolutions) <= 2 * macs


def test_groups_that_would_not_stay_equal(agrees_with_float64) -> None:
    torch.manual_seed(6)
    model = Grouped().eval()
    both = _some(16, [1, 2, 1, 1])
    _zero(model.stem, both, 0.0)
    _zero(model.second, both, 0.0)
    _zero(model.first, _some(24, [20, 9, 9, 0]), -1.0)
    stay = "groups of {} channels, {} of them zeros, have to stay equal, and multiples of 8"
    notes = _notes(agrees_with_float64(model, [torch.randn(1, 3, 12, 15)]))
    assert notes["first"] == (False, stay.format(24, "20, 9, 9, 0"))
    assert notes["stem, second"] == (False, stay.format(16, "1, 2, 1, 1"))


def test_groups_that_share_no_parts(agrees_with_float64) -> None:
    torch.manual_seed(7)
    layers = [nn.Conv2d(24, 24, 3, groups=2, bias=False), nn.Conv2d(24, 24, 3, groups=3, bias=False)]
    model = nn.Sequential(*layers).eval()
    _zero(model[0], list(range(0, 24, 2)))
    notes = _notes(agrees_with_float64(model, [torch.randn(1, 24, 9, 8)]))
    assert notes["0"] == (False, "layers of 2, 3 groups have the same channels")


def test_a_layer_of_zeros_keeps_a_channel(agrees_with_float64) -> None:
    torch.manual_seed(3)
    model = nn.Sequential(nn.Conv2d(3, 8, 3, bias=False), nn.ReLU(), nn.Conv2d(8, 4, 1)).eval()
    _zero(model[0], list(range(8)))
    assert _notes(agrees_with_float64(model, [torch.randn(1, 3, 9, 8)]))["0"] == (True, "8 to 1 channels")


def test_pruned_by_dlas(agrees_with_float64) -> None:
    torch.manual_seed(4)
    layers = [nn.Conv2d(8, 64, 3, padding=1, bias=False), nn.ReLU(), nn.Conv2d(64, 32, 3, padding=1, bias=False)]
    model = dlas.prune(nn.Sequential(*layers).eval(), 0.5, "layer", "channel")
    compilation = agrees_with_float64(model, [torch.randn(1, 8, 14, 14)])
    assert _notes(compilation)["0"] == (True, "64 to 32 channels")
    macs = 14 * 14 * 9 * 32 * (8 + 32)
    assert sum(kernel.flops for kernel in compilation.artifact.kernels) <= 2 * macs

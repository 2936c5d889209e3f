"""Sparse convolutions compute what torch computes in float64, for every shape, and are chosen where they win."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from functools import partial
from typing import Any

import numpy as np
import pytest

torch = pytest.importorskip("torch")
pytest.importorskip("torch_mlir.ir")
pytest.importorskip("iree.compiler")

from torch import nn  # noqa: E402

import dlas  # noqa: E402
from dlas.passes.layout_assignment import PLANAR, Implementation  # noqa: E402
from dlas.passes.plan import Choice  # noqa: E402
from dlas.schedules.rules import Rules  # noqa: E402

TOLERANCE = 2e-6


class Residual(nn.Module):
    """A pre-activation block: three results of one kernel, some read with padding."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.first, self.second = nn.Conv2d(channels, channels, 3, 1, 1), nn.Conv2d(channels, channels, 3, 1, 1)
        self.short = nn.Conv2d(channels, channels, 1, 2)
        self.down = nn.Conv2d(channels, channels, 3, 2, 1)

    def forward(self, x):
        y = torch.relu(self.first(x))
        z = self.second(y) + y
        gate = torch.sigmoid(z.mean((2, 3), keepdim=True))
        return torch.relu(self.down(z * gate)) + self.short(z)


def _prune(model: nn.Module, share: float) -> nn.Module:
    for layer in model.modules():
        if isinstance(layer, nn.Conv2d):
            with torch.no_grad():
                flat = layer.weight.flatten()
                flat[torch.randperm(flat.numel())[: round(share * flat.numel())]] = 0.0
    return model.eval()


@pytest.fixture(scope="session")
def check(agrees_with_float64: Callable[..., Any]) -> Callable[..., Any]:
    """Compiles, runs and compares with float64; the tests look at the schedules themselves."""
    return partial(agrees_with_float64, threads=(1,), fallbacks=True, tolerance=TOLERANCE)


# c, k, kernel, stride, padding, dilation, groups, height, width, batch, share of zeros
GRID = [
    (8, 12, 3, 1, 1, 1, 1, 7, 7, 1, 0.9),
    (5, 7, 3, 1, 1, 1, 1, 13, 9, 2, 0.5),
    (6, 10, 4, 3, 1, 1, 1, 13, 13, 2, 0.7),
    (16, 24, 3, 2, 1, 1, 1, 28, 28, 1, 0.95),
    (16, 8, 1, 2, 0, 1, 1, 15, 11, 1, 0.8),
    (16, 8, 1, 1, 0, 1, 1, 14, 14, 1, 0.8),
    (16, 8, 1, 1, 0, 1, 1, 28, 28, 1, 0.6),
    (12, 12, 3, 1, 2, 2, 3, 12, 17, 1, 0.8),
    (8, 8, 5, 1, 2, 1, 1, 3, 2, 1, 0.9),
    (8, 8, 3, 1, 0, 1, 1, 10, 30, 1, 0.9),
    (8, 8, 7, 2, 3, 1, 8, 20, 20, 1, 0.5),
    (8, 8, 3, 1, 1, 1, 1, 9, 9, 1, 1.0),
    (3, 4, 3, 1, 1, 1, 1, 1, 1, 1, 0.2),
]


_SMALL = {"accumulators": 3, "channels": 5, "k_w": 4}
KNOBS = {
    "default": {},
    "small": _SMALL,
    "shift": {"shift": 1},
    "pack": {**_SMALL, "pack": 1},
    "tile": {**_SMALL, "tile": 1},
    "prefetch": {**_SMALL, "tile": 1, "prefetch": 2},
}


@pytest.mark.parametrize("knobs", KNOBS.values(), ids=KNOBS)
def test_every_shape(
    check: Callable[..., Any],
    side_by_side: Callable[..., nn.Module],
    force_sparse: Callable[..., None],
    monkeypatch: pytest.MonkeyPatch,
    knobs: dict[str, int],
    vectors: Any,
) -> None:
    torch.manual_seed(11)
    force_sparse(monkeypatch, **knobs)
    layers, inputs = [], []
    for c, k, kernel, stride, padding, dilation, groups, height, width, batch, share in GRID:
        conv = nn.Conv2d(c, k, kernel, stride, padding, dilation, groups)
        layers.append(_prune(nn.Sequential(conv, nn.ReLU()), share))
        inputs.append(torch.randn(batch, c, height, width))
    one = nn.Conv2d(8, 8, 3, 1, 1)
    with torch.no_grad():
        one.weight.zero_()
        one.weight[5, 3, 0, 2] = 2.0
    layers.append(one)
    inputs.append(torch.randn(1, 8, 6, 6))
    artifact = check(side_by_side(layers).eval(), tuple(inputs), target=vectors).artifact
    assert sum(len(kernel.layer.split(", ")) for kernel in artifact.kernels if kernel.kind == "sparse") == len(layers)


def test_register_tiles_differ_between_layers(
    check: Callable[..., Any], monkeypatch: pytest.MonkeyPatch, vectors: Any
) -> None:
    """One tile that reaches over the last pixel, and some that do not: both leave zeros where the next layer pads."""

    def sparse(self, shape, nonzeros, algorithm):
        knobs = {"accumulators": 14 if shape.c_out % 16 else 3, "channels": shape.c_per_group, "k_w": shape.c_out}
        return Implementation((PLANAR,), PLANAR, 0.0, Choice("sparse_conv", knobs, "forced"))

    monkeypatch.setattr(Rules, "sparse", sparse)
    torch.manual_seed(14)
    widths = (24, 16, 24, 16, 24, 16, 24)
    layers = [nn.Sequential(nn.Conv2d(a, b, 3, 1, 1), nn.ReLU()) for a, b in zip(widths, widths[1:], strict=False)]
    stem = nn.Sequential(nn.Conv2d(8, 24, 3, 1, 1), nn.Conv2d(24, 24, 3, 1, 1))  # leaves its values in the buffers
    model = _prune(nn.Sequential(stem, nn.MaxPool2d(2), *layers), 0.8)
    for size in ((16, 16), (14, 22)):
        artifact = check(model, (torch.randn(2, 8, *size),), target=vectors).artifact
        assert sum(kernel.calls for kernel in artifact.kernels if kernel.schedule == "sparse_conv") == len(layers) + 2


def test_networks_mix_layouts(
    check: Callable[..., Any], force_sparse: Callable[..., None], monkeypatch: pytest.MonkeyPatch
) -> None:
    torch.manual_seed(12)
    force_sparse(monkeypatch)
    blocks = [_prune(Residual(16), 0.8), nn.MaxPool2d(3, 2, 1), nn.Conv2d(16, 24, 3, 1, 1), nn.ReLU()]
    model = nn.Sequential(*blocks, _prune(nn.Conv2d(24, 16, 3, 1, 1), 0.9), nn.AdaptiveAvgPool2d(1), nn.Flatten())
    artifact = check(model.eval(), (torch.randn(1, 16, 21, 30),)).artifact
    kinds = {kernel.kind for kernel in artifact.kernels}
    assert {"sparse", "conv", "pooling", "reduce"} <= kinds
    assert all(kernel.schedule for kernel in artifact.kernels if kernel.kind in ("sparse", "planes", "phases"))


def test_zeros_decide(check: Callable[..., Any]) -> None:
    torch.manual_seed(13)
    inputs = (torch.randn(1, 64, 28, 28),)
    kinds = {}
    for share in (0.0, 0.2, 0.95):
        # Winograd's domain is among them.
        artifact = check(_prune(nn.Conv2d(64, 64, 3, 1, 1), share), inputs, tolerance=2e-5).artifact
        kinds[share] = {kernel.kind for kernel in artifact.kernels}
    assert "sparse" not in kinds[0.0] | kinds[0.2] and "sparse" in kinds[0.95]


def test_masks_of_torch_are_baked_in() -> None:
    torch.manual_seed(14)
    model = dlas.prune(nn.Sequential(nn.Conv2d(64, 64, 3, 1, 1)).eval(), 0.95)
    dense = nn.Sequential(nn.Conv2d(64, 64, 3, 1, 1)).eval()
    with torch.no_grad():
        dense[0].weight.copy_(model[0].weight)
        dense[0].bias.copy_(model[0].bias)
    x = torch.randn(1, 64, 14, 14)
    artifact = dlas.compile(model, (x,))
    assert any(kernel.kind == "sparse" for kernel in artifact.kernels)
    with torch.no_grad():
        np.testing.assert_allclose(dlas.load(artifact)(x.numpy()), dense(x).numpy(), atol=1e-4)


def test_zeros_of_onnx_initializers() -> None:
    """An ONNX model with pruned weights, one layer's sparse enough and one's not."""
    onnx = pytest.importorskip("onnx")
    from onnx import helper, numpy_helper

    rng = np.random.default_rng(15)
    weights = {name: rng.normal(size=(64, 64, 3, 3)).astype(np.float32) for name in ("sparse", "dense")}
    weights["sparse"][rng.random((64, 64, 3, 3)) < 0.95] = 0.0
    weights["dense"][rng.random((64, 64, 3, 3)) < 0.2] = 0.0
    nodes = [
        helper.make_node("Conv", ["x", "sparse"], ["y"], name="first", pads=[1, 1, 1, 1]),
        helper.make_node("Conv", ["y", "dense"], ["z"], name="second", pads=[1, 1, 1, 1]),
    ]
    shape = [1, 64, 28, 28]
    values = [helper.make_tensor_value_info(name, onnx.TensorProto.FLOAT, shape) for name in ("x", "z")]
    tensors = [numpy_helper.from_array(array, name) for name, array in weights.items()]
    graph = helper.make_graph(nodes, "pruned", values[:1], values[1:], tensors)
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)])
    model.ir_version = 8
    artifact = dlas.compile(model)
    assert {kernel.layer for kernel in artifact.kernels if kernel.kind == "sparse"} == {"first"}
    x = rng.normal(size=shape).astype(np.float32)
    expected = torch.from_numpy(x).double()
    for name in ("sparse", "dense"):
        expected = nn.functional.conv2d(expected, torch.from_numpy(weights[name]).double(), padding=1)
    error = np.abs(dlas.load(artifact)(x) - expected.numpy()).max() / expected.abs().max()
    assert error < 2e-5  # the dense layer is in Winograd's domain


def test_the_estimate_falls_with_the_weights() -> None:
    from dlas.passes.conv import ConvShape
    from dlas.schedules.knobs import VectorUnit
    from dlas.schedules.sparse_cost import sparse_tiles

    shape = ConvShape(1, 64, 64, 1, 56, 56, 56, 56, 3, 3, pads=(1, 1, 1, 1))
    for unit in (VectorUnit(8, 16), VectorUnit(16, 32), VectorUnit(4, 32, fma_units=1)):
        cycles = [sparse_tiles(unit, shape, n)[0].cycles for n in (0, 100, 1000, 10000)]
        assert cycles == sorted(cycles)
    assert sparse_tiles(VectorUnit(8, 16), replace(shape, c_out=65), 1000)[0].k_w in (1, 5, 13, 65)


def test_variants_are_estimated_for_the_target() -> None:
    from dlas.passes.conv import ConvShape
    from dlas.schedules.knobs import VectorUnit
    from dlas.schedules.sparse_cost import sparse_tiles, straddling

    assert [straddling(lanes, 1) for lanes in (4, 8, 16)] == [3 / 16, 7 / 16, 15 / 16]
    assert [straddling(16, step) for step in (16, 28 * 28, 14 * 14, 7 * 7)] == [0, 0, 3 / 4, 15 / 16]
    shape = ConvShape(1, 256, 256, 1, 16, 16, 16, 16, 3, 3, pads=(1, 1, 1, 1))
    for unit in (VectorUnit(8, 16), VectorUnit(16, 32, l1_kb=48)):
        tiles = {tile.variant: tile for tile in sparse_tiles(unit, shape, 256 * 256 * 9 * 3 // 10)}
        assert set(tiles) == {"direct", "shift", "pack", "tile"}
        assert next(iter(tiles)) == "shift"  # a third of the weights and rows of whole lines: copies pay
        few = sparse_tiles(unit, shape, 256 * 256 * 9 // 20)
        assert few[0].variant == "direct"
    pointwise = replace(shape, k_h=1, k_w=1, pads=(0, 0, 0, 0))
    assert {tile.variant for tile in sparse_tiles(unit, pointwise, 1000)} == {"direct", "pack", "tile"}


def test_variants_exclude_each_other() -> None:
    from dlas.errors import ScheduleError
    from dlas.schedules.sparse_conv import SparseConvKnobs

    assert SparseConvKnobs(14, 8, 8).variant == "direct" and SparseConvKnobs(14, 8, 8, tile=1).variant == "tile"
    with pytest.raises(ScheduleError, match="sparse_conv: shift and pack exclude each other"):
        SparseConvKnobs(14, 8, 8, shift=1, pack=1)


def test_many_images_are_prefetched() -> None:
    from dlas.passes.conv import ConvShape
    from dlas.schedules.knobs import VectorUnit
    from dlas.schedules.sparse_cost import sparse_tiles

    shape = ConvShape(1, 256, 1024, 1, 14, 14, 14, 14, 1, 1)
    for batch, expected in ((1, 0), (32, 1)):
        tiles = sparse_tiles(VectorUnit(16, 32, l1_kb=32), replace(shape, batch=batch), 256 * 1024 // 10)
        assert {tile.variant: tile.prefetch for tile in tiles} == {"direct": 0, "pack": 0, "tile": expected}
        assert next(tile for tile in tiles if tile.variant == "tile").knobs.get("prefetch", 0) == expected


def test_only_tiles_are_prefetched() -> None:
    from dlas.errors import ScheduleError
    from dlas.schedules.sparse_conv import SparseConvKnobs

    assert SparseConvKnobs(14, 8, 8, tile=1, prefetch=2).variant == "tile"
    for variant in ("direct", "shift", "pack"):
        flags = {} if variant == "direct" else {variant: 1}
        assert SparseConvKnobs(14, 8, 8, **flags, prefetch=0).variant == variant
        with pytest.raises(ScheduleError, match=f"sparse_conv: prefetch=1 is for tile, not for {variant}"):
            SparseConvKnobs(14, 8, 8, **flags, prefetch=1)
    with pytest.raises(ScheduleError, match="sparse_conv: prefetch=-1 is negative"):
        SparseConvKnobs(14, 8, 8, tile=1, prefetch=-1)


_MODULE = """
func.func @conv(%x: tensor<1x4x32x32xf32>) -> tensor<1x256x32x32xf32> {{
  %zero = arith.constant 0.0 : f32
  %w = arith.constant dense<{weights}> : tensor<256x4x1x1xf32>
  %empty = tensor.empty() : tensor<1x256x32x32xf32>
  %init = linalg.fill ins(%zero : f32) outs(%empty : tensor<1x256x32x32xf32>) -> tensor<1x256x32x32xf32>
  %y = linalg.conv_2d_nchw_fchw {{dlas.layer = "conv", dlas.sparse = "{algorithm}"}}
    ins(%x, %w : tensor<1x4x32x32xf32>, tensor<256x4x1x1xf32>)
    outs(%init : tensor<1x256x32x32xf32>) -> tensor<1x256x32x32xf32>
  return %y : tensor<1x256x32x32xf32>
}}
"""


@pytest.mark.parametrize(
    ("algorithm", "expected"),
    [
        ("direct", ["channels=4 k_w=128}: ", "weights are not zero: direct", "dense<[0, 2048, 3072]> : tensor<3xi32>"]),
        # 10 tiles of 13 vectors: the scratch has a row of 104 pixels for each channel.
        ("gemm", ["k_w=128 pack=1}: ", "not zero: pack", "dense<[0, 208, 312]>", "tensor.empty() : tensor<416xf32>"]),
        (
            "spatial-pack",
            ["k_w=128 tile=1}: ", "not zero: tile", "-> tensor<1x10x4x104xf32>", "done: conv: tiles: row_"],
        ),
        ("any", ["not zero: direct", "x its time"]),
    ],
)
def test_algorithms_have_variants(tmp_path, capsys: pytest.CaptureFixture[str], algorithm, expected) -> None:
    from dlas.compiler.cli import main

    weights = np.zeros((256, 4, 1, 1))
    weights[0, 0], weights[0, 2], weights[1, 3] = 2.0, 3.0, 5.0
    path = tmp_path / "conv.mlir"
    path.write_text(_MODULE.format(weights=weights.tolist(), algorithm=algorithm))
    pipeline = "dlas-blocked-layout{lanes=8 registers=16}"
    assert main(["opt", str(path), f"--pass-pipeline={pipeline}", "--notes"]) == 0
    text = capsys.readouterr().out
    assert [part for part in expected if part not in text] == []

"""Linear layers of pruned weights compute what torch computes in float64; their kernels are chosen where they win."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from functools import partial
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

torch = pytest.importorskip("torch")
pytest.importorskip("torch_mlir.ir")
pytest.importorskip("iree.compiler")

from torch import nn  # noqa: E402

import dlas  # noqa: E402
from dlas.compiler.explain import explain  # noqa: E402
from dlas.compiler.pipeline import Options, compile_model  # noqa: E402
from dlas.passes.layout_assignment import NCHW, Implementation  # noqa: E402
from dlas.passes.plan import Refusal  # noqa: E402
from dlas.passes.sparse_linear import GATHER_GROUP, compress_rows, packed_words  # noqa: E402
from dlas.schedules.knobs import VectorUnit  # noqa: E402
from dlas.schedules.rules import Rules  # noqa: E402
from dlas.schedules.sparse_linear import matmul_tile, matvec_tile  # noqa: E402

TOLERANCE = 2e-6

# rows, inputs, outputs, share of zeros
GRID = [
    (1, 64, 32, 0.9),
    (1, 100, 10, 0.0),
    (1, 37, 19, 0.5),
    (3, 77, 24, 0.8),
    (8, 40, 40, 0.95),
    (17, 33, 13, 0.7),
    (31, 8, 16, 0.6),
    (128, 72, 48, 0.9),
    (125, 21, 9, 1.0),
]


class Layers(nn.Module):
    """Independent layers: an input and a result each."""

    def __init__(self, layers: list[nn.Module]) -> None:
        super().__init__()
        self.layers = nn.ModuleList(layers)

    def forward(self, *inputs: Any) -> tuple[Any, ...]:
        return tuple(layer(x) for layer, x in zip(self.layers, inputs, strict=True))


class Block(nn.Module):
    """A transformer's feed-forward part: two layers that read the same rows, GELU, a residual, a layer norm."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.gate, self.up = nn.Linear(width, 2 * width), nn.Linear(width, 2 * width, bias=False)
        self.down, self.norm = nn.Linear(2 * width, width), nn.LayerNorm(width)

    def forward(self, x: Any) -> Any:
        return self.norm(x + self.down(nn.functional.gelu(self.gate(x)) * self.up(x)))


def _prune(model: nn.Module, share: float) -> nn.Module:
    for layer in model.modules():
        if isinstance(layer, nn.Linear):
            with torch.no_grad():
                flat = layer.weight.flatten()
                flat[torch.randperm(flat.numel())[: round(share * flat.numel())]] = 0.0
    return model.eval()


def _forced(monkeypatch: pytest.MonkeyPatch, schedule: str, **knobs: int) -> None:
    """Takes one sparse kernel for every layer with a zero, with these knobs (``n_w`` in vectors)."""

    def ways(self: Rules, m: int, n: int, k: int, nonzeros: int) -> list[Implementation]:
        tile = (matvec_tile if schedule == "sparse_matvec" else matmul_tile)(self.unit, m, n, k, nonzeros, self.model)
        assert tile is not None
        given = {**tile.knobs, **{name: value for name, value in knobs.items() if name in tile.knobs}}
        if "n_w" in knobs:
            given["n_w"] *= self.block
        if "vectors" in given:
            given["vectors"] = min(given["vectors"], -(-m // self.block))
        choice = Rules.matmul(self, m, n, k)
        assert not isinstance(choice, Refusal)
        return [Implementation((), NCHW, 0.0, replace(choice, schedule=schedule, knobs=given))]

    monkeypatch.setattr(Rules, "matmul_ways", ways)


@pytest.fixture(scope="session")
def check(agrees_with_float64: Callable[..., Any]) -> Callable[..., Any]:
    """Compiles, runs and compares with float64; the tests look at the schedules themselves."""
    return partial(agrees_with_float64, threads=(1,), fallbacks=True, tolerance=TOLERANCE)


@pytest.mark.parametrize(
    ("schedule", "knobs"),
    [
        ("sparse_matvec", {}),
        ("sparse_matvec", {"n_w": 1, "chunk": 30}),
        ("sparse_matmul", {}),
        ("sparse_matmul", {"n_w": 1, "chunk": 30, "vectors": 2, "group": 2, "chains": 1}),
        ("sparse_matmul", {"vectors": 1, "group": 8, "chains": 4, "chunk": 11}),
    ],
    ids=["row", "row-small", "rows", "rows-small", "rows-group"],
)
def test_every_shape(
    check: Callable[..., Any], monkeypatch: pytest.MonkeyPatch, schedule: str, knobs: dict[str, int], vectors: Any
) -> None:
    torch.manual_seed(21)
    _forced(monkeypatch, schedule, **knobs)
    layers, inputs = [], []
    for m, k, n, share in GRID:
        k = max(k, vectors.simd_lanes)
        layer = _prune(nn.Sequential(nn.Linear(k, n), nn.ReLU()), share)
        if not share:
            with torch.no_grad():
                layer[0].weight[3, 5] = 0.0
        layers.append(layer)
        inputs.append(torch.randn(m, k))
    one = nn.Linear(16, 16)
    with torch.no_grad():
        one.weight.zero_()
        one.weight[5, 3] = 2.0
    layers.append(one)
    inputs.append(torch.randn(2, 16))
    artifact = check(Layers(layers).eval(), tuple(inputs), target=vectors).artifact
    sparse = [kernel for kernel in artifact.kernels if kernel.kind == "sparse"]
    assert sum(len(kernel.layer.split(", ")) for kernel in sparse) == len(layers)
    assert {kernel.schedule for kernel in sparse} == {schedule}


@pytest.mark.parametrize("schedule", ["sparse_matvec", "sparse_matmul"])
def test_epilogues(check: Callable[..., Any], monkeypatch: pytest.MonkeyPatch, schedule: str) -> None:
    torch.manual_seed(22)
    _forced(monkeypatch, schedule)
    artifact = check(_prune(Block(48), 0.8), (torch.randn(2, 9, 48),), tolerance=5e-6).artifact
    kinds = [kernel.kind for kernel in artifact.kernels if kernel.kind in ("sparse", "pack", "rows")]
    # The two layers that read the input share its packed rows.
    assert sorted(kinds) == ["pack"] * (2 if schedule == "sparse_matmul" else 0) + ["rows"] + ["sparse"] * 3
    assert all(kernel.schedule for kernel in artifact.kernels)


@pytest.mark.parametrize("schedule", ["sparse_matvec", "sparse_matmul"])
def test_infinities_meet_weights_only(monkeypatch: pytest.MonkeyPatch, schedule: str) -> None:
    """Groups of non-zeros are filled up without zeros, which infinities would turn into NaN."""
    torch.manual_seed(23)
    _forced(monkeypatch, schedule)
    layer = _prune(nn.Linear(32, 16, bias=False), 0.8)
    x = torch.randn(4, 32)
    x[1, 7], x[2, 9], x[3] = torch.inf, -torch.inf, torch.inf
    weights = layer.weight.detach()
    found = dlas.load(dlas.compile(layer, (x,)))(x.numpy())
    products = torch.where(weights == 0, torch.zeros(()), x[:, None, :] * weights)
    np.testing.assert_allclose(found, products.sum(-1).numpy(), rtol=1e-5, atol=1e-5)


def test_zeros_decide(check: Callable[..., Any]) -> None:
    torch.manual_seed(24)
    for rows in (1, 64):
        schedules = {}
        for share in (0.1, 0.35, 0.95):
            artifact = check(_prune(nn.Linear(512, 512), share), (torch.randn(rows, 512),)).artifact
            schedules[share] = {kernel.schedule for kernel in artifact.kernels}
        assert schedules[0.1] == schedules[0.35] == {"matmul"}
        assert schedules[0.95] == ({"sparse_matvec"} if rows == 1 else {"pack_rows", "sparse_matmul"})


def test_explain_shows_both_costs() -> None:
    torch.manual_seed(25)
    model = _prune(nn.Sequential(nn.Linear(512, 512), nn.ReLU(), nn.Linear(512, 512)), 0.9)
    with torch.no_grad():
        model[2].weight.normal_()
        model[2].weight[:, ::2] = 0.0
    explanation = explain(model, (torch.randn(1, 512),), timed=False)
    first, second = explanation.layouts
    assert (first.layer, first.op, first.chosen.schedule) == ("0", "linalg.matmul", "sparse_matvec")
    assert {way.schedule for way in first.alternatives} == {"matmul", "sparse_matmul"}
    assert (second.layer, second.chosen.schedule) == ("2", "matmul")
    for way in first.alternatives:
        assert way.extra_cycles > 0 and way.cycles - first.chosen.cycles == pytest.approx(way.extra_cycles)
    kernel = next(kernel for kernel in explanation.kernels if kernel.layer == "0")
    assert kernel.kind == "sparse" and kernel.reason.startswith("10.0% of the weights are not zero: lanes on")


@given(
    k=st.integers(1, 40), n=st.integers(1, 40), share=st.floats(0, 1), outputs=st.sampled_from([8, 16]),
    chunk=st.integers(1, 50), group=st.sampled_from([1, 2, 4, GATHER_GROUP]), seed=st.integers(0, 99),
)  # fmt: skip
def test_groups_hold_the_matrix(k: int, n: int, share: float, outputs: int, chunk: int, group: int, seed: int) -> None:
    rng = np.random.default_rng(seed)
    weights = rng.normal(size=(k, n)).astype(np.float32) * (rng.random((k, n)) < share)
    groups = compress_rows(weights, outputs, chunk, group)
    found, slots = np.zeros((k, -(-n // outputs) * outputs), np.float64), len(groups.positions) - 1
    assert slots == found.shape[1] * groups.chunks and groups.chunks == -(-k // chunk)
    for slot in range(slots):
        tile, rest = divmod(slot, groups.chunks * outputs)
        part, output = divmod(rest, outputs)
        for j in range(groups.positions[slot] * group, groups.positions[slot + 1] * group):
            assert groups.values[j] != 0
            found[part * chunk + groups.columns[j], tile * outputs + output] += groups.values[j]
    np.testing.assert_array_equal(found[:, :n], weights)
    assert not found[:, n:].any()
    stored = int(groups.positions[-1]) * group
    assert groups.nonzeros == np.count_nonzero(weights) and stored <= groups.values.size <= max(group, stored * 17 / 16)
    words = packed_words(groups.columns, group)
    assert words.itemsize == 2 * min(group, 4) and (words.view("<u2") == groups.columns).all()


def test_layers_of_about_as_many_zeros_share_a_kernel(check: Callable[..., Any]) -> None:
    torch.manual_seed(26)
    model = _prune(nn.Sequential(*(nn.Linear(256, 256) for _ in range(4))), 0.9)
    artifact = check(model, (torch.randn(32, 256),)).artifact
    assert len([kernel for kernel in artifact.kernels if kernel.schedule == "sparse_matmul"]) < 3


def test_the_estimates_fall_with_the_weights() -> None:
    for unit in (VectorUnit(8, 16), VectorUnit(16, 32), VectorUnit(4, 32, fma_units=1)):
        for m in (1, 8, 128):
            for tile in (matvec_tile, matmul_tile):
                cycles = [tile(unit, m, 768, 3072, count, 1e9).cycles for count in (0, 1000, 100_000, 1_000_000)]
                assert cycles == sorted(cycles)
    assert matmul_tile(VectorUnit(), 4, 16, 7, 10, 1e9) is None


def test_few_zeros_are_refused() -> None:
    refusal = Rules(VectorUnit()).matmul_ways(1, 100, 100, 7100)
    assert isinstance(refusal, Refusal) and refusal.reason == "71% of the weights are not zero"


@pytest.mark.parametrize(("zeros", "typed"), [(1, False), (400, True)])
def test_a_zero_by_chance_makes_no_weights_sparse(zeros: int, typed: bool) -> None:
    layer = nn.Linear(64, 64).eval()
    with torch.no_grad():
        layer.weight.flatten()[:zeros] = 0.0
    compilation = compile_model(layer, (torch.randn(3, 64),), "x86_64", Options(stop_after="canonicalise"))
    assert compilation.imported is not None
    assert ("sparse_tensor" in str(compilation.imported.parse())) is typed

"""Settings shared by all tests: how many examples the property tests try, and the comparison with float64.

``default`` repeats the same few examples on every run; ``fuzz`` (``make fuzz``) tries many fresh ones.
"""

from __future__ import annotations

import copy
from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from hypothesis import HealthCheck, settings

# Compiling an example takes seconds: no deadline, and no complaint about slow generation.
settings.register_profile(
    "default", max_examples=20, deadline=None, derandomize=True, suppress_health_check=[HealthCheck.too_slow]
)
settings.register_profile("fuzz", max_examples=500, deadline=None, suppress_health_check=[HealthCheck.too_slow])
settings.load_profile("default")

TOLERANCE = 1e-4
"""Largest error of a result, relative to its largest magnitude: about 1000 roundings of float32."""


def processor(name: str, cores: int = 2) -> Any:
    """A server core with the instructions of a shipped target: the same choices on every machine that tests."""
    from dlas.compiler.targets import load_target

    return replace(load_target(name), cores=cores, l1d_kb=32, l2_kb=512, l3_kb=32768)


def runs_here(name: str) -> bool:
    """Whether this host runs code for a shipped target."""
    from dlas.errors import ArtifactError
    from dlas.runtime.devices import check_host

    try:
        check_host(processor(name).to_dict())
    except ArtifactError:
        return False
    return True


def convolution_schedules(compilation: Any) -> dict[str, str | None]:
    """The schedule of each convolution by layer; None where the layout refused it and said why.

    Fails where a kernel fell back to plain loops.
    """
    found: dict[str, str | None] = {layer: None for layer, _, reason in compilation.layout.refused if reason}
    for record in compilation.artifact.kernels:
        if record.kind in ("conv", "grouped", "depthwise", "pointwise", "separable"):
            assert record.schedule is not None, f"{record.layer}: {record.reason}"
            found.update(dict.fromkeys(record.layer.split(", "), record.schedule))
    return found


def compare_with_float64(
    model: Any,
    inputs: Sequence[Any],
    threads: Sequence[int] = (1, 2),
    fallbacks: bool = False,
    tolerance: float = TOLERANCE,
    target: Any = None,
    **options: Any,
) -> Any:
    """Compile a module, run it, and compare every result with the module's own in float64.

    Every convolution must be in a kernel of its schedule, or be refused with a reason.

    Args:
        model: a torch module in eval mode.
        inputs: its tensors.
        threads: thread counts to run with.
        fallbacks: leave the check of the convolutions to the caller.
        tolerance: largest relative error.
        target: None: a core with AVX2, or this host where it has none.
        options: fields of :class:`dlas.Options`.

    Returns:
        The compilation, with its artifact.
    """
    import torch

    import dlas
    from dlas.compiler.pipeline import Options, compile_model

    if target is None:
        target = processor("x86_64-v3") if runs_here("x86_64-v3") else "x86_64"
    compilation = compile_model(model, tuple(inputs), target, Options(**options))
    with torch.no_grad():
        wide = [value.double() if value.is_floating_point() else value for value in inputs]
        expected = copy.deepcopy(model).double()(*wide)
    references = [value.numpy() for value in (expected if isinstance(expected, tuple) else (expected,))]
    for count in threads:
        results = dlas.load(compilation.artifact, threads=count)(*(value.numpy() for value in inputs))
        results = results if isinstance(results, tuple) else (results,)
        for index, (result, reference) in enumerate(zip(results, references, strict=True)):
            assert result.shape == reference.shape
            error = np.abs(result - reference).max() / max(np.abs(reference).max(), np.finfo(np.float32).tiny)
            assert error <= tolerance, f"result {index} with {count} threads: relative error {error:.2e}"
    if not fallbacks:
        layers = {name for name, module in model.named_modules() if isinstance(module, torch.nn.Conv2d)}
        silent = layers - set(convolution_schedules(compilation))
        assert not silent, f"neither scheduled nor refused: {', '.join(sorted(silent))}"
    return compilation


@pytest.fixture(scope="session")
def agrees_with_float64() -> Callable[..., Any]:
    """:func:`compare_with_float64`."""
    return compare_with_float64


@pytest.fixture(params=["x86_64-v3", "x86_64-v4"])
def vectors(request: pytest.FixtureRequest) -> Any:
    """A core with 8 lanes, and one with 16: the target to compile for."""
    if not runs_here(request.param):
        pytest.skip(f"this processor does not run {request.param}")
    return processor(request.param)


@pytest.fixture
def avx512() -> Any:
    """A core with 16 lanes, whose layers may have blocks of 16 or of 8: the target to compile for."""
    if not runs_here("x86_64-v4"):
        pytest.skip("this processor does not run x86_64-v4")
    return processor("x86_64-v4")


@pytest.fixture(scope="session")
def avx2() -> Callable[[int], Any]:
    """The target of a core with 8 lanes, by the number of cores."""
    return lambda cores=2: processor("x86_64-v3", cores)


@pytest.fixture(scope="session")
def schedules_of() -> Callable[[Any], dict[str, str | None]]:
    """:func:`convolution_schedules`."""
    return convolution_schedules


@pytest.fixture
def between_blocks() -> Callable[[Any, Any], Any]:
    """The choice of a policy's cheapest implementation of a convolution that writes channel blocks."""

    def choose(rules: Any, shape: Any) -> Any:
        from dlas.passes.layout_assignment import NCHW

        ways = [way for way in rules.implementations(shape) if way.result != NCHW]
        return min(ways, key=lambda way: way.cycles).choice

    return choose


@pytest.fixture(scope="session")
def side_by_side() -> Callable[[Sequence[Any]], Any]:
    """A module of independent layers, with an input and a result each."""
    from torch import nn

    class Layers(nn.Module):
        def __init__(self, layers: Sequence[nn.Module]) -> None:
            super().__init__()
            self.layers = nn.ModuleList(layers)

        def forward(self, *inputs):
            return tuple(layer(x) for layer, x in zip(self.layers, inputs, strict=True))

    return Layers


@pytest.fixture(scope="session")
def force_sparse() -> Callable[..., None]:
    """Takes sparse kernels wherever there is a zero, with these knobs: for a monkeypatch, as long as that lasts."""
    from dlas.passes.layout_assignment import PLANAR, Implementation
    from dlas.passes.plan import Choice
    from dlas.schedules.rules import Rules
    from dlas.schedules.sparse_conv import VARIANTS
    from dlas.schedules.sparse_cost import workgroup_channels

    ask = Rules.sparse

    def force(monkeypatch: pytest.MonkeyPatch, **knobs: int) -> None:
        def sparse(self: Any, shape: Any, nonzeros: int, algorithm: str) -> Any:
            found = ask(self, shape, nonzeros, algorithm)
            choice = found.choice if isinstance(found, Implementation) else None
            chosen = {"accumulators": 14, "channels": shape.c_per_group, "k_w": shape.c_out}
            chosen |= {name: choice.knobs[name] for name in chosen} if choice is not None else {}
            chosen |= {name: min(value, chosen.get(name, value)) for name, value in knobs.items()}
            whole = workgroup_channels(shape, next((name for name in VARIANTS if name in knobs), VARIANTS[0]))
            chosen["k_w"] = max(k for k in range(1, chosen["k_w"] + 1) if whole % k == 0)
            return Implementation((PLANAR,), PLANAR, 0.0, Choice("sparse_conv", chosen, "forced"))

        monkeypatch.setattr(Rules, "sparse", sparse)

    return force

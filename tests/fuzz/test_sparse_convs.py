"""Drawn convolutions of pruned weights compute what torch computes in float64, in every variant of ``sparse_conv``.

A few on every run, hundreds with ``make fuzz``.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

torch = pytest.importorskip("torch")
pytest.importorskip("torch_mlir.ir")
pytest.importorskip("iree.compiler")

from hypothesis import given, note, settings  # noqa: E402
from hypothesis import strategies as st  # noqa: E402
from torch import nn  # noqa: E402

# An example is a compilation of several layers.
EXAMPLES = max(4, settings().max_examples // 4)
LAYERS = 6
VARIANTS = ("direct", "shift", "pack", "tile")
PRUNED = ("anywhere", "all", "all but one", "some rows", "some columns")
"""Which weights are zero; rows are those of the CSR matrix ``[C_out, C_in*K_h*K_w]``."""


def prune(weights: torch.Tensor, what: str, share: float) -> torch.Tensor:
    """Zeroes weights ``[C_out, C_in, K_h, K_w]``; at least one, so that the layer counts as pruned."""
    rows = weights.flatten(1)
    if what == "anywhere":
        rows *= torch.rand(rows.shape) >= share
    elif what == "some rows":
        rows[torch.rand(rows.shape[0]) < share] = 0.0
    elif what == "some columns":
        rows[:, torch.rand(rows.shape[1]) < share] = 0.0
    else:
        kept = int(torch.randint(rows.numel(), ()))
        value = float(rows.flatten()[kept])
        rows.zero_()
        if what == "all but one":
            rows.view(-1)[kept] = value
    rows.view(-1)[int(torch.randint(rows.numel(), ()))] = 0.0
    return rows.view(weights.shape)


@st.composite
def layers(draw: st.DrawFn) -> tuple[nn.Module, torch.Tensor]:
    """A pruned layer and its input; the window fits into the padded image."""
    groups = draw(st.sampled_from([1, 1, 1, 2, 3]))
    channels, filters = groups * draw(st.integers(1, 20)), groups * draw(st.integers(1, 20))
    size = (draw(st.integers(1, 21)), draw(st.integers(1, 37)))
    kernel, stride, dilation, padding = (
        tuple(draw(st.sampled_from(values)) for _ in range(2))
        for values in ((1, 1, 2, 3, 3, 5, 7), (1, 1, 1, 2, 3), (1, 1, 2), (0, 1, 1, 2, 3))
    )
    spans = [(k - 1) * d + 1 for k, d in zip(kernel, dilation, strict=True)]
    # A window that reads padding alone is refused by IREE's bufferization where all of a layer's do.
    padding = tuple(max(min(p, span - 1), -(-(span - n) // 2)) for p, span, n in zip(padding, spans, size, strict=True))
    conv = nn.Conv2d(channels, filters, kernel, stride, padding, dilation, groups, draw(st.booleans()))
    with torch.no_grad():
        conv.weight.copy_(prune(conv.weight.clone(), draw(st.sampled_from(PRUNED)), draw(st.floats(0, 1))))
    layer = nn.Sequential(conv, nn.ReLU()) if draw(st.booleans()) else conv
    return layer, torch.randn(draw(st.integers(1, 3)), channels, *size)


@st.composite
def cases(draw: st.DrawFn) -> tuple[list[tuple[nn.Module, torch.Tensor]], dict[str, int]]:
    """Some layers, and the knobs of all their kernels."""
    torch.manual_seed(draw(st.integers(0, 2**16)))
    variant = draw(st.sampled_from(VARIANTS))
    knobs = {} if variant == "direct" else {variant: 1}
    if draw(st.booleans()):
        knobs |= {name: draw(st.integers(1, 9)) for name in ("accumulators", "channels", "k_w")}
    if variant == "tile":
        knobs["prefetch"] = draw(st.integers(0, 2))
    return [draw(layers()) for _ in range(LAYERS)], knobs


@pytest.mark.slow
def test_layers(
    agrees_with_float64: Callable[..., Any],
    force_sparse: Callable[..., None],
    side_by_side: Callable[..., nn.Module],
) -> None:
    found = drawn_ = 0

    @settings(max_examples=EXAMPLES)
    @given(drawn=cases())
    def check(drawn: Any) -> None:
        nonlocal found, drawn_
        pairs, knobs = drawn
        note(f"{knobs}\n" + "\n".join(f"{tuple(x.shape)} {layer}" for layer, x in pairs))
        network, inputs = side_by_side([layer for layer, _ in pairs]).eval(), [x for _, x in pairs]
        with pytest.MonkeyPatch.context() as patch:
            force_sparse(patch, **knobs)
            artifact = agrees_with_float64(network, inputs, threads=(1,), fallbacks=True).artifact
        drawn_ += len(pairs)
        found += sum(len(kernel.layer.split(", ")) for kernel in artifact.kernels if kernel.kind == "sparse")

    check()
    # Even where they cost nothing, sparse kernels may not pay for the planes of a few pixels.
    assert 2 * found > drawn_, f"{found} of {drawn_} layers have a sparse kernel"

"""Attention, softmax, layer norm and their like compute what torch computes in float64, in kernels of their own."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

torch = pytest.importorskip("torch")
pytest.importorskip("torch_mlir.ir")
pytest.importorskip("iree.compiler")

from torch import nn  # noqa: E402
from torch.nn import functional as F  # noqa: E402

Compare = Callable[..., Any]


class Together(nn.Module):
    """Independent functions, each of its own inputs, as one module: compiled at once."""

    def __init__(self, *parts: tuple[Callable[..., Any], int]) -> None:
        super().__init__()
        self.parts = parts
        self.modules_ = nn.ModuleList(part for part, _ in parts if isinstance(part, nn.Module))

    def forward(self, *inputs: Any) -> tuple[Any, ...]:
        results, first = [], 0
        for part, count in self.parts:
            results.append(part(*inputs[first : first + count]))
            first += count
        return tuple(results)


def compare(
    agrees_with_float64: Compare,
    *cases: tuple[Callable[..., Any], tuple[Any, ...]],
    kinds: set[str],
    target: Any = None,
) -> None:
    """Compiles the cases as one module; every kernel must be of one of ``kinds`` and have its schedule."""
    torch.manual_seed(len(cases))
    model = Together(*((part, len(inputs)) for part, inputs in cases)).eval()
    inputs = [value for _, given in cases for value in given]
    compilation = agrees_with_float64(model, inputs, fallbacks=True, target=target)
    assert not compilation.layout.refused
    for record in compilation.artifact.kernels:
        assert record.schedule is not None, f"{record.kind}: {record.reason}"
    assert {record.kind for record in compilation.artifact.kernels} == kinds


def softmax(x: Any) -> Any:
    return x.softmax(-1)


def masked(x: Any, mask: Any) -> Any:
    return (x * 0.125 + mask).softmax(-1)


def rms_norm(x: Any) -> Any:
    return x * torch.rsqrt((x * x).mean(-1, keepdim=True) + 1e-6)


def attention(q: Any, k: Any, v: Any, *mask: Any) -> Any:
    scores = q @ k.transpose(-1, -2) * q.shape[-1] ** -0.5
    return (scores + mask[0] if mask else scores).softmax(-1) @ v


class MultiHead(nn.Module):
    """Attention between linear layers, as transformers have it."""

    def __init__(self, width: int, heads: int) -> None:
        super().__init__()
        self.heads = heads
        self.q, self.k, self.v, self.out = (nn.Linear(width, width) for _ in range(4))

    def forward(self, x: Any, *mask: Any) -> Any:
        batch, tokens, width = x.shape
        q, k, v = (
            part(x).view(batch, tokens, self.heads, width // self.heads).transpose(1, 2)
            for part in (self.q, self.k, self.v)
        )
        return self.out(attention(q, k, v, *mask).transpose(1, 2).reshape(batch, tokens, width))


def test_rows(agrees_with_float64: Compare, vectors: Any) -> None:
    t = torch.randn
    compare(
        agrees_with_float64,
        (softmax, (t(5, 77) * 10,)),
        (softmax, (t(1, 1000) - 50,)),
        (softmax, (t(4, 3),)),
        (lambda x: x.log_softmax(-1), (t(3, 7, 33),)),
        (nn.LayerNorm(64), (t(2, 40, 64) + 3,)),
        (nn.LayerNorm(77, eps=1e-3), (t(3, 5, 77),)),
        (nn.LayerNorm(20, elementwise_affine=False), (t(700, 20),)),
        (rms_norm, (t(2, 9, 100),)),
        (lambda x, y: F.layer_norm(x + y, (48,)) + x, (t(2, 9, 48), t(2, 9, 48))),
        (lambda x: x / x.norm(dim=-1, keepdim=True), (t(4, 64),)),
        (lambda x: x.sum(-1) * 2, (t(4, 30),)),
        kinds={"rows"},
        target=vectors,
    )


def test_masks(agrees_with_float64: Compare, vectors: Any) -> None:
    t = torch.randn
    x = (2, 3, 16, 24)
    compare(
        agrees_with_float64,
        (masked, (t(x), t(2, 1, 1, 24))),
        (masked, (t(x), t(2, 1, 16, 24))),
        (masked, (t(x), t(16, 24))),
        (masked, (t(x), t(1, 3, 16, 1))),
        kinds={"rows"},
        target=vectors,
    )


def test_infinite_masks_of_truth_values(agrees_with_float64: Compare) -> None:
    """The truth values become numbers in a kernel of IREE's."""
    mask = torch.rand(2, 1, 16, 24) > 0.6
    model = Together((lambda x, m: x.masked_fill(m, float("-inf")).softmax(-1), 2)).eval()
    compilation = agrees_with_float64(model, (torch.randn(2, 3, 16, 24), mask), fallbacks=True)
    assert "rows" in {record.kind for record in compilation.artifact.kernels}


def test_batched_products(agrees_with_float64: Compare, vectors: Any) -> None:
    t = torch.randn
    compare(
        agrees_with_float64,
        (torch.matmul, (t(3, 20, 33), t(3, 33, 40))),
        (lambda a, b: a @ b.transpose(-1, -2), (t(3, 20, 33), t(3, 41, 33))),
        (lambda a, b: a.transpose(-1, -2) @ b, (t(3, 33, 20), t(3, 33, 41))),
        (torch.matmul, (t(2, 5, 1, 7), t(2, 5, 7, 3))),
        (torch.matmul, (t(2, 150, 9), t(2, 9, 16))),
        kinds={"pack", "batch_matmul"},
        target=vectors,
    )


def test_attention(agrees_with_float64: Compare, vectors: Any) -> None:
    t = torch.randn
    compare(
        agrees_with_float64,
        (attention, (t(2, 3, 16, 24), t(2, 3, 20, 24), t(2, 3, 20, 8))),
        (attention, (t(1, 3, 197, 64), t(1, 3, 197, 64), t(1, 3, 197, 64))),
        (attention, (t(2, 3, 7, 5), t(2, 3, 11, 5), t(2, 3, 11, 13))),
        (attention, (t(2, 3, 1, 16), t(2, 3, 50, 16), t(2, 3, 50, 16))),
        (attention, (t(2, 3, 16, 24), t(2, 3, 20, 24), t(2, 3, 20, 8), t(2, 1, 1, 20))),
        (F.scaled_dot_product_attention, (t(2, 3, 16, 8), t(2, 3, 18, 8), t(2, 3, 18, 8))),
        (F.scaled_dot_product_attention, (t(2, 3, 16, 8), t(2, 3, 18, 8), t(2, 3, 18, 8), t(16, 18))),
        kinds={"pack", "attention"},
        target=vectors,
    )


def test_attention_between_linear_layers(agrees_with_float64: Compare) -> None:
    t = torch.randn
    compare(
        agrees_with_float64,
        (MultiHead(96, 3), (t(2, 37, 96),)),
        (MultiHead(64, 4), (t(1, 12, 64), t(1, 1, 12, 12))),
        kinds={"matmul", "pack", "attention"},
    )


def test_scores_that_do_not_fit_are_their_own_kernels(agrees_with_float64: Compare) -> None:
    t = torch.randn
    compilation = agrees_with_float64(
        Together((attention, 3)).eval(), (t(1, 2, 4, 8), t(1, 2, 9000, 8), t(1, 2, 9000, 8)), fallbacks=True
    )
    reasons = {record.kind: record.reason for record in compilation.artifact.kernels}
    assert set(reasons) == {"pack", "batch_matmul", "rows"}
    assert reasons["rows"].endswith(
        "not with the products around it: a row of 9000 scores does not fit 32 KB of scratch"
    )


class Block(nn.Module):
    """A pre-norm block with a causal mask."""

    def __init__(self, width: int, heads: int, tokens: int) -> None:
        super().__init__()
        self.norm, self.norm2 = nn.LayerNorm(width), nn.LayerNorm(width)
        self.heads = MultiHead(width, heads)
        self.up, self.down = nn.Linear(width, 4 * width), nn.Linear(4 * width, width)
        self.register_buffer("mask", torch.full((tokens, tokens), float("-inf")).triu(1))

    def forward(self, x: Any) -> Any:
        x = x + self.heads(self.norm(x), self.mask)
        return x + self.down(F.gelu(self.up(self.norm2(x))))


def test_causal_block(agrees_with_float64: Compare) -> None:
    compare(
        agrees_with_float64,
        (Block(48, 3, 21), (torch.randn(2, 21, 48),)),
        kinds={"rows", "matmul", "pack", "attention"},
    )

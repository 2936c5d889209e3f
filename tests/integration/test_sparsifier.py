"""Our sparse kernels against what MLIR's own sparsifier makes of the same CSR weights."""

from __future__ import annotations

import copy
import ctypes
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import numpy as np
import pytest

torch = pytest.importorskip("torch")
pytest.importorskip("torch_mlir.ir")
pytest.importorskip("iree.compiler")

from torch import nn  # noqa: E402

import dlas  # noqa: E402
from dlas.compiler.frontends import canonicalise, import_model  # noqa: E402
from dlas.passes.registry import create, run_passes  # noqa: E402
from dlas.schedules.rules import Rules  # noqa: E402


def _memref(rank: int) -> type[ctypes.Structure]:
    """The descriptor of a ranked memref, as MLIR's C interface passes it."""
    fields: list[tuple[str, type]] = [
        ("allocated", ctypes.c_void_p),
        ("aligned", ctypes.c_void_p),
        ("offset", ctypes.c_int64),
        ("sizes", ctypes.c_int64 * rank),
        ("strides", ctypes.c_int64 * rank),
    ]
    return type("MemRef", (ctypes.Structure,), {"_fields_": fields})


def _sparsified_conv(conv: nn.Conv2d, x: torch.Tensor) -> np.ndarray:
    """The convolution's result.

    The input is padded before: MLIR's padding copies by a function of a runtime library that is not in the wheel.
    """
    (pad, _), bare = conv.padding, copy.copy(conv)
    bare.padding = (0, 0)
    return _sparsified(bare, nn.functional.pad(x, (pad, pad, pad, pad)))


def _sparsified(layer: nn.Module, x: torch.Tensor) -> np.ndarray:
    """A layer's result by ``sparsifier`` and MLIR's execution engine."""
    from torch_mlir import ir
    from torch_mlir._mlir_libs import _mlirRegisterEverything  # noqa: F401  (registers the passes)
    from torch_mlir.execution_engine import ExecutionEngine
    from torch_mlir.passmanager import PassManager

    module = canonicalise(import_model(layer, (x,))).parse()
    notes = run_passes(
        ["dlas-densify-sparse-weights", create("dlas-type-sparse-weights", {"algorithm": "gemm"}), "dlas-sparse-gemm"],
        module,
    )
    assert [note.done for note in notes if note.pass_name == "dlas-sparse-gemm"] == [True]
    with module.context:
        for view in module.body.operations:
            if view.operation.name == "func.func":
                view.operation.attributes["llvm.emit_c_interface"] = ir.UnitAttr.get()
        PassManager.parse("builtin.module(sparsifier{enable-runtime-library=false})").run(module.operation)
        engine = ExecutionEngine(module, opt_level=2)
    data = np.ascontiguousarray(x.numpy())
    strides = [stride // data.itemsize for stride in data.strides]
    pointer = data.ctypes.data
    memref, numbers = _memref(data.ndim), ctypes.c_int64 * data.ndim
    source, result = memref(pointer, pointer, 0, numbers(*data.shape), numbers(*strides)), memref()
    engine.invoke("main", ctypes.pointer(ctypes.pointer(result)), ctypes.pointer(ctypes.pointer(source)))
    flat = ctypes.cast(result.aligned, ctypes.POINTER(ctypes.c_float))
    size = int(np.prod(list(result.sizes)))
    return np.ctypeslib.as_array(flat, (result.offset + size,))[result.offset :].reshape(list(result.sizes)).copy()


# c, k, kernel, stride, padding, dilation, height, width, batch, share of zeros
GRID = [
    (8, 12, 3, 1, 1, 1, 9, 14, 2, 0.9),
    (5, 7, 3, 2, 1, 1, 13, 8, 1, 0.6),
    (16, 24, 1, 1, 0, 1, 6, 11, 1, 0.8),
    (4, 6, 5, 1, 4, 2, 7, 10, 1, 0.95),
    (6, 5, 3, 1, 1, 1, 5, 5, 1, 1.0),
]


@pytest.mark.parametrize("case", GRID)
def test_our_kernels_agree_with_the_sparsifier(case: tuple[int, ...], monkeypatch: pytest.MonkeyPatch) -> None:
    ask = Rules.sparse
    monkeypatch.setattr(Rules, "sparse", lambda *arguments: replace(ask(*arguments), cycles=0.0))  # wherever it can be
    c, k, kernel, stride, padding, dilation, height, width, batch, share = case
    torch.manual_seed(int(100 * share) + c)
    conv = nn.Conv2d(c, k, kernel, stride, padding, dilation).eval()
    with torch.no_grad():
        flat = conv.weight.flatten()
        flat[torch.randperm(flat.numel())[: round(share * flat.numel())]] = 0.0
    x = torch.randn(batch, c, height, width)
    theirs = _sparsified_conv(conv, x)
    artifact = dlas.compile(conv, (x,))
    assert "sparse" in {record.kind for record in artifact.kernels}
    ours = dlas.load(artifact)(x.numpy())
    np.testing.assert_allclose(ours, theirs, atol=1e-5 * max(1.0, float(np.abs(theirs).max())))


# rows, inputs, outputs, share of zeros
LINEAR = [(1, 40, 24, 0.9), (3, 17, 11, 0.5), (20, 64, 16, 0.95), (2, 8, 8, 1.0)]


@pytest.mark.parametrize("case", LINEAR)
@pytest.mark.parametrize("schedule", ["sparse_matvec", "sparse_matmul"])
def test_our_linear_kernels_agree_with_the_sparsifier(
    case: tuple[int, int, int, float], schedule: str, monkeypatch: pytest.MonkeyPatch, avx2: Callable[[], Any]
) -> None:
    ask = Rules.matmul_ways
    monkeypatch.setattr(
        Rules, "matmul_ways", lambda *arguments: [way for way in ask(*arguments) if way.choice.schedule == schedule]
    )
    m, k, n, share = case
    torch.manual_seed(m + n)
    linear = nn.Linear(k, n, bias=False).eval()
    with torch.no_grad():
        flat = linear.weight.flatten()
        flat[torch.randperm(flat.numel())[: round(share * flat.numel())]] = 0.0
    x = torch.randn(m, k)
    theirs = _sparsified(linear, x)
    artifact = dlas.compile(linear, (x,), target=avx2())
    assert [record.schedule for record in artifact.kernels if record.kind == "sparse"] == [schedule]
    np.testing.assert_allclose(dlas.load(artifact)(x.numpy()), theirs, atol=1e-5)

"""A saved artifact is a plain IREE module: the stock tools run it, and agree with the session."""

from __future__ import annotations

import json
import subprocess
from pathlib import Path

import iree.runtime as rt
import numpy as np
import pytest

from dlas.runtime import Artifact, TensorSpec, load

compiler = pytest.importorskip("iree.compiler.tools")

TEXT = """
func.func @main(%x: tensor<1x8x10x10xf32>, %w: tensor<16x8x3x3xf32>, %i: tensor<3xi64>)
    -> (tensor<1x16x8x8xf32>, tensor<3xi64>) {
  %zero = arith.constant 0.0 : f32
  %empty = tensor.empty() : tensor<1x16x8x8xf32>
  %init = linalg.fill ins(%zero : f32) outs(%empty : tensor<1x16x8x8xf32>) -> tensor<1x16x8x8xf32>
  %0 = linalg.conv_2d_nchw_fchw ins(%x, %w : tensor<1x8x10x10xf32>, tensor<16x8x3x3xf32>)
                                outs(%init : tensor<1x16x8x8xf32>) -> tensor<1x16x8x8xf32>
  %1 = arith.muli %i, %i : tensor<3xi64>
  return %0, %1 : tensor<1x16x8x8xf32>, tensor<3xi64>
}
"""


@pytest.fixture(scope="module")
def saved(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The ``.vmfb``, with x.npy, w.npy and i.npy beside it."""
    directory = tmp_path_factory.mktemp("stock")
    vmfb = compiler.compile_str(TEXT, target_backends=["llvm-cpu"], extra_args=["--iree-llvmcpu-target-cpu=host"])
    inputs = (
        TensorSpec("x", (1, 8, 10, 10), "float32"),
        TensorSpec("w", (16, 8, 3, 3), "float32"),
        TensorSpec("i", (3,), "int64"),
    )
    outputs = (TensorSpec("y", (1, 16, 8, 8), "float32"), TensorSpec("j", (3,), "int64"))
    rng = np.random.default_rng(0)
    np.save(directory / "x.npy", rng.standard_normal(inputs[0].shape, np.float32))
    np.save(directory / "w.npy", rng.standard_normal(inputs[1].shape, np.float32))
    np.save(directory / "i.npy", np.array([2, -3, 1 << 30]))
    return Artifact(vmfb, inputs, outputs, {}, (), {}).save(directory / "model.vmfb")


def run(tool: str, module: Path, *flags: str) -> str:
    path = Path(rt.benchmark_exe()).with_name(tool)
    inputs = [f"--input=@{module.with_name(name)}" for name in ("x.npy", "w.npy", "i.npy")]
    command = [str(path), f"--module={module}", "--function=main", *inputs, *flags]
    return subprocess.run(command, check=True, capture_output=True, text=True, timeout=120).stdout


@pytest.mark.parametrize("device", ["local-sync", "local-task"])
def test_iree_run_module_gives_the_sessions_result(saved: Path, device: str) -> None:
    y_path, j_path = saved.with_name(f"y-{device}.npy"), saved.with_name(f"j-{device}.npy")
    run("iree-run-module", saved, f"--device={device}", f"--output=@{y_path}", f"--output=@{j_path}")
    x, w, i = (np.load(saved.with_name(name)) for name in ("x.npy", "w.npy", "i.npy"))
    y, j = load(saved, device)(x, w, i)
    np.testing.assert_array_equal(np.load(y_path), y)
    np.testing.assert_array_equal(np.load(j_path), j)
    np.testing.assert_array_equal(j, i * i)


def test_iree_benchmark_module_times_it(saved: Path) -> None:
    report = json.loads(
        run("iree-benchmark-module", saved, "--device=local-sync", "--benchmark_format=json", "--benchmark_min_time=5x")
    )
    (row,) = report["benchmarks"]
    assert row["iterations"] == 5
    assert row["real_time"] > 0

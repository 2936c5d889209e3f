"""AArch64 code under user-mode qemu: what each Arm target's artifacts compute, run by stock ``iree-run-module``.

``scripts/install-test-system-packages.sh`` (part of ``make test``) installs qemu and Debian's AArch64 libraries and
unpacks IREE's AArch64 runtime; ``DLAS_AARCH64_RUNTIME`` names another unpacked runtime. Without one of them the tests
are skipped; with ``DLAS_CI=1`` they fail.
"""

from __future__ import annotations

import copy
import importlib.metadata
import os
import shutil
import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

torch = pytest.importorskip("torch")
pytest.importorskip("torch_mlir.ir")
pytest.importorskip("iree.compiler")

from torch import nn  # noqa: E402

import dlas  # noqa: E402
from dlas.compiler.prune import bake_masks  # noqa: E402
from dlas.dialects import TransformScript  # noqa: E402
from dlas.runtime import Artifact  # noqa: E402

EMULATOR = "qemu-aarch64-static"
LIBRARIES = Path("/usr/aarch64-linux-gnu")

# The core each target's code runs on. qemu 7.2 has no Cortex-A73, which has the instructions of a Cortex-A72.
CORES = {"aarch64": "cortex-a53", "cortex-a72": "cortex-a72", "cortex-a73": "cortex-a72"}

Run = Callable[[Artifact, str, np.ndarray], np.ndarray]


def runtime_folder() -> Path:
    unpacked = f"iree-base-runtime-{importlib.metadata.version('iree-base-runtime')}"
    built = Path(__file__).resolve().parents[2] / "build" / "aarch64" / unpacked
    return Path(os.environ.get("DLAS_AARCH64_RUNTIME") or built)


def what_is_missing() -> str | None:
    program = runtime_folder() / "iree" / "_runtime_libs" / "iree-run-module"
    if shutil.which(EMULATOR) is None:
        return f"{EMULATOR} is not installed"
    if not LIBRARIES.is_dir():
        return f"no AArch64 libraries in {LIBRARIES}"
    return None if os.access(program, os.X_OK) else f"no program {program}"


@pytest.fixture
def run_on(tmp_path: Path) -> Run:
    """Runs an artifact of one input and one output on an emulated core."""
    missing = what_is_missing()
    if missing is not None:
        reason = f"{missing} (scripts/install-test-system-packages.sh installs it)"
        refuse = pytest.fail if os.environ.get("DLAS_CI") == "1" else pytest.skip
        refuse(reason)

    def run(artifact: Artifact, core: str, x: np.ndarray) -> np.ndarray:
        runtime = runtime_folder()
        module, given, result = artifact.save(tmp_path / "model.vmfb"), tmp_path / "x.npy", tmp_path / "y.npy"
        np.save(given, x)
        command = [
            EMULATOR,
            *("-L", str(LIBRARIES), "-E", f"LD_LIBRARY_PATH={runtime / 'iree_base_runtime.libs'}", "-cpu", core),
            str(runtime / "iree" / "_runtime_libs" / "iree-run-module"),
            *("--device=local-sync", f"--module={module}", "--function=main"),
            *(f"--input=@{given}", f"--output=@{result}"),
        ]
        done = subprocess.run(command, capture_output=True, text=True, timeout=300, check=False)
        assert done.returncode == 0, done.stderr
        return np.load(result)

    return run


class Block(nn.Module):
    """A residual block of a pointwise and a grouped convolution, as in the grouped networks of the zoo."""

    def __init__(self, channels: int, groups: int, stride: int) -> None:
        super().__init__()
        self.narrow = nn.Conv2d(channels, channels, 1, bias=False)
        self.norm = nn.BatchNorm2d(channels)
        self.grouped = nn.Conv2d(channels, channels, 3, stride, 1, groups=groups)
        self.shortcut = nn.Identity() if stride == 1 else nn.Conv2d(channels, channels, 1, stride)

    def forward(self, x: Any) -> Any:
        return torch.relu(self.grouped(torch.relu(self.norm(self.narrow(x)))) + self.shortcut(x))


def network() -> nn.Module:
    """Groups that fill a block of four channels, that divide it, and depthwise; rows that no register tile divides."""
    torch.manual_seed(3)
    blocks = [Block(32, 4, 1), Block(32, 16, 2), Block(32, 32, 1)]
    model = nn.Sequential(
        nn.Conv2d(3, 32, 3, padding=1), nn.ReLU(), *blocks, nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(32, 10)
    )
    for module in model.modules():
        if isinstance(module, nn.BatchNorm2d):
            nn.init.uniform_(module.running_mean, -0.5, 0.5)
            nn.init.uniform_(module.running_var, 0.5, 2.0)
    return model.eval()


@pytest.mark.parametrize("target", CORES)
def test_a_grouped_network_agrees_with_float64(target: str, run_on: Run) -> None:
    model, x = network(), torch.randn(1, 3, 13, 18)
    artifact = dlas.compile(model, (x,), target=target)
    convolutions = {layer for record in artifact.kernels if record.schedule for layer in record.layer.split(", ")}
    missing = {name for name, module in model.named_modules() if isinstance(module, nn.Conv2d)} - convolutions
    assert not missing, f"no schedule: {', '.join(sorted(missing))}"
    with torch.no_grad():
        expected = copy.deepcopy(model).double()(x.double()).numpy()
    result = run_on(artifact, CORES[target], x.numpy())
    assert result.dtype == np.float32 and result.shape == expected.shape
    assert np.abs(result - expected).max() <= 1e-4 * np.abs(expected).max()


def test_a_pruned_network_agrees_with_float64(run_on: Run) -> None:
    torch.manual_seed(5)
    stages = [nn.Conv2d(32, 48, 3, 1, 1), nn.ReLU(), nn.Conv2d(48, 48, 3, 2, 1), nn.ReLU(), nn.Conv2d(48, 32, 1)]
    model = dlas.prune(nn.Sequential(*stages).eval(), 0.95, scope="layer")
    x = torch.randn(1, 32, 13, 18)
    artifact = dlas.compile(model, (x,), target="cortex-a72")
    assert any(record.kind == "sparse" and record.schedule for record in artifact.kernels)
    with torch.no_grad():
        expected = bake_masks(model).double()(x.double()).numpy()
    result = run_on(artifact, CORES["cortex-a72"], x.numpy())
    assert np.abs(result - expected).max() <= 1e-5 * np.abs(expected).max()


def test_a_filter_transformed_online_agrees_with_float64(run_on: Run) -> None:
    """What no rule chooses on AArch64, but a transform script may."""
    torch.manual_seed(6)
    model = nn.Sequential(nn.Conv2d(48, 32, 3, padding=1), nn.ReLU()).eval()
    x = torch.randn(1, 48, 7, 10)
    script = TransformScript("online", "%module")
    knobs = {"schedule": "winograd_conv", "m": 4, "online": 1}
    script.annotate(script.match_layer("0"), "dlas.knobs", knobs)
    artifact = dlas.compile(model, (x,), target="cortex-a72", options=dlas.Options(transform_script=script))
    assert [record.knobs["online"] for record in artifact.kernels if record.schedule == "winograd_conv"] == [1]
    with torch.no_grad():
        expected = copy.deepcopy(model).double()(x.double()).numpy()
    result = run_on(artifact, CORES["cortex-a72"], x.numpy())
    assert np.abs(result - expected).max() <= 2e-5 * np.abs(expected).max()

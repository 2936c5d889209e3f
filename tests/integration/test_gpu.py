"""GPU targets: PTX comes out for CUDA, and what lavapipe (Mesa's Vulkan on the CPU) computes agrees with float64.

``scripts/install-test-system-packages.sh`` (part of ``make test``) installs lavapipe. Without it the tests that run on
it are skipped; with ``DLAS_CI=1`` they fail.
"""

from __future__ import annotations

import copy
import os
import subprocess
import sys
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

torch = pytest.importorskip("torch")
pytest.importorskip("torch_mlir.ir")
pytest.importorskip("iree.compiler")

import iree.runtime as rt  # noqa: E402
from torch import nn  # noqa: E402

import dlas  # noqa: E402
from dlas.compiler.pipeline import Compilation, Options, compile_model  # noqa: E402
from dlas.compiler.targets import GpuTarget, list_targets, load_target  # noqa: E402
from dlas.errors import ArtifactError  # noqa: E402

DRIVERS = Path("/usr/share/vulkan/icd.d")
TOLERANCE = 5e-6

# c, k, kernel, stride, padding, dilation, groups, height, width, batch, share of zeros
GRID: list[tuple[Any, ...]] = [
    (5, 7, 3, 1, 1, 1, 1, 13, 9, 2, 0.8),
    (8, 12, 3, 2, 1, 1, 1, 15, 11, 1, 0.9),
    (6, 10, 4, 3, 1, 1, 1, 13, 14, 2, 0.7),
    (12, 12, 3, 1, 2, 2, 3, 12, 17, 1, 0.8),
    (16, 8, 1, 1, 0, 1, 1, 9, 8, 1, 0.8),
    (8, 8, 7, 2, 3, 1, 8, 10, 20, 1, 0.6),
    (8, 8, (3, 1), (1, 2), (1, 0), 1, 1, 10, 7, 1, 0.9),
    (8, 8, 3, 1, 1, 1, 1, 9, 9, 1, 1.0),
    (3, 4, 3, 1, 1, 1, 1, 1, 1, 1, 0.7),
]


def always(name: str) -> GpuTarget:
    """The target with sparse kernels wherever there is a zero."""
    return replace(load_target(name), sparse_share=1.0, sparse_share_pointwise=1.0)


class Layers(nn.Module):
    """Independent layers: an input and a result each."""

    def __init__(self, layers: list[nn.Module]) -> None:
        super().__init__()
        self.layers = nn.ModuleList(layers)

    def forward(self, *inputs: Any) -> Any:
        return tuple(layer(x) for layer, x in zip(self.layers, inputs, strict=True))


class Residual(nn.Module):
    """Two results of one kernel, a residual sum of two convolutions, and a gate per channel."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.first, self.second = nn.Conv2d(channels, channels, 3, 1, 1), nn.Conv2d(channels, channels, 3, 1, 1)
        self.short = nn.Conv2d(channels, channels, 1, 2, bias=False)
        self.down = nn.Conv2d(channels, channels, 3, 2, 1)

    def forward(self, x: Any) -> Any:
        y = torch.relu(self.first(x))
        z = self.second(y) + y
        gate = torch.sigmoid(z.mean((2, 3), keepdim=True))
        return torch.relu(self.down(torch.relu(z * gate)) + self.short(z))


def prune(model: nn.Module, share: float) -> nn.Module:
    for layer in model.modules():
        if isinstance(layer, nn.Conv2d):
            with torch.no_grad():
                flat = layer.weight.flatten()
                flat[torch.randperm(flat.numel())[: round(share * flat.numel())]] = 0.0
    return model.eval()


def pruned_layers() -> tuple[nn.Module, tuple[Any, ...]]:
    torch.manual_seed(21)
    layers, inputs = [], []
    for c, k, kernel, stride, padding, dilation, groups, height, width, batch, share in GRID:
        conv = nn.Conv2d(c, k, kernel, stride, padding, dilation, groups)
        layers.append(prune(nn.Sequential(conv, nn.ReLU()), share))
        inputs.append(torch.randn(batch, c, height, width))
    return Layers(layers).eval(), tuple(inputs)


def compiled(model: nn.Module, inputs: Sequence[Any], target: str | GpuTarget, **options: Any) -> Compilation:
    return compile_model(model, tuple(inputs), target, Options(**options))


def expected_of(model: nn.Module, inputs: Sequence[Any]) -> list[np.ndarray]:
    with torch.no_grad():
        results = copy.deepcopy(model).double()(*(x.double() for x in inputs))
    return [result.numpy() for result in (results if isinstance(results, tuple) else (results,))]


def assert_agrees(results: Sequence[np.ndarray], expected: Sequence[np.ndarray]) -> None:
    for result, reference in zip(results, expected, strict=True):
        assert result.dtype == np.float32 and result.shape == reference.shape
        error = np.abs(result - reference).max() / max(np.abs(reference).max(), 1e-30)
        assert error < TOLERANCE, (reference.shape, error)


# An open Vulkan device of lavapipe's keeps two threads spinning: each has a process of its own.
RUN = """
import sys, dlas, numpy as np
inputs = np.load(sys.argv[2])
results = dlas.load(sys.argv[1], device="vulkan")(*(inputs[name] for name in inputs.files))
np.savez(sys.argv[3], *(results if isinstance(results, tuple) else (results,)))
"""

LOAD = """
import sys, dlas
for path in sys.argv[1:]:
    try:
        dlas.load(path, device="vulkan")
        print("loaded")
    except dlas.errors.DlasError as error:
        print(error)
"""

OPEN = """
import sys
from dlas.errors import DlasError
from dlas.runtime.devices import open_device
try:
    open_device("vulkan")
except DlasError as error:
    sys.exit(str(error))
"""


def apart(script: str, *arguments: str | Path) -> subprocess.CompletedProcess[str]:
    """Runs a script in a process of its own."""
    command = [sys.executable, "-P", "-c", script, *map(str, arguments)]
    return subprocess.run(command, capture_output=True, text=True, timeout=300, check=False)


def run(compilation: Compilation, model: nn.Module, inputs: Sequence[Any], folder: Path) -> None:
    """Runs on lavapipe and compares with float64."""
    assert compilation.artifact is not None
    module, given, made = compilation.artifact.save(folder / "run.vmfb"), folder / "in.npz", folder / "out.npz"
    np.savez(given, *(x.numpy() for x in inputs))
    process = apart(RUN, module, given, made)
    assert process.returncode == 0, process.stderr
    results = np.load(made)
    assert_agrees([results[name] for name in results.files], expected_of(model, inputs))


def what_is_missing() -> str | None:
    if not list(DRIVERS.glob("lvp_icd*.json")):
        return f"no lvp_icd*.json in {DRIVERS}"
    process = apart(OPEN)
    return process.stderr.strip() if process.returncode else None


@pytest.fixture(scope="module")
def lavapipe() -> None:
    """Makes lavapipe the Vulkan device of this process and of those it starts."""
    driver = next(iter(DRIVERS.glob("lvp_icd*.json")), "none")
    # The first is what loaders before 1.3.207 read; vectors of 256 bits on every host are subgroups of 8.
    os.environ |= {"VK_ICD_FILENAMES": str(driver), "VK_DRIVER_FILES": str(driver), "LP_NATIVE_VECTOR_WIDTH": "256"}
    missing = what_is_missing()
    if missing is not None:
        refuse = pytest.fail if os.environ.get("DLAS_CI") == "1" else pytest.skip
        refuse(f"{missing} (scripts/install-test-system-packages.sh installs lavapipe)")


@pytest.mark.usefixtures("lavapipe")
def test_pruned_layers_agree_with_float64(tmp_path: Path) -> None:
    model, inputs = pruned_layers()
    compilation = compiled(model, inputs, always("vulkan-lavapipe"))
    kernels = [kernel for kernel in compilation.artifact.kernels if kernel.schedule == "sparse_pixel_conv"]
    assert sum(kernel.calls for kernel in kernels) == len(GRID)
    # Bias and ReLU are in the kernels: what is left to IREE is the padding.
    assert {kernel.kind for kernel in compilation.artifact.kernels} == {"sparse", "data movement"}
    run(compilation, model, inputs, tmp_path)


@pytest.mark.usefixtures("lavapipe")
def test_pruned_networks_agree_with_float64(tmp_path: Path) -> None:
    torch.manual_seed(22)
    stages = [prune(Residual(16), 0.8), nn.MaxPool2d(3, 2, 1), nn.Conv2d(16, 24, 3, 1, 1), nn.ReLU()]
    model = nn.Sequential(*stages, prune(nn.Conv2d(24, 16, 3, 1, 1), 0.9)).eval()
    x = torch.randn(1, 16, 21, 30)
    few = replace(always("vulkan-lavapipe"), max_workgroups=(40, 40, 40))
    compilation = compiled(model, (x,), few)
    kernels = [kernel for kernel in compilation.artifact.kernels if kernel.schedule is not None]
    assert sum(kernel.calls for kernel in kernels) == 5 and any(kernel.knobs["k_w"] > 1 for kernel in kernels)
    assert [layer for layer, _, _ in compilation.layout.refused] == ["2"]
    assert all("IREE" in kernel.reason for kernel in compilation.artifact.kernels if kernel.schedule is None)
    run(compilation, model, (x,), tmp_path)


@pytest.mark.usefixtures("lavapipe")
def test_dense_networks_agree_with_float64(tmp_path: Path) -> None:
    """By IREE's own code, matrix-vector products among it: they depend on the subgroup's size."""
    torch.manual_seed(23)
    stages = [nn.Conv2d(3, 16, 3, 1, 1), nn.BatchNorm2d(16), nn.ReLU(), nn.Conv2d(16, 16, 3, 1, 1, groups=4)]
    stages += [nn.ReLU(), nn.Conv2d(16, 16, 3, 2, 1, groups=16), nn.Conv2d(16, 32, 1), nn.AdaptiveAvgPool2d(1)]
    model = nn.Sequential(*stages, nn.Flatten(), nn.Linear(32, 100), nn.ReLU(), nn.Linear(100, 11)).eval()
    x = torch.randn(1, 3, 13, 18)
    compilation = compiled(model, (x,), "vulkan-lavapipe")
    assert all(kernel.schedule is None for kernel in compilation.artifact.kernels)
    reasons = {layer: reason for layer, _, reason in compilation.layout.refused}
    assert set(reasons) == {"0", "3", "5", "6"} and all("no zeros" in reason for reason in reasons.values())
    run(compilation, model, (x,), tmp_path)
    # Stock IREE runs the same file.
    module, given, result = compilation.artifact.save(tmp_path / "m.vmfb"), tmp_path / "x.npy", tmp_path / "y.npy"
    np.save(given, x.numpy())
    tool = Path(rt.benchmark_exe()).with_name("iree-run-module")
    command = [str(tool), "--device=vulkan", f"--module={module}", "--function=main"]
    command += [f"--input=@{given}", f"--output=@{result}"]
    subprocess.run(command, check=True, capture_output=True, timeout=120)
    assert_agrees([np.load(result)], expected_of(model, (x,)))


@pytest.mark.usefixtures("lavapipe")
def test_results_in_front_of_pads_are_right(tmp_path: Path) -> None:
    """IREE alone writes them to places between two vectors, and gets them wrong (dlas.passes.part_writes)."""
    torch.manual_seed(25)

    class Edges(nn.Module):
        def forward(self, x: Any) -> Any:
            gated = torch.relu(x * torch.sigmoid(x.mean((2, 3), keepdim=True)))
            rows = torch.softmax(x, -1)
            return nn.functional.pad(gated, (1, 1, 1, 1)), torch.cat([x[..., :3], rows], -1)

    model, x = Edges(), torch.randn(1, 8, 20, 30)
    run(compiled(model, (x,), "vulkan-lavapipe"), model, (x,), tmp_path)
    run(compiled(model, (x,), "vulkan-lavapipe", schedules=False), model, (x,), tmp_path)


@pytest.mark.usefixtures("lavapipe")
def test_an_artifact_is_refused_by_what_it_is_not_for(tmp_path: Path) -> None:
    artifact = compiled(nn.ReLU(), (torch.randn(3, 5),), "vulkan-lavapipe").artifact

    def for_target(name: str, **changes: Any) -> dlas.Artifact:
        return replace(artifact, target=load_target(name).to_dict() | changes)

    for device in ("local-sync", "local-task"):
        with pytest.raises(ArtifactError, match=r"built for vulkan-lavapipe, whose code this host's CPU does not run "):
            dlas.load(artifact, device=device)
    refused = {
        "device 'vulkan' does not run (use device 'cuda')": for_target("cuda-sm_90"),
        "built for a CPU, and 'vulkan' is a GPU (use device 'local-task')": for_target("x86_64"),
        "built for subgroups of 32 lanes, those of 'vulkan' have 8 ": for_target(
            "vulkan-lavapipe", subgroup_sizes=(32,)
        ),
        "loaded": artifact,
    }
    paths = [each.save(tmp_path / f"{number}.vmfb") for number, each in enumerate(refused.values())]
    said = apart(LOAD, *paths).stdout.splitlines()
    assert all(wanted in line for wanted, line in zip(refused, said, strict=True)), said


def test_ptx_holds_the_kernels(tmp_path: Path) -> None:
    model, inputs = pruned_layers()
    flags = (f"--iree-hal-dump-executable-files-to={tmp_path}",)
    compilation = compiled(model, inputs, always("cuda-sm_90"), iree_flags=flags)
    kernels = [kernel for kernel in compilation.artifact.kernels if kernel.schedule == "sparse_pixel_conv"]
    assert sum(kernel.calls for kernel in kernels) == len(GRID)
    code = {path.read_text() for path in tmp_path.glob("*.ptx")}
    for kernel in kernels:
        (text,) = (text for text in code if f".entry {kernel.name}(" in text)
        assert ".target sm_90\n" in text
        assert f".maxntid {kernel.knobs['threads']}, 1, 1" in text
        assert "fma.rn.f32" in text or kernel.flops == 0
        assert "call" not in text and ".local" not in text  # no library function, nothing on the stack


# The two others are compiled for above.
@pytest.mark.parametrize(
    "target", [name for name in list_targets() if name.startswith(("cuda-sm_8", "vulkan-")) and "lava" not in name]
)
def test_the_other_gpus_get_code(target: str) -> None:
    torch.manual_seed(24)
    model = nn.Sequential(prune(nn.Conv2d(8, 8, 3, 1, 1), 0.8), nn.ReLU(), nn.Conv2d(8, 4, 3), nn.Flatten())
    compilation = compiled(nn.Sequential(model, nn.Linear(4 * 5 * 7, 3)).eval(), (torch.randn(1, 8, 7, 9),), target)
    assert sum(kernel.schedule == "sparse_pixel_conv" for kernel in compilation.artifact.kernels) == 1

"""GPU targets: what their files may say, what IREE is told, and the rules and options that belong to them."""

from __future__ import annotations

import json
import re
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

pytest.importorskip("iree.compiler")

from dlas.compiler.backends import backend_for  # noqa: E402
from dlas.compiler.cli import main  # noqa: E402
from dlas.compiler.codegen import CodegenSession  # noqa: E402
from dlas.compiler.pipeline import Options, compile_model  # noqa: E402
from dlas.compiler.targets import GpuTarget, list_targets, load_target  # noqa: E402
from dlas.errors import TargetError, UsageError  # noqa: E402
from dlas.passes.conv import ConvShape  # noqa: E402
from dlas.passes.plan import Choice, Refusal  # noqa: E402
from dlas.schedules.gpu_rules import GpuRules  # noqa: E402
from dlas.schedules.rules import knobs_of  # noqa: E402

GPUS = [name for name in list_targets() if isinstance(load_target(name), GpuTarget)]

VALUES = {
    "name": '"board"',
    "description": '"a board"',
    "backend": '"vulkan"',
    "architecture": '"board"',
    "features": '"spirv:v1.6,cap:Shader"',
    "compute": '["fp32", "int32"]',
    "storage": '["b32"]',
    "subgroup": "[]",
    "dot": "[]",
    "mma": "[]",
    "subgroup_sizes": "[4]",
    "max_threads": "128",
    "max_workgroup_size": "[128, 128, 64]",
    "max_workgroups": "[65535, 65535, 65535]",
    "workgroup_memory": "16384",
    "sparse_share": "0.4",
    "sparse_share_pointwise": "0.1",
}


def write(folder: Path, **changes: str | None) -> Path:
    """A target file of VALUES with some values replaced, added, or (None) left out."""
    values = {key: value for key, value in (VALUES | changes).items() if value is not None}
    path = folder / "board.toml"
    path.write_text("".join(f"{key} = {value}\n" for key, value in values.items()), encoding="utf-8")
    return path


def test_a_file_of_the_user(tmp_path: Path) -> None:
    target = load_target(write(tmp_path))
    assert isinstance(target, GpuTarget)
    assert (target.subgroup_sizes, target.sparse_share, target.iree_flags()) == ((4,), 0.4, [])
    assert "subgroup = none, subgroup_size_choices = [4]" in target.device_attribute
    assert "dot" not in target.device_attribute and "mma" not in target.device_attribute
    assert json.loads(json.dumps(target.to_dict()))["backend"] == "vulkan"


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"backend": '"metal"'}, "backend = 'metal' (must be one of cuda, vulkan (a CPU's file has no backend))"),
        ({"architecture": '"sm 90"'}, "architecture = 'sm 90' (must be a name of letters, digits and underscores)"),
        ({"features": "'\"'"}, "features = '\"' (must be a comma-separated list without spaces"),
        ({"compute": '["fp32"]'}, "compute = ['fp32'] (must be a list of some of fp64, "),
        ({"compute": '["fp32", "int32", "fp8"]'}, "compute = ['fp32', 'int32', 'fp8'] (must be a list of some of "),
        ({"storage": '"b32"'}, "storage = 'b32' (must be a list of some of b64, b32, b16, b8 that has b32)"),
        ({"subgroup": '["vote"]'}, "subgroup = ['vote'] (must be a list of some of shuffle, arithmetic)"),
        ({"mma": '["<x>"]'}, "mma = ['<x>'] (must be a list of IREE's names of matrix instructions"),
        ({"subgroup_sizes": "[]"}, "subgroup_sizes = [] (must be a list of powers of two from 1 to 128)"),
        ({"subgroup_sizes": "[12]"}, "subgroup_sizes = [12] (must be a list of powers of two from 1 to 128)"),
        ({"max_threads": "0"}, "max_threads = 0 (must be an integer from 1 to 4096)"),
        ({"max_workgroups": "[65535]"}, "max_workgroups = [65535] (must be three integers from 1 to 2147483647)"),
        ({"workgroup_memory": "-1"}, "workgroup_memory = -1 (must be an integer from 0 to 1048576 bytes)"),
        ({"sparse_share": "40"}, "sparse_share = 40 (must be a number from 0 to 1)"),
        ({"simd_lanes": "8"}, "unknown key 'simd_lanes' = 8 (known: name, description, backend, "),
        ({"dot": None, "mma": None}, "missing dot, mma (dot: a list of some of dp4xi8toi32)"),
        ({"max_threads": "2"}, "subgroup_sizes = [4] with room for 2 threads in a workgroup (max_threads and "),
        ({"features": '"spirv:v9.9"'}, "IREE generates no code for backend = 'vulkan', architecture = 'board', "),
        ({"mma": '["WARP"]'}, "IREE generates no code for backend = 'vulkan', architecture = 'board', "),
    ],
    ids=lambda value: " ".join(f"{key}={text}" for key, text in value.items()) if isinstance(value, dict) else "",
)
def test_wrong_values(tmp_path: Path, changes: dict[str, str | None], message: str) -> None:
    path = write(tmp_path, **changes)
    with pytest.raises(TargetError, match="^" + re.escape(f"{path}: {message}")):
        load_target(path)


def test_a_target_made_in_python_is_checked_before_it_is_compiled_for() -> None:
    target = replace(load_target("cuda-sm_90"), features="+ptx1")
    with pytest.raises(TargetError, match=r"^target cuda-sm_90: IREE generates no code for .*'\+ptx1' is not a rec"):
        compile_model("zoo:layer", None, target, Options())


def test_flags_of_cpus_stay_with_cpus(monkeypatch: pytest.MonkeyPatch) -> None:
    given: list[str] = []
    monkeypatch.setattr(CodegenSession, "set_flags", lambda self, *flags: given.extend(flags))
    CodegenSession(load_target("vulkan-lavapipe"))
    assert given and not [flag for flag in given if "llvmcpu" in flag or "hal-target" in flag]
    CodegenSession(load_target("x86_64-v3"))
    assert [flag for flag in given if "llvmcpu-stack" in flag]


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (
            {"winograd": 2},
            "target cuda-sm_90: winograd=2 is an option for CPUs (leave winograd out: GPUs have no such ",
        ),
        ({"measured": "times.json"}, "target cuda-sm_90: measured=times.json is an option for CPUs (leave measured "),
    ],
)
def test_options_of_cpus_are_refused(options: dict[str, Any], message: str) -> None:
    with pytest.raises(UsageError, match="^" + re.escape(message)):
        compile_model("zoo:layer", None, "cuda-sm_90", Options(**options))


def conv(c: int = 64, k: int = 64, size: int = 56, batch: int = 1) -> ConvShape:
    return ConvShape(batch, c, k, 1, size, size, size, size, 3, 3, pads=(1, 1, 1, 1))


@pytest.mark.parametrize("name", GPUS)
def test_rules_keep_to_the_device(name: str) -> None:
    target = load_target(name)
    rules = backend_for(target).rules
    for shape in (conv(), conv(2048, 2048, 7), conv(64, 64, 224, 8), conv(1, 1, 1), conv(512, 509, 224)):
        choice = rules.sparse(shape, 1)
        assert isinstance(choice, Choice)
        knobs = knobs_of(choice)
        assert knobs.threads % target.subgroup_sizes[0] == 0 and knobs.threads <= target.max_threads
        assert shape.c_out % knobs.k_w == 0
        tiles = shape.batch * -(-shape.out_h * shape.out_w // knobs.threads)
        assert tiles * shape.c_out // knobs.k_w <= target.max_workgroups[0]


def test_zeros_decide() -> None:
    rules = GpuRules(32, 1024, 65535, sparse_share=0.25, sparse_share_pointwise=0.1)
    assert isinstance(rules.sparse(conv(), 64 * 64 * 9 // 4), Choice)
    refused = rules.sparse(conv(), 64 * 64 * 9 // 4 + 64)
    assert refused == Refusal("25.2% of the weights are not zero, more than the target's 25% for such convolutions")
    pointwise = replace(conv(), k_h=1, k_w=1, pads=(0, 0, 0, 0))
    assert isinstance(rules.sparse(pointwise, 64 * 64 // 10), Choice)
    refused = rules.sparse(pointwise, 64 * 64 // 5)
    assert refused == Refusal(
        "20.0% of the weights are not zero, more than the target's 10% for pointwise convolutions"
    )


def test_explain_says_what_is_left_to_iree(capsys: pytest.CaptureFixture[str]) -> None:
    spec = "zoo:layer,c=8,h=9"
    assert main(["explain", f"{spec},sparsity=0.8", "--target", "cuda-sm_90", "--json"]) == 0
    report = json.loads(capsys.readouterr().out)
    assert report["untimed"].startswith("built for cuda-sm_90, whose code this host's CPU does not run")
    kernels = {kernel["schedule"]: kernel for kernel in report["kernels"]}
    assert "20.0% of the weights are not zero" in kernels["sparse_pixel_conv"]["reason"]
    assert kernels[None]["fallback"] == "IREE" and "no schedule for these ops on GPUs" in kernels[None]["reason"]
    assert main(["explain", spec, "--target", "cuda-sm_90"]) == 0
    assert "no zeros among the weights: GPUs have schedules for pruned convolutions only" in capsys.readouterr().out


def test_targets_are_listed_with_what_they_have(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["targets"]) == 0
    text = capsys.readouterr().out
    assert re.search(r"^vulkan-lavapipe +.* vulkan +lvp +8 +512 ", text, re.M)
    assert main(["targets", "--json"]) == 0
    listed = {target["name"]: target for target in json.loads(capsys.readouterr().out)}
    assert listed["cuda-sm_90"]["architecture"] == "sm_90" and listed["x86_64-v3"]["simd_lanes"] == 8

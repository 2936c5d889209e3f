"""What a user may get wrong, through the ``dlas`` command: one line that says what was found, and exit code 1 or 2."""

from __future__ import annotations

import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

onnx = pytest.importorskip("onnx")
pytest.importorskip("torch_mlir")
pytest.importorskip("iree.compiler")

from onnx import TensorProto, helper  # noqa: E402

MLIR = "func.func @main(%x: tensor<2x3xf32>) -> tensor<2x3xf32> {\n  return %x : tensor<2x3xf32>\n}\n"
TARGET = {
    "name": '"board"', "description": '"a board"', "triple": '"aarch64-linux-gnu"', "cpu": '"cortex-a72"',
    "features": '""', "simd_lanes": "4", "vector_registers": "32", "fma_units": "1", "fma_latency": "7",
    "l1d_kb": "32", "l2_kb": "1024", "l3_kb": "0", "cores": "4", "f16": "false",
}  # fmt: skip


def _onnx_file(path: Path, operator: str, domain: str = "", element: int = TensorProto.FLOAT) -> None:
    node = helper.make_node(operator, ["x"], ["y"], name="layer7", domain=domain)
    x, y = (helper.make_tensor_value_info(name, element, [2, 3]) for name in "xy")
    opsets = [helper.make_opsetid("", 17), helper.make_opsetid("acme.ops", 1)]
    onnx.save(helper.make_model(helper.make_graph([node], "graph", [x], [y]), opset_imports=opsets), path)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder of good and bad files; ``good.vmfb`` takes x: float32[2, 3]."""
    folder = tmp_path_factory.mktemp("bad")
    _onnx_file(folder / "good.onnx", "Relu")
    _onnx_file(folder / "unknown.onnx", "Warp", domain="acme.ops")
    _onnx_file(folder / "string.onnx", "StringNormalizer", element=TensorProto.STRING)
    data = (folder / "good.onnx").read_bytes()
    (folder / "cut.onnx").write_bytes(data[: len(data) // 2])
    (folder / "noise.onnx").write_bytes(bytes(range(256)) * 4)
    (folder / "empty.onnx").write_bytes(b"")
    (folder / "model.txt").write_text("a model")
    (folder / "good.mlir").write_text(MLIR)
    (folder / "bad.mlir").write_text(MLIR.replace("return %x", "return %z"))
    (folder / "dialect.mlir").write_text(MLIR.replace("  return", '  "acme.warp"() : () -> ()\n  return'))
    (folder / "two.mlir").write_text(MLIR + MLIR.replace("@main", "@other"))
    (folder / "notes.toml").write_text("cores = many\n")
    (folder / "models").mkdir()
    np.save(folder / "good.npy", np.ones((2, 3), np.float32))
    np.save(folder / "shape.npy", np.ones((3, 2), np.float32))
    np.save(folder / "dtype.npy", np.ones((2, 3), np.float64))
    np.save(folder / "objects.npy", np.array([{}]), allow_pickle=True)
    (folder / "text.npy").write_text("1 2 3")
    done = dlas(folder, "compile", "good.onnx", "-o", "good.vmfb")
    assert done.returncode == 0, done.stderr
    vmfb = (folder / "good.vmfb").read_bytes()
    (folder / "cut.vmfb").write_bytes(vmfb[:2000])
    shutil.copy(folder / "good.json", folder / "cut.json")
    (folder / "damaged.vmfb").write_bytes(vmfb[:3000] + bytes([vmfb[3000] ^ 1]) + vmfb[3001:])
    shutil.copy(folder / "good.json", folder / "damaged.json")
    (folder / "alone.vmfb").write_bytes(vmfb)
    return folder


def dlas(folder: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "dlas.compiler.cli", *arguments]
    return subprocess.run(command, capture_output=True, text=True, cwd=folder, timeout=300, check=False)


def check(folder: Path, arguments: list[str], code: int, message: str) -> None:
    """The command prints nothing on stdout and one line on stderr; a message that ends in ``...`` is its start."""
    done = dlas(folder, *arguments)
    assert done.stdout == ""
    if message.endswith("..."):
        assert done.stderr.startswith(f"error: {message[:-3]}")
        assert done.stderr.count("\n") == 1
    else:
        assert done.stderr == f"error: {message}\n"
    assert done.returncode == code


CORRUPT = "not an ONNX model: Error parsing message..."
HINT = " (rewrite this layer with operations that do, or cut the model before it)"
UNREGISTERED = "operation being parsed with an unregistered dialect"
MODELS = [
    ("cut.onnx", 1, f"cut.onnx: {CORRUPT}"),
    ("noise.onnx", 1, f"noise.onnx: {CORRUPT}"),
    ("empty.onnx", 1, "empty.onnx: not an ONNX model, or an empty one"),
    ("unknown.onnx", 1, f"layer layer7: onnx.Warp does not lower to linalg{HINT}"),
    ("string.onnx", 1, "string: torch.str does not lower to linalg: unimplemented: conversion of ..."),
    ("nowhere.onnx", 1, "nowhere.onnx: no such file (supported: ..."),
    ("models", 1, "models: is a folder (supported: ..."),
    ("model.txt", 1, "model.txt: unknown kind of file .txt (supported: ..."),
    ("bad.mlir", 1, "bad.mlir: does not parse as MLIR: use of undeclared SSA value name at line 2, column 10"),
    ("dialect.mlir", 1, f"dialect.mlir: does not parse as MLIR: {UNREGISTERED} at line 2, column 14"),
    ("two.mlir", 1, "two: 2 public functions (@main, @other) (it needs exactly one)"),
    ("zoo:vgg", 2, "zoo:vgg: unknown zoo model 'vgg' (known: wrn-40-2, ..."),
    (
        "zoo:resnet18,depth=3",
        2,
        "zoo:resnet18,depth=3: unknown key 'depth' (resnet18 takes groups=, size=, ...",
    ),
    ("zoo:wrn-40-2,groups=7", 2, "zoo:wrn-40-2,groups=7: groups=7 cannot be used (groups takes S, 1, 2, 4, 8, 16, N)"),
]


@pytest.mark.parametrize(("model", "code", "message"), MODELS, ids=[model for model, _, _ in MODELS])
def test_a_model_that_cannot_be_compiled(folder: Path, model: str, code: int, message: str) -> None:
    check(folder, ["compile", model, "-o", "out.vmfb"], code, message)
    assert not (folder / "out.vmfb").exists() and not (folder / "out.json").exists()


@pytest.mark.parametrize(
    ("arguments", "code", "message"),
    [
        (["shape.npy"], 1, "input 0 (x): found shape [3, 2], expected [2, 3]"),
        (["dtype.npy"], 1, "input 0 (x): found dtype float64, expected float32 (inputs are ..."),
        (["good.npy", "good.npy"], 1, "2 inputs given, 1 expected (the model takes x: float32[2, 3])"),
        (["text.npy"], 1, "text.npy: not an .npy file: ..."),
        (["objects.npy"], 1, "objects.npy: not an .npy file: Object arrays cannot be loaded ..."),
        (["nowhere.npy"], 1, "nowhere.npy: cannot be read: No such file or directory"),
        (["models"], 1, "models: cannot be read: Is a directory"),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, list) else "",
)
def test_an_input_that_does_not_fit(folder: Path, arguments: list[str], code: int, message: str) -> None:
    inputs = [word for name in arguments for word in ("--input", name)]
    check(folder, ["run", "good.vmfb", *inputs], code, message)


@pytest.mark.parametrize(
    ("arguments", "code", "message"),
    [
        (["cut.vmfb"], 1, "cut.vmfb: truncated: 2000 bytes without an end of archive"),
        (["damaged.vmfb"], 1, "damaged.vmfb: its SHA-256 is not the one in its .json: damaged, or another module"),
        (
            ["alone.vmfb"],
            1,
            "alone.json: missing: a .vmfb needs the .json that dlas compile writes beside it "
            "(a module without one runs under iree-run-module)",
        ),
        (["nowhere.vmfb"], 1, "nowhere.vmfb: no such file"),
        (["models"], 1, "models: cannot be read: Is a directory"),
        (["good.onnx"], 1, "good.onnx: not an IREE module: it begins with ..."),
        (["good.vmfb", "--device", "abacus"], 2, "unknown device 'abacus' (known: ..."),
        (["good.vmfb", "--threads", "0"], 2, "local-task: threads=0 (a whole number, at least 1)"),
        (["good.vmfb", "--output", "a.npy", "--output", "b.npy"], 2, "good.vmfb: 2 --outputs given for 1 output"),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, list) else "",
)
def test_an_artifact_that_cannot_be_run(folder: Path, arguments: list[str], code: int, message: str) -> None:
    check(folder, ["run", *arguments], code, message)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"simd_lanes": "3"}, "board.toml: simd_lanes = 3 (must be a power of two from 1 to 64)"),
        ({"l1d_kb": "32768"}, "board.toml: l1d_kb = 32768 (must be an integer from 1 to 4096 KB)"),
        ({"cores": '"four"'}, "board.toml: cores = 'four' (must be an integer from 1 to 4096)"),
        ({"warp": "32"}, "board.toml: unknown key 'warp' = 32 (known: name, ..."),
        ({"cores": None}, "board.toml: missing cores (cores: an integer from 1 to 4096)"),
        ({"cpu": '"a99"'}, "board.toml: cpu = 'a99': LLVM knows no such processor of aarch64 (nearest of ..."),
        (
            {"features": '"+warp"'},
            "board.toml: features = '+warp': LLVM knows no feature 'warp' of aarch64 ...",
        ),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, dict) else "",
)
def test_a_target_file_with_an_impossible_value(folder: Path, change: dict[str, str | None], message: str) -> None:
    values = {**TARGET, **change}
    lines = [f"{key} = {value}\n" for key, value in values.items() if value is not None]
    (folder / "board.toml").write_text("".join(lines))
    check(folder, ["compile", "good.onnx", "-o", "out.vmfb", "--target", "board.toml"], 2, message)


@pytest.mark.parametrize(
    ("target", "message"),
    [
        (
            "z80",
            "unknown target 'z80' (known: aarch64, cortex-a72, cortex-a73, cuda-sm_80, cuda-sm_90, vulkan-ampere, "
            "vulkan-lavapipe, vulkan-valhall, x86_64, x86_64-v3, x86_64-v4; or a path to a .toml file)",
        ),
        ("nowhere.toml", "nowhere.toml: cannot read the target file: No such file or directory"),
        ("./models", "./models: cannot read the target file: Is a directory"),
        ("notes.toml", "notes.toml: not a TOML file: ..."),
    ],
)
@pytest.mark.parametrize("command", ["compile", "explain"])
def test_an_unknown_target(folder: Path, command: str, target: str, message: str) -> None:
    output = ["-o", "out.vmfb"] if command == "compile" else []
    check(folder, [command, "good.onnx", *output, "--target", target], 2, message)


@pytest.mark.parametrize(
    ("arguments", "code", "message"),
    [
        (
            ["compile", "good.onnx", "--stop-after", "lunch"],
            2,
            "unknown stage 'lunch' (stages: import, canonicalise, optimise, schedule, codegen, package)",
        ),
        (["compile", "good.onnx", "-o", "models"], 2, "models: is a folder, not a file to write"),
        (["compile", "good.onnx", "-o", "nowhere/x.vmfb"], 2, "nowhere/x.vmfb: no such folder: nowhere"),
        (
            ["compile", "good.onnx", "-o", "out.vmfb", "--iree-flag=--nope"],
            2,
            "IREE flag '--nope': IREE's compiler has no such flag (most that iree-compile --help lists can be given)",
        ),
        (["explain", "good.onnx", "--iree-flag=nope"], 2, "IREE flag 'nope': pure positional ..."),
        (
            ["compile", "good.onnx", "-o", "out.vmfb", "--iree-flag=--iree-opt-level=O9"],
            2,
            "IREE flag '--iree-opt-level=O9': 'O9' value not a valid optimization level, use O0/O1/O2/O3",
        ),
        (["bench", "zoo:layer", "--peers", "torch,acme"], 2, "peers: unknown peer 'acme' (known: dlas, torch, ..."),
        (["bench", "nowhere.onnx"], 2, "nowhere.onnx: no such file"),
        (["bench", "good.mlir"], 2, "good.mlir: cannot benchmark a .mlir file (zoo spec, .onnx, .pt2)"),
        (["bench", "zoo:vgg"], 2, "zoo:vgg: unknown zoo model 'vgg' (known: ..."),
        (["bench", "zoo:layer", "--threads", "0"], 2, "threads: cannot measure 0 threads (this host has 1 to ..."),
        (["bench", "zoo:layer", "--runs", "0"], 2, "runs: runs and seconds must be positive"),
        (["bench", "zoo:layer", "--plot", "p.jpeg"], 2, "p.jpeg: no plot of kind '.jpeg' (.png, .svg, .pdf)"),
        (["bench", "zoo:layer", "--plot", "nowhere/p.png"], 2, "nowhere/p.png: no such folder: nowhere"),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, list) else "",
)
def test_an_option_that_cannot_be(folder: Path, arguments: list[str], code: int, message: str) -> None:
    check(folder, arguments, code, message)


@pytest.mark.parametrize(
    ("arguments", "code", "message"),
    [
        (
            ["bad.mlir", "--pass-pipeline=cse"],
            1,
            "bad.mlir: does not parse as MLIR: use of undeclared SSA value name at line 2, column 10",
        ),
        (
            ["good.mlir", "--transform-script", "bad.mlir"],
            1,
            "bad.mlir: does not parse as MLIR: use of undeclared SSA value name at line 2, column 10",
        ),
        (["nowhere.mlir", "--pass-pipeline=cse"], 2, "nowhere.mlir: cannot be read: No such file or directory"),
        (["models", "--pass-pipeline=cse"], 2, "models: cannot be read: Is a directory"),
        (["good.mlir", "--pass-pipeline=dlas-make-tea"], 2, "unknown pass 'dlas-make-tea' (known passes: dlas-..."),
        (["good.mlir", "--pass-pipeline=make-tea"], 2, "unknown pass or wrong options in 'make-tea' (..."),
        (["good.mlir", "--pass-pipeline=cse{"], 2, "pipeline 'cse{': brackets do not match"),
        (["good.mlir"], 2, "the pass pipeline is empty"),
        (
            ["good.mlir", "--transform-script", "good.mlir"],
            2,
            "good.mlir: no named sequence @__transform_main (it has: none)",
        ),
        (["good.mlir", "--pass-pipeline=cse", "--context", "llvm"], 2, "Invalid value for '--context': ..."),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, list) else "",
)
def test_what_opt_refuses(folder: Path, arguments: list[str], code: int, message: str) -> None:
    check(folder, ["opt", *arguments], code, message)

"""The examples run as they are, in a folder of their own, and agree with their references."""

from __future__ import annotations

import re
import subprocess
import sys
from importlib.metadata import entry_points
from pathlib import Path

import pytest

pytest.importorskip("torch")
pytest.importorskip("torch_mlir")
pytest.importorskip("iree.compiler")

EXAMPLES = Path(__file__).resolve().parents[2] / "examples"
IS_INSTALLED = "dlas" in entry_points(group="torch_dynamo_backends").names


@pytest.mark.parametrize(
    "name",
    [
        "compile_torch.py",
        "compile_onnx.py",
        pytest.param(
            "torch_compile.py",
            marks=pytest.mark.skipif(not IS_INSTALLED, reason="dlas is not installed, only on a path"),
        ),
    ],
)
def test_example(name: str, tmp_path: Path) -> None:
    command = [sys.executable, str(EXAMPLES / name)]
    done = subprocess.run(command, capture_output=True, text=True, cwd=tmp_path, timeout=300, check=False)
    assert done.returncode == 0, done.stderr
    assert "RuntimeWarning" not in done.stderr  # torch.compile's backend warns if it falls back to eager
    errors = [float(number) for number in re.findall(r"largest difference to .* (\d\.\de[+-]\d+)", done.stdout)]
    assert errors and max(errors) < 1e-4
    assert list(tmp_path.iterdir()) == []


def test_there_is_a_test_for_each_example() -> None:
    assert sorted(path.name for path in EXAMPLES.glob("*.py")) == [
        "compile_onnx.py",
        "compile_torch.py",
        "torch_compile.py",
    ]

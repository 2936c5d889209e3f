"""Artifacts on disk: what is saved comes back, and every damage has its own clear error."""

from __future__ import annotations

import json
import os
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from dlas.errors import ArtifactError
from dlas.runtime import Artifact, KernelRecord, TensorSpec

VMFB = b"PK\x03\x04" + bytes(range(200)) + b"PK\x05\x06" + bytes(18)


@pytest.fixture
def artifact() -> Artifact:
    kernel = KernelRecord(
        "main_dispatch_0", "layer1.conv", "conv-grouped", "gspc", {"T_O": np.int64(16)}, "fits a vector", 1000, 64
    )
    return Artifact(
        vmfb=VMFB,
        inputs=(TensorSpec("x", (1, 3, 8, 8), "float32"), TensorSpec("n", (), "int64")),
        outputs=(TensorSpec("y", (1, 10), "bfloat16"),),
        target={"name": "x86_64", "simd_lanes": 16},
        kernels=(kernel, replace(kernel, name="main_dispatch_1", schedule=None, knobs={})),
        versions={"iree": "3.13.0"},
        model="wrn",
        options={"library": Path("schedules")},
        stages={"import": 0.25},
    )


def test_round_trip(artifact: Artifact, tmp_path: Path) -> None:
    path = artifact.save(tmp_path / "wrn-40-2.g4")
    assert path == tmp_path / "wrn-40-2.g4.vmfb"
    assert sorted(file.name for file in tmp_path.iterdir()) == ["wrn-40-2.g4.json", "wrn-40-2.g4.vmfb"]
    artifact.options = {"library": "schedules"}
    assert Artifact.load(path) == artifact
    assert Artifact.load(tmp_path / "wrn-40-2.g4") == artifact


def test_parameters_travel_with_the_module(artifact: Artifact, tmp_path: Path) -> None:
    weights = tmp_path / "somewhere.irpa"
    weights.write_bytes(b"weights")
    artifact.parameters = weights
    path = artifact.save(tmp_path / "m.vmfb")
    loaded = Artifact.load(path)
    assert loaded.parameters == tmp_path / "m.irpa"
    assert loaded.parameters.read_bytes() == b"weights"
    assert loaded.save(path) == path  # its own parameters are already in place

    loaded.parameters.write_bytes(b"weigh")
    with pytest.raises(ArtifactError, match=r"m\.irpa: 5 bytes where the \.json says 7"):
        Artifact.load(path)
    loaded.parameters.unlink()
    with pytest.raises(ArtifactError, match=r"m\.irpa: missing"):
        Artifact.load(path)


def test_a_mapped_module_is_never_overwritten_in_place(artifact: Artifact, tmp_path: Path) -> None:
    path = artifact.save(tmp_path / "m.vmfb")
    with path.open("rb") as mapped:
        replace(artifact, vmfb=VMFB.replace(b"\x01", b"\x02")).save(path)
        assert mapped.read() == VMFB
    assert [file for file in os.listdir(tmp_path) if file.endswith(".tmp")] == []


def _rewrite(path: Path, **changes: object) -> None:
    description = json.loads(path.with_suffix(".json").read_text())
    path.with_suffix(".json").write_text(json.dumps(description | changes))


@pytest.mark.parametrize(
    ("damage", "message"),
    [
        (lambda p: p.unlink(), r"m\.vmfb: no such file"),
        (lambda p: p.write_bytes(b""), "an empty file"),
        (lambda p: p.write_bytes(b"ONNX model"), "not an IREE module: it begins with b'ONNX mod'"),
        (lambda p: p.write_bytes(VMFB[:-10]), "truncated: 216 bytes without an end of archive"),
        (lambda p: p.write_bytes(VMFB[:100] + VMFB[101:]), r"225 bytes where its \.json says 226"),
        (lambda p: p.write_bytes(VMFB.replace(b"\x01", b"\x02")), "SHA-256"),
        (lambda p: p.with_suffix(".json").unlink(), r"m\.json: missing: a \.vmfb needs the \.json"),
        (lambda p: p.with_suffix(".json").write_text("{"), r"m\.json: not valid JSON"),
        (lambda p: p.with_suffix(".json").write_text("[]"), "not the description of an artifact"),
        (lambda p: _rewrite(p, format="other"), "not the description of an artifact"),
        (lambda p: _rewrite(p, version=2), "version 2 of the format.*this dlas reads version 1"),
        (lambda p: _rewrite(p, target=None), "'target' is NoneType, expected dict"),
        (lambda p: _rewrite(p, inputs=[{"name": "x"}]), r"'inputs\[0\]' is not a name, a shape and a dtype"),
        (
            lambda p: _rewrite(p, outputs=[{"name": "x", "shape": [1], "dtype": "float13"}]),
            r"'outputs\[0\]' has the unknown dtype 'float13'",
        ),
        (lambda p: _rewrite(p, kernels=[{"name": "k"}]), "'kernels' holds a malformed record"),
    ],
)
def test_damage_is_named(artifact: Artifact, tmp_path: Path, damage, message: str) -> None:
    path = artifact.save(tmp_path / "m.vmfb")
    damage(path)
    with pytest.raises(ArtifactError, match=message):
        Artifact.load(path)


def test_a_directory_is_not_an_artifact(tmp_path: Path) -> None:
    with pytest.raises(ArtifactError, match="cannot be read: Is a directory"):
        Artifact.load(tmp_path)


def test_save_says_why_it_cannot_write(artifact: Artifact, tmp_path: Path) -> None:
    with pytest.raises(ArtifactError, match=r"missing/m\.vmfb: cannot be written: No such file or directory"):
        artifact.save(tmp_path / "missing" / "m.vmfb")

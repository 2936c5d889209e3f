"""The roofline: the probe built from source, and a made-up one for the cache and for failures."""

from __future__ import annotations

import json
import shutil
import stat
import subprocess
from pathlib import Path

import pytest

from dlas.compiler.targets import load_target
from dlas.errors import DlasError
from dlas.runtime import roofline
from dlas.runtime.roofline import Roofline, measure

SOURCE = Path(__file__).resolve().parents[2] / "runtime" / "native" / "probe.c"
ANSWER = {"simd": "avx2", "simd_lanes": 8, "peak_gflops": 100.0, "read_gbs": 20.0, "copy_gbs": 15.0}


@pytest.fixture(autouse=True)
def cache(tmp_path, monkeypatch):
    """An empty cache folder."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    roofline._warn_once.cache_clear()
    return tmp_path / "cache" / "dlas"


@pytest.fixture
def probe(tmp_path, monkeypatch):
    """Installs a shell script as the probe; it counts its runs in the file ``runs``."""

    def install(answer: str, exit_code: int = 0) -> Path:
        path = tmp_path / "dlas-probe"
        script = f"#!/bin/sh\necho run >> {tmp_path}/runs\necho '{answer}'\necho 'no luck' >&2\nexit {exit_code}\n"
        path.write_text(script, encoding="utf-8")
        path.chmod(path.stat().st_mode | stat.S_IXUSR)
        monkeypatch.setattr(roofline, "find_probe", lambda: path)
        return tmp_path / "runs"

    return install


def runs(path: Path) -> int:
    return len(path.read_text(encoding="utf-8").splitlines())


@pytest.mark.skipif(shutil.which("cc") is None, reason="no C compiler")
def test_the_probe_measures_this_host(tmp_path, monkeypatch):
    binary = tmp_path / "dlas-probe"
    flags = ["-std=c11", "-D_POSIX_C_SOURCE=200112L", "-D_DEFAULT_SOURCE", "-O3", "-ffp-contract=fast"]
    subprocess.run(["cc", *flags, "-Wall", "-Wextra", "-Werror", str(SOURCE), "-o", str(binary)], check=True)
    monkeypatch.setattr(roofline, "find_probe", lambda: binary)
    found = measure()
    assert 0.5 < found.peak_gflops < 2000
    assert 0.5 < found.bandwidth_gbs < 2000
    target = load_target("x86_64")
    if target.is_host:
        assert found.simd_lanes == target.simd_lanes


def test_the_better_bandwidth_counts(probe):
    probe(json.dumps(ANSWER))
    found = measure()
    assert (found.peak_gflops, found.bandwidth_gbs, found.simd_lanes) == (100.0, 20.0, 8)


def test_a_host_is_measured_once_unless_forced(probe):
    counter = probe(json.dumps(ANSWER))
    assert measure() == measure()
    assert runs(counter) == 1
    measure(force=True)
    assert runs(counter) == 2


def test_a_rebuilt_probe_measures_again(probe):
    counter = probe(json.dumps(ANSWER))
    measure()
    probe(json.dumps(ANSWER | {"peak_gflops": 120.0}))
    assert measure().peak_gflops == 120.0
    assert runs(counter) == 2


@pytest.mark.parametrize("content", ["", "{", "[]", '{"peak_gflops": 1}', '{"peak_gflops": "many"}'])
def test_a_damaged_cache_is_measured_again(probe, cache, content):
    counter = probe(json.dumps(ANSWER))
    expected = measure().peak_gflops
    (file,) = cache.iterdir()
    file.write_text(content, encoding="utf-8")
    assert measure().peak_gflops == expected
    assert runs(counter) == 2


def test_a_cache_folder_that_cannot_be_made_costs_only_a_measurement(probe, tmp_path, monkeypatch):
    probe(json.dumps(ANSWER))
    (tmp_path / "file").touch()
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "file"))
    assert measure().peak_gflops == 100.0


@pytest.mark.parametrize(
    "answer", ["", "peak 100", "[]", json.dumps(ANSWER | {"peak_gflops": 0}), json.dumps({"simd_lanes": 8})]
)
def test_a_wrong_answer_is_an_error(probe, cache, answer):
    probe(answer)
    with pytest.raises(DlasError, match="the roofline probe answered"):
        measure()
    assert not cache.exists()


def test_a_failing_probe_is_an_error(probe):
    probe("", exit_code=3)
    with pytest.raises(DlasError, match="the roofline probe failed: no luck"):
        measure()


def test_without_a_probe_there_is_one_warning(monkeypatch, caplog):
    monkeypatch.setattr(roofline, "find_probe", lambda: None)
    assert measure() is None
    assert measure() is None
    assert [record.message for record in caplog.records] == [
        "the roofline probe is not built (dlas was not installed, or without a C compiler): no share of peak"
    ]


def test_the_roof_is_flat_then_slanted():
    roof = Roofline(peak_gflops=100.0, bandwidth_gbs=20.0, simd_lanes=8, cached_at="")
    assert roof.attainable_gflops(flops=1000, moved_bytes=10) == 100.0
    assert roof.attainable_gflops(flops=100, moved_bytes=100) == 20.0
    assert roof.attainable_gflops(flops=100, moved_bytes=0) == 100.0

"""``dlas.benchmarks.networks`` on invented rows: tables, expected times, figures, resuming. Nothing is timed."""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import pytest

from dlas.benchmarks import PEERS, BenchReport, Row, network_plots, networks
from dlas.benchmarks.network_report import (
    NETWORKS,
    KernelClass,
    Network,
    NetworkReport,
    expected_times,
    family,
    kernel_classes,
    markdown,
    panels,
)
from dlas.benchmarks.networks import keep_copy, load_report, main, measure, write_atomically, write_outputs
from dlas.benchmarks.report import host, versions
from dlas.benchmarks.source import resolve
from dlas.errors import ArtifactError, UsageError

S, G4 = "zoo:wrn-40-2,groups=S", "zoo:wrn-40-2,groups=4"
CLASSES = (KernelClass("grouped", 80.0, 0.8, 90.0, 0.9), KernelClass("IREE", 20.0, 0.2, None, None))
SETTINGS = {"threads": 1, "runs": 50, "target": "x86_64"}


@pytest.fixture
def report() -> NetworkReport:
    rows = (
        Row(S, "dlas", 1, 8.0, 7.9, 8.1, 8.0, 1e-6, 30.0, 40.0),
        Row(S, "onnxruntime", 1, 10.0, 9.0, 11.0, 10.0, 1e-6, 0.1, 60.0),
        Row(S, "torch", 1, 20.0, 19.0, 21.0, 20.0, 1e-7, 0.0, 300.0),
        Row(S, "tvm", 1, status="a | b"),
        Row(G4, "dlas", 1, 3.0, 2.9, 3.1, 3.0, 2e-6, 30.0, 40.0),
        Row(G4, "onnxruntime", 1, 6.0, 5.9, 6.1, 6.0, 1e-6, 0.1, 60.0),
        Row(G4, "torch", 1, 1.0, 0.9, 1.1, 1.0, 0.5, 0.0, 300.0, "wrong result: relative error 5.0e-01"),
        Row(G4, "tvm", 1, status="a | b"),
    )
    known = {
        S: Network("2026-01-01T00:00:00+00:00", "abc", 320_000_000, CLASSES),
        G4: Network("2026-01-01T00:00:00+00:00", None, 80_000_000, CLASSES),
    }
    return NetworkReport(SETTINGS, BenchReport(host(), versions(()), rows), known)


def test_the_table_is_the_papers_and_eight_more() -> None:
    assert len(NETWORKS) == len(set(NETWORKS)) == 26
    assert [len(members) for members in panels(NETWORKS).values()] == [6, 6, 6, 8]
    assert all(resolve(model).kind == "zoo" for model in NETWORKS)


def test_families() -> None:
    assert family("zoo:resnet34,groups=4,size=64") == ("zoo:resnet34,size=64", "4")
    assert family("zoo:vgg16") is None and family("groups=4,x.onnx") is None
    mixed = ["zoo:vgg16", "zoo:a,groups=N", "zoo:a,groups=16", "zoo:a,groups=S", "zoo:a,groups=2"]
    assert panels(mixed) == {"zoo:a": [f"zoo:a,groups={g}" for g in ("S", "2", "16", "N")], "": ["zoo:vgg16"]}


def test_expected_time_is_that_of_s_by_the_operations(report: NetworkReport) -> None:
    entries = {(entry.peer, entry.groups): entry for entry in expected_times(report)}
    assert entries["dlas", "4"].expected_ms == pytest.approx(8.0 * 80 / 320)
    assert entries["dlas", "4"].ratio == pytest.approx(3.0 / 2.0)
    assert entries["onnxruntime", "4"].ratio == pytest.approx(6.0 / 2.5)
    assert entries["dlas", "S"].ratio == 1.0
    assert ("torch", "4") not in entries, "a wrong result has no time"
    assert not any(peer == "tvm" for peer, _ in entries)


def test_no_expected_time_without_s(report: NetworkReport) -> None:
    alone = NetworkReport(SETTINGS, BenchReport({}, {}, report.bench.rows[4:]), {G4: report.networks[G4]})
    assert expected_times(alone) == [] and network_plots.expected(alone) is None


def test_fastest_of_the_others_is_correct(report: NetworkReport) -> None:
    assert report.fastest(S) == ("onnxruntime", 1.25)
    assert report.fastest(G4) == ("onnxruntime", 2.0)
    assert report.fastest("zoo:vgg16") is None


def test_markdown(report: NetworkReport) -> None:
    lines = markdown(report).splitlines()
    assert "| network | dlas | onnxruntime | torch | fastest / dlas | max error of dlas |" in lines
    assert "| wrn-40-2,groups=S | 8.00 | 10.0 | 20.0 | 1.25x (onnxruntime) | 1.0e-06 |" in lines
    assert "| wrn-40-2,groups=4 | 3.00 | 6.00 | 1.00 (!) | 2.00x (onnxruntime) | 2.0e-06 |" in lines
    assert "| onnxruntime | 1.58x (2) | 2.40 (1) |" in lines
    assert "| fastest of the others | 1.58x (2) | - |" in lines
    assert "320 M multiply-accumulates, measured 2026-01-01T00:00:00+00:00, commit abc" in lines
    assert r"| tvm | - | - | - | - | - | - | - | a \| b |" in lines
    assert "| grouped | 80 | 80.0% | 90.0 | 90.0% |" in lines and "| IREE | 20 | 20.0% | - | - |" in lines
    assert any(line.startswith("- settings: threads 1, runs 50") for line in lines)


def test_json_goes_round(report: NetworkReport) -> None:
    data = json.loads(json.dumps(report.to_json(), allow_nan=False))
    assert NetworkReport.from_json(data) == report
    assert data["geometric_means"]["onnxruntime"] == pytest.approx((1.25 * 2.0) ** 0.5)


def test_networks_are_kept_in_the_order_of_the_table(report: NetworkReport) -> None:
    known = Network("2026-01-01T00:00:00+00:00")
    for model in ("x.onnx", "zoo:vgg16", "zoo:wrn-40-2,groups=2", S):
        report = report.with_network(model, BenchReport(host(), {}, (Row(model, "dlas", 1, 1.0),)), known)
    assert report.models == [S, "zoo:wrn-40-2,groups=2", G4, "zoo:vgg16", "x.onnx"] == list(report.networks)
    assert [row.peer for row in report.bench.rows if row.model == S] == ["dlas"], "its rows are replaced"


def test_kernel_classes_weigh_kernels_by_their_time() -> None:
    def kernel(kind: str, flops: int, calls: int, time_us: float, **rest: Any) -> dict[str, Any]:
        return {
            "kind": kind,
            "flops": flops,
            "calls": calls,
            "time_us": time_us,
            "fallback": None,
            "schedule": "s",
            **rest,
        }

    explanation = {
        "time_us": 100.0,
        "roofline": {"peak_gflops": 100.0},
        "kernels": [
            kernel("conv", 1_000_000, 2, 40.0),
            kernel("conv", 1_000_000, 1, 20.0),
            kernel("conv", 2_000_000, 1, 10.0, schedule="winograd_conv"),
            kernel("linalg.softmax", 0, 1, 25.0, schedule=None, fallback="IREE"),
            kernel("pad", 0, 1, 5.0),
        ],
    }
    classes = {entry.name: entry for entry in kernel_classes(explanation)}
    assert list(classes) == ["conv", "IREE", "conv, Winograd", "pad"]
    assert classes["conv"].gflops == pytest.approx(50.0) and classes["conv"].peak_share == pytest.approx(0.5)
    assert classes["conv"].time_share == pytest.approx(0.6)
    assert classes["conv, Winograd"].peak_share == pytest.approx(2.0)
    assert classes["IREE"].peak_share is None
    assert all(entry.peak_share is None for entry in kernel_classes({**explanation, "roofline": None}))


def test_all_files_are_written_and_read_back(report: NetworkReport, tmp_path: Path) -> None:
    write_outputs(report, tmp_path / "a" / "b")
    names = {path.name for path in (tmp_path / "a" / "b").iterdir()}
    assert names == {"networks.json", "networks.md", "latency.png", "expected.png", "share.png"}
    assert load_report(tmp_path / "a" / "b" / "networks.json") == report


def test_rows_without_times_still_make_tables_and_figures(tmp_path: Path) -> None:
    rows = (Row(S, "dlas", 1, status="model: broken"),)
    write_outputs(NetworkReport(SETTINGS, BenchReport(host(), {}, rows), {S: Network("now")}), tmp_path)
    assert {path.name for path in tmp_path.iterdir()} == {"networks.json", "networks.md", "latency.png"}


def test_a_write_that_fails_leaves_the_old_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "f"
    write_atomically(path, b"old")

    def fail(*_: object) -> None:
        assert path.read_bytes() == b"old"
        raise OSError("disk full")

    monkeypatch.setattr(os, "fsync", fail)
    with pytest.raises(OSError, match="disk full"):
        write_atomically(path, b"new")
    assert path.read_bytes() == b"old" and os.listdir(tmp_path) == ["f"]


def test_copies_never_replace_copies(tmp_path: Path) -> None:
    path = tmp_path / "networks.json"
    for number in (1, 2):
        path.write_text(str(number))
        assert keep_copy(path).name == f"networks.{number}.json"
    assert (tmp_path / "networks.1.json").read_text() == "1"


@pytest.mark.parametrize("text", ["{", "{}", "[]", '{"host": {}, "versions": {}, "rows": [{}], "networks": {}}'])
def test_another_file_is_refused_and_left_alone(text: str, tmp_path: Path) -> None:
    (tmp_path / "networks.json").write_text(text)
    with pytest.raises(ArtifactError, match="not a report of networks"):
        measure([S], ["dlas"], tmp_path, fresh=True)
    assert (tmp_path / "networks.json").read_text() == text


Calls = list[tuple[str, tuple[str, ...]]]


@pytest.fixture
def calls(monkeypatch: pytest.MonkeyPatch) -> Calls:
    """Has an invented measurement, which keeps what it was asked for, instead of the real one."""
    made: Calls = []

    def bench(
        models: Sequence[str], peers: Sequence[str], *, threads: int, progress: Callable, **_: Any
    ) -> BenchReport:
        made.append((models[0], tuple(peers)))
        if progress is not None:
            progress(0, 2, models[0])
        rows = (Row(models[0], peer, threads, float(len(made)), max_rel_err=1e-6) for peer in peers)
        return BenchReport(host(), versions(()), tuple(rows))

    monkeypatch.setattr(networks, "bench", bench)
    monkeypatch.setattr(networks, "_explain", lambda *_: (CLASSES, ""))
    return made


def test_a_stopped_run_goes_on(calls: Calls, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def stop(_report: NetworkReport, model: str) -> None:
        if model == G4:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        measure([S, G4, "zoo:vgg16"], ["dlas", "torch"], tmp_path, finished=stop)
    steps: list[tuple[int, int, str]] = []
    report = measure(
        [S, G4, "vgg16"], ["dlas", "torch"], tmp_path, progress=lambda *step: steps.append(step), finished=None
    )
    assert [model for model, _ in calls] == [S, G4, "zoo:vgg16"]
    assert report.models == [S, G4, "zoo:vgg16"] and report == load_report(tmp_path / "networks.json")
    assert report.networks[S].macs == pytest.approx(328e6, rel=0.01)
    assert steps == [(0, 2, "[1/1] zoo:vgg16")]
    assert not (tmp_path / "networks.1.json").exists(), "nothing was replaced"


def test_a_new_peer_is_measured_beside_the_old_ones(calls: Calls, tmp_path: Path) -> None:
    measure([S], ["dlas", "torch"], tmp_path)
    measure([S], ["dlas"], tmp_path)
    report = measure([S], ["dlas", "onnxruntime"], tmp_path)
    assert calls == [(S, ("dlas", "torch")), (S, ("dlas", "onnxruntime", "torch"))]
    assert report.peers == ["dlas", "onnxruntime", "torch"]
    kept = load_report(tmp_path / "networks.1.json")
    assert kept is not None and kept.peers == ["dlas", "torch"]


def test_a_peer_installed_since_is_measured(calls: Calls, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    report = measure([S], ["dlas", "tvm"], tmp_path)
    rows = (report.bench.rows[0], Row(S, "tvm", 1, status="not installed (pip install apache-tvm)"))
    write_outputs(NetworkReport(SETTINGS, BenchReport(host(), versions(()), rows), report.networks), tmp_path)
    monkeypatch.setattr(PEERS["tvm"], "missing", lambda: ["apache-tvm"])
    measure([S], ["dlas", "tvm"], tmp_path)
    assert len(calls) == 1
    monkeypatch.setattr(PEERS["tvm"], "missing", lambda: [])
    measure([S], ["dlas", "tvm"], tmp_path)
    assert len(calls) == 2


def test_fresh_measures_what_was_asked_for_and_keeps_the_rest(calls: Calls, tmp_path: Path) -> None:
    measure([S, G4], ["dlas"], tmp_path)
    report = measure([G4], ["dlas"], tmp_path, fresh=True)
    assert [row.median_ms for row in report.bench.rows] == [1.0, 3.0]
    kept = load_report(tmp_path / "networks.1.json")
    assert kept is not None and [row.median_ms for row in kept.bench.rows] == [1.0, 2.0]


def test_other_settings_are_not_mixed(calls: Calls, tmp_path: Path) -> None:
    measure([S], ["dlas"], tmp_path)
    with pytest.raises(UsageError, match="holds results with runs 50, not 3.*--fresh to start over"):
        measure([G4], ["dlas"], tmp_path, runs=3)
    report = measure([G4], ["dlas"], tmp_path, runs=3, fresh=True)
    assert report.models == [G4] and (tmp_path / "networks.1.json").exists()


def test_wrong_usage_is_refused_before_anything_is_measured(calls: Calls, tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="unknown zoo model 'nothing'"):
        measure([S, "nothing"], ["dlas"], tmp_path)
    assert main(["--peers", "nobody", "--out", str(tmp_path)]) == 2
    assert calls == [] and not list(tmp_path.iterdir())


def test_a_folder_that_cannot_be_made_is_refused_before_anything_is_measured(calls: Calls, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(ArtifactError, match="cannot be made"):
        measure([S], ["dlas"], tmp_path / "file" / "out")
    assert calls == []


def test_command(calls: Calls, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["--models", S, G4, "--peers", "torch", "--out", str(tmp_path)]) == 0
    output = capsys.readouterr()
    assert "| wrn-40-2,groups=4 | 2.00 | 2.00 | 1.00x (torch) | 1.0e-06 |" in output.out
    assert f"{S}: dlas 1 ms, torch 1 ms" in output.err
    assert calls == [(S, ("dlas", "torch")), (G4, ("dlas", "torch"))]

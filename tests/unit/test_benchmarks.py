"""The benchmark runner: report, table and plot; missing, failing and crashing peers as rows; a tiny model for real."""

from __future__ import annotations

import io
import json
import math
import os
import subprocess
import sys
import time
from dataclasses import fields
from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper
from rich.console import Console

from dlas.benchmarks import PEERS, BenchReport, Row, bench
from dlas.benchmarks.layers import (
    SPARSE_SHAPES,
    LayerShape,
    geometric_means,
    grid,
    layer_table,
    main,
    reasons,
    sparsity_means,
)
from dlas.benchmarks.onnx_reference import random_inputs, reference_outputs
from dlas.benchmarks.peers.compilers import first_complaint
from dlas.benchmarks.peers.engines import batch_dimensions, foreign_layers
from dlas.benchmarks.process import WorkerError, WorkerProcess
from dlas.benchmarks.report import host, versions
from dlas.benchmarks.source import max_relative_error, resolve
from dlas.errors import DlasError, UsageError

TINY = "layer:c=4,h=4,groups=2"
ROW_KEYS = [
    "model", "peer", "threads", "median_ms", "p10_ms", "p90_ms", "cpu_ms", "max_rel_err", "compile_s", "peak_rss_mb",
    "status",
]  # fmt: skip


@pytest.fixture
def report() -> BenchReport:
    return BenchReport(
        {"cpu": "a cpu"},
        {"python": "3"},
        (
            Row("a", "dlas", 1, 2.0, 1.9, 2.1, 2.0, 1e-6, 3.0, 40.0),
            Row("a", "torch", 1, 5.0, 4.5, 5.5, 5.0, 1e-7, 0.0, 300.0),
            Row("a", "tvm", 1, status="not installed (pip install apache-tvm)"),
            Row("b", "dlas", 1, 0.01, 0.009, 0.012, 0.01, math.nan, 3.0, 40.0),
            Row("b", "torch", 1, 0.08, 0.07, 0.09, 0.08, 1e-7, 0.0, 300.0),
            Row("b", "tvm", 1, status="not installed (pip install apache-tvm)"),
        ),
    )


def render(table: object) -> str:
    console = Console(width=160, record=True, file=io.StringIO())
    console.print(table)
    return console.export_text()


def test_json_has_the_documented_shape(report: BenchReport) -> None:
    data = json.loads(json.dumps(report.to_json(), allow_nan=False))
    assert set(data) == {"host", "versions", "rows"}
    assert [list(row) for row in data["rows"]] == [ROW_KEYS] * 6
    assert [field.name for field in fields(Row)] == ROW_KEYS
    assert data["rows"][2]["median_ms"] is None and data["rows"][3]["max_rel_err"] is None


def test_table_shows_times_ratios_and_reasons(report: BenchReport) -> None:
    text = render(report.table())
    for expected in ("2.00", "2.50x", "8.00x", "0.0100", "1.0e-06", "not installed (pip install apache-tvm)", "a cpu"):
        assert expected in text


def test_table_shows_brackets_literally() -> None:
    status = "ValueError: shape [1, 3, 8] of [bold]x[/bold] at [/usr]"
    text = render(BenchReport({"cpu": "cpu [x]"}, {}, (Row("a[b].onnx", "torch", 1, status=status),)).table())
    for expected in (status, "a[b].onnx", "cpu [x]"):
        assert expected in text


def test_ratio_needs_both_times(report: BenchReport) -> None:
    assert [report.ratio(row) for row in report.rows] == [1.0, 2.5, None, 1.0, 8.0, None]
    assert BenchReport({}, {}, report.rows[1:2]).ratio(report.rows[1]) is None


@pytest.mark.parametrize("rows", [slice(None), slice(2, 3)], ids=["all", "nothing timed"])
def test_plot_is_written(report: BenchReport, rows: slice, tmp_path: Path) -> None:
    path = BenchReport(report.host, report.versions, report.rows[rows]).plot(tmp_path / "plot.png")
    assert path.read_bytes().startswith(b"\x89PNG")


def test_host_and_versions() -> None:
    assert {"cpu", "cpus", "memory_gb", "machine", "system"} == set(host())
    found = versions(["numpy", "no-such-distribution"])
    assert found["numpy"] == np.__version__ and "no-such-distribution" not in found


def test_registry_has_every_peer() -> None:
    torches = ["torch", "torch.compile", "aotinductor"]
    assert list(PEERS) == ["dlas", *torches, "onnxruntime", "openvino", "iree", "tvm", "litert", "ncnn", "deepsparse"]
    assert all(peer.environment(3)["OMP_NUM_THREADS"] == "3" for peer in PEERS.values())


def test_a_peer_in_a_python_of_its_own(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A bare interpreter with numpy stands for the environment; the engine is a module that doubles its input."""
    package = tmp_path / "deepsparse.py"
    package.write_text(
        "class Engine:\n"
        "    def __init__(self, path, batch_size, num_cores): self.size = batch_size, num_cores\n"
        "    def run(self, inputs, val_inp=True): return [inputs[0] * 2]\n"
    )
    python = tmp_path / "python"
    paths = f"{tmp_path}{os.pathsep}{Path(np.__file__).parents[1]}"
    python.write_text(f'#!/bin/sh\nPYTHONPATH={paths} exec {sys._base_executable} "$@"\n')
    python.chmod(0o755)
    monkeypatch.setenv("DLAS_DEEPSPARSE_PYTHON", str(python))
    row = bench([TINY], ["deepsparse"], runs=10).rows[0]
    assert row.status.startswith("wrong") and row.median_ms is not None and row.max_rel_err is not None
    for name in ("", str(tmp_path / "none")):
        monkeypatch.setenv("DLAS_DEEPSPARSE_PYTHON", name)
        row = bench([TINY], ["deepsparse"]).rows[0]
        assert row.status.startswith("not installed (pip install deepsparse in an environment of its own")


PNNX_SCRIPT = """
    in0 = torch.rand(2, 3, 8, 8, dtype=torch.float)
            ex.input("in0", ncnn.Mat(in0.numpy(), batch_index=0).clone())
            ex.input("in1", ncnn.Mat(in1.numpy(), batch_index=233).clone())

            _, out0 = ex.extract("out0")
            out.append(torch.from_numpy(out0.numpy(batch_index=1)))
"""


def test_what_pnnx_writes_is_understood() -> None:
    assert batch_dimensions(PNNX_SCRIPT) == ({"in0": 0, "in1": 233}, {"out0": 1})
    with pytest.raises(DlasError, match="pnnx states no batch dimensions"):
        batch_dimensions('ex.input("in0", ncnn.Mat(in0.squeeze(0).numpy()).clone())')
    layers = [
        "7767517", "5 5", "Input in0 0 1 in0", "aten::erfinv pnnx_1 1 1 in0 1", "ReLU relu_0 1 1 1 2",
        "Tensor.slice slice_0 1 1 2 3", "aten::erfinv pnnx_2 1 1 3 out0",
    ]  # fmt: skip
    assert foreign_layers("\n".join(layers)) == ["aten::erfinv", "Tensor.slice"]


@pytest.mark.parametrize(
    ("script", "status"),
    [
        ("echo level 0; echo segment 7 >&2; exit 3", "pnnx failed with code 3: segment 7"),
        ("kill -s SEGV $$", "pnnx failed with code -11: it said nothing"),
        ("exit 0", "pnnx failed with code 0: it said nothing"),
        (
            'for a; do case $a in ncnnparam=*) printf "7767517\\n1 1\\naten::erfinv p 1 1 in0 out0\\n" '
            '> "${a#*=}" ;; esac; done',
            "ncnn has no layer for aten::erfinv",
        ),
    ],
    ids=["fails", "crashes", "writes nothing", "leaves a layer"],
)
def test_a_module_that_pnnx_cannot_convert(
    script: str, status: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    program = tmp_path / "program"
    program.write_text(f"#!/bin/sh\n{script}\n")
    program.chmod(0o755)
    (tmp_path / "pnnx.py").write_text(f"EXEC_PATH = {str(program)!r}\n")
    (tmp_path / "ncnn.py").write_text("")
    monkeypatch.syspath_prepend(tmp_path)
    row = bench([TINY], ["ncnn"]).rows[0]
    assert row.status == status and row.median_ms is None


@pytest.mark.parametrize("peer", ["ncnn", "litert", "tvm"])
def test_a_peer_that_may_be_installed(peer: str) -> None:
    """BERT's input is of int64, which ncnn and LiteRT take as int32."""
    if missing := PEERS[peer].missing():
        pytest.skip(f"needs {' '.join(missing)}")
    for row in bench([TINY, f"{TINY},batch=2", "bert-base,seq=4,layers=1"], [peer], runs=10).rows:
        assert row.status == "ok" and row.max_rel_err is not None and row.max_rel_err < 1e-5


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"models": [TINY], "peers": ["torhc"]}, "unknown peer 'torhc'.*known: dlas, torch"),
        ({"models": ["resnet35"], "peers": ["torch"]}, "unknown zoo model 'resnet35'"),
        ({"models": ["layer:q=3"], "peers": ["torch"]}, "unknown key 'q'"),
        ({"models": ["missing.onnx"], "peers": ["torch"]}, "missing.onnx: no such file"),
        ({"models": [__file__], "peers": ["torch"]}, "cannot benchmark a .py file"),
        ({"models": [], "peers": ["torch"]}, "models: nothing to measure"),
        ({"models": [TINY], "peers": []}, "peers: nothing to measure"),
        ({"models": [TINY], "peers": ["torch"], "threads": 0}, "cannot measure 0 threads"),
        ({"models": [TINY], "peers": ["torch"], "threads": 100_000}, "cannot measure 100000 threads"),
        ({"models": [TINY], "peers": ["torch"], "runs": 0}, "must be positive"),
    ],
)
def test_wrong_usage_is_refused_before_anything_runs(arguments: dict, message: str) -> None:
    with pytest.raises(UsageError, match=message):
        bench(**arguments)


def test_tiny_model_on_torch_and_onnxruntime(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(PEERS["tvm"], "missing", lambda: ["apache-tvm"])
    # A process that cannot even start stands for every crash.
    monkeypatch.setattr(PEERS["openvino"], "environment", lambda threads: {"PYTHONHASHSEED": "nonsense"})
    steps: list[tuple[int, int, str]] = []
    report = bench(
        [TINY, TINY],
        ["onnxruntime", "torch", "tvm", "openvino"],
        runs=20,
        progress=lambda done, total, what: steps.append((done, total, what)),
    )
    assert [(row.model, row.peer) for row in report.rows] == [
        (TINY, peer) for peer in ("onnxruntime", "torch", "tvm", "openvino")
    ]
    for row in report.rows[:2]:
        assert row.status == "ok" and row.threads == 1
        assert row.p10_ms is not None and row.median_ms is not None and row.p90_ms is not None
        assert 0 < row.p10_ms <= row.median_ms <= row.p90_ms
        assert row.max_rel_err is not None and row.max_rel_err < 1e-5
        assert row.cpu_ms is not None and row.compile_s is not None
        assert row.peak_rss_mb is not None and row.peak_rss_mb > 10
    assert report.rows[2].status == "not installed (pip install apache-tvm)"
    assert report.rows[2].median_ms is None
    assert report.rows[3].status.startswith(("exited with code", "crashed"))
    assert {"torch", "onnxruntime"} <= set(report.versions)
    done, totals, _ = zip(*steps, strict=True)
    assert list(done) == sorted(done) and set(totals) == {len(steps)}


def test_a_failing_peer_and_a_foreign_model_are_rows(tmp_path: Path) -> None:
    path = _onnx_model(tmp_path / "m.onnx")
    report = bench([str(path)], ["torch", "onnxruntime"], runs=10)
    assert report.rows[0].status == "takes no onnx model"
    assert report.rows[1].status == "ok"
    assert report.rows[1].max_rel_err is not None and report.rows[1].max_rel_err < 1e-5


def test_a_model_that_cannot_be_built_fails_every_row(tmp_path: Path) -> None:
    path = tmp_path / "broken.onnx"
    path.write_bytes(b"not a model")
    report = bench([str(path)], ["onnxruntime", "openvino"])
    assert len(report.rows) == 2 and all(row.status.startswith("model: ") for row in report.rows)


def test_worker_answers_errors_survives_them_and_reports_its_death(tmp_path: Path) -> None:
    with WorkerProcess({}, tmp_path / "log") as worker:
        source = {"label": "x", "kind": "zoo", "text": "nothing"}
        opened = {"source": source, "folder": str(tmp_path), "threads": 1, "target": ""}
        assert worker.request("open", timeout_s=60, **opened) == {}
        with pytest.raises(WorkerError, match="unknown zoo model 'nothing'") as caught:
            worker.request("reference", timeout_s=60)
        assert not caught.value.dead
        assert worker.request("memory", timeout_s=60)["peak_rss_mb"] > 1
        worker._signal(9)
        with pytest.raises(WorkerError, match="SIGKILL") as caught:
            worker.request("memory", timeout_s=60)
        assert caught.value.dead


def test_worker_that_does_not_answer_in_time_is_killed(tmp_path: Path) -> None:
    with WorkerProcess({}, tmp_path / "log") as worker:
        with pytest.raises(WorkerError, match="timed out after 0 s in memory") as caught:
            worker.request("memory", timeout_s=0)
        assert caught.value.dead and worker._process.poll() is not None


@pytest.mark.skipif(sys.platform != "linux", reason="the kernel's parent-death signal is Linux's")
def test_stopped_worker_does_not_outlive_a_killed_runner(tmp_path: Path) -> None:
    script = (
        "import os, sys; from pathlib import Path; from dlas.benchmarks.process import WorkerProcess;"
        f"worker = WorkerProcess({{}}, Path({str(tmp_path / 'log')!r})); worker.request('memory', timeout_s=60);"
        "print(worker._process.pid, flush=True); os.kill(os.getpid(), 9)"
    )
    path = os.pathsep.join(entry or str(Path.cwd()) for entry in sys.path)
    environment = {**os.environ, "PYTHONPATH": path, "PYTHONSAFEPATH": "1"}
    runner = subprocess.run([sys.executable, "-c", script], env=environment, stdout=subprocess.PIPE, text=True)
    worker = Path(f"/proc/{int(runner.stdout)}/status")
    deadline = time.monotonic() + 10
    while worker.exists() and "State:\tZ" not in worker.read_text() and time.monotonic() < deadline:
        time.sleep(0.05)
    assert not worker.exists() or "State:\tZ" in worker.read_text()


def test_what_a_compiler_complains_of() -> None:
    said = "Error invoking tool\nDiagnostics:\nm.mlir:3:1: error: 'func.func' op has no body\nfoo: error: second"
    assert first_complaint(said) == "'func.func' op has no body"
    assert first_complaint("Error code: -9\nkilled \n") == "killed"
    assert first_complaint("") == "no message"


@pytest.mark.parametrize(
    ("said", "complaint"), [(b"", "Error code: -9"), (b"a.cpp:3\nout of memory\n", "out of memory")]
)
def test_what_iree_compile_complains_of_when_it_names_no_error(said: bytes, complaint: str) -> None:
    tools = pytest.importorskip("iree.compiler")
    process = subprocess.CompletedProcess(["iree-compile", "-"], -9, stderr=said)
    assert first_complaint(str(tools.CompilerToolError(process))) == complaint


def test_relative_error() -> None:
    y64 = np.array([1.0, -4.0])
    assert max_relative_error([np.array([1.0, -4.4], np.float32)], [y64]) == pytest.approx(0.1)
    assert max_relative_error([np.array([1.0, np.nan])], [y64]) == math.inf
    assert max_relative_error([np.array([[1.0, -4.0]])], [y64]) == math.inf
    assert max_relative_error([y64, y64], [y64]) == math.inf
    assert max_relative_error([np.zeros(2)], [np.zeros(2)]) == 0.0


def test_models_resolve_with_and_without_prefix(tmp_path: Path) -> None:
    assert resolve("zoo:resnet18").text == resolve("resnet18").text == "resnet18"
    assert resolve("zoo:resnet18").label == "zoo:resnet18"
    path = _onnx_model(tmp_path / "m.onnx")
    assert resolve(str(path)).kind == "onnx"


def test_onnx_reference_is_float64(tmp_path: Path) -> None:
    path = _onnx_model(tmp_path / "m.onnx")
    inputs = random_inputs(path)
    assert {name: (x.shape, x.dtype.name) for name, x in inputs.items()} == {"x": ((2, 3), "float32")}
    outputs = reference_outputs(path, inputs)
    assert outputs is not None and outputs[0].dtype == np.float64
    weight = numpy_helper.to_array(onnx.load(path).graph.initializer[0]).astype(np.float64)
    np.testing.assert_allclose(outputs[0], inputs["x"].astype(np.float64) @ weight + 0.5, rtol=1e-14)


def test_onnx_inputs_need_static_shapes(tmp_path: Path) -> None:
    path = _onnx_model(tmp_path / "m.onnx", rows="batch")
    with pytest.raises(UsageError, match="input 'x' has no static shape"):
        random_inputs(path)


def test_layer_grid() -> None:
    specs = grid()
    assert len(specs) == 35 and len(set(specs)) == 35
    assert specs[0] == "layer:c=32,h=32,groups=1"
    assert grid([LayerShape(64, 16)], [4], depth=4) == ["layer:c=64,h=16,groups=4,depth=4"]
    shape = LayerShape.parse("64-96@16k1s2")
    rest = "h=16,groups=2,c_out=96,k=1,stride=2"
    assert grid([shape], [2, 64], sparsity=[0.0, 0.9]) == [f"layer:c=64,{rest}", f"layer:c=64,{rest},sparsity=0.9"]
    assert LayerShape.parse("64@16", stride=2) == LayerShape(64, 16, stride=2)
    assert all(resolve(spec).kind == "zoo" for spec in specs + grid(SPARSE_SHAPES, [1], sparsity=[0.8]))


def test_sparsity_means() -> None:
    model = "layer:c=8,h=4,groups=1,sparsity=0.9"
    rows = [Row(model, "dlas", 1, 2.0), Row(model, "torch", 1, 9.0), Row(model, "openvino", 1, 7.0)]
    rows.append(Row(model.replace("h=4", "h=16"), "dlas", 1, 1.0))
    assert sparsity_means(BenchReport({}, {}, tuple(rows))) == {"0.9": (3.5, 1)}


def test_layer_table_and_geometric_means(report: BenchReport) -> None:
    means = geometric_means(report)
    assert means == pytest.approx({"dlas": 1.0, "torch": math.sqrt(2.5 * 8.0)})
    text = render(layer_table(report))
    assert "4.47x" in text and "2000" in text and "geometric mean" in text
    assert reasons(report) == ["tvm: not installed (pip install apache-tvm) (2 layers)"]


def test_layers_command(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = tmp_path / "r.json"
    code = main(["--peers", "onnxruntime", "--shapes", "8@4", "--groups", "2", "--runs", "10", "--json", str(path)])
    assert code == 0 and "c=8,h=4,groups=2" in capsys.readouterr().out
    data = json.loads(path.read_text())
    assert data["rows"][0]["status"] == "ok" and data["geometric_means"] == {}


def test_layers_command_refuses_shapes(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        main(["--shapes", "64@16@2"])
    assert "'64@16@2' is not C[-C_OUT]@H[kK][sS]" in capsys.readouterr().err


def test_layers_command_refuses_an_unknown_peer(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["--peers", "nobody"]) == 2
    assert "unknown peer 'nobody'" in capsys.readouterr().err


def _onnx_model(path: Path, rows: int | str = 2) -> Path:
    """x[rows, 3] @ w[3, 2] + 0.5, the bias in a Constant node."""
    weight = numpy_helper.from_array(np.random.default_rng(0).standard_normal((3, 2)).astype(np.float32), "w")
    bias = numpy_helper.from_array(np.array(0.5, np.float32), "b")
    graph = helper.make_graph(
        [
            helper.make_node("Constant", [], ["b"], value=bias),
            helper.make_node("MatMul", ["x", "w"], ["p"]),
            helper.make_node("Add", ["p", "b"], ["y"]),
        ],
        "g",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, [rows, 3])],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, [rows, 2])],
        [weight],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=9)
    onnx.save(model, path)
    return path

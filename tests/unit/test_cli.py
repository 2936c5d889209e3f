"""The ``dlas`` command in this process: what it prints where, as text and as JSON, and its exit codes."""

from __future__ import annotations

import io
import json
import re
import subprocess
import sys
import warnings
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from dlas import __version__, benchmarks, runtime
from dlas.benchmarks import BenchReport, Row
from dlas.compiler.cli import console, main
from dlas.compiler.frontends import zoo
from dlas.compiler.targets import list_targets
from dlas.runtime import roofline
from dlas.runtime.artifact import Artifact
from dlas.schedules.rules import SCHEDULES

pytest.importorskip("torch_mlir")
pytest.importorskip("iree.compiler")

WEIGHTS = np.random.default_rng(5).standard_normal((33, 32, 1, 1), np.float32)

# Two layers: a pointwise convolution that gets a schedule, and one of 11 groups of 3 channels, which fill no blocks,
# with a kernel too large to be unrolled.
MODEL = """
func.func @main(%x: tensor<1x32x9x9xf32>) -> tensor<1x33x4x4xf32> {
  %zero = arith.constant 0.0 : f32
  %w = arith.constant dense<"0xWEIGHTS"> : tensor<33x32x1x1xf32>
  %e = tensor.empty() : tensor<1x33x9x9xf32>
  %i = linalg.fill ins(%zero : f32) outs(%e : tensor<1x33x9x9xf32>) -> tensor<1x33x9x9xf32>
  %y = linalg.conv_2d_nchw_fchw {dlas.layer = "scheduled"} ins(%x, %w : tensor<1x32x9x9xf32>, tensor<33x32x1x1xf32>)
      outs(%i : tensor<1x33x9x9xf32>) -> tensor<1x33x9x9xf32>
  %g = tensor.expand_shape %y [[0], [1, 2], [3], [4]] output_shape [1, 11, 3, 9, 9]
      : tensor<1x33x9x9xf32> into tensor<1x11x3x9x9xf32>
  %wg = arith.constant dense<0.5> : tensor<11x3x3x6x6xf32>
  %eg = tensor.empty() : tensor<1x11x3x4x4xf32>
  %ig = linalg.fill ins(%zero : f32) outs(%eg : tensor<1x11x3x4x4xf32>) -> tensor<1x11x3x4x4xf32>
  %yg = linalg.conv_2d_ngchw_gfchw {dlas.layer = "refused", dilations = dense<1> : vector<2xi64>,
                                    strides = dense<1> : vector<2xi64>}
      ins(%g, %wg : tensor<1x11x3x9x9xf32>, tensor<11x3x3x6x6xf32>) outs(%ig : tensor<1x11x3x4x4xf32>)
      -> tensor<1x11x3x4x4xf32>
  %r = tensor.collapse_shape %yg [[0], [1, 2], [3], [4]] : tensor<1x11x3x4x4xf32> into tensor<1x33x4x4xf32>
  return %r : tensor<1x33x4x4xf32>
}
""".replace("WEIGHTS", WEIGHTS.tobytes().hex())
REFUSAL = "11 groups of 3 to 3 channels do not fill blocks of"
STAGES = ["import", "canonicalise", "optimise", "schedule", "codegen", "package"]
ROW = Row("zoo:layer", "dlas", 1, 1.0, 0.9, 1.1, 1.0, 1e-7, 2.0, 100.0)


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("model") / "two.mlir"
    path.write_text(MODEL)
    return path


@pytest.fixture(scope="module")
def vmfb(model: Path) -> Path:
    path = model.with_suffix(".vmfb")
    assert main(["compile", str(model), "-o", str(path)]) == 0
    return path


def test_version(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["--version"]) == 0
    assert capsys.readouterr().out == f"dlas {__version__}\n"


def test_help_lists_the_commands(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["--help"]) == 0
    text = capsys.readouterr().out
    for command in ("compile", "run", "bench", "explain", "opt", "targets", "schedules"):
        assert f"\n  {command} " in text
    assert "--debug" not in text
    assert main([]) == 0
    assert capsys.readouterr().out == text


@pytest.mark.parametrize("arguments", [["--help"], ["targets"], ["compile", "--help"]])
def test_light_commands_import_no_compiler(arguments: list[str], tmp_path: Path) -> None:
    script = (
        "import sys; from dlas.compiler.cli import main; code = main(sys.argv[1:]);"
        "sys.exit(code or str([m for m in ('torch', 'torch_mlir', 'iree', 'matplotlib') if m in sys.modules]))"
    )
    done = subprocess.run([sys.executable, "-c", script, *arguments], capture_output=True, text=True, cwd=tmp_path)
    assert done.stderr == "[]\n"


def test_targets(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["targets", "--json"]) == 0
    targets = json.loads(capsys.readouterr().out)
    assert [target["name"] for target in targets] == list_targets()
    assert all((target.get("simd_lanes") or target["subgroup_sizes"]) and target["description"] for target in targets)
    assert main(["targets"]) == 0
    lines = capsys.readouterr().out.splitlines()
    names = [line.split()[0] for line in lines]
    assert sorted(set(names) - {"CPUs", "GPUs", "name"}) == list_targets()
    assert len(names) == len(list_targets()) + 4  # of each table, a title and the columns
    assert not any(line.endswith(" ") or "│" in line for line in lines)


def test_schedules_document_every_knob(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["schedules", "--json"]) == 0
    schedules = {schedule["name"]: schedule for schedule in json.loads(capsys.readouterr().out)}
    assert {"packed_conv", "lane_conv", "elementwise", "transpose", "reduce"} <= set(schedules)
    for schedule in schedules.values():
        assert schedule["summary"]
        assert all(knob["doc"] for knob in schedule["knobs"]), schedule["name"]
    knobs = {knob["name"]: knob for knob in schedules["packed_conv"]["knobs"]}
    assert knobs["t_o"]["default"] is None and knobs["order"]["default"] == "cyx"
    assert main(["schedules"]) == 0
    text = capsys.readouterr().out
    assert all(f"\n{name}" in text for name in schedules)


def test_compile_says_what_it_did(model: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    out = tmp_path / "m.vmfb"
    assert main(["compile", str(model), "-o", str(out)]) == 0
    printed = capsys.readouterr()
    assert [line.split()[0] for line in printed.err.splitlines()] == STAGES
    assert all(line.endswith(" s") for line in printed.err.splitlines())
    artifact = Artifact.load(out)
    left = [kernel for kernel in artifact.kernels if kernel.schedule is None]
    lines = printed.out.splitlines()
    assert lines[0].startswith("two for x86_64 in ")
    assert lines[1] == f"{out}: {console.size(out.stat().st_size)}"
    assert lines[2].startswith(f"{len(artifact.kernels) - len(left)} kernels scheduled (")
    assert "packed_conv 1" in lines[2]
    assert lines[3] == f"{console.plural(len(left), 'kernel')} left to IREE"
    assert any(line.startswith(f"  refused (linalg.conv_2d_ngchw_gfchw): {REFUSAL}") for line in lines[4:])


def test_compile_json_has_the_same_numbers(model: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    out = tmp_path / "m.vmfb"
    assert main(["compile", str(model), "-o", str(out), "--json"]) == 0
    summary = json.loads(capsys.readouterr().out)
    assert summary["file"] == str(out) and summary["bytes"] == out.stat().st_size
    assert list(summary["stages"]) == STAGES
    assert summary["total_s"] == pytest.approx(sum(summary["stages"].values()))
    assert summary["scheduled"] + summary["left_to_iree"] == len(summary["kernels"])
    assert [op["layer"] for op in summary["refused"]] == ["refused"]
    assert summary["plain_loops"] == 0 and summary["parameters"] is None


def test_compile_without_schedules(model: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["compile", str(model), "-o", str(tmp_path / "m.vmfb"), "--json", "--no-schedules"]) == 0
    summary = json.loads(capsys.readouterr().out)
    assert summary["scheduled"] == 0 and summary["left_to_iree"] > 0 and summary["refused"] == []


def test_compile_with_parameters_outside(model: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    out, archive = tmp_path / "m.vmfb", tmp_path / "m.irpa"
    assert main(["compile", str(model), "-o", str(out), "--parameters", str(archive), "--no-schedules", "--json"]) == 0
    summary = json.loads(capsys.readouterr().out)
    assert summary["parameters"] == {"file": str(archive), "bytes": archive.stat().st_size}
    assert main(["run", str(out)]) == 0


@pytest.mark.parametrize("stage", STAGES[:-1])
def test_stop_after_prints_the_stages_module(stage: str, model: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["compile", str(model), "--stop-after", stage]) == 0
    printed = capsys.readouterr()
    assert "func" in printed.out and "module" in printed.out
    assert [line.split()[0] for line in printed.err.splitlines()] == STAGES[: STAGES.index(stage) + 1]


def test_stop_after_into_a_file_that_opt_reads(
    model: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    out = tmp_path / "laid_out.mlir"
    assert main(["compile", str(model), "--stop-after", "optimise", "-o", str(out), "--json"]) == 0
    assert list(json.loads(capsys.readouterr().out)["stages"]) == STAGES[:3]
    assert main(["opt", str(out), "--context", "iree", "--pass-pipeline=cse"]) == 0
    text = capsys.readouterr().out
    assert "flow.dispatch.workgroups" in text
    monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(MODEL.encode())))
    assert main(["opt", "-", "--pass-pipeline=dlas-name-layers", "--notes"]) == 0
    assert "linalg.conv_2d_nchw_fchw" in capsys.readouterr().out


def test_opt_applies_a_transform_script(tmp_path: Path, capsys: pytest.CaptureFixture[str], model: Path) -> None:
    script = tmp_path / "script.mlir"
    script.write_text(
        "module attributes {transform.with_named_sequence} {\n"
        "  transform.named_sequence @mark(%root: !transform.any_op {transform.readonly}) {\n"
        '    %op = transform.structured.match ops{["linalg.conv_2d_nchw_fchw"]} in %root\n'
        "      : (!transform.any_op) -> !transform.any_op\n"
        '    transform.annotate %op "marked" : !transform.any_op\n'
        "    transform.yield\n  }\n}\n"
    )
    assert main(["opt", str(model), "--transform-script", str(script), "--entry-point", "mark"]) == 0
    marked = [line for line in capsys.readouterr().out.splitlines() if "marked" in line]
    assert len(marked) == 1 and "linalg.conv_2d_nchw_fchw" in marked[0]


def test_dump_ir(model: Path, tmp_path: Path) -> None:
    folder = tmp_path / "ir"
    assert main(["compile", str(model), "-o", str(tmp_path / "m.vmfb"), "--dump-ir", str(folder)]) == 0
    assert [path.stem.partition("-")[2] for path in sorted(folder.iterdir())] == STAGES[:-1]


def test_run_on_random_inputs_says_so_and_repeats(vmfb: Path, capsys: pytest.CaptureFixture[str]) -> None:
    capsys.readouterr()
    assert main(["run", str(vmfb)]) == 0
    first = capsys.readouterr().out
    assert first.splitlines()[0].endswith("float32[1, 32, 9, 9]: random, seed 0")
    assert "min " in first and "mean " in first
    assert main(["run", str(vmfb), "--device", "local-sync"]) == 0
    assert capsys.readouterr().out == first


def test_run_on_files(vmfb: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    x = np.random.default_rng(3).standard_normal((1, 32, 9, 9)).astype(np.float32)
    np.save(tmp_path / "x.npy", x)
    y_path = tmp_path / "y"  # no suffix is added
    capsys.readouterr()
    arguments = ["run", str(vmfb), "--input", str(tmp_path / "x.npy"), "--output", str(y_path), "--json"]
    assert main(arguments) == 0
    report = json.loads(capsys.readouterr().out)
    hidden = np.einsum("oi,nihw->nohw", WEIGHTS[:, :, 0, 0].astype(np.float64), x).reshape(1, 11, 3, 9, 9)
    sums = np.lib.stride_tricks.sliding_window_view(hidden.sum(axis=2), (6, 6), (2, 3)).sum(axis=(4, 5))
    expected = np.repeat(0.5 * sums, 3, axis=1)
    y = np.load(y_path)
    np.testing.assert_allclose(y, expected, rtol=1e-4, atol=1e-4)
    (output,) = report["outputs"]
    assert output["shape"] == [1, 33, 4, 4] and output["dtype"] == "float32" and output["file"] == str(y_path)
    assert output["mean"] == pytest.approx(float(y.mean(dtype=np.float64)))
    assert output["first"] == pytest.approx(y.reshape(-1)[:8].tolist())
    assert report["seed"] is None and report["inputs"][0]["file"] == str(tmp_path / "x.npy")


def test_explain_without_times(model: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["explain", str(model), "--no-time", "--json"]) == 0
    explanation = json.loads(capsys.readouterr().out)
    by_schedule = {kernel["schedule"]: kernel for kernel in explanation["kernels"]}
    assert by_schedule["packed_conv"]["layer"] == "scheduled" and by_schedule["packed_conv"]["knobs"]["block"] >= 4
    assert explanation["refused"][0]["layer"] == "refused"
    assert explanation["time_us"] is None and explanation["untimed"]
    assert main(["explain", str(model), "--no-time"]) == 0
    text = capsys.readouterr().out
    assert f"no schedule for linalg.conv_2d_ngchw_gfchw of refused: {REFUSAL}" in text
    assert "no times: not asked for" in text and "GFLOP/s" not in text


def test_explain_with_times_and_the_share_of_the_peak(
    model: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    peak = roofline.Roofline(peak_gflops=123.0, bandwidth_gbs=4.5, simd_lanes=8, cached_at="now")
    monkeypatch.setattr(roofline, "find_probe", lambda: Path("probe"))
    monkeypatch.setattr(roofline, "measure", lambda: peak)
    assert main(["explain", str(model), "--time"]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert lines[0] == "two for x86_64"
    for column in ("calls", "us", "time", "GFLOP/s", "GB/s", "of peak"):
        assert f" {column} " in lines[1]
    row, layout = (line for line in lines if line.startswith("scheduled "))
    assert "packed_conv" in row and row.count("%") == 2
    assert "packed_conv" in layout and "nChw" in layout
    assert any(line.startswith("layout assignment: ") for line in lines)
    assert "measured peak of one core: 123 GFLOP/s, 4.5 GB/s" in lines
    monkeypatch.setattr(roofline, "find_probe", lambda: None)
    assert main(["explain", str(model), "--json"]) == 0
    explanation = json.loads(capsys.readouterr().out)
    assert explanation["roofline"] is None and explanation["time_us"] > 0
    assert all(kernel["peak_share"] is None for kernel in explanation["kernels"])


def test_explain_another_machines_code_has_no_times(model: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["explain", str(model), "--target", "aarch64"]) == 0
    printed = capsys.readouterr()
    assert "no times: built for aarch64, this host is" in printed.out
    assert main(["explain", str(model), "--target", "aarch64", "--time"]) == 1
    assert "error: built for aarch64, this host is" in capsys.readouterr().err


def _report(*rows: Row) -> BenchReport:
    return BenchReport({"cpu": "a CPU"}, {"dlas": "0"}, rows)


def test_bench_measures_dlas_first_and_reports(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    seen: dict[str, Any] = {}

    def fake(models: list[str], peers: tuple[str, ...], **options: Any) -> BenchReport:
        options.pop("progress")(0, 2, "compiling")
        seen.update(options, models=list(models), peers=peers)
        return _report(ROW, Row("zoo:layer", "torch", 1, status="not installed (pip install torch)"))

    monkeypatch.setattr(benchmarks, "bench", fake)
    path, plot = tmp_path / "b.json", tmp_path / "b.png"
    arguments = ["bench", "zoo:layer", "--peers", "torch,iree", "--runs", "7", "--json", str(path), "--plot", str(plot)]
    assert main(arguments) == 0
    printed = capsys.readouterr()
    assert printed.err == "[1/2] compiling\n"
    assert "not installed" in printed.out and "│" not in printed.out
    assert seen["peers"] == ("dlas", "torch", "iree") and seen["runs"] == 7 and seen["models"] == ["zoo:layer"]
    assert json.loads(path.read_text())["rows"][0]["median_ms"] == 1.0
    assert plot.read_bytes().startswith(b"\x89PNG")
    assert main(["bench", "zoo:layer", "--json", "-"]) == 0
    assert json.loads(capsys.readouterr().out)["rows"][1]["peer"] == "torch"


def test_bench_fails_if_dlas_does(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    row = Row("zoo:layer", "dlas", 1, status="wrong result: relative error 1.0e+00")
    monkeypatch.setattr(benchmarks, "bench", lambda *arguments, **options: _report(row))
    assert main(["bench", "zoo:layer"]) == 1
    assert capsys.readouterr().err.endswith("error: zoo:layer: wrong result: relative error 1.0e+00\n")


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["compile"], "Missing argument 'MODEL' (dlas compile --help lists what it takes)"),
        (["frob"], "No such command 'frob' (dlas --help lists what it takes)"),
        (["compile", "m.onnx"], "no output file (-o out.vmfb, or --stop-after STAGE to print a module)"),
        (["compile", "m.onnx", "-o", "none/m.vmfb"], "none/m.vmfb: no such folder: none"),
        (["compile", "m.onnx", "-o", "."], ".: is a folder, not a file to write"),
        (
            ["compile", "m.onnx", "--stop-after", "import", "--json"],
            "--json and --stop-after both want stdout (write the module to a file: -o FILE)",
        ),
        (["run", "m.vmfb", "--threads", "x"], "--threads"),
    ],
)
def test_wrong_usage_is_one_line_and_exit_code_2(
    arguments: list[str], message: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(arguments) == 2
    printed = capsys.readouterr()
    assert printed.out == ""
    assert printed.err.startswith("error: ") and printed.err.count("\n") == 1
    assert message in printed.err


def test_debug_shows_the_traceback(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    assert main(["run", "none.vmfb"]) == 1
    assert capsys.readouterr().err == "error: none.vmfb: no such file\n"
    assert main(["run", "none.vmfb", "--debug"]) == 1
    assert "Traceback" in capsys.readouterr().err
    monkeypatch.setenv("DLAS_DEBUG", "1")
    assert main(["run", "none.vmfb"]) == 1
    assert "Traceback" in capsys.readouterr().err


def test_a_bug_is_one_line_too(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(*arguments: object, **options: object) -> None:
        raise TypeError("first line\nsecond line")

    monkeypatch.setattr(benchmarks, "bench", fail)
    assert main(["bench", "zoo:layer"]) == 1
    assert capsys.readouterr().err == (
        "error: internal error, TypeError: first line second line (DLAS_DEBUG=1 shows where)\n"
    )


def test_warnings_of_ours_are_lines(
    vmfb: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    load = runtime.load

    def warn_and_load(*arguments: Any, **options: Any) -> runtime.Session:
        warnings.warn("4 threads will share 2 CPUs", RuntimeWarning, stacklevel=2)
        warnings.warn_explicit("of a library", UserWarning, "library.py", 1, module="library")
        return load(*arguments, **options)

    monkeypatch.setattr(runtime, "load", warn_and_load)
    capsys.readouterr()
    assert main(["run", str(vmfb)]) == 0
    assert capsys.readouterr().err == "warning: 4 threads will share 2 CPUs\n"


def test_a_reader_that_stops_early_is_no_failure_to_report(tmp_path: Path) -> None:
    command = f"'{sys.executable}' -m dlas.compiler.cli targets --json | head -c 1"
    done = subprocess.run(["bash", "-c", command], capture_output=True, text=True, cwd=tmp_path)
    assert done.stdout == "[" and done.stderr == ""


def test_the_documents_name_what_there_is() -> None:
    root = Path(__file__).resolve().parents[2]
    readme, cli = (root / "README.md").read_text(), (root / "docs" / "cli.md").read_text()
    for name in (*list_targets(), *SCHEDULES, *(model.name for model in zoo.list_models())):
        assert f"`{name}`" in readme, name
    for peer in set(benchmarks.PEERS) - {"dlas"}:
        assert f"`{peer}`" in cli, peer
    for stage in STAGES[:-1]:
        assert f"`{stage}`" in cli, stage


def test_json_has_no_nan(capsys: pytest.CaptureFixture[str]) -> None:
    console.print_json({"a": float("nan"), "b": [1.0, float("inf")], "c": (2,)})
    assert json.loads(capsys.readouterr().out) == {"a": None, "b": [1.0, None], "c": [2]}


def test_cells_are_taken_literally(capsys: pytest.CaptureFixture[str]) -> None:
    console.print_table(console.make_table("a [bold] title", ("name", "n>"), [("[red]x", "1"), ("y", "10")]))
    assert capsys.readouterr().out == "a [bold] title\nname     n\n[red]x   1\ny       10\n"


def test_schedules_come_back_as_a_script(model: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    script = tmp_path / "chosen.mlir"
    assert main(["explain", str(model), "--no-time", "--emit-script", str(script)]) == 0
    assert "asked for by" not in capsys.readouterr().out
    script.write_text(re.sub(r"\bow = \d+", "ow = 1", script.read_text()))
    vmfb = str(tmp_path / "m.vmfb")
    assert main(["compile", str(model), "-o", vmfb, "--transform-script", str(script), "--json"]) == 0
    kernels = json.loads(capsys.readouterr().out)["kernels"]
    asked = [kernel for kernel in kernels if kernel["reason"].startswith("asked for by the transform script")]
    assert len(asked) == 1 and asked[0]["knobs"]["ow"] == 1
    for arguments, message in (
        (["explain", str(model), "--emit-script", str(tmp_path / "no" / "s.mlir")], "no such folder"),
        (["explain", str(model), "--target", "vulkan-ampere", "--emit-script", str(script)], "scripts are for CPUs"),
        (["bench", "resnet18", "resnet34", "--transform-script", str(script)], "one script for 2 models"),
    ):
        assert main(arguments) == 2
        assert message in capsys.readouterr().err

"""The networks of the GSPC paper and of the zoo over all peers: ``python -m dlas.benchmarks.networks --out FOLDER``.

Results are written after each network, so a run that was stopped goes on where it was.
"""

from __future__ import annotations

import argparse
import io
import json
import os
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Mapping, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.progress import Progress as ProgressBar

from dlas.errors import ArtifactError, DlasError, UsageError

from . import network_plots
from .network_report import NETWORKS, KernelClass, Network, NetworkReport, kernel_classes, markdown
from .peers import DENSE_PEERS, PEERS
from .process import WorkerError, WorkerProcess
from .report import OURS, BenchReport, host, versions
from .runner import BUILD_TIMEOUT_S, Progress, bench, make_plan
from .source import resolve

REPORT = "networks.json"
FIGURES = {"latency": network_plots.latency, "expected": network_plots.expected, "share": network_plots.share}
SAME_HOST = ("cpu", "cpus")
"""What must be the same for rows to stand in one table."""


def measure(
    models: Sequence[str],
    peers: Sequence[str],
    out: Path,
    *,
    threads: int = 1,
    runs: int = 50,
    target: str = "x86_64",
    fresh: bool = False,
    progress: Progress | None = None,
    finished: Callable[[NetworkReport, str], None] | None = None,
) -> NetworkReport:
    """Measure each network that ``out`` does not hold yet, and write what there is after each.

    A network is measured again, with all its peers, if one of ``peers`` has no row yet or was not installed then. What
    is about to be replaced is kept as ``networks.1.json`` and so on.

    Args:
        models, peers, threads, runs, target, progress: as for :func:`dlas.benchmarks.bench`.
        out: the folder of the results.
        fresh: measure ``models`` again; start over if ``out`` holds results of another host or other settings.
        finished: called with the report and the network after each network.

    Raises:
        UsageError: as :func:`dlas.benchmarks.bench`, or ``out`` holds results of another host, other versions or
            settings, and not ``fresh``.
        ArtifactError: ``out`` cannot be read or written.
    """
    plan = make_plan(models, peers, threads, runs, seconds=1.0, target=target)
    labels = [f"zoo:{source.text}" if source.kind == "zoo" else source.label for source in plan.sources]
    path = out / REPORT
    settings = {"threads": threads, "runs": runs, "target": target}
    report = load_report(path)
    if report is not None and (reason := _differences(report, settings, plan.peers)):
        if not fresh:
            raise UsageError(
                f"holds results with {reason}", where=str(path), hint="another --out, or --fresh to start over"
            )
        keep_copy(path)
        report = None
    if report is None:
        report = NetworkReport(settings, BenchReport(host(), versions(()), ()))
    wanted = [model for model in dict.fromkeys(labels) if fresh or not _holds(report, model, plan.peers)]
    try:
        out.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise ArtifactError(f"cannot be made: {error.strerror or error}", where=str(out)) from error
    if set(wanted) & set(report.models):
        keep_copy(path)
    for number, model in enumerate(wanted):
        held = [row.peer for row in report.bench.rows if row.model == model]
        measured = bench(
            [model],
            [*dict.fromkeys([*plan.peers, *held])],
            threads=threads,
            runs=runs,
            target=target,
            progress=_part(progress, number, len(wanted)),
        )
        report = report.with_network(model, measured, _describe(model, measured, target))
        write_outputs(report, out)
        if finished is not None:
            finished(report, model)
    if not wanted:
        write_outputs(report, out)
    return report


def load_report(path: Path) -> NetworkReport | None:
    """The report in a file, None if there is no file. Raises ArtifactError if it is another thing."""
    if not path.exists():
        return None
    try:
        return NetworkReport.from_json(json.loads(path.read_text()))
    except (KeyError, TypeError, ValueError, AttributeError) as error:
        raise ArtifactError("not a report of networks", where=str(path), hint="move it away") from error


def write_outputs(report: NetworkReport, out: Path) -> None:
    """The report as JSON, as Markdown and as figures; a figure without data is left out."""
    try:
        out.mkdir(parents=True, exist_ok=True)
        write_atomically(out / REPORT, (json.dumps(report.to_json(), indent=1) + "\n").encode())
        write_atomically(out / "networks.md", markdown(report).encode())
        for name, draw in FIGURES.items():
            figure = draw(report)
            if figure is not None:
                image = io.BytesIO()
                figure.savefig(image, dpi=130, format="png")
                write_atomically(out / f"{name}.png", image.getvalue())
    except OSError as error:
        raise ArtifactError(f"cannot be written: {error.strerror or error}", where=str(out)) from error


def write_atomically(path: Path, data: bytes) -> None:
    """Write a file beside its place and move it there: whoever stops this finds the old file or the new one."""
    handle, name = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}-")
    try:
        with os.fdopen(handle, "wb") as file:
            file.write(data)
            file.flush()
            os.fsync(file.fileno())
        os.chmod(name, 0o644)
        os.replace(name, path)
    except BaseException:
        Path(name).unlink(missing_ok=True)
        raise


def keep_copy(path: Path) -> Path:
    """Copy ``networks.json`` to the first free of ``networks.1.json``, ``networks.2.json``, ..."""
    number = 1
    while (copy := path.with_suffix(f".{number}{path.suffix}")).exists():
        number += 1
    shutil.copy2(path, copy)
    return copy


def _part(progress: Progress | None, number: int, count: int) -> Progress | None:
    """Progress of one of ``count`` networks as progress of all of them."""
    if progress is None:
        return None
    return lambda done, total, what: progress(number * total + done, count * total, f"[{number + 1}/{count}] {what}")


def _differences(report: NetworkReport, settings: Mapping[str, Any], peers: Sequence[str]) -> str:
    """What keeps new rows from standing beside those of ``report``, "" if nothing does."""
    distributions = [package for peer in peers for package in PEERS[peer].requires.values()]
    kept: dict[str, Any] = {**report.bench.versions, **report.bench.host, **report.settings}
    now: dict[str, Any] = {**versions(("torch", *distributions)), **host(), **settings}
    names = [name for name in (*report.bench.versions, *SAME_HOST, *settings) if name in now]
    return "; ".join(f"{name} {kept.get(name)}, not {now[name]}" for name in names if kept.get(name) != now[name])


def _holds(report: NetworkReport, model: str, peers: Sequence[str]) -> bool:
    """Whether a network has a row of each peer, and none that a peer installed since could fill."""
    rows = [report.row(model, peer) for peer in peers]
    return all(
        row is not None and not (row.status.startswith("not installed") and not PEERS[row.peer].missing())
        for row in rows
    )


def _describe(model: str, measured: BenchReport, target: str) -> Network:
    classes, untimed = _explain(model, measured, target)
    now = datetime.now(UTC).isoformat(timespec="seconds")
    return Network(now, _commit(), _macs(model), classes, untimed)


def _explain(model: str, measured: BenchReport, target: str) -> tuple[tuple[KernelClass, ...], str]:
    """The kernel classes of a network that we run, or none and the reason; in a process of its own, as all peers."""
    ours = next((row for row in measured.rows if row.peer == OURS), None)
    if ours is None or ours.median_ms is None:
        return (), "not measured" if ours is None else ours.status
    with tempfile.TemporaryDirectory(prefix="dlas-bench-") as folder:
        try:
            with WorkerProcess({}, Path(folder) / "explain.log") as worker:
                explanation = worker.request("explain", timeout_s=BUILD_TIMEOUT_S, model=model, target=target)
        except WorkerError as error:
            return (), str(error)
    return kernel_classes(explanation), explanation["untimed"] or ""


def _macs(model: str) -> int | None:
    source = resolve(model)
    if source.kind != "zoo":
        return None
    from dlas.compiler.frontends import zoo

    return zoo.count(*zoo.skeleton(source.text))[1]


def _commit() -> str | None:
    """The commit of this checkout, ``-dirty`` with changes; None outside one."""
    root = Path(__file__).resolve().parents[1]
    if not (root / ".git").exists():
        return None
    command = ["git", "-C", str(root), "describe", "--always", "--dirty", "--exclude=*"]
    try:
        return subprocess.run(command, check=True, capture_output=True, text=True, timeout=60).stdout.strip()
    except (OSError, subprocess.SubprocessError):
        return None


def main(arguments: Sequence[str] | None = None) -> int:
    """Measure the table; returns the exit code: 1 if dlas itself failed on a network."""
    parser = argparse.ArgumentParser(
        prog="python -m dlas.benchmarks.networks", description=(__doc__ or "").partition("\n\n")[2]
    )
    parser.add_argument(
        "--models",
        nargs="+",
        default=NETWORKS,
        metavar="MODEL",
        help="zoo:NAME[,key=value...], .onnx and .pt2 files (default: the whole table)",
    )
    others = ",".join(peer for peer in DENSE_PEERS if peer != OURS)
    parser.add_argument("--peers", default=others, help="comma-separated, beside dlas (default: %(default)s)")
    parser.add_argument("--threads", type=int, default=1, help="threads per peer (default: %(default)s)")
    parser.add_argument("--runs", type=int, default=50, help="timed calls per row, at least (default: %(default)s)")
    parser.add_argument("--target", default="x86_64", help="target of our compiler (default: %(default)s)")
    parser.add_argument(
        "--out",
        type=Path,
        default=Path("build/bench"),
        metavar="FOLDER",
        help="where results are (default: %(default)s)",
    )
    parser.add_argument(
        "--fresh", action="store_true", help="measure again what the folder already holds (a copy of it is kept)"
    )
    options = parser.parse_args(arguments)
    errors = Console(stderr=True)
    peers = [OURS, *(peer.strip() for peer in options.peers.split(",") if peer.strip() not in ("", OURS))]
    begin = time.monotonic()

    def tell(report: NetworkReport, model: str) -> None:
        times = [
            f"{row.peer} {row.median_ms:.4g} ms" for row in report.bench.rows if row.model == model and row.median_ms
        ]
        minutes = (time.monotonic() - begin) / 60
        errors.print(
            f"{model}: {', '.join(times) or 'no times'} ({minutes:.1f} min)",
            markup=False,
            highlight=False,
            soft_wrap=True,
        )

    try:
        with ProgressBar(console=errors, transient=True) as bar:
            task = bar.add_task("", total=None)
            report = measure(
                options.models,
                peers,
                options.out,
                threads=options.threads,
                runs=options.runs,
                target=options.target,
                fresh=options.fresh,
                progress=lambda done, total, what: bar.update(task, completed=done, total=total, description=what),
                finished=tell,
            )
    except DlasError as error:
        errors.print(f"error: {error}", markup=False, highlight=False, soft_wrap=True)
        return error.exit_code
    except KeyboardInterrupt:
        errors.print("stopped; the same command goes on from here", markup=False, highlight=False, soft_wrap=True)
        return 1
    print(markdown(report).partition("\n## Geometric means")[0])
    print(f"\nwritten to {options.out}")
    failed = [row for row in report.bench.rows if row.peer == OURS and row.status != "ok"]
    for row in failed:
        errors.print(f"{row.model}: {row.status}", markup=False, highlight=False, soft_wrap=True)
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())

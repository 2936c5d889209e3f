"""The grid of single convolution layers over the peers: ``python -m dlas.benchmarks.layers --json F``."""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Sequence
from pathlib import Path
from statistics import geometric_mean

from rich.console import Console
from rich.progress import Progress as ProgressBar
from rich.table import Table
from rich.text import Text

from dlas.errors import DlasError

from .peers import PEERS
from .report import OURS, BenchReport
from .runner import bench

SHAPES = ((32, 32), (64, 16), (128, 8), (64, 56), (128, 28), (256, 14), (512, 7))
"""(channels in and out, height and width): three of CIFAR networks, four of ImageNet networks."""

GROUPS = (1, 2, 4, 8, 16)

DEFAULT_PEERS = tuple(name for name in PEERS if name != "torch.compile")
"""All but torch.compile: Inductor calls the library that eager calls for a single convolution, and takes minutes."""


def grid(
    shapes: Sequence[tuple[int, int]] = SHAPES, groups: Sequence[int] = GROUPS, *, depth: int = 1, stride: int = 1
) -> list[str]:
    """The specs of the grid: conv 3x3 (padding 1, bias) and ReLU, ``depth`` times, for every shape and group count."""
    rest = (f",depth={depth}" if depth > 1 else "") + (f",stride={stride}" if stride > 1 else "")
    return [f"layer:c={c},h={h},groups={g}{rest}" for c, h in shapes for g in groups if c % g == 0]


def geometric_means(report: BenchReport) -> dict[str, float]:
    """Per peer, the geometric mean of its time / ours, over the models that both ran correctly."""
    ours = {row.model for row in report.rows if row.peer == OURS and row.status == "ok"}
    ratios: dict[str, list[float]] = {}
    for row in report.rows:
        ratio = report.ratio(row)
        if ratio is not None and row.status == "ok" and row.model in ours:
            ratios.setdefault(row.peer, []).append(ratio)
    return {peer: geometric_mean(values) for peer, values in ratios.items()}


def layer_table(report: BenchReport) -> Table:
    """A line per layer, a column per peer (median us), and a last line with the geometric means of time / ours."""
    peers = list(dict.fromkeys(row.peer for row in report.rows))
    times = {(row.model, row.peer): row for row in report.rows}
    title = f"median us per call, {report.host.get('cpu', 'this host')}"
    table = Table(title=Text(title), title_justify="left")
    table.add_column("layer", no_wrap=True)
    for peer in peers:
        table.add_column(peer, justify="right")
    for model in dict.fromkeys(row.model for row in report.rows):
        cells = []
        for peer in peers:
            row = times[model, peer]
            text = "-" if row.median_ms is None else f"{row.median_ms * 1e3:.0f}"
            cells.append(text if row.status == "ok" or row.median_ms is None else f"{text} (!)")
        table.add_row(Text(model.removeprefix("layer:")), *cells)
    means = geometric_means(report)
    table.add_section()
    table.add_row(f"time / {OURS}, geometric mean", *(f"{means[p]:.2f}x" if p in means else "-" for p in peers))
    return table


def reasons(report: BenchReport) -> list[str]:
    """Every status that is not ok, once per peer, with the number of layers it befell."""
    found: dict[tuple[str, str], int] = {}
    for row in report.rows:
        if row.status != "ok":
            found[row.peer, row.status] = found.get((row.peer, row.status), 0) + 1
    return [f"{peer}: {status} ({count} layers)" for (peer, status), count in found.items()]


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the grid; returns the exit code."""
    parser = argparse.ArgumentParser(prog="python -m dlas.benchmarks.layers", description=__doc__)
    parser.add_argument("--json", type=Path, metavar="F", help="write the report here")
    parser.add_argument("--plot", type=Path, metavar="F", help="draw the times here (.png, .svg, .pdf)")
    parser.add_argument("--peers", default=",".join(DEFAULT_PEERS), help="comma-separated (default: %(default)s)")
    parser.add_argument(
        "--shapes", default=",".join(f"{c}@{h}" for c, h in SHAPES), help="C@H,... (default: %(default)s)"
    )
    parser.add_argument("--groups", default=",".join(map(str, GROUPS)), help="comma-separated (default: %(default)s)")
    parser.add_argument("--depth", type=int, default=1, help="layers in a chain (default: %(default)s)")
    parser.add_argument("--stride", type=int, default=1, help="stride of each layer (default: %(default)s)")
    parser.add_argument("--threads", type=int, default=1, help="threads per peer (default: %(default)s)")
    parser.add_argument("--runs", type=int, default=50, help="timed calls per row, at least (default: %(default)s)")
    parser.add_argument("--target", default="x86_64", help="target of our compiler (default: %(default)s)")
    options = parser.parse_args(arguments)
    try:
        shapes = [(int(c), int(h)) for c, _, h in (shape.partition("@") for shape in options.shapes.split(","))]
        groups = [int(g) for g in options.groups.split(",")]
    except ValueError as error:
        parser.error(str(error))
    errors = Console(stderr=True)
    try:
        with ProgressBar(console=errors, transient=True) as bar:
            task = bar.add_task("", total=None)
            report = bench(
                grid(shapes, groups, depth=options.depth, stride=options.stride),
                options.peers.split(","),
                threads=options.threads,
                runs=options.runs,
                target=options.target,
                progress=lambda done, total, what: bar.update(task, completed=done, total=total, description=what),
            )
    except DlasError as error:
        errors.print(f"error: {error}", markup=False, highlight=False)
        return error.exit_code
    console = Console() if sys.stdout.isatty() else Console(width=140)
    console.print(layer_table(report))
    for reason in reasons(report):
        console.print(reason, markup=False, highlight=False)
    if options.json is not None:
        options.json.write_text(json.dumps({**report.to_json(), "geometric_means": geometric_means(report)}, indent=1))
    if options.plot is not None:
        report.plot(options.plot)
    return 0


if __name__ == "__main__":
    sys.exit(main())

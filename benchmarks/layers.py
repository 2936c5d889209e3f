"""The grid of single convolution layers over the peers: ``python -m dlas.benchmarks.layers --json F``."""

from __future__ import annotations

import argparse
import json
import re
import sys
from collections.abc import Sequence
from pathlib import Path
from statistics import geometric_mean
from typing import NamedTuple

from rich.console import Console
from rich.progress import Progress as ProgressBar
from rich.table import Table
from rich.text import Text

from dlas.errors import DlasError

from .peers import DENSE_PEERS
from .report import OURS, BenchReport
from .runner import bench


class LayerShape(NamedTuple):
    """A convolution of the grid: kernel ``k`` x ``k``, padding ``k // 2``; ``c_out`` 0: as many channels as in."""

    c: int
    h: int
    c_out: int = 0
    k: int = 3
    stride: int = 1

    @classmethod
    def parse(cls, text: str, stride: int = 1) -> LayerShape:
        """``C[-C_OUT]@H[kK][sS]``: ``64@56``, ``64-128@56s2``, ``256-64@56k1``.

        Raises:
            ValueError: anything else.
        """
        found = re.fullmatch(r"(\d+)(?:-(\d+))?@(\d+)(?:k(\d+))?(?:s(\d+))?", text)
        if found is None:
            raise ValueError(f"{text!r} is not C[-C_OUT]@H[kK][sS], such as 64@56 or 256-64@56k1s2")
        c, c_out, h, k, s = found.groups()
        return cls(int(c), int(h), int(c_out or 0), int(k or 3), int(s or stride))

    def spec(self, groups: int = 1, depth: int = 1, sparsity: float = 0.0) -> str:
        """As a zoo model."""
        values = {"c": self.c, "h": self.h, "groups": groups}
        values |= {"c_out": self.c_out} if self.c_out else {}
        values |= {key: value for key, value in (("k", self.k), ("stride", self.stride)) if value != _DEFAULTS[key]}
        values |= {"depth": depth} if depth > 1 else {}
        text = ",".join(f"{key}={value}" for key, value in values.items())
        return f"layer:{text}" + (f",sparsity={sparsity:g}" if sparsity else "")


_DEFAULTS = {"k": 3, "stride": 1}

SHAPES = tuple(LayerShape.parse(text) for text in ("32@32", "64@16", "128@8", "64@56", "128@28", "256@14", "512@7"))
"""Three of CIFAR networks, four of ImageNet networks."""

SPARSE_SHAPES = (
    *SHAPES,
    *map(LayerShape.parse, ("64-128@56s2", "128-256@28s2", "256-512@14s2")),
    *map(LayerShape.parse, ("256-64@56k1", "64-256@56k1", "512-128@28k1", "128-512@28k1")),
    *map(LayerShape.parse, ("1024-256@14k1", "256-1024@14k1", "2048-512@7k1", "512-2048@7k1")),
    *map(LayerShape.parse, ("24-144@56k1", "144-24@56k1", "32-192@28k1", "192-32@28k1")),
    *map(LayerShape.parse, ("64-384@14k1", "96-576@14k1", "160-960@7k1", "320-1280@7k1")),
)
"""Layers that are pruned: of WRN-40-2 and ResNet-18 (those of stride 2 among them), ResNet-50, MobileNetV2."""

SETS = {"dense": SHAPES, "sparse": SPARSE_SHAPES}

GROUPS = (1, 2, 4, 8, 16)

DEFAULT_PEERS = tuple(name for name in DENSE_PEERS if name != "torch.compile")
"""All but torch.compile: Inductor calls the library that eager calls for a single convolution, and takes minutes."""


def grid(
    shapes: Sequence[LayerShape] = SHAPES,
    groups: Sequence[int] = GROUPS,
    *,
    depth: int = 1,
    sparsity: Sequence[float] = (0.0,),
) -> list[str]:
    """The specs of the grid: conv (padding k // 2, bias) and ReLU, ``depth`` times, each shape with each group count
    that divides its channels and each share of zero weights."""
    return [
        shape.spec(g, depth, share)
        for shape in shapes
        for g in groups
        if shape.c % g == 0 and (shape.c_out or shape.c) % g == 0
        for share in sparsity
    ]


def geometric_means(report: BenchReport) -> dict[str, float]:
    """Per peer, the geometric mean of its time / ours, over the models that both ran correctly."""
    ours = {row.model for row in report.rows if row.peer == OURS and row.status == "ok"}
    ratios: dict[str, list[float]] = {}
    for row in report.rows:
        ratio = report.ratio(row)
        if ratio is not None and row.status == "ok" and row.model in ours:
            ratios.setdefault(row.peer, []).append(ratio)
    return {peer: geometric_mean(values) for peer, values in ratios.items()}


def sparsity_means(report: BenchReport) -> dict[str, tuple[float, int]]:
    """Per share of zero weights, the geometric mean of the fastest peer's time / ours, and the number of layers."""
    ratios: dict[str, list[float]] = {}
    for model in dict.fromkeys(row.model for row in report.rows):
        rows = {row.peer: row for row in report.rows if row.model == model and row.status == "ok"}
        ours = rows.pop(OURS, None)
        times = [row.median_ms for row in rows.values() if row.median_ms is not None]
        share = re.search(r"sparsity=([\d.]+)", model)
        if ours is not None and ours.median_ms is not None and times and share is not None:
            ratios.setdefault(share[1], []).append(min(times) / ours.median_ms)
    return {share: (geometric_mean(values), len(values)) for share, values in ratios.items()}


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
        "--shapes",
        default="dense",
        help=f"C[-C_OUT]@H[kK][sS],... or one of the sets {', '.join(SETS)} (default: %(default)s)",
    )
    parser.add_argument("--groups", default=",".join(map(str, GROUPS)), help="comma-separated (default: %(default)s)")
    parser.add_argument("--sparsity", default="0", help="shares of zero weights (default: %(default)s)")
    parser.add_argument("--depth", type=int, default=1, help="layers in a chain (default: %(default)s)")
    parser.add_argument("--stride", type=int, default=1, help="stride of shapes without an s (default: %(default)s)")
    parser.add_argument("--threads", type=int, default=1, help="threads per peer (default: %(default)s)")
    parser.add_argument("--runs", type=int, default=50, help="timed calls per row, at least (default: %(default)s)")
    parser.add_argument("--target", default="x86_64", help="target of our compiler (default: %(default)s)")
    options = parser.parse_args(arguments)
    try:
        shapes = SETS.get(options.shapes) or [
            LayerShape.parse(text, options.stride) for text in options.shapes.split(",")
        ]
        sparsity = [float(share) for share in options.sparsity.split(",")]
        groups = [int(g) for g in options.groups.split(",")]
    except ValueError as error:
        parser.error(str(error))
    errors = Console(stderr=True)
    try:
        with ProgressBar(console=errors, transient=True) as bar:
            task = bar.add_task("", total=None)
            report = bench(
                grid(shapes, groups, depth=options.depth, sparsity=sparsity),
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
    means = sparsity_means(report)
    for share, (mean, count) in means.items():
        console.print(f"sparsity {share}: {mean:.2f}x the fastest peer (geometric mean of {count} layers)")
    for reason in reasons(report):
        console.print(reason, markup=False, highlight=False)
    if options.json is not None:
        figures = {"geometric_means": geometric_means(report), "sparsity_means": {s: m for s, (m, _) in means.items()}}
        options.json.write_text(json.dumps({**report.to_json(), **figures}, indent=1))
    if options.plot is not None:
        report.plot(options.plot)
    return 0


if __name__ == "__main__":
    sys.exit(main())

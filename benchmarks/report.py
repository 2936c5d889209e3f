"""What a benchmark returns: rows as data, a table for people, a plot, and JSON with the machine it ran on."""

from __future__ import annotations

import math
import os
import platform
import sys
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass
from importlib import metadata
from pathlib import Path
from typing import TYPE_CHECKING, Any

from rich.table import Table
from rich.text import Text

if TYPE_CHECKING:
    from matplotlib.axes import Axes

OURS = "dlas"
"""The peer that ratios are against."""


@dataclass(frozen=True)
class Row:
    """One model on one peer. A figure that could not be had is None, and ``status`` says why; ``"ok"`` otherwise.

    ``cpu_ms``: processor time of one call, all threads of the process. ``max_rel_err``: max |y - y64| / max |y64|
    against the model in float64. ``compile_s``: the peer's own compilation, without making or exporting the model.
    ``peak_rss_mb``: the process that runs the model (for torch.compile it is also the one that compiles).
    """

    model: str
    peer: str
    threads: int
    median_ms: float | None = None
    p10_ms: float | None = None
    p90_ms: float | None = None
    cpu_ms: float | None = None
    max_rel_err: float | None = None
    compile_s: float | None = None
    peak_rss_mb: float | None = None
    status: str = "ok"


@dataclass(frozen=True)
class BenchReport:
    """All rows of one benchmark, with the host and the versions they were measured on."""

    host: dict[str, Any]
    versions: dict[str, str]
    rows: tuple[Row, ...]

    def to_json(self) -> dict[str, Any]:
        """The report as JSON-ready data (no NaN and no infinity: those become null)."""
        rows = [{key: _finite(value) for key, value in asdict(row).items()} for row in self.rows]
        return {"host": self.host, "versions": self.versions, "rows": rows}

    @classmethod
    def from_json(cls, data: Mapping[str, Any]) -> BenchReport:
        """Read what :meth:`to_json` made. Raises KeyError or TypeError for anything else."""
        return cls(dict(data["host"]), dict(data["versions"]), tuple(Row(**row) for row in data["rows"]))

    def ratio(self, row: Row) -> float | None:
        """How many times slower than ours ``row`` is on its model; None where either has no time."""
        ours = next((r.median_ms for r in self.rows if r.peer == OURS and r.model == row.model), None)
        return None if ours is None or row.median_ms is None else row.median_ms / ours

    def table(self) -> Table:
        """One line per row, a section per model. Names and reasons are shown literally: brackets are no markup."""
        threads = sorted({row.threads for row in self.rows})
        title = (
            f"{', '.join(map(str, threads))} thread{'s' if threads != [1] else ''}, {self.host.get('cpu', 'this host')}"
        )
        table = Table(title=Text(title), title_justify="left")
        table.add_column("model", overflow="fold")
        table.add_column("peer", no_wrap=True)
        for heading in ("median ms", "p10", "p90", f"time / {OURS}", "max error"):
            table.add_column(heading, justify="right", no_wrap=True)
        table.add_column("status", overflow="fold")
        previous = None
        for row in self.rows:
            if previous not in (None, row.model):
                table.add_section()
            table.add_row(
                Text(row.model if row.model != previous else ""),
                Text(row.peer),
                *(milliseconds(value) for value in (row.median_ms, row.p10_ms, row.p90_ms)),
                _show(self.ratio(row), "{:.2f}x"),
                _show(row.max_rel_err, "{:.1e}"),
                Text(row.status),
            )
            previous = row.model
        return table

    def plot(self, path: str | Path) -> Path:
        """Draw the medians as bars (log scale), a group per model and a bar per peer, labelled time / ours.

        The suffix of ``path`` picks the format (.png, .svg, .pdf).
        """
        from matplotlib.backends.backend_agg import FigureCanvasAgg
        from matplotlib.figure import Figure

        models = list(dict.fromkeys(row.model for row in self.rows))
        timed = [row for row in self.rows if row.median_ms is not None]
        peers = [p for p in dict.fromkeys(row.peer for row in self.rows) if any(row.peer == p for row in timed)]
        figure = Figure(figsize=(max(5.0, 1.5 + 0.45 * len(models) * max(len(peers), 1)), 5.0), layout="constrained")
        FigureCanvasAgg(figure)
        axes = figure.add_subplot()
        draw_bars(axes, self, models, models, peers)
        axes.set_title(f"Time per call (labels: time / {OURS})")
        if peers:
            figure.legend(fontsize=8, ncols=4, loc="outside lower center")
        path = Path(path)
        figure.savefig(path, dpi=150)
        return path


def draw_bars(
    axes: Axes, report: BenchReport, models: Sequence[str], labels: Sequence[str], peers: Sequence[str]
) -> None:
    """The medians as bars (log scale), a group per model and a bar per peer, labelled time / ours."""
    width = 0.8 / max(len(peers), 1)
    for index, peer in enumerate(peers):
        mine = [row for row in report.rows if row.peer == peer and row.model in models and row.median_ms is not None]
        positions = [models.index(row.model) + (index - (len(peers) - 1) / 2) * width for row in mine]
        bars = axes.bar(positions, [row.median_ms or 0.0 for row in mine], width, label=peer, color=f"C{index}")
        ratios = [report.ratio(row) for row in mine]
        axes.bar_label(bars, ["" if r is None else f"{r:.2f}x" for r in ratios], rotation=90, padding=3, fontsize=7)
    slanted = max(map(len, labels), default=0) > 8 and len(models) > 2
    axes.set_xticks(range(len(models)), labels, rotation=30 * slanted, ha="right" if slanted else "center")
    axes.set_ylabel("median ms per call")
    axes.set_yscale("log")
    shown = [row.median_ms for row in report.rows if row.model in models and row.peer in peers and row.median_ms]
    if shown:  # a log scale has no zero: the least bar has a height too, and the labels have room
        low, high = min(shown) / 2, max(shown)
        axes.set_ylim(low, high * (high / low) ** 0.25)


def host() -> dict[str, Any]:
    """The machine, as far as it matters to a time."""
    return {
        "cpu": _cpu_name(),
        "cpus": len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count(),
        "memory_gb": _memory_gb(),
        "machine": platform.machine(),
        "system": f"{platform.system()} {platform.release()}",
    }


def versions(distributions: Iterable[str]) -> dict[str, str]:
    """The installed versions of Python, dlas and these distributions; what is not installed is left out."""
    found = {"python": platform.python_version()}
    for name in ("dlas", *distributions):
        try:
            found[name] = metadata.version(name)
        except metadata.PackageNotFoundError:
            continue
    return found


def _cpu_name() -> str:
    if sys.platform == "linux":
        for line in Path("/proc/cpuinfo").read_text().splitlines():
            if line.startswith("model name"):
                return line.partition(":")[2].strip()
    return platform.processor() or platform.machine()


def _memory_gb() -> float | None:
    try:
        return round(os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 2**30, 1)
    except (AttributeError, OSError, ValueError):
        return None


def _finite(value: Any) -> Any:
    return None if isinstance(value, float) and not math.isfinite(value) else value


def _show(value: float | None, form: str) -> str:
    return "-" if value is None else form.format(value)


def milliseconds(value: float | None) -> str:
    """Three significant digits, without an exponent."""
    if value is None or value <= 0:
        return "-"
    return f"{value:.{max(0, 2 - math.floor(math.log10(value)))}f}"

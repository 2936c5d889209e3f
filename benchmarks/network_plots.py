"""The figures of ``dlas.benchmarks.networks``: times, times against expected times, shares of the peak."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from .network_report import Expected, NetworkReport, expected_times, family, family_order, panels
from .report import OURS, draw_bars

if TYPE_CHECKING:
    from matplotlib.figure import Figure

MAX_CLASSES = 10


def latency(report: NetworkReport) -> Figure:
    """Bars per network and peer, a panel per family."""
    groups = panels(report.models)
    widest = max(len(members) for members in groups.values())
    figure = _figure(min(20.0, max(7.0, 2 + 0.3 * widest * len(report.peers))), 3.6 * len(groups) + 0.6)
    for index, (name, members) in enumerate(groups.items(), start=1):
        axes = figure.add_subplot(len(groups), 1, index)
        labels = [_label(model) for model in members]
        draw_bars(axes, report.bench, members, labels, report.peers)
        axes.set_title(_title(name) if name else "other networks", fontsize=10)
    _legend(figure, report.peers, lines=False)
    figure.suptitle(f"Time per call (labels: time / {OURS})")
    return figure


def expected(report: NetworkReport) -> Figure | None:
    """As Figure 5.4 of the GSPC paper: the time of each G(g), and the time of S scaled by the operations.

    Above in milliseconds, with the expected time of ours; below measured over expected time. None where no family has
    two members and an S.
    """
    entries = expected_times(report)
    names = [name for name in dict.fromkeys(e.family for e in entries) if len(_groups(entries, name)) > 1]
    if not names:
        return None
    figure = _figure(4.2 * len(names) + 0.6, 7.6)
    for column, name in enumerate(names, start=1):
        groups = _groups(entries, name)
        times, ratios = (
            figure.add_subplot(2, len(names), column),
            figure.add_subplot(2, len(names), len(names) + column),
        )
        for index, peer in enumerate(report.peers):
            mine = [entry for entry in entries if (entry.family, entry.peer) == (name, peer)]
            x = [groups.index(entry.groups) for entry in mine]
            style: dict[str, Any] = {
                "color": f"C{index}",
                "marker": "o",
                "markersize": 4,
                "linewidth": 2 if peer == OURS else 1,
            }
            times.plot(x, [entry.measured_ms for entry in mine], **style)
            ratios.plot(x, [entry.ratio for entry in mine], **style)
            if peer == OURS:
                times.plot(x, [entry.expected_ms for entry in mine], color="black", linestyle="--")
        ratios.axhline(1.0, color="black", linestyle="--", linewidth=1)
        times.set_title(_title(name), fontsize=10)
        for axes in (times, ratios):
            axes.set_xticks(range(len(groups)), [_group_label(entry) for entry in groups])
            axes.set_yscale("log")
            axes.grid(axis="y", which="both", alpha=0.2)
            _plain_ticks(axes)
        if column == 1:
            times.set_ylabel(f"median ms per call (dashed: expected of {OURS})")
            ratios.set_ylabel("measured / expected (1: as promised)")
    _legend(figure, report.peers, lines=True)
    figure.suptitle("Measured against expected time: time of S x MACs(G) / MACs(S)")
    return figure


def share(report: NetworkReport) -> Figure | None:
    """A line per network, a column per kernel class: share of the measured peak, and of the time. None untimed."""
    models = [model for model in report.models if model in report.networks and report.networks[model].classes]
    if not models:
        return None
    totals: dict[str, float] = {}
    for model in models:
        for entry in report.networks[model].classes:
            totals[entry.name] = totals.get(entry.name, 0.0) + entry.time_share
    names = sorted(totals, key=lambda name: -totals[name])[:MAX_CLASSES]
    figure = _figure(3.0 + 1.1 * len(names), 1.8 + 0.42 * len(models))
    axes = figure.add_subplot()
    cells = [[float("nan")] * len(names) for _ in models]
    for y, model in enumerate(models):
        for entry in report.networks[model].classes:
            if entry.name not in names:
                continue
            x = names.index(entry.name)
            text = f"{entry.time_share:.0%} of time"
            if entry.peak_share is not None:
                cells[y][x] = entry.peak_share
                text = f"{entry.peak_share:.0%}\n{text}"
            dark = entry.peak_share is not None and entry.peak_share > 0.65
            axes.text(x, y, text, ha="center", va="center", fontsize=7, color="white" if dark else "black")
    image = axes.imshow(cells, cmap="YlGn", vmin=0.0, vmax=1.0, aspect="auto")
    axes.set_xticks(range(len(names)), names, rotation=30, ha="right")
    axes.set_yticks(range(len(models)), [model.removeprefix("zoo:") for model in models])
    axes.tick_params(labelsize=8)
    figure.colorbar(image, ax=axes, label="share of the core's measured peak")
    axes.set_title("Kernels of dlas by class, one thread", fontsize=10)
    return figure


def _figure(width: float, height: float) -> Figure:
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    figure = Figure(figsize=(width, height), layout="constrained")
    FigureCanvasAgg(figure)
    return figure


def _legend(figure: Figure, peers: list[str], *, lines: bool) -> None:
    from matplotlib.lines import Line2D
    from matplotlib.patches import Patch

    handles: list[Any] = [
        Line2D([], [], color=f"C{index}", marker="o", label=peer) if lines else Patch(color=f"C{index}", label=peer)
        for index, peer in enumerate(peers)
    ]
    figure.legend(handles=handles, fontsize=8, ncols=4, loc="outside lower center")


def _plain_ticks(axes: Any) -> None:
    """Numbers, not powers of ten; between the decades only where there are few of them."""
    from matplotlib.ticker import LogFormatter

    axes.yaxis.set_major_formatter("{x:g}")
    axes.yaxis.set_minor_formatter(LogFormatter(minor_thresholds=(1.5, 0.5)))
    axes.tick_params(axis="y", which="both", labelsize=7)


def _groups(entries: list[Expected], name: str) -> list[str]:
    return sorted({entry.groups for entry in entries if entry.family == name}, key=family_order)


def _label(model: str) -> str:
    member = family(model)
    return _group_label(member[1]) if member else model.removeprefix("zoo:")


def _group_label(groups: str) -> str:
    return groups if groups == "S" else f"G({groups})"


def _title(name: str) -> str:
    return name.removeprefix("zoo:")

"""The figures of ``dlas.benchmarks.networks``: times, times against expected times, shares of the peak."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from .network_report import Expected, NetworkReport, expected_times, family, family_order, panels
from .report import OURS, draw_bars

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

LEAST_SHARE = 0.01
"""A kernel class that nowhere takes this part of the time gets no column."""
DARK = 0.65
"""The share of the peak from which a cell is too dark for black letters."""


def latency(report: NetworkReport) -> Figure:
    """Bars per network and peer, a panel per family."""
    groups = panels(report.models)
    widest = max(len(members) for members in groups.values())
    figure = _figure(min(20.0, max(7.0, 2 + 0.3 * widest * len(report.peers))), 3.6 * len(groups) + 0.6)
    for index, (name, members) in enumerate(groups.items(), start=1):
        axes = figure.add_subplot(len(groups), 1, index)
        labels = [_label(model) for model in members]
        draw_bars(axes, report.bench, members, labels, report.peers)
        _plain_ticks(axes)
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
    panes = figure.subplots(2, len(names), squeeze=False)
    for (times, ratios), name in zip(panes.T, names, strict=True):
        if ratios is not panes[1, 0]:
            ratios.sharey(panes[1, 0])
        groups = _groups(entries, name)
        for index, peer in enumerate(report.peers):
            mine = [entry for entry in entries if (entry.family, entry.peer) == (name, peer)]
            x = [groups.index(entry.groups) for entry in mine]
            style = {"color": f"C{index}", "marker": "o", "markersize": 4, "linewidth": 2 if peer == OURS else 1}
            times.plot(x, [entry.measured_ms for entry in mine], **style)
            ratios.plot(x, [entry.ratio for entry in mine], **style)
            if peer == OURS:
                times.plot(x, [entry.expected_ms for entry in mine], color="black", linestyle="--")
        ratios.axhline(1.0, color="black", linestyle="--", linewidth=1)
        times.set_title(_title(name), fontsize=10)
        for axes in (times, ratios):
            axes.set_xticks(range(len(groups)), [_group_label(entry) for entry in groups])
            axes.grid(axis="y", alpha=0.3)
        times.set_yscale("log")
        _plain_ticks(times)
    panes[1, 0].set_ylim(bottom=0.0)
    panes[0, 0].set_ylabel(f"median ms per call (dashed: expected of {OURS})")
    panes[1, 0].set_ylabel("measured / expected (1: as promised)")
    _legend(figure, report.peers, lines=True)
    figure.suptitle("Measured and expected time\n(expected: time of S x MACs(G) / MACs(S))", fontsize=10)
    return figure


def share(report: NetworkReport) -> Figure | None:
    """A line per network, a column per kernel class: share of the measured peak, and of the time. None untimed."""
    timed = {model: known.classes for model, known in report.networks.items() if known.classes}
    shown = [entry for classes in timed.values() for entry in classes]
    notable = {entry.name for entry in shown if entry.time_share >= LEAST_SHARE}
    if not notable:
        return None
    names = sorted(notable, key=lambda name: -sum(entry.time_share for entry in shown if entry.name == name))
    figure = _figure(2.4 + 1.05 * len(names), 1.6 + 0.42 * len(timed))
    axes = figure.add_subplot()
    cells = [[float("nan")] * len(names) for _ in timed]
    for y, classes in enumerate(timed.values()):
        for entry in (entry for entry in classes if entry.name in notable):
            x, peak = names.index(entry.name), entry.peak_share
            text = "<1% of time" if entry.time_share < 0.01 else f"{entry.time_share:.0%} of time"
            if peak is not None:
                cells[y][x], text = peak, f"{peak:.0%}\n{text}"
            color = "white" if peak is not None and peak > DARK else "black"
            axes.text(x, y, text, ha="center", va="center", fontsize=7, color=color)
    axes.imshow(cells, cmap="YlGn", vmin=0.0, vmax=1.0, aspect="auto")
    axes.set_xticks(range(len(names)), names, rotation=30, ha="right")
    axes.set_yticks(range(len(timed)), [model.removeprefix("zoo:") for model in timed])
    axes.tick_params(labelsize=8)
    figure.suptitle(f"Kernels of {OURS}: share of the core's measured peak", fontsize=10)
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


def _plain_ticks(axes: Axes) -> None:
    """1, 2, 5, 10, ...: numbers, not powers of ten."""
    from matplotlib.ticker import LogLocator, NullLocator

    axes.yaxis.set_major_locator(LogLocator(subs=(1.0, 2.0, 5.0)))
    axes.yaxis.set_minor_locator(NullLocator())
    axes.yaxis.set_major_formatter("{x:g}")
    axes.tick_params(axis="y", labelsize=8)


def _groups(entries: list[Expected], name: str) -> list[str]:
    return sorted({entry.groups for entry in entries if entry.family == name}, key=family_order)


def _label(model: str) -> str:
    member = family(model)
    return _group_label(member[1]) if member else model.removeprefix("zoo:")


def _group_label(groups: str) -> str:
    return groups if groups in ("S", "N") else f"G({groups})"


def _title(name: str) -> str:
    return name.removeprefix("zoo:")

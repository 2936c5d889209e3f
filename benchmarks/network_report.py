"""What ``dlas.benchmarks.networks`` keeps and shows: rows, what is known of each network, expected times, Markdown."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from statistics import geometric_mean
from typing import Any

from .layers import geometric_means
from .report import OURS, BenchReport, Row, milliseconds

GROUPS = ("S", "2", "4", "8", "16", "N")
"""The paper's columns: the standard convolution, g groups, depthwise."""

FAMILIES = ("zoo:wrn-40-2", "zoo:resnet34", "zoo:mobilenet-v2")
"""The families of the GSPC paper (Gibson et al., ASAP 2020), Tables 5.2 to 5.4."""

OTHERS = (
    "zoo:resnet18", "zoo:resnet50", "zoo:vgg16", "zoo:efficientnet-b0", "zoo:mobilenet-v1", "zoo:densenet161",
    "zoo:resnext50-32x4d", "zoo:bert-base,seq=128",
)  # fmt: skip

NETWORKS = (*(f"{family},groups={groups}" for family in FAMILIES for groups in GROUPS), *OTHERS)


@dataclass(frozen=True)
class KernelClass:
    """All kernels of one class in one network, as ``dlas explain`` times them on one thread.

    ``gflops`` and ``peak_share`` (of one core's measured FMA peak; 1 is all of it) count the operations of the direct
    algorithm, so Winograd's may exceed the peak. Both are None for what counts no operations.
    """

    name: str
    time_us: float
    time_share: float
    gflops: float | None
    peak_share: float | None


@dataclass(frozen=True)
class Network:
    """What is known of a network besides its rows: when and of which commit it was measured, its size, its kernels.

    ``macs`` is None for what is not of the zoo, ``commit`` outside a checkout; ``untimed`` says why there are no
    classes.
    """

    measured_at: str
    commit: str | None = None
    macs: int | None = None
    classes: tuple[KernelClass, ...] = ()
    untimed: str = ""


@dataclass(frozen=True)
class NetworkReport:
    """Everything measured so far under one set of settings."""

    settings: dict[str, Any]
    bench: BenchReport
    networks: Mapping[str, Network] = field(default_factory=dict)

    @classmethod
    def from_json(cls, data: Mapping[str, Any]) -> NetworkReport:
        """Read what :meth:`to_json` made. Raises KeyError, TypeError or ValueError for anything else."""
        networks = {
            model: Network(**{**known, "classes": tuple(KernelClass(**entry) for entry in known["classes"])})
            for model, known in data["networks"].items()
        }
        return cls(dict(data["settings"]), BenchReport.from_json(data), networks)

    def to_json(self) -> dict[str, Any]:
        """The report as JSON-ready data: that of ``dlas bench``, the settings, the networks and the means."""
        return {
            "settings": self.settings,
            **self.bench.to_json(),
            "networks": {model: asdict(known) for model, known in self.networks.items()},
            "geometric_means": geometric_means(self.bench),
        }

    def with_network(self, model: str, measured: BenchReport, known: Network) -> NetworkReport:
        """This report with the rows of one network replaced, networks in the order of the table."""
        rows = [row for row in self.bench.rows if row.model != model]
        rows += [row for row in measured.rows if row.model == model]
        bench = BenchReport(
            measured.host,
            {**self.bench.versions, **measured.versions},
            tuple(sorted(rows, key=lambda r: place(r.model))),
        )
        networks = {**self.networks, model: known}
        return replace(self, bench=bench, networks={name: networks[name] for name in sorted(networks, key=place)})

    @property
    def models(self) -> list[str]:
        return list(dict.fromkeys(row.model for row in self.bench.rows))

    @property
    def peers(self) -> list[str]:
        """The peers that have a time anywhere."""
        return list(dict.fromkeys(row.peer for row in self.bench.rows if row.median_ms is not None))

    def row(self, model: str, peer: str) -> Row | None:
        return next((row for row in self.bench.rows if (row.model, row.peer) == (model, peer)), None)

    def time(self, model: str, peer: str) -> float | None:
        """The median in milliseconds; None if it failed or is wrong."""
        row = self.row(model, peer)
        return row.median_ms if row is not None and row.status == "ok" else None

    def fastest(self, model: str) -> tuple[str, float] | None:
        """The fastest of the others and its time over ours; None unless both compute ``model`` correctly."""
        times = {peer: time for peer in self.peers if (time := self.time(model, peer)) is not None}
        ours = times.pop(OURS, None)
        if ours is None or not times:
            return None
        peer = min(times, key=lambda name: times[name])
        return peer, times[peer] / ours


@dataclass(frozen=True)
class Expected:
    """The time of one grouped network on one peer, and what its operations promise: time(S) x MACs(G) / MACs(S)."""

    family: str
    groups: str
    peer: str
    measured_ms: float
    expected_ms: float

    @property
    def ratio(self) -> float:
        """How many times longer than promised."""
        return self.measured_ms / self.expected_ms


def place(model: str) -> int:
    """Where a network stands in the table; what is not of the table comes last."""
    return NETWORKS.index(model) if model in NETWORKS else len(NETWORKS)


def family(model: str) -> tuple[str, str] | None:
    """``("zoo:resnet34", "4")`` for ``zoo:resnet34,groups=4``; None for a network without ``groups``."""
    name, *keys = model.split(",")
    groups = [key.removeprefix("groups=") for key in keys if key.startswith("groups=")]
    rest = [key for key in keys if not key.startswith("groups=")]
    return (",".join([name, *rest]), groups[0]) if name.startswith("zoo:") and groups else None


def family_order(groups: str) -> float:
    """Sorts S first, then numbers, N last."""
    return {"S": 0.0, "N": float("inf")}[groups] if groups in ("S", "N") else float(groups)


def panels(models: Iterable[str]) -> dict[str, list[str]]:
    """The networks by family, in the families' order; those without one under ``""``, last."""
    found: dict[str, list[str]] = {}
    for model in models:
        found.setdefault((family(model) or ("", ""))[0], []).append(model)
    rest = found.pop("", [])
    for members in found.values():
        members.sort(key=lambda model: family_order((family(model) or ("", ""))[1]))
    return {**found, "": rest} if rest else found


def expected_times(report: NetworkReport) -> list[Expected]:
    """Every network of a family whose S was measured on the same peer, by family, peer and groups (S included)."""
    found = []
    for name, members in panels(report.models).items():
        standard = f"{name},groups=S"
        base = report.networks[standard].macs if standard in report.networks else None
        if not name or not base:
            continue
        for peer in report.peers:
            start = report.time(standard, peer)
            for model in members:
                measured, macs = report.time(model, peer), report.networks[model].macs
                if start and measured and macs:
                    groups = (family(model) or ("", ""))[1]
                    found.append(Expected(name, groups, peer, measured, start * macs / base))
    return found


def kernel_classes(explanation: Mapping[str, Any]) -> tuple[KernelClass, ...]:
    """The classes of an explanation (as JSON data), those that take most of the time first."""
    peak = (explanation["roofline"] or {}).get("peak_gflops")
    total = explanation["time_us"]
    members: dict[str, list[Mapping[str, Any]]] = {}
    for kernel in explanation["kernels"]:
        name = kernel["fallback"] or kernel["kind"] + (", Winograd" if kernel["schedule"] == "winograd_conv" else "")
        if kernel["time_us"]:
            members.setdefault(name, []).append(kernel)
    classes = []
    for name, kernels in members.items():
        time_us = sum(kernel["time_us"] for kernel in kernels)
        counts = all(kernel["flops"] for kernel in kernels)
        gflops = sum(kernel["flops"] * kernel["calls"] for kernel in kernels) / time_us / 1e3 if counts else None
        share = None if gflops is None or not peak else gflops / peak
        classes.append(KernelClass(name, time_us, time_us / total, gflops, share))
    return tuple(sorted(classes, key=lambda entry: -entry.time_us))


def markdown(report: NetworkReport) -> str:
    """The whole report: the table of medians, the means, and a section per network."""
    parts = [
        "# Networks",
        f"{_about(report)}\n",
        "Median milliseconds per call. All engines get the same weights and inputs and take turns on the same cores. "
        f"*fastest / {OURS}*: the time of the fastest of the others over ours (above 1 we are faster). *(!)*: the "
        "result is wrong.",
        _summary(report),
        "## Geometric means",
        f"*time / {OURS}* over the networks that both ran correctly, their number in brackets; *measured / expected* "
        "over the grouped networks, the expected time being that of S x MACs(G) / MACs(S).",
        _means(report),
        *(_section(report, model) for model in report.models),
    ]
    return "\n\n".join(part.strip() for part in parts) + "\n"


def _about(report: NetworkReport) -> str:
    host, settings = report.bench.host, report.settings
    lines = [
        f"- host: {host['cpu']}, {host['cpus']} CPUs, {host['memory_gb']} GB, {host['system']}",
        "- settings: " + ", ".join(f"{name} {value}" for name, value in settings.items()),
        "- versions: " + ", ".join(f"{name} {version}" for name, version in report.bench.versions.items()),
    ]
    return "\n".join(lines)


def _summary(report: NetworkReport) -> str:
    lines = []
    for model in report.models:
        ours, fastest = report.row(model, OURS), report.fastest(model)
        lines.append(
            [
                model.removeprefix("zoo:"),
                *(_cell(report.row(model, peer)) for peer in report.peers),
                "-" if fastest is None else f"{fastest[1]:.2f}x ({fastest[0]})",
                "-" if ours is None or ours.max_rel_err is None else f"{ours.max_rel_err:.1e}",
            ]
        )
    return _table(["network", *report.peers, f"fastest / {OURS}", f"max error of {OURS}"], lines)


def _means(report: NetworkReport) -> str:
    means, promised = geometric_means(report.bench), expected_times(report)
    lines = []
    for peer in report.peers:
        both = [model for model in report.models if report.time(model, peer) and report.time(model, OURS)]
        ratios = [entry.ratio for entry in promised if entry.peer == peer and entry.groups != "S"]
        lines.append(
            [
                peer,
                f"{means[peer]:.2f}x ({len(both)})" if peer in means else "-",
                f"{geometric_mean(ratios):.2f} ({len(ratios)})" if ratios else "-",
            ]
        )
    best = [fastest[1] for model in report.models if (fastest := report.fastest(model)) is not None]
    if best:
        lines.append(["fastest of the others", f"{geometric_mean(best):.2f}x ({len(best)})", "-"])
    return _table(["peer", f"time / {OURS}", "measured / expected"], lines)


def _section(report: NetworkReport, model: str) -> str:
    known = report.networks.get(model)
    lines = []
    for row in (row for row in report.bench.rows if row.model == model):
        ratio = report.bench.ratio(row)
        lines.append(
            [
                row.peer,
                *(milliseconds(value) for value in (row.median_ms, row.p10_ms, row.p90_ms)),
                "-" if ratio is None else f"{ratio:.2f}x",
                "-" if row.max_rel_err is None else f"{row.max_rel_err:.1e}",
                "-" if row.compile_s is None else f"{row.compile_s:.1f}",
                "-" if row.peak_rss_mb is None else f"{row.peak_rss_mb:.0f}",
                row.status,
            ]
        )
    head = ["peer", "median ms", "p10", "p90", f"time / {OURS}", "max error", "compile s", "peak MiB", "status"]
    parts = [f"## {model.removeprefix('zoo:')}"]
    if known is not None:
        size = "" if known.macs is None else f"{known.macs / 1e6:.0f} M multiply-accumulates, "
        parts.append(f"{size}measured {known.measured_at}" + (f", commit {known.commit}" if known.commit else ""))
    parts.append(_table(head, lines))
    if known is not None and known.classes:
        parts.append(f"Kernels of {OURS}, one thread; operations are those of the direct algorithm, Winograd's too:")
        parts.append(_classes(known.classes))
    elif known is not None and known.untimed:
        parts.append(f"No times of the kernels: {known.untimed}")
    return "\n\n".join(parts)


def _classes(classes: Iterable[KernelClass]) -> str:
    lines = [
        [
            entry.name,
            f"{entry.time_us:.0f}",
            f"{entry.time_share:.1%}",
            "-" if entry.gflops is None else f"{entry.gflops:.1f}",
            "-" if entry.peak_share is None else f"{entry.peak_share:.1%}",
        ]
        for entry in classes
    ]
    return _table(["class", "us", "of the time", "GFLOP/s", "of the peak"], lines)


def _cell(row: Row | None) -> str:
    if row is None or row.median_ms is None:
        return "-"
    return milliseconds(row.median_ms) + ("" if row.status == "ok" else " (!)")


def _table(head: Sequence[str], lines: Iterable[Sequence[str]]) -> str:
    rows = [head, ["---", *["---:"] * (len(head) - 1)]]
    rows += [[cell.replace("|", "\\|").replace("\n", " ") for cell in line] for line in lines]
    return "\n".join(f"| {' | '.join(row)} |" for row in rows)

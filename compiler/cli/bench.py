"""``dlas bench``: models against peers."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from dlas.compiler.cli import console
from dlas.compiler.cli.options import Script, Target, check_writable
from dlas.errors import ArtifactError, UsageError

OURS = "dlas"
PLOT_SUFFIXES = (".png", ".svg", ".pdf")
DEFAULT_PEERS = "torch,onnxruntime,openvino,tvm,litert,ncnn,iree"


def bench_command(
    models: Annotated[
        list[str],
        typer.Argument(metavar="MODEL...", help="zoo:NAME[,key=value...], .onnx and .pt2 files.", show_default=False),
    ],
    peers: Annotated[
        str,
        typer.Option(
            "--peers",
            metavar="P,...",
            help="Whom to measure beside dlas; also: torch.compile, aotinductor (Inductor ahead of time), deepsparse.",
        ),
    ] = DEFAULT_PEERS,
    threads: Annotated[int, typer.Option("--threads", metavar="N", help="Threads that each peer computes with.")] = 1,
    runs: Annotated[int, typer.Option("--runs", metavar="N", help="Timed calls of each peer, at least.")] = 50,
    target: Target = "x86_64",
    device: Annotated[
        str | None,
        typer.Option(
            "--device",
            metavar="D",
            help="What dlas runs on, by IREE's name (default: what the target's code runs on).",
            show_default=False,
        ),
    ] = None,
    transform_script: Script = None,
    json: Annotated[
        str | None, typer.Option("--json", metavar="F", help="Write the report as JSON (- for stdout, no table then).")
    ] = None,
    plot: Annotated[
        Path | None, typer.Option("--plot", metavar="F", help="Draw the times (.png, .svg or .pdf).")
    ] = None,
) -> int:
    """Time MODELs on dlas and on peers, interleaved, and check every result against float64.

    Exits with 1 if dlas itself failed on a model; a peer that cannot run has the reason in its row.
    """
    if plot is not None:
        if plot.suffix not in PLOT_SUFFIXES:
            raise UsageError(f"no plot of kind {plot.suffix!r}", where=str(plot), hint=", ".join(PLOT_SUFFIXES))
        check_writable(plot)
    if json is not None and json != "-":
        check_writable(Path(json))

    from dlas.benchmarks import bench

    names = dict.fromkeys([OURS, *(name.strip() for name in peers.split(",") if name.strip())])
    with console.steps() as progress:
        report = bench(
            models,
            tuple(names),
            threads=threads,
            runs=runs,
            target=target,
            device=device,
            transform_script=None if transform_script is None else str(transform_script),
            progress=lambda done, total, what: progress(what, done, total),
        )
    if json is not None:
        console.print_json(report.to_json(), json)
    if json != "-":
        console.print_table(report.table())
    if plot is not None:
        try:
            report.plot(plot)
        except OSError as error:
            raise ArtifactError(f"cannot be written: {error.strerror or error}", where=str(plot)) from error
    failed = [row for row in report.rows if row.peer == OURS and row.status != "ok"]
    for row in failed:
        console.error(f"{row.model}: {row.status}")
    return 1 if failed else 0

"""The arguments that several commands take."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, TypeAlias

import typer

from dlas.errors import UsageError

Model: TypeAlias = Annotated[
    str,
    typer.Argument(
        metavar="MODEL", help="A .onnx, .pt2, .mlir or .mlirbc file, or zoo:NAME[,key=value...].", show_default=False
    ),
]
Target: TypeAlias = Annotated[
    str, typer.Option("--target", "-t", metavar="T", help="A name from `dlas targets`, or a path of a .toml file.")
]
Json: TypeAlias = Annotated[bool, typer.Option("--json", help="Print JSON on stdout instead of text.")]
IreeFlags: TypeAlias = Annotated[
    list[str] | None,
    typer.Option(
        "--iree-flag", metavar="FLAG", help="A further flag of IREE's compiler (repeatable).", show_default=False
    ),
]
NoSchedules: TypeAlias = Annotated[
    bool, typer.Option("--no-schedules", help="Leave every kernel to IREE's own code generation.")
]
Winograd: TypeAlias = Annotated[
    int | None,
    typer.Option(
        "--winograd",
        metavar="M",
        help="Largest output tile of Winograd's domain, for 3x3 and stems: 4 (CPUs' default), 2, 0: none.",
        show_default=False,
    ),
]
Strassen: TypeAlias = Annotated[
    bool | None,
    typer.Option(
        "--strassen/--no-strassen",
        help="Whether matrix products may take Strassen's algorithm (CPUs: they do).",
        show_default=False,
    ),
]
Measured: TypeAlias = Annotated[
    Path | None,
    typer.Option(
        "--measured",
        metavar="F",
        help="JSON of an earlier `dlas explain --json`: assign layouts by its times where it has them.",
        show_default=False,
    ),
]
Script: TypeAlias = Annotated[
    Path | None,
    typer.Option(
        "--transform-script",
        metavar="F",
        help="Transform script that says which schedules and knobs layers get; see `dlas explain --emit-script`.",
        show_default=False,
    ),
]
Elide: TypeAlias = Annotated[
    int | None,
    typer.Option(
        "--elide", metavar="N", min=0, help="Do not print constants of more than N elements.", show_default=False
    ),
]


def check_writable(path: Path) -> Path:
    """The path of a file that is going to be written.

    Raises:
        UsageError: it is a folder, or its folder does not exist (better said before minutes of work than after).
    """
    if path.is_dir():
        raise UsageError("is a folder, not a file to write", where=str(path))
    if not path.parent.is_dir():
        raise UsageError(f"no such folder: {path.parent}", where=str(path))
    return path

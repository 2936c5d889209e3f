"""``dlas opt``: passes and transform scripts on MLIR files; what the lit tests drive."""

from __future__ import annotations

from enum import StrEnum
from pathlib import Path
from typing import Annotated

import typer

from dlas.compiler.cli import console
from dlas.compiler.cli.options import Elide


class Context(StrEnum):
    """The two MLIR contexts."""

    torch_mlir = "torch-mlir"
    iree = "iree"


def opt_command(
    file: Annotated[
        str, typer.Argument(metavar="FILE", help="MLIR text or bytecode; - reads stdin.", show_default=False)
    ],
    pass_pipeline: Annotated[
        str, typer.Option("--pass-pipeline", metavar="P", help="Passes with options: a,b{option=value}.")
    ] = "",
    context: Annotated[
        Context | None, typer.Option("--context", help="For passes of MLIR's own (default: what our passes need).")
    ] = None,
    transform_script: Annotated[
        Path | None, typer.Option("--transform-script", metavar="F", help="Apply a transform script (IREE's context).")
    ] = None,
    entry_point: Annotated[
        str, typer.Option("--entry-point", metavar="N", help="The named sequence to apply.")
    ] = "__transform_main",
    notes: Annotated[bool, typer.Option("--notes", help="Print what passes did and refused, as comments.")] = False,
    elide: Elide = None,
) -> None:
    """Run passes, then a transform script, on an MLIR module and print it."""
    from dlas.compiler.opt import run_file

    text = run_file(
        file,
        pass_pipeline,
        context=None if context is None else context.value,
        transform_script=transform_script,
        entry_point=entry_point,
        notes=notes,
        elide=elide,
    )
    console.write_text(text)

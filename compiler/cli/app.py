"""The commands in one table, and what every one of them does about errors, warnings and exit codes."""

from __future__ import annotations

import os
import sys
import traceback
import warnings
from collections.abc import Sequence
from typing import Annotated, Any

import typer
from typer.exceptions import Abort, TyperException

from dlas.compiler.cli import bench, compile, console, explain, listings, opt, run
from dlas.errors import DlasError

app = typer.Typer(
    help="dlas: compile PyTorch and ONNX models with scheduled kernels, run them, and see why they are fast.",
    add_completion=False,
    rich_markup_mode=None,
    pretty_exceptions_enable=False,
)
app.command("compile", short_help="Compile a model to a .vmfb.")(compile.compile_command)
app.command("run", short_help="Run a compiled model once.")(run.run_command)
app.command("bench", short_help="Time models against other engines.")(bench.bench_command)
app.command("explain", short_help="Show each kernel's schedule, time and share of peak.")(explain.explain_command)
app.command("opt", short_help="Run passes on an MLIR file.")(opt.opt_command)
app.command("targets", short_help="List the devices to compile for.")(listings.targets_command)
app.command("schedules", short_help="List the schedules and their knobs.")(listings.schedules_command)


def _print_version(wanted: bool) -> None:
    if wanted:
        from dlas import __version__

        print(f"dlas {__version__}")
        raise typer.Exit()


@app.callback()
def _root(
    version: Annotated[
        bool, typer.Option("--version", callback=_print_version, is_eager=True, help="Print the version and exit.")
    ] = False,
) -> None:
    """Options of ``dlas`` itself."""


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command line; returns the exit code (see :func:`dlas.compiler.cli.main`)."""
    given = list(sys.argv[1:] if arguments is None else arguments)
    # Accepted at any place, and in no help: for whoever debugs dlas itself.
    debug = "--debug" in given or os.environ.get("DLAS_DEBUG", "") not in ("", "0")
    given = [argument for argument in given if argument != "--debug"]
    with warnings.catch_warnings():
        if not debug:
            warnings.simplefilter("ignore")
            warnings.filterwarnings("default", module=r"dlas\.")
            warnings.showwarning = _show_warning
        try:
            code = app(given or ["--help"], prog_name="dlas", standalone_mode=False)
            sys.stdout.flush()
            return int(code or 0)
        except BrokenPipeError:  # the reader (head, less) has seen enough
            os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
            return 1
        except Exception as error:  # the outermost frame: nothing but one line leaves it
            if debug:
                traceback.print_exc()
            message, code = _describe(error)
            console.error(message)
            return code


def _describe(error: Exception) -> tuple[str, int]:
    """What to say of an error, and the exit code."""
    if isinstance(error, DlasError):
        return str(error), error.exit_code
    if isinstance(error, Abort):
        return "aborted", 1
    if isinstance(error, TyperException):  # of the parser: a missing argument, an option that does not exist
        context: Any = getattr(error, "ctx", None)
        command = context.command_path if context is not None else "dlas"
        return f"{error.format_message().rstrip('.')} ({command} --help lists what it takes)", 2
    if isinstance(error, OSError) and error.filename is not None:
        return f"{error.filename}: {error.strerror}", 1
    return f"internal error, {type(error).__name__}: {error} (DLAS_DEBUG=1 shows where)", 1


def _show_warning(message: Warning | str, *place: object, **options: object) -> None:
    console.note(f"warning: {message}")

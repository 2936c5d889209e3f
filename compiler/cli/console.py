"""How commands print: results on stdout, progress and complaints on stderr; rich on a terminal, else plain lines."""

from __future__ import annotations

import io
import json
import math
import sys
import time
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Protocol

import typer
from rich.box import SIMPLE_HEAD
from rich.console import Console
from rich.status import Status
from rich.table import Table
from rich.text import Text

from dlas.errors import ArtifactError

_WIDE = 4000  # columns: nothing is folded where no terminal sets a width


def error(message: str) -> None:
    """One line on stderr."""
    start = "error:"
    if sys.stderr.isatty():
        start = typer.style(start, fg="red", bold=True)
    note(f"{start} {message}")


def note(message: str) -> None:
    """One line on stderr, whatever line breaks the message has."""
    sys.stdout.flush()
    print(" ".join(part.strip() for part in message.splitlines() if part.strip()), file=sys.stderr, flush=True)


def print_json(data: Any, path: str | Path = "-") -> None:
    """Write data as JSON to a file, or to stdout if ``path`` is "-"; what is not a finite number becomes null.

    Raises:
        ArtifactError: the file cannot be written.
    """
    write_text(json.dumps(_finite(data), indent=2, default=str) + "\n", path)


def write_text(text: str, path: str | Path = "-") -> None:
    """Write text to a file, or to stdout if ``path`` is "-".

    Raises:
        ArtifactError: the file cannot be written.
    """
    if str(path) == "-":
        sys.stdout.write(text)
        return
    try:
        Path(path).write_text(text, encoding="utf-8")
    except OSError as failure:
        raise ArtifactError(f"cannot be written: {failure.strerror or failure}", where=str(path)) from failure


def _finite(value: Any) -> Any:
    if isinstance(value, float):
        return value if math.isfinite(value) else None
    if isinstance(value, dict):
        return {key: _finite(item) for key, item in value.items()}
    return [_finite(item) for item in value] if isinstance(value, list | tuple) else value


def make_table(title: str, columns: Sequence[str], rows: Iterable[Sequence[str]]) -> Table:
    """A table; a column whose name ends in ">" is aligned to the right. Cells are taken literally."""
    table = Table(title=Text(title), title_justify="left", pad_edge=False, box=SIMPLE_HEAD)
    for column in columns:
        right = column.endswith(">")
        table.add_column(column.rstrip(">"), justify="right" if right else "left", overflow="fold", no_wrap=right)
    for row in rows:
        table.add_row(*(Text(cell) for cell in row))
    return table


def print_table(table: Table) -> None:
    """Print a table: as it is on a terminal, as aligned columns without a frame otherwise."""
    if sys.stdout.isatty():
        Console().print(table)
        return
    if table.title:  # rich would fold it to the width of the table
        print(table.title)
    table.title, table.box = None, None
    buffer = io.StringIO()
    Console(file=buffer, width=_WIDE, color_system=None).print(table)
    print("\n".join(line.rstrip() for line in buffer.getvalue().splitlines()))


class Reporter(Protocol):
    """Called when a step starts: (what, steps done, steps in all)."""

    def __call__(self, what: str, done: int, total: int) -> None: ...


@contextmanager
def stages() -> Iterator[Reporter]:
    """Progress of a compilation on stderr: a line per stage with its time, the running one with a spinner."""
    terminal = Console(stderr=True) if sys.stderr.isatty() else None
    status: Status | None = None
    running: tuple[str, float] | None = None

    def finish() -> None:
        nonlocal running, status
        if status is not None:
            status.stop()
            status = None
        if running is not None:
            note(f"{running[0]:<13}{time.perf_counter() - running[1]:8.2f} s")
            running = None

    def report(what: str, done: int, total: int) -> None:
        nonlocal running, status
        finish()
        running = (what, time.perf_counter())
        if terminal is not None:
            status = terminal.status(f"{what} ({done + 1} of {total})")
            status.start()

    try:
        yield report
        finish()
    finally:
        if status is not None:
            status.stop()


@contextmanager
def steps() -> Iterator[Reporter]:
    """Progress of many steps on stderr: one bar on a terminal, a line per step otherwise."""
    if not sys.stderr.isatty():
        yield lambda what, done, total: note(f"[{done + 1}/{total}] {what}")
        return
    from rich.progress import Progress

    with Progress(console=Console(stderr=True), transient=True) as bar:
        task = bar.add_task("", total=None)
        yield lambda what, done, total: bar.update(task, completed=done, total=total, description=what)


def size(count: int) -> str:
    """Bytes for people: ``9.1 MB``."""
    for unit, scale in (("GB", 1e9), ("MB", 1e6), ("kB", 1e3)):
        if count >= scale:
            return f"{count / scale:.1f} {unit}"
    return f"{count} bytes"


def plural(count: int, noun: str) -> str:
    """``1 kernel``, ``2 kernels``."""
    return f"{count} {noun}" if count == 1 else f"{count} {noun}s"

"""The ``dlas`` command. Importing this package costs nothing: the commands are imported when one is run."""

from __future__ import annotations

from collections.abc import Sequence


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command line (``sys.argv`` by default); returns the exit code: 0 ok, 1 failed, 2 wrong usage."""
    from dlas.compiler.cli import app

    return app.main(arguments)

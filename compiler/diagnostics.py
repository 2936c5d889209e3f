"""What MLIR says of a failure, as a part of an error message."""

from __future__ import annotations

import re
from typing import Any

# Modules are parsed from memory, which MLIR calls "-"; the error around it names the file.
_IN_MEMORY = re.compile(r'"-":(\d+):(\d+)')


def first_diagnostic(error: Any) -> str:
    """The first diagnostic of an ``MLIRError`` of either bindings, in one line, with its place if that is known."""
    if not error.error_diagnostics:
        return str(error).splitlines()[0]
    first = error.error_diagnostics[0]
    place = _IN_MEMORY.sub(r"line \1, column \2", str(first.location)[4:-1])
    message = first.message.splitlines()[0].partition(". If this is intended")[0]  # advice for MLIR's own tools
    return message if place == "unknown" else f"{message} at {place}"

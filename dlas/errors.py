"""Errors that dlas raises for a user's mistake or for a limit of the stack.

Every error says what was found, where, and what is supported or what to do; the command line prints that text
alone and exits with :attr:`DlasError.exit_code` (1 for a failed run, 2 for wrong usage).
"""

from __future__ import annotations


class DlasError(Exception):
    """A failure with a message meant for the user.

    Args:
        found: what was found, in one sentence.
        where: the op, layer, file or option it was found in.
        hint: what is supported, or what to do.
    """

    exit_code = 1

    def __init__(self, found: str, *, where: str | None = None, hint: str | None = None) -> None:
        self.found, self.where, self.hint = found, where, hint
        text = found if where is None else f"{where}: {found}"
        super().__init__(text if hint is None else f"{text} ({hint})")


class UsageError(DlasError):
    """A wrong option, name or combination of them."""

    exit_code = 2


class FrontendError(DlasError):
    """A model that cannot be read or imported."""


class UnsupportedOpError(FrontendError):
    """An operation that does not lower to linalg."""


class TargetError(UsageError):
    """An unknown target, or a target file with an impossible value."""


class ScheduleError(DlasError):
    """A schedule whose parameters cannot work, or that did not apply to its kernel."""


class CompileError(DlasError):
    """The code generator refused the module."""


class ArtifactError(DlasError):
    """An artifact that is missing, truncated or of another kind."""


class InputError(DlasError):
    """An input whose count, shape or dtype is not what the artifact takes."""

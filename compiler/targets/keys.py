"""What the keys of a target file may hold: a table of rules, and the check of a file against it."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from dlas.errors import TargetError


@dataclass(frozen=True)
class Rule:
    """What one key may hold.

    Attributes:
        kind: its type.
        allowed: the values that it may have, for errors.
        accepts: whether a value of that type is one of them.
        required: whether the key must be there.
    """

    kind: type
    allowed: str
    accepts: Callable[[Any], bool]
    required: bool = True

    def refuses(self, value: Any) -> bool:
        """Whether ``value`` is of another type or not allowed."""
        if self.kind is float:
            typed = isinstance(value, int | float) and not isinstance(value, bool)
        else:
            typed = type(value) is self.kind  # bool is an int to isinstance
        return not typed or not self.accepts(value)


def text(required: bool = True) -> Rule:
    """Some text."""
    return Rule(str, "a non-empty string", lambda value: bool(value.strip()), required)


def integer(low: int, high: int, unit: str = "", required: bool = True) -> Rule:
    """A number within bounds."""
    allowed = f"an integer from {low} to {high}{unit and ' ' + unit}"
    return Rule(int, allowed, lambda value: low <= value <= high, required)


def check(values: Mapping[str, Any], rules: Mapping[str, Rule], where: str) -> None:
    """Checks a file's values.

    Raises:
        TargetError: naming the first key that is unknown, impossible or missing.
    """
    for key, value in values.items():
        if key not in rules:
            raise TargetError(f"unknown key '{key}' = {value!r}", where=where, hint=f"known: {', '.join(rules)}")
        if rules[key].refuses(value):
            raise TargetError(f"{key} = {value!r}", where=where, hint=f"must be {rules[key].allowed}")
    missing = [key for key, rule in rules.items() if rule.required and key not in values]
    if missing:
        raise TargetError(
            f"missing {', '.join(missing)}", where=where, hint=f"{missing[0]}: {rules[missing[0]].allowed}"
        )

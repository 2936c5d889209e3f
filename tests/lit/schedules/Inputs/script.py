"""Prints the transform scripts of a schedule: script.py SCHEDULE KNOB=VALUE... [-- EXTENT=VALUE...]."""

from __future__ import annotations

import sys

from dlas.dialects import TransformScript
from dlas.errors import DlasError
from dlas.passes.plan import Choice
from dlas.schedules.rules import SCHEDULES, knobs_of


def parse(items: list[str]) -> dict[str, int]:
    pairs = [item.split("=") for item in items]
    return {key: int(value) if value.lstrip("-").isdigit() else value for key, value in pairs}


def main(name: str, *arguments: str) -> None:
    split = arguments.index("--") if "--" in arguments else len(arguments)
    knobs = knobs_of(Choice(name, parse(list(arguments[:split])), ""))
    for step in SCHEDULES[name].steps(knobs, parse(list(arguments[split + 1 :]))):
        print(step.text() if isinstance(step, TransformScript) else f"// {step.__name__}")


if __name__ == "__main__":
    try:
        main(*sys.argv[1:])
    except DlasError as error:
        sys.exit(f"error: {error}")

"""Whether LLVM (or, for GPUs, IREE) can generate code for what a target names.

LLVM ignores a feature it does not know, falls back to a bare core for a processor it does not know, and ends the
process over some combinations. So a tiny module is compiled for the target first, in a process of its own.
"""

from __future__ import annotations

import difflib
import re
import subprocess
from collections.abc import Sequence
from functools import lru_cache

from dlas.errors import TargetError

_TINY = """
func.func @main(%x: tensor<4xf32>) -> tensor<4xf32> {
  %0 = arith.addf %x, %x : tensor<4xf32>
  return %0 : tensor<4xf32>
}
"""
_SECONDS = 120
_NEAREST = 8  # of the hundreds of names that LLVM knows

# What LLVM takes as a question instead of a feature.
_QUESTIONS = ("help", "cpuhelp")


def check_processor(triple: str, cpu: str, features: str, flags: Sequence[str], where: str) -> None:
    """Checks that LLVM knows ``cpu`` and ``features``, and that code comes out.

    Args:
        triple, cpu, features: as in the target.
        flags: the target's flags for ``iree-compile``.
        where: the target file or name, for errors.

    Raises:
        TargetError: with the value and the names nearest to it.
    """
    returncode, said = compile_tiny(tuple(flags))
    architecture = triple.partition("-")[0]
    accepted = re.search(r"^Unknown CPU for target.*\nList of accepted CPUs: (.*)$", said, re.M)
    if accepted:
        known = accepted[1].split(", ")
        found = f"cpu = {cpu!r}: LLVM knows no such processor of {architecture}"
        raise TargetError(found, where=where, hint=_nearest(cpu, known))
    unknown = re.findall(r"^'([+-].*)' is not a recognized feature", said, re.M)
    unknown += [item for item in features.split(",") if item[1:] in _QUESTIONS]
    if unknown:
        name = unknown[0][1:]
        found = f"features = {features!r}: LLVM knows no feature {name!r} of {architecture}"
        raise TargetError(found, where=where, hint=_nearest(name, _known_features(tuple(flags))))
    if returncode != 0:
        errors = re.findall(r"error: (.*)", said, re.I) or [f"iree-compile ends with {returncode}"]
        raise TargetError(
            f"LLVM generates no code for triple = {triple!r}, cpu = {cpu!r}, features = {features!r}: {errors[0]}",
            where=where,
            hint="a feature that this code needs may be missing",
        )


def _nearest(name: str, known: Sequence[str]) -> str:
    return f"nearest of {len(known)}: {', '.join(difflib.get_close_matches(name, known, _NEAREST, cutoff=0))}"


@lru_cache
def compile_tiny(flags: tuple[str, ...], device: str | None = None) -> tuple[int, str]:
    """The exit code of ``iree-compile`` on a tiny module with these flags or for this device, and what it said."""
    from iree.compiler.tools.binaries import find_tool

    command = [find_tool("iree-compile"), *flags, "-", "-o", "/dev/null"]
    module = _TINY if device is None else f"module attributes {{hal.device.targets = [{device}]}} {{{_TINY}}}"
    done = subprocess.run(
        command, input=module, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True, errors="replace",
        timeout=_SECONDS, check=False,
    )  # fmt: skip
    return done.returncode, done.stderr


def _known_features(flags: tuple[str, ...]) -> list[str]:
    kept = tuple(flag for flag in flags if not flag.startswith("--iree-llvmcpu-target-cpu-features="))
    _, said = compile_tiny((*kept, "--iree-llvmcpu-target-cpu-features=+help"))
    listed = said.partition("Available features for this target:")[2]
    return list(dict.fromkeys(re.findall(r"^ +(\S+) +- ", listed, re.M)))

"""The library behind ``dlas opt``: run passes on a module and print it. This is what the lit tests drive.

A pipeline is a list of pass names with options, ``dlas-fold-batch-norm{into-weights=false},canonicalize``. Names that
are not in :mod:`dlas.passes.registry` go to MLIR's own pass manager of the same context, nested pipelines included.
"""

from __future__ import annotations

import importlib
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, cast

from dlas.compiler.diagnostics import first_diagnostic
from dlas.compiler.scripts import ENTRY_POINT, apply_script, parse_module
from dlas.errors import CompileError, UsageError
from dlas.passes import registry
from dlas.passes.registry import ContextName, Note

_PACKAGES: dict[ContextName, str] = {"torch-mlir": "torch_mlir", "iree": "iree.compiler"}

registry.add_modules("dlas.schedules.registration")


@dataclass(frozen=True)
class Step:
    """One element of a pipeline: the text as written, and its name and options if the pass is ours."""

    text: str
    name: str
    options: dict[str, str]

    @property
    def is_ours(self) -> bool:
        return registry.is_registered(self.name)


def parse_pipeline(text: str) -> list[Step]:
    """Split a pipeline at its top-level commas.

    Raises:
        UsageError: brackets that do not match, an option without ``=``, or a ``dlas-`` name that does not exist.
    """
    steps = []
    for part in _split(text, ",", text):
        name, brace, rest = part.partition("{")
        options: dict[str, str] = {}
        if name.startswith("dlas-"):
            if not registry.is_registered(name):
                known = ", ".join(sorted(registry.passes()))
                raise UsageError(f"unknown pass {name!r}", hint=f"known passes: {known}")
            if brace:
                options = _options(rest.removesuffix("}"), name)
        steps.append(Step(part, name, options))
    if not steps:
        raise UsageError("the pass pipeline is empty")
    return steps


def _split(text: str, separator: str, whole: str) -> list[str]:
    parts, depth, start = [], 0, 0
    for position, char in enumerate(text):
        depth += (char in "({[") - (char in ")}]")
        if depth < 0:
            break
        if char == separator and depth == 0:
            parts.append(text[start:position])
            start = position + 1
    if depth:
        raise UsageError("brackets do not match", where=f"pipeline {whole!r}")
    parts.append(text[start:])
    return [part.strip() for part in parts if part.strip()]


def _options(text: str, name: str) -> dict[str, str]:
    options = {}
    for item in text.split():
        key, equals, value = item.partition("=")
        if not equals:
            raise UsageError(f"option {item!r} has no value", where=f"pass {name}", hint="write option=value")
        options[key] = value
    return options


def choose_context(steps: Sequence[Step], wanted: ContextName | None) -> ContextName:
    """The context that the passes of ours need; ``wanted``, else torch-mlir, if there are none.

    Raises:
        UsageError: passes of both contexts, or of the other one than ``wanted``.
    """
    needed: dict[str, list[str]] = {}
    for step in steps:
        if step.is_ours:
            needed.setdefault(registry.passes()[step.name].context, []).append(step.name)
    if len(needed) > 1:
        parts = "; ".join(f"{context}: {', '.join(names)}" for context, names in sorted(needed.items()))
        raise UsageError(f"passes of both contexts in one pipeline ({parts})", hint="run them one after the other")
    found = cast(ContextName, next(iter(needed), wanted or "torch-mlir"))
    if wanted is not None and found != wanted:
        raise UsageError(f"--context {wanted}, but {needed[found][0]} runs in {found}")
    return found


def new_context(name: ContextName) -> Any:
    """A fresh MLIR context of one of the two kinds.

    IREE's has its dialects and passes, but no compiler session behind it: nothing here generates code.
    """
    if name == "torch-mlir":
        from dlas.compiler.frontends.model import new_context as torch_mlir_context

        return torch_mlir_context()
    from iree.compiler import ir

    return ir.Context()


def run(
    source: str | bytes,
    pass_pipeline: str = "",
    *,
    context: ContextName | None = None,
    transform_script: str | bytes | None = None,
    entry_point: str = ENTRY_POINT,
    where: str = "input",
    script_where: str = "transform script",
) -> tuple[Any, list[Note]]:
    """Parse a module, run a pipeline and then a transform script on it.

    Args:
        source: MLIR text or bytecode.
        pass_pipeline: see :func:`parse_pipeline`; may be empty if there is a script.
        context: the context to use if no pass of ours decides.
        transform_script: MLIR of a module with named sequences, applied in IREE's context.
        entry_point: the named sequence to apply.
        where: what to call the source in errors.
        script_where: what to call the script in errors.

    Returns:
        The module and the notes of our passes.

    Raises:
        UsageError: a wrong pipeline, option or entry point.
        CompileError: the source does not parse, or a pass or the script fails.
    """
    steps = parse_pipeline(pass_pipeline) if pass_pipeline.strip() or transform_script is None else []
    if transform_script is not None and context is None and not any(step.is_ours for step in steps):
        context = "iree"
    chosen = choose_context(steps, context)
    if transform_script is not None and chosen != "iree":
        raise UsageError("a transform script runs in IREE's context", hint="leave --context and torch-mlir passes out")
    ir = importlib.import_module(f"{_PACKAGES[chosen]}.ir")
    notes: list[Note] = []
    with new_context(chosen), ir.Location.unknown():
        module = parse_module(ir, source, where)
        for step in steps:
            if step.is_ours:
                notes += registry.create(step.name, step.options).run(module)
            else:
                _run_native(ir, chosen, step.text, module)
        if transform_script is not None:
            apply_script(module, transform_script, entry_point, script_where)
        try:
            module.operation.verify()
        except ir.MLIRError as error:
            raise CompileError(f"the result does not verify: {first_diagnostic(error)}", where=where) from error
    return module, notes


def _run_native(ir: Any, context: ContextName, text: str, module: Any) -> None:
    manager = importlib.import_module(f"{_PACKAGES[context]}.passmanager").PassManager
    try:
        parsed = manager.parse(text if text.startswith("builtin.module(") else f"builtin.module({text})")
    except (ValueError, ir.MLIRError) as error:
        known = ", ".join(sorted(registry.passes(context)))
        raise UsageError(
            f"unknown pass or wrong options in {text!r}",
            hint=f"MLIR's own in the {context} context, or one of: {known}",
        ) from error
    try:
        parsed.run(module.operation)
    except ir.MLIRError as error:
        raise CompileError(first_diagnostic(error), where=f"pass {text}") from error


def run_file(
    file: str,
    pass_pipeline: str = "",
    *,
    context: ContextName | None = None,
    transform_script: Path | None = None,
    entry_point: str = ENTRY_POINT,
    notes: bool = False,
    elide: int | None = None,
) -> str:
    """:func:`run` on a file (``-``: standard input); the printed module, the notes before it as comments."""
    script = None if transform_script is None else _read(str(transform_script))
    module, done = run(
        _read(file),
        pass_pipeline,
        context=context,
        transform_script=script,
        entry_point=entry_point,
        where="stdin" if file == "-" else file,
        script_where=str(transform_script),
    )
    lines = []
    if notes:
        lines = [f"// {note}\n" for note in done]
    return "".join(lines) + module.operation.get_asm(large_elements_limit=elide)


def _read(file: str) -> bytes:
    try:
        return sys.stdin.buffer.read() if file == "-" else Path(file).read_bytes()
    except OSError as error:
        raise UsageError(f"cannot be read: {error.strerror}", where=file) from error

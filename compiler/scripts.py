"""Transform scripts on whole modules, and those that say which schedule each layer of a model gets.

Such a script annotates convolutions and linear layers with ``dlas.knobs`` (:mod:`dlas.passes.knob_request`):

    %0 = transform.structured.match ops{["linalg.conv_2d_nchw_fchw"]} attributes{dlas.layer = "conv1"} in %module
    %1 = transform.param.constant {schedule = "packed_conv", t_o = 16, ow = 6} -> !transform.any_param
    transform.annotate %0 "dlas.knobs" = %1
"""

from __future__ import annotations

import difflib
import importlib
from collections.abc import Sequence
from itertools import groupby
from pathlib import Path
from typing import Any

from dlas.compiler.diagnostics import first_diagnostic
from dlas.dialects import SCHEDULED_OPS, TransformScript
from dlas.errors import CompileError, UsageError
from dlas.passes.generics import LAYER, layer_of, walk
from dlas.passes.knob_request import KNOBS, KnobRequest, check_requests
from dlas.passes.plan import Choice
from dlas.schedules.rules import ASKED, knobs_of
from dlas.schedules.sparse_conv import PREFETCHES, VARIANTS, SparseConvKnobs

ENTRY_POINT = "__transform_main"

_NEAR = 3  # names that are suggested


def parse_module(ir: Any, source: str | bytes, where: str) -> Any:
    """MLIR text or bytecode in the current context of either bindings.

    Raises:
        CompileError: it does not parse.
    """
    try:
        return ir.Module.parse(source)
    except ir.MLIRError as error:
        raise CompileError(f"does not parse as MLIR: {first_diagnostic(error)}", where=where) from error


def apply_script(module: Any, script: str | bytes, entry_point: str = ENTRY_POINT, where: str = "script") -> Any:
    """Applies a named sequence to a module of the current context, which is one of IREE's; returns the script's module.

    Raises:
        UsageError: no such sequence.
        CompileError: the script does not parse, or fails.
    """
    ir = importlib.import_module("iree.compiler.ir")
    interpreter = importlib.import_module("iree.compiler.dialects.transform.interpreter")
    library = parse_module(ir, script, where)
    sequences = {
        op.operation.attributes["sym_name"].value: op
        for op in library.body.operations
        if op.operation.name == "transform.named_sequence"
    }
    if entry_point not in sequences:
        known = ", ".join(sorted(sequences)) or "none"
        raise UsageError(f"no named sequence @{entry_point}", where=where, hint=f"it has: {known}")
    try:
        interpreter.apply_named_sequence(module, sequences[entry_point], library)
    except (ir.MLIRError, RuntimeError, ValueError) as error:
        text = first_diagnostic(error) if isinstance(error, ir.MLIRError) else " ".join(str(error).split())
        raise CompileError(text, where=f"{where} @{entry_point}") from error
    return library


def read_script(script: str | Path | TransformScript) -> tuple[str | bytes, str]:
    """The text of a script, given as itself or as the path of its file, and what to call it in errors.

    Raises:
        UsageError: the file cannot be read.
    """
    if isinstance(script, TransformScript):
        return script.text(), f"transform script {script.name}"
    try:
        return Path(script).read_bytes(), str(script)
    except OSError as error:
        raise UsageError(f"cannot be read: {error.strerror or error}", where=str(script)) from error


def request_schedules(module: Any, script: str | Path | TransformScript) -> None:
    """Has a script say which schedules layers get; ``module`` is in IREE's context, not yet laid out.

    Raises:
        UsageError: the script has no sequence to apply, or names a layer that the model has not.
        CompileError: it does not parse, or fails.
        ScheduleError: it annotates what has no choice of schedules.
    """
    text, where = read_script(script)
    entry_point = script.name if isinstance(script, TransformScript) else ENTRY_POINT
    library = apply_script(module, text, entry_point, where)
    layers = {layer_of(op) for op in walk(module, *SCHEDULED_OPS)}
    for match in walk(library, "transform.structured.match"):
        wanted = match.attributes.get("op_attrs", {})
        if LAYER in wanted and (layer := wanted[LAYER].value) not in layers:
            near = difflib.get_close_matches(layer, layers, _NEAR, cutoff=0.0)
            hint = "it has " + ", ".join(near) if near else "it has none"
            raise UsageError(f"the model has no convolution or linear layer {layer!r}", where=where, hint=hint)
    check_requests(module.operation)


def schedule_script(choices: Sequence[tuple[str, str, Choice]], name: str = ENTRY_POINT) -> TransformScript:
    """The script that asks for these schedules: (layer, op, its schedule) in the order of the model."""
    script = TransformScript(name, "%module")
    by_op = sorted(choices, key=lambda each: each[:2])
    found = {key: [choice for *_, choice in group] for key, group in groupby(by_op, key=lambda each: each[:2])}
    for layer, op in dict.fromkeys(each[:2] for each in choices):
        asked = [_request(choice).values() for choice in found[layer, op]]
        script.comment(found[layer, op][0].reason.removeprefix(ASKED))
        ops = script.match_layer(layer, op)
        if all(values == asked[0] for values in asked):
            script.annotate(ops, KNOBS, asked[0])
            continue
        # Ops of one name and layer that get different schedules.
        for handle, values in zip(script.split(ops, len(asked)), asked, strict=True):
            script.annotate(handle, KNOBS, values)
    return script


def _request(choice: Choice) -> KnobRequest:
    knobs = knobs_of(choice)
    if not isinstance(knobs, SparseConvKnobs):
        return KnobRequest(choice.schedule, choice.knobs)
    numbers = {name: value for name, value in choice.knobs.items() if name not in VARIANTS}
    if knobs.variant == PREFETCHES:
        numbers["prefetch"] = knobs.prefetch  # without it, 0 might become what the rules choose
    return KnobRequest(choice.schedule, numbers, knobs.variant)

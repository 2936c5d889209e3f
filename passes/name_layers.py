"""``dlas-name-layers``: the source layer of each linalg operation, from its location to ``dlas.layer``.

    before: %0 = linalg.conv_2d_nchw_fchw ... loc("layer1.0.conv2")
    after:  %0 = linalg.conv_2d_nchw_fchw {dlas.layer = "layer1.0.conv2"} ... loc("layer1.0.conv2")

The frontends put the layer's name in a NameLoc. A fused location gives its first name. An operation without a named
location takes the name of the operation that makes its first operand, else ``<function>.<op>.<ordinal>``, so that
every linalg operation has a name to report. An attribute that is already there stays.
"""

from __future__ import annotations

import re
from collections import Counter
from dataclasses import dataclass
from typing import Any

from dlas.passes.constants import bindings
from dlas.passes.generics import LAYER, defining_op, layer_of, walk
from dlas.passes.registry import Note, Pass, register

# A quoted string that no ":line:column" follows is a name; with it, it is a file.
_NAME = re.compile(r'"((?:[^"\\]|\\.)*)"(?!\s*:\d)')
_ESCAPE = re.compile(r"\\([0-9A-Fa-f]{2})")


def layer_from_location(location: Any) -> str | None:
    """The first name in a location, None if it has none (only files, or unknown)."""
    match = _NAME.search(str(location))
    if match is None:
        return None
    text = _ESCAPE.sub(lambda code: chr(int(code.group(1), 16)), match.group(1))
    return text or None


def is_linalg(op: Any) -> bool:
    """Whether an operation computes on tensors (linalg, or torch-mlir's tm_tensor) and so has a layer."""
    return op.name.startswith(("linalg.", "tm_tensor.")) and not op.name.endswith((".yield", ".index"))


@register("dlas-name-layers", context="torch-mlir")
@dataclass(frozen=True)
class NameLayers(Pass):
    """See the module's docstring."""

    def run(self, module: Any) -> list[Note]:
        ir = bindings(module)
        notes: list[Note] = []
        ordinals: Counter[str] = Counter()
        for function in walk(module, "func.func"):
            symbol = function.attributes["sym_name"].value
            for op in walk(function):
                if not is_linalg(op) or LAYER in op.attributes:
                    continue
                name = layer_from_location(op.location)
                if name is None:
                    producer = defining_op(op.operands[0]) if len(op.operands) else None
                    name = layer_of(producer) if producer is not None else ""
                if not name:
                    name = f"{symbol}.{op.name}.{ordinals[op.name]}"
                    ordinals[op.name] += 1
                    notes.append(Note(self.name, name, False, "no source location names this operation's layer"))
                op.attributes[LAYER] = ir.StringAttr.get(name)
        return notes

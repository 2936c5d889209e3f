"""``dlas.knobs``: what a transform script asks for a convolution or linear layer.

A dictionary attribute on the op, ``{schedule = "packed_conv", t_o = 16, ow = 6}``: the layer gets this schedule with
these knobs, and nothing else is considered for it. Knobs that it leaves out are chosen as they always are.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from iree.compiler import ir

from dlas.dialects import SCHEDULED_OPS
from dlas.errors import ScheduleError
from dlas.passes.generics import layer_of, walk

KNOBS = "dlas.knobs"
"""The discardable attribute."""


@dataclass(frozen=True)
class KnobRequest:
    """A schedule, values of some of its knobs, and the variant of those that have several."""

    schedule: str
    knobs: Mapping[str, int]
    variant: str | None = None

    @classmethod
    def of(cls, op: ir.Operation) -> KnobRequest | None:
        """What is asked for an op; None: nothing.

        Raises:
            ScheduleError: not such a dictionary.
        """
        if KNOBS not in op.attributes:
            return None
        where = f"layer {layer_of(op)}"
        attribute = op.attributes[KNOBS]
        hint = f'{KNOBS} = {{schedule = "packed_conv", t_o = 16}}'
        if not isinstance(attribute, ir.DictAttr):
            raise ScheduleError(f"{KNOBS} = {attribute} is not a dictionary", where=where, hint=hint)
        texts: dict[str, str] = {}
        knobs: dict[str, int] = {}
        for item in attribute:
            named = item.attr
            if item.name in ("schedule", "variant") and isinstance(named, ir.StringAttr):
                texts[item.name] = named.value
            elif item.name not in ("schedule", "variant") and isinstance(named, ir.IntegerAttr):
                knobs[item.name] = named.value
            else:
                kind = "a string" if item.name in ("schedule", "variant") else "an integer"
                raise ScheduleError(f"{item.name} = {named} is not {kind}", where=where, hint=hint)
        if "schedule" not in texts:
            raise ScheduleError(f"{KNOBS} = {attribute} names no schedule", where=where, hint=hint)
        return cls(texts["schedule"], knobs, texts.get("variant"))

    def values(self) -> dict[str, int | str]:
        """The dictionary."""
        variant = {} if self.variant is None else {"variant": self.variant}
        return {"schedule": self.schedule, **variant, **self.knobs}


def check_requests(module: ir.Operation) -> None:
    """Refuses ``dlas.knobs`` on ops that have no choice of schedules.

    Raises:
        ScheduleError: naming the op.
    """
    for op in walk(module):
        if KNOBS in op.attributes and op.name not in SCHEDULED_OPS:
            raise ScheduleError(
                f"{KNOBS} on {op.name}, which has no choice of schedules",
                where=f"layer {layer_of(op)}",
                hint="match ops " + ", ".join(SCHEDULED_OPS),
            )

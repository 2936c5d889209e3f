"""``dlas targets`` and ``dlas schedules``: what there is to choose from."""

from __future__ import annotations

from typing import Any

from dlas.compiler.cli import console
from dlas.compiler.cli.options import Json

_CPU_COLUMNS = {
    "name": "name",
    "description": "description",
    "f32 lanes>": "simd_lanes",
    "registers>": "vector_registers",
    "FMA/cycle>": "fma_units",
    "L1d kB>": "l1d_kb",
    "L2 kB>": "l2_kb",
    "L3 kB>": "l3_kb",
    "cores>": "cores",
    "GHz>": "clock_ghz",
}

_GPU_COLUMNS = {
    "name": "name",
    "description": "description",
    "backend": "backend",
    "architecture": "architecture",
    "subgroup>": "subgroup_sizes",
    "threads>": "max_threads",
    "shared bytes>": "workgroup_memory",
    "sparse up to>": "sparse_share",
    "1x1>": "sparse_share_pointwise",
}


def targets_command(json: Json = False) -> None:
    """List the devices that can be compiled for."""
    from dlas.compiler.targets import list_targets, load_target

    targets = [load_target(name).to_dict() | {"name": name} for name in list_targets()]
    if json:
        console.print_json(targets)
        return
    for title, columns in (("CPUs", _CPU_COLUMNS), ("GPUs", _GPU_COLUMNS)):
        chosen = [target for target in targets if ("backend" in target) == (columns is _GPU_COLUMNS)]
        rows = [[_show(target[key]) for key in columns.values()] for target in chosen]
        console.print_table(console.make_table(title, tuple(columns), rows))


def _show(value: Any) -> str:
    if isinstance(value, tuple):
        return ", ".join(map(str, value))
    return "-" if value is None else str(value)


def schedules_command(json: Json = False) -> None:
    """List the schedules and their knobs."""
    schedules = describe_schedules()
    if json:
        console.print_json(schedules)
        return
    rows = []
    for schedule in schedules:
        name, summary = schedule["name"], schedule["summary"]
        for knob in schedule["knobs"] or [{"name": "-", "default": None, "doc": ""}]:
            default = "-" if knob["default"] is None else str(knob["default"])
            rows.append([name, summary, knob["name"], default, knob["doc"]])
            name = summary = ""
    console.print_table(console.make_table("schedules", ("schedule", "for", "knob", "default", "meaning"), rows))


def describe_schedules() -> list[dict[str, Any]]:
    """Every schedule of the table with its knobs: name, type, default (None: chosen per kernel) and meaning."""
    from dataclasses import MISSING, fields

    from dlas.compiler.explain import knob_meanings
    from dlas.schedules.rules import SCHEDULES

    described = []
    for name, schedule in SCHEDULES.items():
        meanings = knob_meanings(schedule.knobs)
        knobs = [
            {
                "name": field.name,
                "type": str(field.type),
                "default": None if field.default is MISSING else field.default,
                "doc": meanings.get(field.name, ""),
            }
            for field in fields(schedule.knobs)
        ]
        described.append({"name": name, "summary": schedule.summary, "knobs": knobs})
    return described

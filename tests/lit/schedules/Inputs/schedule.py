"""Lays a module out, runs IREE to the kernels' sources, applies their schedules, and prints the scheduled kernels.

schedule.py FILE TARGET [KIND [KNOB=VALUE...]]: only kernels of that kind (``conv``, ``pack``, ...), with these knobs;
``winograd=M`` is the rules' largest output tile, ``cores=N`` the target's cores.
"""

from __future__ import annotations

import sys
from dataclasses import replace
from pathlib import Path

from iree.compiler import ir

from dlas.compiler import codegen
from dlas.compiler.backends import rules_for
from dlas.compiler.targets import load_target
from dlas.errors import DlasError
from dlas.schedules.rules import apply_schedule


def main(path: str, target_name: str, kind: str = "", *knobs: str) -> None:
    target = load_target(target_name)
    changed = {key: int(value) for key, value in (knob.split("=") for knob in knobs)}
    winograd = changed.pop("winograd", 4)
    target = replace(target, cores=changed.pop("cores", target.cores))
    session = codegen.CodegenSession(target)
    with session.context():
        module = ir.Module.parse(Path(path).read_text())
        report = codegen.lay_out(module, rules_for(target, winograd))
        codegen.form_executables(session, module)
        for function in codegen.find_ops(module.operation, lambda op: op.name == "func.func"):
            keys = codegen.find_ops(function, lambda op: "dlas.kernel" in op.attributes)
            kernel = report.kernels.get(ir.StringAttr(keys[0].attributes["dlas.kernel"]).value) if keys else None
            if kernel is None or kind not in ("", kernel.kind):
                continue
            kernel.choice = replace(kernel.choice, knobs={**kernel.choice.knobs, **changed})
            apply_schedule(kernel, function)
            codegen.verify_scheduled(kernel, function)
            shown = " ".join(f"{key}={value}" for key, value in kernel.choice.knobs.items())
            print(f"// {kernel.kind}: {kernel.choice.schedule} {shown}")
            print(function.get_asm(large_elements_limit=16, use_local_scope=True))


if __name__ == "__main__":
    try:
        main(*sys.argv[1:])
    except DlasError as error:
        sys.exit(f"error: {error}")

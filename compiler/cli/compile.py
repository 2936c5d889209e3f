"""``dlas compile``: a model to an artifact, or to the module of one of the stages."""

from __future__ import annotations

import sys
from collections import Counter
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from dlas.compiler.cli import console
from dlas.compiler.cli.options import (
    Elide,
    IreeFlags,
    Json,
    Measured,
    Model,
    NoSchedules,
    Script,
    Strassen,
    Target,
    Winograd,
    check_writable,
)
from dlas.errors import UsageError

if TYPE_CHECKING:
    from dlas.compiler.pipeline import Compilation

_ELIDED_ON_TERMINAL = 16  # elements: nobody reads a megabyte of weights


def compile_command(
    model: Model,
    output: Annotated[
        Path | None, typer.Option("--output", "-o", metavar="FILE", help="The .vmfb to write.", show_default=False)
    ] = None,
    target: Target = "x86_64",
    stop_after: Annotated[
        str | None,
        typer.Option("--stop-after", metavar="STAGE", help="Print the module after a stage (or write it to -o)."),
    ] = None,
    dump_ir: Annotated[
        Path | None, typer.Option("--dump-ir", metavar="DIR", help="Write the module after each stage there.")
    ] = None,
    parameters: Annotated[
        Path | None,
        typer.Option(
            "--parameters",
            metavar="FILE.irpa",
            help="Keep weights outside the .vmfb, in this IREE parameter archive (copied beside the .vmfb if it is not "
            "there under its name).",
        ),
    ] = None,
    no_schedules: NoSchedules = False,
    winograd: Winograd = None,
    strassen: Strassen = None,
    measured: Measured = None,
    transform_script: Script = None,
    iree_flag: IreeFlags = None,
    elide: Elide = None,
    json: Json = False,
) -> None:
    """Compile MODEL to a .vmfb that stock IREE runs, with a .json beside it."""
    from dlas.compiler.targets import load_target

    device = load_target(target)
    prints_module = stop_after not in (None, "package")
    if prints_module and json and output is None:
        raise UsageError("--json and --stop-after both want stdout", hint="write the module to a file: -o FILE")
    if not prints_module and output is None:
        raise UsageError("no output file", hint="-o out.vmfb, or --stop-after STAGE to print a module")
    for path in (output, parameters):
        if path is not None:
            check_writable(path)

    from dlas.compiler.pipeline import Options, compile_model

    with console.stages() as progress:
        options = Options(
            stop_after=stop_after,
            dump_ir=dump_ir,
            schedules=not no_schedules,
            winograd=winograd,
            strassen=strassen,
            measured=measured,
            transform_script=transform_script,
            parameters=parameters,
            iree_flags=tuple(iree_flag or ()),
            progress=progress,
        )
        compilation = compile_model(model, None, device, options)
    if prints_module:
        _write_module(compilation, output, elide)
        if json:
            console.print_json({"model": model, "target": device.name, "file": output, "stages": compilation.stages})
        return
    assert compilation.artifact is not None and output is not None
    summary = _summary(compilation, compilation.artifact.save(output))
    if json:
        console.print_json(summary)
    else:
        _print_summary(summary)


def _write_module(compilation: Compilation, output: Path | None, elide: int | None) -> None:
    module = compilation.module
    if module is None:
        assert compilation.imported is not None
        module = compilation.imported.parse()
    if elide is None and output is None and sys.stdout.isatty():
        elide = _ELIDED_ON_TERMINAL
    text = module.operation.get_asm(large_elements_limit=elide, large_resource_limit=elide)
    console.write_text(text if text.endswith("\n") else text + "\n", output or "-")


def _summary(compilation: Compilation, path: Path) -> dict[str, Any]:
    from dlas.compiler.explain import plain_loops

    artifact = compilation.artifact
    assert artifact is not None
    kernels = [asdict(kernel) for kernel in artifact.kernels]
    loops = plain_loops(compilation)
    archive = path.with_suffix(".irpa") if artifact.parameters is not None else None
    return {
        "model": artifact.model,
        "target": compilation.target.name,
        "file": str(path),
        "bytes": len(artifact.vmfb),
        "parameters": None if archive is None else {"file": str(archive), "bytes": archive.stat().st_size},
        "stages": compilation.stages,
        "total_s": sum(compilation.stages.values()),
        "scheduled": sum(kernel["schedule"] is not None for kernel in kernels),
        "left_to_iree": sum(kernel["schedule"] is None and kernel["name"] not in loops for kernel in kernels),
        "plain_loops": len(loops),
        "kernels": kernels,
        "refused": [{"layer": layer, "op": op, "reason": reason} for layer, op, reason in compilation.layout.refused],
        "versions": artifact.versions,
    }


def _print_summary(summary: dict[str, Any]) -> None:
    print(f"{summary['model']} for {summary['target']} in {summary['total_s']:.1f} s")
    print(f"{summary['file']}: {console.size(summary['bytes'])}")
    if summary["parameters"] is not None:
        print(f"{summary['parameters']['file']}: {console.size(summary['parameters']['bytes'])}")
    schedules = Counter(kernel["schedule"] for kernel in summary["kernels"] if kernel["schedule"] is not None)
    listed = ", ".join(f"{name} {count}" for name, count in schedules.most_common())
    print(f"{console.plural(summary['scheduled'], 'kernel')} scheduled{listed and f' ({listed})'}")
    print(f"{console.plural(summary['left_to_iree'], 'kernel')} left to IREE")
    if summary["plain_loops"]:
        print(f"{console.plural(summary['plain_loops'], 'kernel')} in plain loops, since their schedule does not fit")
    for kernel in summary["kernels"]:
        if kernel["schedule"] is None:
            print(f"  {kernel['layer'] or kernel['name']} ({kernel['kind']}): {kernel['reason']}")
    for op in summary["refused"]:
        print(f"  {op['layer'] or 'unnamed layer'} ({op['op']}): {op['reason']}")

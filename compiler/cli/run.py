"""``dlas run``: one inference of a compiled model on ``.npy`` files or random inputs."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from dlas.compiler.cli import console
from dlas.compiler.cli.options import Json, check_writable
from dlas.errors import InputError, UsageError

if TYPE_CHECKING:
    import numpy as np

SEED = 0
_SHOWN = 8  # values of an output that are printed


def run_command(
    artifact: Annotated[
        str, typer.Argument(metavar="FILE.vmfb", help="What `dlas compile` wrote.", show_default=False)
    ],
    inputs: Annotated[
        list[Path] | None,
        typer.Option(
            "--input",
            "-i",
            metavar="X.npy",
            help="An input, in the model's order (repeatable). Without any: random inputs of a fixed seed.",
            show_default=False,
        ),
    ] = None,
    device: Annotated[str, typer.Option("--device", metavar="D", help="IREE's name of the device.")] = "local-task",
    threads: Annotated[int, typer.Option("--threads", metavar="N", help="Worker threads of local-task.")] = 1,
    outputs: Annotated[
        list[Path] | None,
        typer.Option(
            "--output", "-o", metavar="Y.npy", help="Where an output goes, in order (repeatable).", show_default=False
        ),
    ] = None,
    json: Json = False,
) -> None:
    """Run a compiled model once and print its outputs (iree-run-module runs the same file)."""
    from dlas.compiler.explain import random_inputs
    from dlas.runtime import load

    for path in outputs or ():
        check_writable(path)
    arrays = [_read_array(path) for path in inputs or ()]
    session = load(artifact, device=device, threads=threads)
    if outputs and len(outputs) != len(session.artifact.outputs):
        expected = console.plural(len(session.artifact.outputs), "output")
        raise UsageError(f"{console.plural(len(outputs), '--output')} given for {expected}", where=artifact)
    is_random = not arrays and bool(session.artifact.inputs)
    if is_random:
        arrays = random_inputs(session.artifact.inputs, SEED)
    results = session(*arrays)
    results = results if isinstance(results, tuple) else (results,)
    for path, result in zip(outputs or (), results, strict=False):
        _write_array(path, result)
    report: dict[str, Any] = {"model": session.artifact.model, "device": device, "threads": threads}
    report["seed"] = SEED if is_random else None
    sources: list[str | None] = [None] * len(arrays) if is_random else [*map(str, inputs or ())]
    report["inputs"] = [
        {"name": spec.name, "dtype": spec.dtype, "shape": spec.shape, "file": source}
        for spec, source in zip(session.artifact.inputs, sources, strict=True)
    ]
    files: list[str | None] = [*map(str, outputs or ())] or [None] * len(results)
    report["outputs"] = [
        {"name": spec.name, "dtype": spec.dtype, "shape": spec.shape, "file": file, **_statistics(result)}
        for spec, file, result in zip(session.artifact.outputs, files, results, strict=True)
    ]
    if json:
        console.print_json(report)
    else:
        _print_report(report)


def _read_array(path: Path) -> np.ndarray:
    import numpy as np

    try:
        with path.open("rb") as file:
            return np.lib.format.read_array(file, allow_pickle=False)
    except OSError as error:
        raise InputError(f"cannot be read: {error.strerror or error}", where=str(path)) from error
    except (ValueError, EOFError) as error:
        raise InputError(f"not an .npy file: {error}", where=str(path), hint="numpy.save writes one") from error


def _write_array(path: Path, array: np.ndarray) -> None:
    import numpy as np

    try:
        with path.open("wb") as file:  # numpy.save would append a suffix to a path
            np.save(file, array)
    except OSError as error:
        raise InputError(f"cannot be written: {error.strerror or error}", where=str(path)) from error


def _statistics(array: np.ndarray) -> dict[str, Any]:
    """Minimum, maximum, mean and first values; None where there are none or they are not finite."""
    import numpy as np

    values = array.astype(np.float64).reshape(-1)
    described: dict[str, float | None] = {"min": None, "max": None, "mean": None}
    if values.size:
        described = {"min": float(values.min()), "max": float(values.max()), "mean": float(values.mean())}
    first = array.reshape(-1)[:_SHOWN].astype(values.dtype if array.dtype.kind not in "biu" else array.dtype)
    return {**described, "nonfinite": int((~np.isfinite(values)).sum()), "first": first.tolist()}


def _print_report(report: dict[str, Any]) -> None:
    for spec in report["inputs"]:
        source = spec["file"] or f"random, seed {report['seed']}"
        print(f"input {spec['name']}: {spec['dtype']}{list(spec['shape'])}: {source}")
    for spec in report["outputs"]:
        line = f"output {spec['name']}: {spec['dtype']}{list(spec['shape'])}"
        if spec["min"] is not None:
            line += f": min {spec['min']:.6g}, max {spec['max']:.6g}, mean {spec['mean']:.6g}"
        if spec["nonfinite"]:
            line += f", {spec['nonfinite']} not finite"
        print(line + (f": {spec['file']}" if spec["file"] else ""))
        values = ", ".join(f"{value:.6g}" if isinstance(value, float) else str(value) for value in spec["first"])
        print(f"  {values}{', ...' if len(spec['first']) == _SHOWN else ''}")

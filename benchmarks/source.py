"""The models that a benchmark takes, as every peer gets them: equal weights, equal inputs, one float64 reference."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from dlas.errors import DlasError, UsageError

if TYPE_CHECKING:
    import torch

FILE_KINDS = {".onnx": "onnx", ".pt2": "pt2"}


@dataclass(frozen=True)
class Source:
    """A checked model argument: ``kind`` is ``zoo``, ``pt2`` or ``onnx``; ``text`` is the zoo spec or the path."""

    label: str
    kind: str
    text: str

    def load_module(self) -> tuple[torch.nn.Module, tuple[torch.Tensor, ...]]:
        """The torch module and its example inputs (not for ``onnx``)."""
        if self.kind == "zoo":
            from dlas.compiler.frontends import zoo

            return zoo.build(self.text)
        import torch

        program = torch.export.load(self.text)
        if program.example_inputs is None:
            raise DlasError("the exported program has no example inputs", where=self.text)
        return program.module(), program.example_inputs[0]


def resolve(model: str) -> Source:
    """Check a model argument: a zoo spec (with or without ``zoo:``), or the path of an .onnx or .pt2 file.

    Raises:
        UsageError: an unknown zoo name, key or value, a file of another kind, or one that is not there.
    """
    path = Path(model)
    if path.suffix in FILE_KINDS:
        if not path.is_file():
            raise UsageError("no such file", where=model)
        return Source(model, FILE_KINDS[path.suffix], str(path.resolve()))
    from dlas.compiler.frontends import zoo

    if path.exists() and not zoo.is_zoo_spec(model):
        raise UsageError(
            f"cannot benchmark a {path.suffix or 'suffixless'} file", where=model, hint="zoo spec, .onnx, .pt2"
        )
    zoo.parse_spec(model)
    return Source(model, "zoo", model.removeprefix("zoo:"))


@dataclass
class Case:
    """One model in the process that builds it; ``folder`` holds what the other processes read.

    ``target`` and ``device`` are what ours is compiled for and runs on (None: what the target's code runs on),
    ``transform_script`` is the file of a script that says which schedules its layers get.
    """

    source: Source
    folder: Path
    threads: int = 1
    target: str = "x86_64"
    device: str | None = None
    transform_script: str | None = None
    _module: Any = field(default=None, repr=False)

    @property
    def onnx_path(self) -> Path:
        """The model as ONNX: the given file, or where :meth:`export_onnx` puts it."""
        return Path(self.source.text) if self.source.kind == "onnx" else self.folder / "model.onnx"

    @property
    def inputs_path(self) -> Path:
        return self.folder / "inputs.npz"

    @property
    def reference_path(self) -> Path:
        return self.folder / "reference.npz"

    def module(self) -> tuple[torch.nn.Module, tuple[torch.Tensor, ...]]:
        """The torch module and its inputs, made once per process."""
        if self._module is None:
            self._module = self.source.load_module()
        return self._module

    def load_inputs(self) -> list[np.ndarray]:
        """The inputs that every peer is given."""
        return load_arrays(self.inputs_path)

    def write_inputs_and_reference(self) -> None:
        """Write the inputs and the float64 outputs (no reference for an ONNX file that numpy cannot evaluate)."""
        if self.source.kind == "onnx":
            from .onnx_reference import random_inputs, reference_outputs

            feed = random_inputs(self.onnx_path)
            save_arrays(self.inputs_path, list(feed.values()))
            outputs = reference_outputs(self.onnx_path, feed)
            if outputs is not None:
                save_arrays(self.reference_path, outputs)
            return
        module, inputs = self.module()
        save_arrays(self.inputs_path, [x.numpy() for x in inputs])
        save_arrays(self.reference_path, _run_in_float64(module, inputs))

    def export_onnx(self) -> None:
        """Export the module to ONNX unless that is done. Raises DlasError with the reason of the first exporter."""
        if self.onnx_path.exists():
            return
        module, inputs = self.module()
        failures: list[Exception] = []
        for export in ONNX_EXPORTERS:
            try:
                export(module, inputs, str(self.onnx_path))
                return
            except Exception as error:  # exporters fail with errors of many kinds; the next one may still succeed
                self.onnx_path.unlink(missing_ok=True)
                failures.append(error)
        first = str(failures[0]).strip().partition("\n")[0]
        raise DlasError(f"no ONNX export: {type(failures[0]).__name__}: {first}", where=self.source.label)


def _export_plain(module: torch.nn.Module, inputs: tuple[torch.Tensor, ...], path: str) -> None:
    import torch

    names = [f"input{index}" for index in range(len(inputs))]
    with torch.no_grad():
        torch.onnx.export(module, inputs, path, dynamo=False, opset_version=17, input_names=names)


def _export_traced(module: torch.nn.Module, inputs: tuple[torch.Tensor, ...], path: str) -> None:
    """For the module of an exported program, whose mode the plain exporter cannot set."""
    import torch

    with torch.no_grad():
        traced = torch.jit.trace(module, inputs, check_trace=False)
    _export_plain(traced, inputs, path)


def _export_dynamo(module: torch.nn.Module, inputs: tuple[torch.Tensor, ...], path: str) -> None:
    import torch

    torch.onnx.export(module, inputs, path, dynamo=True, external_data=False)


ONNX_EXPORTERS: tuple[Callable[[torch.nn.Module, tuple[torch.Tensor, ...], str], None], ...] = (
    _export_plain,
    _export_traced,
    _export_dynamo,
)
"""The ways to ONNX, tried in this order."""


def save_arrays(path: Path, arrays: list[np.ndarray]) -> None:
    """Write arrays in order, as an .npz."""
    np.savez(path, *arrays)


def load_arrays(path: Path) -> list[np.ndarray]:
    """Read what :func:`save_arrays` wrote, in order."""
    with np.load(path) as archive:
        return [archive[f"arr_{index}"] for index in range(len(archive.files))]


def flatten_outputs(outputs: Any) -> list[np.ndarray]:
    """One array or tensor, or a nest of lists, tuples and dicts of them, as a flat list of numpy arrays."""
    if isinstance(outputs, dict):
        outputs = list(outputs.values())
    if isinstance(outputs, list | tuple):
        return [array for output in outputs for array in flatten_outputs(output)]
    return [np.asarray(outputs)]


def max_relative_error(outputs: list[np.ndarray], reference: list[np.ndarray]) -> float:
    """max |y - y64| / max |y64|, the largest over the outputs; infinite where shapes or finiteness differ."""
    if len(outputs) != len(reference):
        return float("inf")
    worst = 0.0
    for y, y64 in zip(outputs, reference, strict=True):
        if y.shape != y64.shape or not np.isfinite(y).all():
            return float("inf")
        if y64.size:
            worst = max(worst, float(np.abs(y - y64).max() / max(np.abs(y64).max(), np.finfo(np.float64).tiny)))
    return worst


def _run_in_float64(module: torch.nn.Module, inputs: tuple[torch.Tensor, ...]) -> list[np.ndarray]:
    import torch

    wide = tuple(x.double() if x.is_floating_point() else x for x in inputs)
    try:
        with torch.no_grad():
            return flatten_outputs(module.double()(*wide))
    finally:
        module.float()

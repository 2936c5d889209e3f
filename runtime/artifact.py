"""The artifact of a compilation: a plain IREE ``.vmfb`` and a ``.json`` beside it that describes it."""

from __future__ import annotations

import hashlib
import json
import math
import os
import shutil
import uuid
from collections.abc import Callable
from contextlib import suppress
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np

from dlas.errors import ArtifactError
from dlas.runtime.tensors import ELEMENT_TYPES

FORMAT = "dlas-artifact"
VERSION = 1

_ZIP_START, _ZIP_END = b"PK\x03\x04", b"PK\x05\x06"
_ZIP_END_SIZE = 22


@dataclass(frozen=True)
class TensorSpec:
    """One input or output of the model: its name, static shape and numpy dtype name."""

    name: str
    shape: tuple[int, ...]
    dtype: str

    def __str__(self) -> str:
        return f"{self.name}: {self.dtype}{list(self.shape)}"

    @property
    def nbytes(self) -> int:
        """Size in bytes of the dense tensor."""
        return math.prod(self.shape) * ELEMENT_TYPES[self.dtype].dtype.itemsize


@dataclass(frozen=True)
class KernelRecord:
    """What the compiler did with one kernel.

    Args:
        name: the dispatch's exported name in the ``.vmfb`` (the name that profiles report).
        layer: the source layer it came from.
        kind: its class, for example "conv-grouped".
        schedule: the schedule it was given; None means IREE's default.
        knobs: the schedule's parameters.
        reason: why this schedule (or none).
        flops: floating-point operations per call.
        bytes: bytes it must read and write per call.
        problem: what a convolution computes, all extents in one line; "" for other kernels.
        calls: per inference; 0 if that is not known.
        workgroups: parts of a call that threads share; 0 if that is not known.
        cycles: roughly, of one core for a call; 0 if that is not known.
    """

    name: str
    layer: str
    kind: str
    schedule: str | None
    knobs: dict[str, Any]
    reason: str
    flops: int
    bytes: int
    problem: str = ""
    calls: int = 0
    workgroups: int = 0
    cycles: int = 0


ALIGNMENT = 64
"""Bytes: generated code reads its arguments and its constants with aligned vector loads of this size."""


@dataclass
class Artifact:
    """A compiled model. ``vmfb`` is the module (where :meth:`load` read it, in memory that sessions use as it is);
    ``stages`` holds seconds per compilation stage; ``parameters`` is the ``.irpa`` file of weights kept outside the
    module (parameter scope "model"), if any."""

    vmfb: bytes | memoryview
    inputs: tuple[TensorSpec, ...]
    outputs: tuple[TensorSpec, ...]
    target: dict[str, Any]
    kernels: tuple[KernelRecord, ...]
    versions: dict[str, str]
    function: str = "main"
    model: str = ""
    options: dict[str, Any] = field(default_factory=dict)
    stages: dict[str, float] = field(default_factory=dict)
    parameters: Path | None = None

    def __repr__(self) -> str:
        inputs, outputs = (", ".join(map(str, specs)) for specs in (self.inputs, self.outputs))
        return f"<Artifact {self.model or self.function}({inputs}) -> ({outputs}), {len(self.vmfb)} bytes>"

    def save(self, path: str | Path) -> Path:
        """Write ``X.vmfb``, ``X.json`` and, with outside parameters, ``X.irpa``; returns the path of the ``.vmfb``.

        `path` gets the suffix ``.vmfb`` if it lacks it. Each file is written beside its place and moved into it, so a
        file that another process has mapped is never changed. Raises ArtifactError if a file cannot be written.
        """
        vmfb = _with_vmfb_suffix(Path(path))
        try:
            if self.parameters is not None:
                self._save_parameters(vmfb.with_suffix(".irpa"))
            _write_atomically(vmfb, lambda file: file.write(self.vmfb))
            text = json.dumps(self._description(vmfb), indent=2, default=_plain) + "\n"
            _write_atomically(vmfb.with_suffix(".json"), lambda file: file.write(text.encode()))
        except OSError as error:
            raise ArtifactError(f"cannot be written: {error.strerror or error}", where=str(vmfb)) from error
        return vmfb

    @classmethod
    def load(cls, path: str | Path) -> Artifact:
        """Read what :meth:`save` wrote.

        Raises ArtifactError if a file is missing, malformed, or not the one that was saved (size and SHA-256 are
        compared). The module itself is verified when a session loads it.
        """
        vmfb_path = Path(path)
        if not vmfb_path.exists():
            vmfb_path = _with_vmfb_suffix(vmfb_path)
        try:
            vmfb = _read_aligned(vmfb_path)
        except FileNotFoundError as error:
            raise ArtifactError("no such file", where=str(vmfb_path)) from error
        except OSError as error:
            raise ArtifactError(f"cannot be read: {error.strerror or error}", where=str(vmfb_path)) from error
        check_vmfb(vmfb, where=str(vmfb_path))
        json_path = vmfb_path.with_suffix(".json")
        description = _read_description(json_path)
        _check_contents(vmfb, description.value("vmfb", dict), vmfb_path)
        parameters = None
        if description.raw.get("parameters") is not None:
            parameters = vmfb_path.with_suffix(".irpa")
            _check_parameters(parameters, description.value("parameters", dict))
        return cls(
            vmfb=vmfb,
            inputs=description.specs("inputs"),
            outputs=description.specs("outputs"),
            target=description.value("target", dict),
            kernels=description.kernels(),
            versions=description.value("versions", dict),
            function=description.value("function", str),
            model=description.value("model", str),
            options=description.value("options", dict),
            stages=description.value("stages", dict),
            parameters=parameters,
        )

    def _save_parameters(self, destination: Path) -> None:
        source = self.parameters
        assert source is not None
        if destination.exists() and destination.samefile(source):
            return
        with source.open("rb") as data:
            _write_atomically(destination, lambda file: shutil.copyfileobj(data, file))

    def _description(self, vmfb_path: Path) -> dict[str, Any]:
        parameters = None
        if self.parameters is not None:
            parameters = {"bytes": vmfb_path.with_suffix(".irpa").stat().st_size}
        return {
            "format": FORMAT,
            "version": VERSION,
            "model": self.model,
            "function": self.function,
            "vmfb": {"bytes": len(self.vmfb), "sha256": hashlib.sha256(self.vmfb).hexdigest()},
            "parameters": parameters,
            "inputs": [asdict(spec) for spec in self.inputs],
            "outputs": [asdict(spec) for spec in self.outputs],
            "target": self.target,
            "options": self.options,
            "versions": self.versions,
            "stages": self.stages,
            "kernels": [asdict(kernel) for kernel in self.kernels],
        }


def _read_aligned(path: Path) -> memoryview:
    """A file's contents at an aligned address, in numpy's memory: its large blocks are of huge pages where Linux has
    them, which saves misses of the TLB where weights are streamed."""
    with path.open("rb") as file:
        size = os.fstat(file.fileno()).st_size
        memory = aligned_memory(size)
        read = file.readinto(memory.data)  # less than size only if somebody truncates it now
    return memory.data[:read].toreadonly()


def aligned_memory(size: int) -> np.ndarray:
    """So many bytes, uninitialised, at an address that is a multiple of :data:`ALIGNMENT`."""
    memory = np.empty(size + ALIGNMENT, np.uint8)
    start = -memory.ctypes.data % ALIGNMENT
    return memory[start : start + size]


def is_aligned(data: bytes | memoryview) -> bool:
    """Whether it begins at a multiple of :data:`ALIGNMENT`."""
    return np.frombuffer(data, np.uint8).ctypes.data % ALIGNMENT == 0


def check_vmfb(data: bytes | memoryview, *, where: str) -> None:
    """Raise ArtifactError unless `data` begins and ends like an IREE module (a zip archive, or a bare flatbuffer).

    The runtime's verifier does not see a lost tail of the archive, so the end is looked at here.
    """
    start, end = bytes(data[:16]), bytes(data[-_ZIP_END_SIZE:])
    if start.startswith(_ZIP_START):
        if not end.startswith(_ZIP_END):
            raise ArtifactError(f"truncated: {len(data)} bytes without an end of archive", where=where)
    elif b"IREE" not in start[4:]:
        raise ArtifactError(
            f"not an IREE module: it begins with {start[:8]!r}" if start else "an empty file",
            where=where,
            hint="expected a .vmfb written by dlas compile",
        )


class _Description:
    """The parsed ``.json``; its getters check types and raise ArtifactError with the place of the fault."""

    def __init__(self, raw: dict[str, Any], path: Path) -> None:
        self.raw, self._path = raw, path

    def fail(self, found: str) -> ArtifactError:
        return ArtifactError(found, where=str(self._path), hint="write it again with dlas compile")

    def value(self, key: str, kind: type) -> Any:
        value = self.raw.get(key)
        if not isinstance(value, kind):
            raise self.fail(f"'{key}' is {type(value).__name__}, expected {kind.__name__}")
        return value

    def specs(self, key: str) -> tuple[TensorSpec, ...]:
        specs = []
        for position, entry in enumerate(self.value(key, list)):
            try:
                spec = TensorSpec(str(entry["name"]), tuple(int(extent) for extent in entry["shape"]), entry["dtype"])
            except (KeyError, TypeError, ValueError) as error:
                raise self.fail(f"'{key}[{position}]' is not a name, a shape and a dtype") from error
            if spec.dtype not in ELEMENT_TYPES:
                raise self.fail(f"'{key}[{position}]' has the unknown dtype {spec.dtype!r}")
            specs.append(spec)
        return tuple(specs)

    def kernels(self) -> tuple[KernelRecord, ...]:
        try:
            return tuple(KernelRecord(**entry) for entry in self.value("kernels", list))
        except TypeError as error:
            raise self.fail(f"'kernels' holds a malformed record: {error}") from error


def _read_description(path: Path) -> _Description:
    try:
        raw = json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError as error:
        raise ArtifactError(
            "missing: a .vmfb needs the .json that dlas compile writes beside it",
            where=str(path),
            hint="a module without one runs under iree-run-module",
        ) from error
    except OSError as error:
        raise ArtifactError(f"cannot be read: {error.strerror or error}", where=str(path)) from error
    except ValueError as error:
        raise ArtifactError(f"not valid JSON: {error}", where=str(path)) from error
    if not isinstance(raw, dict) or raw.get("format") != FORMAT:
        raise ArtifactError(f'not the description of an artifact (no "format": "{FORMAT}")', where=str(path))
    if raw.get("version") != VERSION:
        raise ArtifactError(
            f"version {raw.get('version')!r} of the format", where=str(path), hint=f"this dlas reads version {VERSION}"
        )
    return _Description(raw, path)


def _check_contents(vmfb: bytes | memoryview, recorded: dict[str, Any], path: Path) -> None:
    if len(vmfb) != recorded.get("bytes"):
        raise ArtifactError(
            f"{len(vmfb)} bytes where its .json says {recorded.get('bytes')}: truncated, or another module",
            where=str(path),
        )
    if hashlib.sha256(vmfb).hexdigest() != recorded.get("sha256"):
        raise ArtifactError("its SHA-256 is not the one in its .json: damaged, or another module", where=str(path))


def _check_parameters(path: Path, recorded: dict[str, Any]) -> None:
    if not path.exists():
        raise ArtifactError("missing: the model keeps its parameters in this file", where=str(path))
    if path.stat().st_size != recorded.get("bytes"):
        raise ArtifactError(
            f"{path.stat().st_size} bytes where the .json says {recorded.get('bytes')}", where=str(path)
        )


def _with_vmfb_suffix(path: Path) -> Path:
    """Append, never replace: in "wrn-40-2.g4" the part after the dot belongs to the name."""
    return path if path.suffix == ".vmfb" else path.with_name(path.name + ".vmfb")


def _write_atomically(path: Path, write: Callable[[BinaryIO], object]) -> None:
    temporary = path.with_name(f".{path.name}.{uuid.uuid4().hex[:12]}.tmp")
    try:
        with temporary.open("xb") as file:
            write(file)
        os.replace(temporary, path)
    except BaseException:
        with suppress(FileNotFoundError):
            temporary.unlink()
        raise


def _plain(value: object) -> Any:
    """JSON for what compilers put into options and knobs: numpy scalars, paths and sets."""
    if isinstance(value, np.generic):
        return value.item()
    if isinstance(value, os.PathLike):
        return os.fspath(value)
    if isinstance(value, (set, frozenset)):
        return sorted(value)
    raise TypeError(f"{type(value).__name__} cannot be written to an artifact's .json")

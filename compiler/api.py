"""The compile API."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from dlas.compiler.pipeline import STAGES, Options, compile_model
from dlas.compiler.targets import AnyTarget
from dlas.errors import UsageError
from dlas.runtime.artifact import Artifact

__all__ = ["STAGES", "Options", "compile"]


def compile(  # noqa: A001 - the public name
    model: Any,
    example_inputs: Any = None,
    target: str | Path | AnyTarget = "x86_64",
    options: Options | None = None,
) -> Artifact:
    """Compile a model to an artifact that stock IREE runs.

    Args:
        model: ``nn.Module``, ``ExportedProgram``, path of a ``.pt2``, ``.onnx`` or ``.mlir`` file,
            ``onnx.ModelProto``, MLIR module, or a zoo name (``zoo:wrn-40-2,groups=4``).
        example_inputs: a tuple of tensors that gives an ``nn.Module`` its shapes; others carry theirs.
        target: a name from ``dlas targets``, a path of a target file, or what ``load_target`` makes of one.
        options: see :class:`Options`.

    Returns:
        The artifact, in memory; ``artifact.save(path)`` writes it.

    Raises:
        DlasError: one of its kinds (:mod:`dlas.errors`), saying what was found, where, and what to do.
    """
    options = options or Options()
    if options.stop_after not in (None, "package"):
        raise UsageError(
            f"stop_after={options.stop_after!r} gives no artifact",
            where="dlas.compile",
            hint="use `dlas compile --stop-after`, or dlas.compiler.pipeline.compile_model",
        )
    artifact = compile_model(model, example_inputs, target, options).artifact
    assert artifact is not None
    return artifact

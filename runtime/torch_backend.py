"""``torch.compile(module, backend="dlas")``: inference of whole graphs, with the parameters compiled in.

Dynamo hands over one graph per unbroken stretch of the program. Each is compiled at its first call, for the shapes of
that call and the parameters' values; other shapes, other modules of the same class and parameters that have changed
are compiled anew, up to MAX_COMPILATIONS for a graph. What dlas cannot compile runs eagerly, with one warning that
says why.

Options, as in ``torch.compile(module, backend="dlas", options={"threads": 2})``: ``target`` and ``options`` as for
``dlas.compile``, ``device`` and ``threads`` as for ``dlas.load`` (default: torch's own number of threads).
"""

from __future__ import annotations

import os
import warnings
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from importlib.metadata import entry_points
from types import SimpleNamespace
from typing import Any

import numpy as np
import torch
from torch import fx

from dlas.errors import DlasError, UsageError
from dlas.runtime.session import Session, load
from dlas.runtime.tensors import first_line, to_torch

NAME = "dlas"
MAX_COMPILATIONS = 16
_OPTIONS = ("target", "options", "device", "threads")


def backend(
    gm: fx.GraphModule, example_inputs: Sequence[Any], *, options: dict[str, Any] | None = None
) -> Callable[..., Any]:
    """Compile a graph of Dynamo's. Raises UsageError for an unknown option; see the module for the known ones."""
    options = dict(options or {})
    unknown = sorted(set(options) - set(_OPTIONS))
    if unknown:
        raise UsageError(f"unknown option {unknown[0]!r}", where="torch.compile", hint="known: " + ", ".join(_OPTIONS))
    placeholders = [node for node in gm.graph.nodes if node.op == "placeholder"]
    static = [_is_static(node, example) for node, example in zip(placeholders, example_inputs, strict=True)]
    return _Graph(gm, static, options)


def _is_static(placeholder: fx.Node, example: object) -> bool:
    """True for a parameter or buffer of the user's module, which Dynamo passes as an input of the graph."""
    marked = placeholder.meta.get("tensor_dict", {}).get("_dynamo_static_input_type") is not None
    return isinstance(example, torch.nn.Parameter) or (marked and isinstance(example, torch.Tensor))


@dataclass(frozen=True)
class _Variant:
    """A graph compiled for fixed shapes and parameter values.

    Args:
        session: the compiled graph, from its tensor inputs without the parameters to its tensor outputs.
        parameters: the tensors compiled in (kept, so that their identities stay theirs).
        versions: torch's modification counts of `parameters` when they were compiled in.
        outputs: what the graph returns, with None in the places of tensors.
        tensor_positions: those places.
    """

    session: Session
    parameters: tuple[torch.Tensor, ...]
    versions: tuple[int, ...]
    outputs: tuple[Any, ...]
    tensor_positions: tuple[int, ...]

    def is_current(self) -> bool:
        """True if the parameters have the values they had when they were compiled in."""
        return all(map(_has_version, self.parameters, self.versions))

    def __call__(self, inputs: Sequence[torch.Tensor]) -> tuple[torch.Tensor, ...]:
        results = self.session(*inputs)
        results = results if isinstance(results, tuple) else (results,)
        # A graph without inputs gets numpy back.
        return tuple(to_torch(result) if isinstance(result, np.ndarray) else result for result in results)


class _RefusalError(Exception):
    """Why a graph runs eagerly."""


class _Graph:
    """What Dynamo calls in place of the graph."""

    def __init__(self, gm: fx.GraphModule, static: Sequence[bool], options: dict[str, Any]) -> None:
        self._gm, self._options = gm, options
        self._static = [position for position, is_static in enumerate(static) if is_static]
        self._dynamic = [position for position, is_static in enumerate(static) if not is_static]
        self._variants: dict[tuple[Any, ...], _Variant] = {}
        self._compilations = 0
        self._is_eager = False

    def __call__(self, *args: Any) -> Any:
        if self._is_eager:
            return self._gm(*args)
        parameters = [args[position] for position in self._static]
        inputs = [args[position] for position in self._dynamic]
        shapes = [tuple(value.shape) if isinstance(value, torch.Tensor) else value for value in inputs]
        key = (*shapes, *map(id, parameters))
        variant = self._variants.get(key)
        if variant is None or not variant.is_current():
            if self._compilations == MAX_COMPILATIONS:
                _warn(f"compiled {MAX_COMPILATIONS} times, it is not compiled again for other shapes or parameters")
                return self._gm(*args)
            try:
                variant = self._variants[key] = self._compile(args, parameters)
            except _RefusalError as refusal:
                _warn(str(refusal))
                self._is_eager = True
                return self._gm(*args)
        tensors = [value for value in inputs if isinstance(value, torch.Tensor)]
        if torch.is_grad_enabled() and any(tensor.requires_grad for tensor in (*tensors, *parameters)):
            results = _WithoutBackward.apply(variant, len(tensors), *tensors, *parameters)
        else:
            results = variant(tensors)
        outputs = list(variant.outputs)
        for position, result in zip(variant.tensor_positions, results, strict=True):
            outputs[position] = result
        return tuple(outputs)

    def _compile(self, args: Sequence[Any], parameters: Sequence[torch.Tensor]) -> _Variant:
        import dlas

        self._compilations += 1
        tensors = [args[position] for position in self._dynamic if isinstance(args[position], torch.Tensor)]
        elsewhere = {str(tensor.device) for tensor in (*tensors, *parameters) if tensor.device.type != "cpu"}
        if elsewhere:
            raise _RefusalError(f"its tensors are on {', '.join(sorted(elsewhere))}, dlas takes tensors in host memory")
        module = _Closed(self._gm, args, self._static)
        program = _export(module, tensors)
        versions = tuple(map(_version, parameters))
        try:
            compile_options = {key: self._options[key] for key in ("target", "options") if key in self._options}
            artifact = dlas.compile(program, example_inputs=tuple(tensors), **compile_options)
            session = load(artifact, **_device_options(self._options))
        except UsageError:
            raise
        except DlasError as error:
            raise _RefusalError(str(error)) from error
        returned = module.returned.values
        positions = tuple(position for position, value in enumerate(returned) if value is _TENSOR)
        outputs = tuple(None if value is _TENSOR else value for value in returned)
        return _Variant(session, tuple(parameters), versions, outputs, positions)


_TENSOR = object()


class _Closed(torch.nn.Module):
    """The graph as a function of its input tensors alone, to its output tensors alone: parameters are buffers,
    numbers (Dynamo's symbolic sizes) are constants. ``returned.values`` is what the last call returned, with _TENSOR in
    the places of tensors."""

    def __init__(self, gm: fx.GraphModule, args: Sequence[Any], static: Sequence[int]) -> None:
        super().__init__()
        self._gm = gm
        self._template: list[Any] = list(args)
        self._names: dict[int, str] = {}
        placeholders = [node.name for node in gm.graph.nodes if node.op == "placeholder"]
        for position in static:
            self._names[position] = f"p{position}_{placeholders[position]}"
            self.register_buffer(self._names[position], args[position].detach())
            self._template[position] = None
        self._inputs = [p for p, value in enumerate(args) if isinstance(value, torch.Tensor) and p not in self._names]
        for position in self._inputs:
            self._template[position] = None
        # An object apart: torch.export takes back what a module's forward assigns to the module.
        self.returned = SimpleNamespace(values=[])

    def forward(self, *tensors: torch.Tensor) -> tuple[torch.Tensor, ...]:
        args = list(self._template)
        for position, name in self._names.items():
            args[position] = getattr(self, name)
        for position, tensor in zip(self._inputs, tensors, strict=True):
            args[position] = tensor
        results = self._gm(*args)
        self.returned.values = [_TENSOR if isinstance(result, torch.Tensor) else result for result in results]
        return tuple(result for result in results if isinstance(result, torch.Tensor))


def _export(module: _Closed, tensors: Sequence[torch.Tensor]) -> torch.export.ExportedProgram:
    try:
        with torch.inference_mode(False), torch.no_grad():
            program = torch.export.export(module, tuple(tensors), strict=False)
            signature = program.run_decompositions({}).graph_signature  # made functional: shows what is mutated
    except Exception as error:  # torch.export's failures have no common class
        raise _RefusalError(f"torch.export: {type(error).__name__}: {first_line(error)}") from error
    mutated = [*signature.buffers_to_mutate.values(), *signature.user_inputs_to_mutate.values()]
    if mutated:
        raise _RefusalError(f"it changes {', '.join(mutated)} in place")
    if _TENSOR not in module.returned.values:
        raise _RefusalError("it returns no tensor")
    return program


class _WithoutBackward(torch.autograd.Function):
    """Keeps autograd's graph connected, so that training through a compiled graph fails with a clear error instead of
    silently losing its gradients."""

    @staticmethod
    def forward(ctx: Any, variant: _Variant, count: int, *tensors: torch.Tensor) -> tuple[torch.Tensor, ...]:
        return variant(tensors[:count])

    @staticmethod
    def backward(ctx: Any, *gradients: torch.Tensor) -> Any:
        raise DlasError(
            "gradients asked of a graph that dlas compiled: it compiles inference only",
            hint="call the compiled module under torch.no_grad(), train the eager one",
        )


def _version(tensor: torch.Tensor) -> int:
    """How often the tensor was modified in place; torch does not count it for inference tensors."""
    return 0 if tensor.is_inference() else tensor._version


def _has_version(tensor: torch.Tensor, version: int) -> bool:
    return _version(tensor) == version


def _warn(reason: str) -> None:
    warnings.warn(f"dlas runs a graph eagerly: {reason}", RuntimeWarning, stacklevel=3)


def _device_options(options: dict[str, Any]) -> dict[str, Any]:
    cpus = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    threads = options.get("threads", min(torch.get_num_threads(), cpus))
    return {"device": options.get("device", "local-sync" if threads == 1 else "local-task"), "threads": threads}


def _register() -> None:
    """Make the backend's name known where the installed package's entry point does not do it already."""
    from torch._dynamo import register_backend

    if NAME not in entry_points(group="torch_dynamo_backends").names:
        register_backend(compiler_fn=backend, name=NAME)


_register()

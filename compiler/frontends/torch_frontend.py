"""``torch.nn.Module``, ``ExportedProgram`` and ``.pt2`` files, through torch-mlir's FX importer."""

from __future__ import annotations

import warnings
from collections.abc import Sequence
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import torch
from torch import nn
from torch.export import ExportedProgram
from torch_mlir import ir
from torch_mlir.extras import fx_importer
from torch_mlir.extras.fx_decomp_util import get_decomposition_table

from dlas.compiler.prune import bake_masks
from dlas.errors import FrontendError, InputError

from .lowering import BACKEND_TO_LINALG, FX_TO_BACKEND, lower
from .model import FUNCTION, ImportedModel, finish, new_context

# Normalisation layers and dropout compute something else while training; all other modules do not.
_TRAINING_SENSITIVE = (
    nn.modules.batchnorm._BatchNorm, nn.modules.dropout._DropoutNd,
    nn.MultiheadAttention, nn.TransformerEncoderLayer, nn.RReLU,
)  # fmt: skip

_ELEMENT_TYPES: dict[torch.dtype, Any] = {
    torch.float16: lambda: ir.F16Type.get(),
    torch.bfloat16: lambda: ir.BF16Type.get(),
    torch.float32: lambda: ir.F32Type.get(),
    torch.float64: lambda: ir.F64Type.get(),
    torch.int8: lambda: ir.IntegerType.get_signed(8),
    torch.int16: lambda: ir.IntegerType.get_signed(16),
    torch.int32: lambda: ir.IntegerType.get_signed(32),
    torch.int64: lambda: ir.IntegerType.get_signed(64),
    torch.uint8: lambda: ir.IntegerType.get_unsigned(8),
}


def import_module(model: nn.Module, example_inputs: Sequence[Any] | None, name: str, *, dynamic: bool) -> ImportedModel:
    """Export and import a module in eval mode.

    Raises:
        FrontendError: training mode, no example inputs, or an export that fails.
        InputError: the model refuses the example inputs' shapes.
    """
    if example_inputs is None:
        raise FrontendError("a torch module needs example inputs", where=name, hint="pass example_inputs=(x,)")
    for path, module in model.named_modules():
        if module.training and isinstance(module, _TRAINING_SENSITIVE):
            raise FrontendError(
                f"{type(module).__name__} is in training mode", where=f"layer {path}" if path else name,
                hint="call model.eval() first",
            )  # fmt: skip
    inputs = tuple(torch.from_numpy(value) if isinstance(value, np.ndarray) else value for value in example_inputs)
    return import_program(_export(bake_masks(model), inputs, name, dynamic), name)


def _export(model: nn.Module, inputs: tuple[Any, ...], name: str, dynamic: bool) -> ExportedProgram:
    shapes: Any = None
    if dynamic:
        batch = torch.export.Dim("batch", min=1)
        shapes = tuple({0: batch} if isinstance(value, torch.Tensor) and value.ndim else None for value in inputs)
        # An extent of 1 would be taken as a constant by the exporter.
        inputs = tuple(
            torch.cat([value, value]) if isinstance(value, torch.Tensor) and value.ndim and len(value) == 1 else value
            for value in inputs
        )
    try:
        with torch.no_grad(), warnings.catch_warnings():
            warnings.simplefilter("ignore")
            return torch.export.export(model, inputs, dynamic_shapes=shapes, strict=False)
    except Exception as error:  # the exporter lets the model's own errors of any type through
        if not _runs(model, inputs):
            shown = ", ".join(_describe(value) for value in inputs)
            raise InputError(
                f"the model does not take the example inputs ({shown}): {_first_line(error)}", where=name
            ) from error
        raise FrontendError(f"torch.export cannot capture the model: {_first_line(error)}", where=name) from error


def _runs(model: nn.Module, inputs: tuple[Any, ...]) -> bool:
    try:
        with torch.no_grad():
            model(*inputs)
    except Exception:  # whatever the model raises
        return False
    return True


def _describe(value: Any) -> str:
    if isinstance(value, torch.Tensor):
        return f"{str(value.dtype).removeprefix('torch.')}{list(value.shape)}"
    return type(value).__name__


def _first_line(error: Exception) -> str:
    lines = str(error).strip().splitlines()
    return lines[0] if lines else type(error).__name__


def load_pt2(path: Path) -> ExportedProgram:
    """A saved ExportedProgram.

    Raises:
        FrontendError: the file is not one.
    """
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            return torch.export.load(path)
    except Exception as error:  # a damaged archive fails in many places
        raise FrontendError(
            f"not a saved ExportedProgram: {_first_line(error)}", where=str(path),
            hint="write it with torch.export.save",
        ) from error  # fmt: skip


def import_program(program: ExportedProgram, name: str) -> ImportedModel:
    """Import an exported program; the program itself is left as it is."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        program = program.run_decompositions(_decompositions())
    signature = program.graph_signature
    for kind, written in (("buffer", signature.buffers_to_mutate), ("input", signature.user_inputs_to_mutate)):
        if written:
            target = next(iter(written.values()))
            raise FrontendError(
                f"the model writes its {kind} {target!r}", where=name,
                hint="return the new value as an output instead; batch norms write theirs in training mode",
            )  # fmt: skip
    # The importer looks for buffers in the state dict only, where non-persistent ones are not.
    missing = {key: program.constants[key] for key in signature.inputs_to_buffers.values() if key in program.constants}
    view = SimpleNamespace(
        graph_signature=signature,
        state_dict={**missing, **program.state_dict},
        constants=program.constants,
        graph=program.graph,
    )
    importer = fx_importer.FxImporter(context=new_context(), hooks=_Weights())
    importer._cc = _Layers(importer._c, py_attr_tracker=importer._py_attr_tracker)
    try:
        importer.import_frozen_program(view, func_name=FUNCTION)
    except (NotImplementedError, TypeError, AssertionError, KeyError) as error:
        raise FrontendError(f"torch-mlir cannot import the program: {_first_line(error)}", where=name) from error
    lower(importer.module, FX_TO_BACKEND, BACKEND_TO_LINALG, model=name)
    return finish(importer.module, name, list(signature.user_inputs), None)


def _decompositions() -> dict[Any, Any]:
    """torch-mlir's decompositions without those that it does better itself.

    torch's own for layer and group norm take the variance through float64, element by element.
    """
    kept = (torch.ops.aten.native_layer_norm.default, torch.ops.aten.native_group_norm.default)
    return {operator: rule for operator, rule in get_decomposition_table().items() if operator not in kept}


class _Weights(fx_importer.FxImporterHooks):
    """Weights become dense attributes straight from their memory.

    The importer's own conversion goes through Python lists (30 bytes an element and seconds for a large model) and
    gives ``dense_resource``, which the bindings cannot read back.
    """

    def resolve_literal(self, gni: Any, literal: Any, info: Any) -> Any | None:
        if not isinstance(literal, torch.Tensor) or literal.dtype not in _ELEMENT_TYPES or literal.numel() < 2:
            return None
        if literal.layout != torch.strided:
            return None
        data = literal.detach().cpu().contiguous()
        if literal.dtype == torch.bfloat16:  # which numpy has not: the bits
            data = data.view(torch.int16)
        with gni._c, ir.Location.unknown():
            element = _ELEMENT_TYPES[literal.dtype]()
            attribute = ir.DenseElementsAttr.get(data.numpy(), type=element, shape=list(data.shape))
            kind = gni._cc.tensor_to_vtensor_type(literal)
            return ir.Operation.create("torch.vtensor.literal", results=[kind], attributes={"value": attribute}).result


class _Layers(fx_importer.ContextCache):
    """Locations are the module path of a node instead of a line of Python."""

    def get_node_location(self, node: torch.fx.Node) -> Any:
        return ir.Location.name(layer_name(node), context=self._c)


def layer_name(node: torch.fx.Node) -> str:
    """The module path of a graph node; the operation's name is added where the module is not one of torch's layers.

    ``layer1.0.conv2`` for a convolution in that module, ``layer1.0.add`` for an addition in the forward of
    ``layer1.0``, ``relu`` for a call in the top-level forward.
    """
    stack = list((node.meta.get("nn_module_stack") or {}).values())
    path, kind = stack[-1] if stack else ("", "")
    kind = kind if isinstance(kind, str) else f"{kind.__module__}.{kind.__qualname__}"
    if path and kind.startswith("torch.nn.modules.") and not kind.startswith("torch.nn.modules.container."):
        return path
    source = node.meta.get("original_aten") or node.target
    packet = getattr(source, "_overloadpacket", None)
    operation = packet.__name__ if packet is not None else getattr(source, "__name__", str(source))
    operation = operation.lstrip("_").removesuffix("_default") or node.name
    return f"{path}.{operation}" if path else operation

"""``torch.nn.Module``, ``ExportedProgram`` and ``.pt2`` files, through torch-mlir's FX importer."""

from __future__ import annotations

import copy
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
    graph = _without_decompositions(program)
    if graph is None:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            program = program.run_decompositions(_decompositions())
        graph = program.graph
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
        graph=graph,
    )
    importer = fx_importer.FxImporter(context=new_context(), hooks=_Weights())
    importer._cc = _Layers(importer._c, py_attr_tracker=importer._py_attr_tracker)
    try:
        importer.import_frozen_program(view, func_name=FUNCTION)
    except (NotImplementedError, TypeError, AssertionError, KeyError) as error:
        raise FrontendError(f"torch-mlir cannot import the program: {_first_line(error)}", where=name) from error
    lower(importer.module, FX_TO_BACKEND, BACKEND_TO_LINALG, model=name)
    return finish(importer.module, name, list(signature.user_inputs), None)


_aten = torch.ops.aten

# What torch-mlir lowers as the exporter leaves it, to what it makes of torch's decompositions. A graph of nothing else
# needs none, and none of the time: torch traces the whole model again for them, half of the import of a large one.
_DIRECT = frozenset({
    _aten.conv1d.default, _aten.conv2d.default, _aten.conv3d.default, _aten.linear.default,
    _aten.batch_norm.default, _aten.dropout.default,
    _aten.relu.default, _aten.hardtanh.default, _aten.relu6.default, _aten.sigmoid.default, _aten.silu.default,
    _aten.add.Tensor, _aten.mul.Tensor, _aten.cat.default,
    _aten.max_pool2d.default, _aten.avg_pool2d.default, _aten.mean.dim,
    _aten.flatten.using_ints,
})  # fmt: skip
_TRAINING_ARGUMENT = {_aten.batch_norm.default: 5, _aten.dropout.default: 2}

_FRESH = _DIRECT - {_aten.flatten.using_ints, _aten.dropout.default}  # their results never share memory

# The same without writing to the first operand.
_OUT_OF_PLACE = {
    _aten.relu_.default: _aten.relu.default, _aten.hardtanh_.default: _aten.hardtanh.default,
    _aten.relu6_.default: _aten.relu6.default, _aten.silu_.default: _aten.silu.default,
    _aten.add_.Tensor: _aten.add.Tensor, _aten.mul_.Tensor: _aten.mul.Tensor,
}  # fmt: skip


def _without_decompositions(program: ExportedProgram) -> torch.fx.Graph | None:
    """A copy of the program's graph that torch-mlir takes as it is, None where the program has to be decomposed.

    The importer replaces parameters in the graph that it reads.
    """
    graph = copy.deepcopy(program.graph)
    for node in list(graph.nodes):
        if node.op == "call_function" and node.target in _OUT_OF_PLACE and not _make_out_of_place(node):
            return None
        if node.target is _aten.adaptive_avg_pool2d.default and list(node.args[1]) == [1, 1]:
            node.target, node.args = _aten.mean.dim, (node.args[0], [-1, -2], True)  # as torch computes it
        if not _lowers_directly(node):
            return None
    return graph


def _lowers_directly(node: torch.fx.Node) -> bool:
    """Whether torch-mlir takes a node as it is."""
    if node.op != "call_function":
        return node.op in ("placeholder", "output")
    position = _TRAINING_ARGUMENT.get(node.target)
    return node.target in _DIRECT and (position is None or node.args[position] is False)


def _make_out_of_place(node: torch.fx.Node) -> bool:
    """Has a node compute a value of its own, which all later nodes read; False where others may share the memory."""
    written = node.args[0]
    if not isinstance(written, torch.fx.Node):
        return False
    earlier = {user for user in written.users if user <= node}
    if any(other.target not in _FRESH for other in (written, *earlier - {node})):
        return False  # an input, which the caller sees written, or a view
    node.target = _OUT_OF_PLACE[node.target]
    written.replace_all_uses_with(node, delete_user_cb=lambda user: user not in earlier)
    return True


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

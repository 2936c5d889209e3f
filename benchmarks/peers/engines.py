"""Inference engines that load an exchange format: onnxruntime, OpenVINO, DeepSparse, LiteRT, ncnn."""

from __future__ import annotations

import os
import re
import subprocess
from pathlib import Path
from typing import Any, ClassVar

import numpy as np

from dlas.errors import DlasError

from ..source import Case
from .base import TORCH_KINDS, Peer


class OnnxRuntime(Peer):
    """onnxruntime's CPU provider on the ONNX export, all graph optimisations on."""

    name = "onnxruntime"
    requires: ClassVar = {"onnxruntime": "onnxruntime", "onnx": "onnx"}
    needs_onnx = True

    def prepare(self, case: Case) -> None:
        import onnxruntime

        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = case.threads
        options.inter_op_num_threads = 1
        options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_ENABLE_ALL
        options.log_severity_level = 3
        # Its idle threads would burn the cores of whoever runs next.
        options.add_session_config_entry("session.intra_op.allow_spinning", "0")
        with self.compiling():
            self.session = onnxruntime.InferenceSession(
                str(case.onnx_path), options, providers=["CPUExecutionProvider"]
            )
        names = [value.name for value in self.session.get_inputs()]
        self.feed = dict(zip(names, case.load_inputs(), strict=True))
        self.binding = self.session.io_binding()
        for name, array in self.feed.items():
            self.binding.bind_cpu_input(name, array)
        for value, array in zip(self.session.get_outputs(), self.run(), strict=True):
            self.binding.bind_ortvalue_output(value.name, onnxruntime.OrtValue.ortvalue_from_numpy(array))

    def run(self) -> Any:
        return self.session.run(None, self.feed)

    def call(self) -> Any:
        self.session.run_with_iobinding(self.binding)


class OpenVino(Peer):
    """OpenVINO's CPU plugin on the ONNX export, one latency stream, in f32 (its own default may be bf16)."""

    name = "openvino"
    requires: ClassVar = {"openvino": "openvino", "onnx": "onnx"}
    needs_onnx = True

    def prepare(self, case: Case) -> None:
        import openvino

        settings = {
            "INFERENCE_PRECISION_HINT": "f32",
            "PERFORMANCE_HINT": "LATENCY",
            "INFERENCE_NUM_THREADS": case.threads,
            "NUM_STREAMS": 1,
        }
        with self.compiling():
            core = openvino.Core()
            compiled = core.compile_model(core.read_model(str(case.onnx_path)), "CPU", settings)
        self.request = compiled.create_infer_request()
        self.tensors = [openvino.Tensor(np.ascontiguousarray(x), shared_memory=True) for x in case.load_inputs()]
        for index, tensor in enumerate(self.tensors):
            self.request.set_input_tensor(index, tensor)
        self.outputs = range(len(compiled.outputs))
        self.call = self.request.infer  # type: ignore[method-assign]

    def run(self) -> Any:
        self.request.infer()
        return [self.request.get_output_tensor(index).data for index in self.outputs]


class DeepSparse(Peer):
    """DeepSparse on the ONNX export: the engine for pruned weights. Its last release pins old versions of what others
    need, so it lives in an environment of its own."""

    name = "deepsparse"
    requires: ClassVar = {"deepsparse": "deepsparse"}
    needs_onnx = True
    variable: ClassVar = "DLAS_DEEPSPARSE_PYTHON"

    @classmethod
    def missing(cls) -> list[str]:
        find = "import importlib.util, sys; sys.exit(importlib.util.find_spec('deepsparse') is None)"
        try:
            found = subprocess.run([cls.python(), "-c", find], capture_output=True, check=False).returncode == 0
        except OSError:
            found = False
        return [] if found else ["deepsparse"]

    @classmethod
    def remedy(cls) -> str:
        return f"pip install deepsparse in an environment of its own, and set {cls.variable} to its python"

    @classmethod
    def python(cls) -> str:
        return os.environ.get(cls.variable) or super().python()

    @classmethod
    def environment(cls, threads: int) -> dict[str, str]:
        return {**super().environment(threads), "NM_DISABLE_ANALYTICS": "1"}

    def prepare(self, case: Case) -> None:
        import deepsparse

        self.inputs = [np.ascontiguousarray(x) for x in case.load_inputs()]
        with self.compiling():
            batch = self.inputs[0].shape[0]
            self.engine = deepsparse.Engine(str(case.onnx_path), batch_size=batch, num_cores=case.threads)

    def run(self) -> Any:
        return self.engine.run(self.inputs)

    def call(self) -> Any:
        return self.engine.run(self.inputs, val_inp=False)


class LiteRt(Peer):
    """LiteRT (TensorFlow Lite) with its XNNPACK delegate, the module converted by litert-torch."""

    name = "litert"
    requires: ClassVar = {"ai_edge_litert": "ai-edge-litert", "litert_torch": "litert-torch"}
    kinds = TORCH_KINDS

    def build(self, case: Case) -> None:
        import litert_torch

        module, inputs = case.module()
        with self.compiling():
            litert_torch.convert(module, inputs).export(str(case.folder / "litert.tflite"))

    def prepare(self, case: Case) -> None:
        from ai_edge_litert.interpreter import Interpreter

        with self.compiling():
            self.interpreter = Interpreter(str(case.folder / "litert.tflite"), num_threads=case.threads)
            self.interpreter.allocate_tensors()
        for detail, x in zip(self.interpreter.get_input_details(), case.load_inputs(), strict=True):
            # litert-torch makes int32 of int64.
            self.interpreter.set_tensor(detail["index"], x.astype(detail["dtype"], copy=False))
        self.outputs = [detail["index"] for detail in self.interpreter.get_output_details()]
        self.call = self.interpreter.invoke  # type: ignore[method-assign]

    def run(self) -> Any:
        self.interpreter.invoke()
        return [self.interpreter.get_tensor(index) for index in self.outputs]


class Ncnn(Peer):
    """ncnn on what pnnx makes of the traced module, or of an ONNX file, in f32 (its own default stores fp16)."""

    name = "ncnn"
    requires: ClassVar = {"ncnn": "ncnn", "pnnx": "pnnx"}

    def build(self, case: Case) -> None:
        import pnnx

        model = case.onnx_path if case.source.kind == "onnx" else _write_traced(case, "ncnn.pt")
        files = [f"{kind}={_made_by_pnnx(case, kind)}" for kind in PNNX_FILES]
        with self.compiling():
            result = subprocess.run(
                [pnnx.EXEC_PATH, str(model), "fp16=0", *files],
                cwd=case.folder,
                capture_output=True,
                text=True,
                errors="replace",
            )
        parameters = _made_by_pnnx(case, "ncnnparam")
        if result.returncode != 0 or not parameters.exists():
            said = [line.strip() for line in (result.stdout + result.stderr).splitlines() if line.strip()]
            raise DlasError(f"pnnx failed with code {result.returncode}: {said[-1] if said else 'it said nothing'}")
        for kind in PNNX_FILES:
            if not kind.startswith("ncnn"):  # each as large as the weights
                _made_by_pnnx(case, kind).unlink(missing_ok=True)
        if case.source.kind != "onnx":
            model.unlink()
        if foreign := foreign_layers(parameters.read_text()):
            raise DlasError(f"ncnn has no layer for {', '.join(foreign)}")

    def prepare(self, case: Case) -> None:
        import ncnn

        # As its own benchmark does: memory comes from pools, which grow in the first inference.
        self.pools = ncnn.UnlockedPoolAllocator(), ncnn.PoolAllocator()
        self.net = ncnn.Net()
        options = self.net.opt
        options.blob_allocator, options.workspace_allocator = self.pools
        options.num_threads = case.threads
        options.lightmode = options.use_packing_layout = True
        options.use_winograd_convolution = options.use_sgemm_convolution = True
        for name in ("fp16_packed", "fp16_storage", "fp16_arithmetic", "bf16_packed", "bf16_storage"):
            setattr(options, f"use_{name}", False)
        with self.compiling():
            failed = self.net.load_param(str(_made_by_pnnx(case, "ncnnparam")))
            failed = failed or self.net.load_model(str(_made_by_pnnx(case, "ncnnbin")))
        if failed:
            raise DlasError("ncnn cannot load what pnnx made of it")
        inputs, outputs = batch_dimensions(_made_by_pnnx(case, "ncnnpy").read_text())
        # Clones, since ncnn overwrites memory that it does not share.
        self.inputs = {
            name: ncnn.Mat(_narrow(x), batch_index=dimension).clone()
            for (name, dimension), x in zip(inputs.items(), case.load_inputs(), strict=True)
        }
        self.outputs = outputs

    def run(self) -> Any:
        return [
            np.array(mat.numpy(batch_index=dimension))
            for mat, dimension in zip(self.call(), self.outputs.values(), strict=True)
        ]

    def call(self) -> Any:
        extractor = self.net.create_extractor()
        for name, mat in self.inputs.items():
            extractor.input(name, mat)
        results = [extractor.extract(name) for name in self.outputs]
        if any(code != 0 for code, _ in results):
            raise DlasError("ncnn failed in a layer")
        return [mat for _, mat in results]


PNNX_FILES = ("pnnxparam", "pnnxbin", "pnnxpy", "pnnxonnx", "ncnnparam", "ncnnbin", "ncnnpy")
"""What pnnx writes."""


def foreign_layers(parameters: str) -> list[str]:
    """The types in an ncnn .param that are PyTorch's or pnnx's own (``aten::erfinv``, ``Tensor.slice``): pnnx leaves
    what it cannot convert."""
    types = [line.split()[0] for line in parameters.splitlines()[2:] if line.strip()]
    return [name for name in dict.fromkeys(types) if re.search(r"[.:]", name)]


def batch_dimensions(script: str) -> tuple[dict[str, int], dict[str, int]]:
    """The batch dimension of each input and output (233: none), which pnnx states in its script of an inference only.

    Raises:
        DlasError: the script states none.
    """
    found = [
        {name: int(dimension) for name, dimension in re.findall(pattern, script)}
        for pattern in (
            r"\bMat\((in\d+)\.numpy\(\), batch_index=(\d+)\)",
            r"\bfrom_numpy\((out\d+)\.numpy\(batch_index=(\d+)\)",
        )
    ]
    if not all(found):
        raise DlasError("pnnx states no batch dimensions", hint="pnnx 20261020 does")
    return found[0], found[1]


def _made_by_pnnx(case: Case, kind: str) -> Path:
    return case.folder / f"ncnn.{kind}"


def _write_traced(case: Case, name: str) -> Path:
    import torch

    module, inputs = case.module()
    path = case.folder / name
    with torch.no_grad():
        torch.jit.trace(module, inputs, check_trace=False).save(str(path))
    return path


def _narrow(x: np.ndarray) -> np.ndarray:
    """ncnn's integers have 32 bits."""
    return x.astype(np.int32) if x.dtype == np.int64 else x

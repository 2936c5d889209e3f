"""Sessions over small modules: values, types, memory ownership, threads, errors, timing."""

from __future__ import annotations

import gc
import os
import platform
import subprocess
import sys
import tempfile
import textwrap
import threading
import time
from dataclasses import replace
from functools import cache
from pathlib import Path

import ml_dtypes
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from dlas.errors import ArtifactError, DlasError, InputError, UsageError
from dlas.runtime import Artifact, Session, TensorSpec, load, measure
from dlas.runtime.artifact import KernelRecord
from dlas.runtime.devices import check_host, open_device

tools = pytest.importorskip("iree.compiler.tools")
torch = pytest.importorskip("torch")

MLIR_TYPES = {
    "bool": "i1",
    "int8": "i8",
    "uint8": "i8",
    "int32": "i32",
    "int64": "i64",
    "float16": "f16",
    "bfloat16": "bf16",
    "float32": "f32",
}


@cache
def compiled(text: str, *flags: str) -> bytes:
    return tools.compile_str(
        text,
        target_backends=["llvm-cpu"],
        extra_args=["--iree-llvmcpu-target-cpu=host", "--iree-opt-data-tiling=false", *flags],
    )


def specs(*types: tuple[tuple[int, ...], str], prefix: str) -> tuple[TensorSpec, ...]:
    return tuple(TensorSpec(f"{prefix}{i}", shape, dtype) for i, (shape, dtype) in enumerate(types))


def artifact(text: str, inputs, outputs, *flags: str) -> Artifact:
    vmfb = compiled(textwrap.dedent(text), *flags)
    return Artifact(vmfb, specs(*inputs, prefix="in"), specs(*outputs, prefix="out"), {}, (), {}, model="test")


def tensor(shape: tuple[int, ...], dtype: str) -> str:
    return f"tensor<{''.join(f'{extent}x' for extent in shape)}{MLIR_TYPES[dtype]}>"


def identity(shape: tuple[int, ...], dtype: str) -> Artifact:
    kind = tensor(shape, dtype)
    return artifact(
        f"func.func @main(%x: {kind}) -> {kind} {{ return %x : {kind} }}", [(shape, dtype)], [(shape, dtype)]
    )


def doubled(shape: tuple[int, ...], dtype: str = "float32") -> Artifact:
    kind, add = tensor(shape, dtype), "arith.addf" if "float" in dtype else "arith.addi"
    return artifact(
        f"func.func @main(%x: {kind}) -> {kind} {{ %0 = {add} %x, %x : {kind} return %0 : {kind} }}",
        [(shape, dtype)],
        [(shape, dtype)],
    )


def two_matmuls(extent: int) -> Artifact:
    """(a @ b) @ b: two calls of one kernel."""
    kind = tensor((extent, extent), "float32")
    text = f"""
        func.func @main(%a: {kind}, %b: {kind}) -> {kind} {{
          %zero = arith.constant 0.0 : f32
          %empty = tensor.empty() : {kind}
          %init = linalg.fill ins(%zero : f32) outs(%empty : {kind}) -> {kind}
          %0 = linalg.matmul ins(%a, %b : {kind}, {kind}) outs(%init : {kind}) -> {kind}
          %1 = linalg.matmul ins(%0, %b : {kind}, {kind}) outs(%init : {kind}) -> {kind}
          return %1 : {kind}
        }}"""
    matrix = ((extent, extent), "float32")
    return artifact(text, [matrix, matrix], [matrix])


DEVICES = [("local-sync", 1), ("local-task", 1), ("local-task", 2)]


# Values and types


@pytest.mark.parametrize(("device", "threads"), DEVICES)
def test_convolution(device: str, threads: int) -> None:
    text = """
        func.func @main(%x: tensor<1x4x9x9xf32>, %w: tensor<8x4x3x3xf32>) -> tensor<1x8x7x7xf32> {
          %zero = arith.constant 0.0 : f32
          %empty = tensor.empty() : tensor<1x8x7x7xf32>
          %init = linalg.fill ins(%zero : f32) outs(%empty : tensor<1x8x7x7xf32>) -> tensor<1x8x7x7xf32>
          %0 = linalg.conv_2d_nchw_fchw ins(%x, %w : tensor<1x4x9x9xf32>, tensor<8x4x3x3xf32>)
                                        outs(%init : tensor<1x8x7x7xf32>) -> tensor<1x8x7x7xf32>
          return %0 : tensor<1x8x7x7xf32>
        }"""
    session = load(
        artifact(text, [((1, 4, 9, 9), "float32"), ((8, 4, 3, 3), "float32")], [((1, 8, 7, 7), "float32")]),
        device,
        threads,
    )
    rng = np.random.default_rng(0)
    x, w = (rng.standard_normal(shape, np.float32) for shape in ((1, 4, 9, 9), (8, 4, 3, 3)))
    expected = torch.nn.functional.conv2d(torch.tensor(x).double(), torch.tensor(w).double())
    np.testing.assert_allclose(session(x, w), expected.numpy(), rtol=1e-5, atol=1e-5)


def test_two_inputs_of_unlike_types_and_two_outputs() -> None:
    text = """
        func.func @main(%i: tensor<5xi64>, %h: tensor<2x3xf16>) -> (tensor<5xi1>, tensor<2x3xf16>) {
          %limit = arith.constant dense<3> : tensor<5xi64>
          %0 = arith.cmpi sgt, %i, %limit : tensor<5xi64>
          %1 = arith.addf %h, %h : tensor<2x3xf16>
          return %0, %1 : tensor<5xi1>, tensor<2x3xf16>
        }"""
    session = load(
        artifact(text, [((5,), "int64"), ((2, 3), "float16")], [((5,), "bool"), ((2, 3), "float16")]), "local-sync"
    )
    i, h = np.arange(5) * 2, np.linspace(0, 1, 6).reshape(2, 3).astype(np.float16)
    above, twice = session(i, h)
    assert above.dtype == np.bool_
    np.testing.assert_array_equal(above, i > 3)
    np.testing.assert_array_equal(twice, h + h)

    above, twice = session(torch.from_numpy(i), torch.from_numpy(h))
    assert (above.dtype, twice.dtype) == (torch.bool, torch.float16)
    assert isinstance(session(torch.from_numpy(i), h)[0], np.ndarray)


class OnlyDlpack:
    """A tensor of some other framework."""

    def __init__(self, array: np.ndarray) -> None:
        self._array = array

    def __dlpack__(self, **options: object) -> object:
        return self._array.__dlpack__(**options)

    def __dlpack_device__(self) -> tuple[int, int]:
        return self._array.__dlpack_device__()


SHAPES = [(), (1,), (5,), (0, 4), (3, 4), (2, 3, 5)]


@settings(max_examples=60, deadline=None)
@given(
    shape=st.sampled_from(SHAPES),
    dtype=st.sampled_from(sorted(set(MLIR_TYPES) - {"bfloat16"})),
    layout=st.sampled_from(["contiguous", "transposed", "strided", "reversed", "unaligned", "read-only"]),
    source=st.sampled_from(["numpy", "torch", "dlpack"]),
    data=st.data(),
)
def test_round_trip(shape: tuple[int, ...], dtype: str, layout: str, source: str, data: st.DataObject) -> None:
    values = data.draw(hnp.arrays(dtype, shape))
    array = _laid_out(values, layout)
    assert array.shape == shape
    session = load(identity(shape, dtype), "local-sync")
    if source == "torch" and layout not in ("reversed", "read-only"):  # torch has neither
        result = session(torch.from_numpy(array))
        assert isinstance(result, torch.Tensor)
        result = result.numpy()
    else:
        result = session(OnlyDlpack(array) if source == "dlpack" and layout != "read-only" else array)
    assert result.dtype == np.dtype(dtype)
    assert result.shape == shape
    np.testing.assert_array_equal(result, values)


def _laid_out(values: np.ndarray, layout: str) -> np.ndarray:
    """The same values in another memory layout (0-d arrays have only one)."""
    if values.ndim and layout == "transposed":
        return np.ascontiguousarray(values.T).T
    if values.ndim and layout == "strided":
        return np.repeat(values, 2, axis=-1)[..., ::2]
    if values.ndim and layout == "reversed":
        return values[::-1].copy()[::-1]
    if layout == "unaligned":
        memory = np.empty(values.nbytes + 1, np.uint8)[1:]
        unaligned = memory.view(values.dtype).reshape(values.shape)
        unaligned[...] = values
        return unaligned
    result = values.copy()
    result.flags.writeable = layout != "read-only"
    return result


def test_bfloat16_round_trip() -> None:
    session = load(doubled((2, 3), "bfloat16"), "local-sync")
    x = np.arange(6).reshape(2, 3).astype(ml_dtypes.bfloat16)
    np.testing.assert_array_equal(session(x), x + x)
    y = session(torch.arange(6).reshape(2, 3).to(torch.bfloat16))
    assert y.dtype == torch.bfloat16
    assert torch.equal(y, torch.arange(0, 12, 2).reshape(2, 3).to(torch.bfloat16))


def test_torch_tensors_that_need_a_conversion() -> None:
    session = load(doubled((2, 3)), "local-sync")
    parameter = torch.nn.Parameter(torch.ones(2, 3))
    assert torch.equal(session(parameter), torch.full((2, 3), 2.0))
    assert torch.equal(session(torch.ones(3, 2).T), torch.full((2, 3), 2.0))
    with pytest.raises(InputError, match=r"input 0 \(in0\): a torch\.Tensor that cannot be read"):
        session(torch.ones(2, 3).to_sparse())


# Errors


@pytest.mark.parametrize(
    ("inputs", "message"),
    [
        ((), r"0 inputs given, 1 expected \(the model takes in0: float32\[2, 3\]\)"),
        ((np.ones((2, 3), "f"),) * 2, "2 inputs given, 1 expected"),
        ((np.ones((3, 2), "f"),), r"input 0 \(in0\): found shape \[3, 2\], expected \[2, 3\]"),
        ((np.ones((2, 3)),), r"input 0 \(in0\): found dtype float64, expected float32 \(inputs are never cast"),
        ((np.ones((2, 3), ">f4"),), r"found dtype >f4, expected float32"),
        ((torch.ones(2, 3, dtype=torch.int32),), "found dtype int32, expected float32"),
        (([[1.0] * 3] * 2,), r"input 0 \(in0\): found a list \(pass a numpy array"),
        ((None,), "found a NoneType"),
    ],
)
def test_wrong_inputs(inputs: tuple[object, ...], message: str) -> None:
    session = load(doubled((2, 3)), "local-sync")
    for call in (session, session.bind, session.benchmark, session.profile):
        with pytest.raises(InputError, match=message):
            call(*inputs)


def test_modules_that_cannot_be_loaded(tmp_path: Path) -> None:
    good = doubled((4,))
    for vmfb, message in [
        (good.vmfb[:-30], "truncated"),
        (good.vmfb[: len(good.vmfb) // 2] + good.vmfb[-22:], "truncated or damaged module: .*FlatBuffer length"),
        (b"not a module", "not an IREE module"),
    ]:
        with pytest.raises(ArtifactError, match=message):
            load(replace(good, vmfb=vmfb))
    with pytest.raises(ArtifactError, match=r"no function 'forward' \(it has main\)"):
        load(replace(good, function="forward"))
    with pytest.raises(ArtifactError, match="'a' has the unknown dtype 'float13'"):
        load(replace(good, inputs=(TensorSpec("a", (4,), "float13"),)))
    with pytest.raises(ArtifactError, match=r"returns 16 bytes of shape \[4\] for output 'y: float32\[5\]'"):
        load(replace(good, outputs=(TensorSpec("y", (5,), "float32"),)))(np.ones(4, "f"))
    with pytest.raises(ArtifactError, match="returns 1 outputs, the artifact describes 2"):
        load(replace(good, outputs=good.outputs * 2))(np.ones(4, "f"))
    path = good.save(tmp_path / "m.vmfb")
    path.write_bytes(good.vmfb[:-10])
    with pytest.raises(ArtifactError, match=r"m\.vmfb: truncated"):
        load(path)


def test_a_module_for_another_machine() -> None:
    good, other = doubled((4,)), "aarch64" if platform.machine() == "x86_64" else "x86_64"
    kind = "tensor<4xf32>"
    foreign = tools.compile_str(
        f"func.func @main(%x: {kind}) -> {kind} {{ %0 = arith.addf %x, %x : {kind} return %0 : {kind} }}",
        target_backends=["llvm-cpu"],
        extra_args=[f"--iree-llvmcpu-target-triple={other}-linux-gnu", "--iree-llvmcpu-target-cpu=generic"],
    )
    target = {"name": "elsewhere", "triple": f"{other}-linux-gnu"}
    with pytest.raises(ArtifactError, match=f"built for {other}, this host is"):
        load(replace(good, vmfb=foreign, target=target))
    with pytest.raises(
        ArtifactError, match=r"cannot be loaded on local-sync: its code is for llvm-cpu \(embedded-elf-"
    ):
        load(replace(good, vmfb=foreign))


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="reads /proc/cpuinfo")
def test_missing_cpu_features_are_an_error_not_a_crash(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("platform.machine", lambda: "x86_64")
    monkeypatch.setattr("dlas.runtime.devices._host_features", lambda: frozenset({"avx", "avx2", "fma", "f16c"}))
    check_host({"triple": "x86_64-linux-gnu", "cpu": "x86-64-v3", "features": "+avx2,-avx512f"})
    with pytest.raises(ArtifactError, match="a CPU with avx512f, which this one lacks"):
        check_host({"triple": "x86_64-linux-gnu", "features": "+avx2,+avx512f"})
    with pytest.raises(ArtifactError, match="avx512bw, avx512dq"):
        check_host({"cpu": "x86-64-v4"})


@pytest.mark.parametrize(
    ("device", "threads", "message"),
    [
        ("local-sink", 1, r"unknown device 'local-sink' \(known: .*local-sync, local-task"),
        ("local-sync", 2, r"local-sync: threads=2 \(it runs on the calling thread; use device='local-task'\)"),
        ("local-task", 0, "threads=0"),
        ("local-task", -1, "threads=-1"),
        ("local-task", True, "threads=True"),
        ("local-task", 1.5, "threads=1.5"),
        ("local-task", 257, "at most 256"),
        ("vulkan", 4, "a GPU takes threads=1"),
    ],
)
def test_requests_for_devices_that_cannot_be_met(device: str, threads: int, message: str) -> None:
    with pytest.raises(UsageError, match=message):
        load(doubled((4,)), device, threads)


def test_more_threads_than_cpus_is_granted_with_a_warning() -> None:
    cpus = len(os.sched_getaffinity(0))
    with pytest.warns(RuntimeWarning, match=f"{cpus + 1} threads will share {cpus} CPUs"):
        session = load(doubled((4,)), "local-task", cpus + 1)
    assert session.device.threads == cpus + 1


@pytest.mark.skipif(not hasattr(os, "SCHED_BATCH"), reason="the policy is Linux's")
@pytest.mark.parametrize(("device", "threads", "expected"), [("local-task", 2, "BATCH"), ("local-sync", 1, "OTHER")])
def test_the_caller_waits_for_workers_without_preempting_them(
    device: str, threads: int, expected: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    session = load(doubled((4,)), device, threads)
    call = session.bind(np.ones(4, "f"))
    seen: list[int] = []

    class Context:
        def invoke(self, *arguments: object) -> None:
            seen.append(os.sched_getscheduler(0))
            real.invoke(*arguments)

    real = session._context
    monkeypatch.setattr(session, "_context", Context())
    np.testing.assert_array_equal(call.outputs()[0], 2)
    assert seen == [getattr(os, f"SCHED_{expected}")]
    assert os.sched_getscheduler(0) == os.SCHED_OTHER


def test_one_thread_and_small_models_run_on_the_calling_thread() -> None:
    small = KernelRecord("d", "", "conv", "packed_conv", {}, "", 1000, 1000, calls=1, workgroups=4, cycles=50_000)
    large = replace(small, cycles=5_000_000)
    model = doubled((4,))
    assert (load(model).device.name, load(model).device.threads) == ("local-sync", 1)
    assert load(model, threads=2).device.name == "local-task"  # its work is not known
    assert load(replace(model, kernels=(small,)), threads=2).device.name == "local-sync"
    session = load(replace(model, kernels=(large, small)), threads=2)
    assert (session.device.name, session.device.threads) == ("local-task", 2)
    # Many kernels of a little work each, and work that is in one piece.
    assert load(replace(model, kernels=(replace(small, calls=100, cycles=5_000),)), threads=2).device.threads == 1
    assert load(replace(model, kernels=(replace(large, workgroups=1),)), threads=2).device.threads == 1
    with pytest.raises(UsageError, match="threads=0"):
        load(replace(model, kernels=(small,)), threads=0)


# Memory


@pytest.mark.parametrize(("device", "threads"), DEVICES)
@pytest.mark.parametrize("elements", [4, 1 << 16])
def test_results_belong_to_the_caller(device: str, threads: int, elements: int) -> None:
    kind = f"tensor<{elements}xf32>"
    text = f"""
        func.func @main(%x: {kind}) -> ({kind}, {kind}, {kind}, {kind}) {{
          %c = arith.constant dense<7.0> : {kind}
          %0 = arith.addf %x, %x : {kind}
          return %x, %0, %0, %c : {kind}, {kind}, {kind}, {kind}
        }}"""
    session = load(artifact(text, [((elements,), "float32")], [((elements,), "float32")] * 4), device, threads)
    for x in (_aligned(elements), np.ones(elements + 1, "f")[1:]):
        x[:] = 1
        first = session(x)
        kept = [array.copy() for array in first]
        x[:] = 5
        second = session(x)
        for array, copy in zip(first, kept, strict=True):
            np.testing.assert_array_equal(array, copy)
        for array in first:
            array[:] = -1  # writable, and nothing else changes
        for array, value in zip(second, (5, 10, 10, 7), strict=True):
            assert (array == value).all()
            array[:] = value + 1
        assert [array[0] for array in second] == [6, 11, 11, 8]
        assert (session(x)[3] == 7).all()
        assert (x == 5).all()


def _aligned(elements: int) -> np.ndarray:
    memory = np.empty(4 * elements + 64, np.uint8)
    return memory[-memory.ctypes.data % 64 :][: 4 * elements].view(np.float32)


@pytest.mark.parametrize(("device", "threads"), DEVICES)
def test_results_outlive_their_session(device: str, threads: int, tmp_path: Path) -> None:
    """A process of its own: a result over freed memory would end it, at once or when the interpreter exits."""
    script = f"""
        import gc, sys
        sys.path[:] = {sys.path!r}
        import numpy as np
        from dlas.runtime import Artifact, load
        session = load(sys.argv[1], {device!r}, {threads})
        x = np.ones(1 << 16, np.float32)
        y, z = session(x), session(x)
        view = z[5:][::2]
        del session, z
        gc.collect()
        assert (y == 2).all() and (view == 2).all()
        view[:] = 3
    """
    path = doubled((1 << 16,)).save(tmp_path / "m.vmfb")
    subprocess.run([sys.executable, "-c", textwrap.dedent(script), str(path)], check=True, timeout=120)


def test_inputs_are_not_kept_alive() -> None:
    session = load(doubled((1 << 16,)), "local-sync")
    x = _aligned(1 << 16)
    before = sys.getrefcount(x)
    session(x)
    gc.collect()
    assert sys.getrefcount(x) == before


def test_peak_memory() -> None:
    megabyte = 512 * 512 * 4
    peak = load(two_matmuls(512)).peak_memory_bytes
    assert 4 * megabyte <= peak <= 5 * megabyte  # two inputs, a temporary, the output


def test_weights_of_a_loaded_file_are_in_memory_once(tmp_path: Path) -> None:
    """The session uses the artifact's own memory, and keeps it; other bytes are copied to where they are aligned."""
    weights = np.random.default_rng(0).standard_normal((1 << 22,)).astype(np.float32)  # 16 MB
    text = f"""
        func.func @main(%x: tensor<{weights.size}xf32>) -> tensor<{weights.size}xf32> {{
          %w = arith.constant dense<"0x{weights.tobytes().hex()}"> : tensor<{weights.size}xf32>
          %0 = arith.addf %x, %w : tensor<{weights.size}xf32>
          return %0 : tensor<{weights.size}xf32>
        }}"""
    kind = [((weights.size,), "float32")]
    made = artifact(text, kind, kind)
    path = made.save(tmp_path / "m.vmfb")
    script = """
        import os, sys
        from dlas.runtime import load
        resident = lambda: int(open("/proc/self/statm").read().split()[1]) * os.sysconf("SC_PAGESIZE")
        before = resident()
        session = load(sys.argv[1], "local-sync")
        grown = resident() - before
        assert grown < 1.5 * (1 << 24), grown
    """
    if sys.platform == "linux":
        subprocess.run([sys.executable, "-c", textwrap.dedent(script), str(path)], check=True, timeout=120)
    loaded = Artifact.load(path)
    assert loaded.vmfb == made.vmfb
    session = load(loaded, "local-sync")
    del loaded.vmfb
    gc.collect()
    x = np.ones(weights.size, np.float32)
    np.testing.assert_array_equal(session(x), weights + 1)
    shifted = memoryview(b"." + made.vmfb)[1:]
    np.testing.assert_array_equal(load(replace(made, vmfb=shifted), "local-sync")(x), weights + 1)


# Parameters beside the module


def test_parameters_are_loaded_from_the_file_beside_the_module(tmp_path: Path) -> None:
    import iree.runtime as rt

    weights = np.arange(12, dtype=np.float32).reshape(3, 4)
    rt.save_archive_file({"w": weights}, tmp_path / "weights.irpa")
    text = """
        util.global private @w = #flow.parameter.named<"model"::"w"> : tensor<3x4xf32>
        func.func @main(%x: tensor<3x4xf32>) -> tensor<3x4xf32> {
          %w = util.global.load @w : tensor<3x4xf32>
          %0 = arith.addf %x, %w : tensor<3x4xf32>
          return %0 : tensor<3x4xf32>
        }"""
    made = artifact(text, [((3, 4), "float32")], [((3, 4), "float32")])
    made.parameters = tmp_path / "weights.irpa"
    path = made.save(tmp_path / "out.vmfb")
    session = load(path, "local-sync")
    np.testing.assert_array_equal(session(np.ones((3, 4), "f")), weights + 1)
    assert session.profile(np.ones((3, 4), "f"), runs=3)
    with pytest.raises(ArtifactError, match="cannot be loaded on local-sync"):
        load(replace(made, parameters=None), "local-sync")


# Threads


def _thread_times() -> dict[str, float]:
    """CPU seconds of every thread of this process."""
    ticks = os.sysconf("SC_CLK_TCK")
    times = {}
    for task in Path("/proc/self/task").iterdir():
        fields = (task / "stat").read_text().rpartition(")")[2].split()
        times[task.name] = (int(fields[11]) + int(fields[12])) / ticks
    return times


@pytest.mark.skipif(not Path("/proc/self/task").is_dir(), reason="reads /proc/self/task")
@pytest.mark.parametrize("threads", [1, 2])
def test_threads_are_honoured(threads: int) -> None:
    if threads > len(os.sched_getaffinity(0)):
        pytest.skip("too few CPUs")
    gc.collect()
    before = _thread_times()
    session = Session(two_matmuls(512), open_device("local-task", threads, shared=False))
    call = session.bind(np.ones((512, 512), "f"), np.ones((512, 512), "f"))
    # Until the new threads have worked for a while together, however busy the machine is.
    deadline = time.monotonic() + 60
    used: list[float] = []
    while sum(used) < 0.3 * threads and time.monotonic() < deadline:
        call()
        used = [seconds for task, seconds in _thread_times().items() if task not in before]
    worked = [seconds for seconds in used if seconds >= 0.05]
    assert len(worked) == threads, f"CPU seconds of the new threads that worked: {worked}"


def test_task_devices_end_without_a_deadlock() -> None:
    """A device that ended right after a call used to hang the process once in some hundred times."""
    code = (
        "import sys, numpy as np, dlas.runtime as rt\n"
        "session = rt.load(sys.argv[1], threads=2)\n"
        "for _ in range(50):\n"
        "    rt.load(sys.argv[1], threads=2)(np.ones(4, 'f'))\n"
        "session(np.ones(4, 'f'))\n"
    )
    with tempfile.TemporaryDirectory() as folder:
        path = doubled((4,)).save(Path(folder) / "m.vmfb")
        subprocess.run([sys.executable, "-c", code, str(path)], check=True, timeout=120)


def test_devices_are_shared() -> None:
    one, other = load(doubled((4,)), "local-task", 2), load(doubled((8,)), "local-task", 2)
    assert one.device is other.device
    assert one.device is not load(doubled((4,)), "local-task", 1).device
    assert open_device("local-task", 2, shared=False) is not one.device


def test_one_session_called_from_many_threads() -> None:
    session = load(doubled((1 << 14,)), "local-task", 2)
    wrong: list[int] = []

    def work(value: int) -> None:
        for _ in range(20):
            if not (session(np.full(1 << 14, value, "f")) == 2 * value).all():
                wrong.append(value)

    workers = [threading.Thread(target=work, args=(value,)) for value in range(4)]
    for worker in workers:
        worker.start()
    for worker in workers:
        worker.join()
    assert not wrong


# Timing


def test_benchmark() -> None:
    x = np.ones((64, 64), "f")
    session = load(two_matmuls(64), "local-sync")
    report = session.benchmark(x, x, runs=50)
    assert report.runs == 50
    assert 0 < report.min_ms <= report.p10_ms <= report.p25_ms <= report.median_ms <= report.p75_ms <= report.p90_ms
    assert report.min_ms <= report.mean_ms
    assert report.cpu_ms > 0
    assert session.benchmark(x, x, min_time_s=0.05).runs >= 10


def test_measure_counts_calls() -> None:
    calls: list[float] = []
    report = measure(lambda: calls.append(time.sleep(0.002)), runs=5, warmup=2)  # type: ignore[func-returns-value]
    assert (report.runs, len(calls)) == (5, 7)
    assert report.min_ms >= 2
    assert report.cpu_ms < report.min_ms
    assert gc.isenabled()
    for options in ({"runs": 0}, {"warmup": -1}):
        with pytest.raises(UsageError):
            measure(lambda: None, **options)


def test_bound_call_matches_the_session() -> None:
    session = load(doubled((3, 4)), "local-sync")
    x = np.ones((4, 3), "f").T
    bound = session.bind(x)
    x[:] = 9  # bound by copy
    assert bound() is None
    np.testing.assert_array_equal(bound.outputs()[0], np.full((3, 4), 2))


@pytest.mark.parametrize(("device", "threads"), DEVICES)
def test_profile(device: str, threads: int) -> None:
    x = np.ones((128, 128), "f")
    session: Session = load(two_matmuls(128), device, threads)
    kernels = session.profile(x, x, runs=5)
    assert [kernel.calls for kernel in kernels] == [2]
    assert "matmul" in kernels[0].name
    assert kernels[0].total_us > 1
    assert kernels[0].share == pytest.approx(1)
    with pytest.raises(UsageError, match="at least 2"):
        session.profile(x, x, runs=1)


@pytest.mark.parametrize("dtype", sorted(MLIR_TYPES))
def test_profile_takes_every_dtype(dtype: str) -> None:
    if dtype == "bool":
        text = "func.func @main(%x: tensor<4xi1>) -> tensor<4xi1> {"
        text += " %0 = arith.xori %x, %x : tensor<4xi1> return %0 : tensor<4xi1> }"
        made = artifact(text, [((4,), "bool")], [((4,), "bool")])
    else:
        made = doubled((), dtype)
    zeros = np.zeros(made.inputs[0].shape, np.dtype(dtype))
    assert len(load(made, "local-sync").profile(zeros, runs=2)) <= 1


# Imports


def test_the_runtime_imports_with_numpy_and_iree_runtime_only(tmp_path: Path) -> None:
    script = f"""
        import sys
        sys.path[:] = {sys.path!r}

        class Block:
            def find_spec(self, name, path=None, target=None):
                if name.split(".")[0] in ("torch", "torch_mlir", "onnx", "dlas_compiler") or name.startswith(
                    ("iree.compiler", "dlas.compiler", "dlas.passes", "dlas.schedules", "dlas.dialects")
                ):
                    raise ImportError(f"blocked: {{name}}")

        sys.meta_path.insert(0, Block())
        import dlas, dlas.runtime
        session = dlas.load(dlas.Artifact.load(sys.argv[1]), "local-sync")
        import numpy as np
        assert session(np.ones(4, np.float32)).tolist() == [2, 2, 2, 2]
        assert session.profile(np.ones(4, np.float32), runs=2) and session.benchmark(np.ones(4, np.float32), runs=2)
        assert session.peak_memory_bytes
        assert not {{"torch", "torch_mlir", "iree.compiler"}} & set(sys.modules)
    """
    path = doubled((4,)).save(tmp_path / "m.vmfb")
    subprocess.run([sys.executable, "-c", textwrap.dedent(script), str(path)], check=True, timeout=120)


def test_a_failing_tool_says_what_it_complained_of() -> None:
    session = load(doubled((4,)), "local-sync")
    session.artifact = replace(session.artifact, function="nope")
    with pytest.raises(DlasError, match=r"iree-benchmark-module: exit status \d+"):
        session.profile(np.ones(4, "f"), runs=2)

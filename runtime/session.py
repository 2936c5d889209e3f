"""Sessions: a loaded artifact on a device, called with arrays at little more than the cost of its kernels."""

from __future__ import annotations

import re
import threading
from collections.abc import Sequence
from contextlib import nullcontext
from pathlib import Path
from typing import Any

import iree.runtime as rt
import numpy as np

from dlas.errors import ArtifactError, DlasError
from dlas.runtime import profile as profiling
from dlas.runtime.artifact import ALIGNMENT, Artifact, TensorSpec, aligned_memory, check_vmfb, is_aligned
from dlas.runtime.benchmark import BenchmarkReport, measure
from dlas.runtime.devices import INLINE, TASK, Device, check_device, instance, open_device
from dlas.runtime.tensors import ELEMENT_TYPES, check_inputs, first_line, is_torch_tensor, to_torch
from dlas.runtime.waiting import Waiting
from dlas.runtime.work import threads_pay_off

_COPY_BELOW = 128 * 1024
"""Bytes under which copying an input or an output costs less than sharing its memory would."""

_DEVICE_MEMORY, _DEVICE_USAGE = int(rt.MemoryType.DEVICE_LOCAL), int(rt.BufferUsage.DEFAULT)
_HOST_MEMORY = int(rt.MemoryType.DEVICE_LOCAL | rt.MemoryType.HOST_VISIBLE)
_HOST_USAGE = int(rt.BufferUsage.DEFAULT | rt.BufferUsage.MAPPING)
_STAGING_MEMORY = int(rt.MemoryType.HOST_LOCAL | rt.MemoryType.DEVICE_VISIBLE)
_STAGING_USAGE = int(rt.BufferUsage.TRANSFER_TARGET | rt.BufferUsage.MAPPING_SCOPED)


def load(artifact: Artifact | str | Path, device: str = "local-task", threads: int = 1) -> Session:
    """Load an artifact, or the files of one, onto a device.

    Args:
        artifact: an Artifact or the path of its ``.vmfb``.
        device: "local-task" (worker threads), "local-sync" (the calling thread), or an IREE device URI of a GPU.
        threads: worker threads of "local-task". Where they would not pay off (there is one, or the model is too small
            to share: :mod:`dlas.runtime.work`), the calling thread does the work instead, and the session's ``device``
            is "local-sync".

    Raises:
        ArtifactError: the module is damaged, or not for this host or device.
        UsageError: no such device, or a thread count it cannot have.
    """
    where = "" if isinstance(artifact, Artifact) else str(artifact)
    if not isinstance(artifact, Artifact):
        artifact = Artifact.load(artifact)
    inline = isinstance(threads, int) and not threads_pay_off(artifact.kernels, threads)
    return Session(artifact, open_device(device, threads, inline=inline), where=where)


class Session:
    """A loaded model. Calls from several threads take turns; for parallel calls load one session each.

    Attributes:
        artifact: what was loaded.
        device: where it runs, with its name and thread count.
    """

    def __init__(self, artifact: Artifact, device: Device, *, where: str = "") -> None:
        self.artifact, self.device = artifact, device
        where = where or artifact.model or artifact.function
        self._context, self._function = _load_module(artifact, device, where)
        self._input_types = [_element_type(spec, where) for spec in artifact.inputs]
        self._input_dtypes = [dtype for dtype, _ in self._input_types]
        self._output_dtypes = [_element_type(spec, where)[0] for spec in artifact.outputs]
        self._staging: dict[int, tuple[np.ndarray, Any]] = {}
        self._outputs_checked = False
        self._peak_memory_bytes: int | None = None
        self._lock = threading.RLock()

    def __repr__(self) -> str:
        return f"<Session {self.artifact!r} on {self.device.name}, threads={self.device.threads}>"

    def __call__(self, *inputs: Any) -> Any:
        """Run the model on numpy arrays, torch tensors or DLPack objects (exact shapes and dtypes; nothing is cast).

        Returns one array, or a tuple for several outputs: torch tensors if all inputs are, else numpy arrays. They
        are the caller's: no later call and no write to an input changes them. Raises InputError.
        """
        arrays = check_inputs(inputs, self.artifact.inputs, self._input_dtypes)
        with self._lock:
            results = self._read(self._invoke(self._arguments(arrays)), arrays)
        if inputs and all(map(is_torch_tensor, inputs)):
            results = [to_torch(result) for result in results]
        return results[0] if len(results) == 1 else tuple(results)

    def bind(self, *inputs: Any) -> BoundCall:
        """Check and copy `inputs` to the device once; the result invokes the model on them. Raises InputError."""
        arrays = check_inputs(inputs, self.artifact.inputs, self._input_dtypes)
        arguments = rt.VmVariantList(len(arrays))
        for position, array in enumerate(arrays):
            arguments.push_ref(self._device_copy(position, array))
        return BoundCall(self, arguments)

    def benchmark(
        self, *inputs: Any, runs: int | None = None, warmup: int = 5, min_time_s: float = 0.5
    ) -> BenchmarkReport:
        """Time invocations on inputs that are bound once (see :func:`dlas.runtime.measure` for the options)."""
        return measure(self.bind(*inputs), runs=runs, warmup=warmup, min_time_s=min_time_s)

    def profile(self, *inputs: Any, runs: int = 20) -> list[profiling.KernelTime]:
        """Time per kernel and inference, slowest first, measured by IREE's own tools in a process of their own.

        Args:
            inputs: as for a call.
            runs: inferences; the first is left out, the median of the others is reported.

        Raises UsageError on a device other than "local-sync" and "local-task", InputError for wrong inputs.
        """
        arrays = check_inputs(inputs, self.artifact.inputs, self._input_dtypes)
        return profiling.profile(self.artifact, self.device, arrays, runs=runs)

    @property
    def peak_memory_bytes(self) -> int:
        """Most bytes of device memory one inference holds: inputs, outputs, temporaries and outside parameters.

        Weights inside the module are not in it: they stay in the ``.vmfb``'s own memory. Found once, by an inference
        on zeros with an allocator of its own.
        """
        if self._peak_memory_bytes is None:
            # "local-task" serves temporaries from a pool that its statistics do not see; "local-sync" counts them all.
            name = INLINE if self.device.is_local else self.device.name
            alone = Session(self.artifact, open_device(name, shared=False))
            zeros = [np.zeros(spec.shape, ELEMENT_TYPES[spec.dtype].dtype) for spec in self.artifact.inputs]
            alone.bind(*zeros)()
            self._peak_memory_bytes = int(alone.device.hal.allocator.statistics["device_bytes_peak"])
        return self._peak_memory_bytes

    def _invoke(self, arguments: rt.VmVariantList) -> rt.VmVariantList:
        results = rt.VmVariantList(len(self._output_dtypes))
        try:
            with self._lock, Waiting() if self.device.name == TASK else nullcontext():
                self._context.invoke(self._function, arguments, results)
        except (RuntimeError, ValueError) as error:
            raise DlasError(
                f"failed on {self.device.name}: {first_line(error)}", where=self.artifact.function
            ) from error
        return results

    def _arguments(self, arrays: list[np.ndarray]) -> rt.VmVariantList:
        arguments = rt.VmVariantList(len(arrays))
        for position, array in enumerate(arrays):
            if not self.device.is_local:
                view = self._device_copy(position, array)
            elif array.nbytes >= _COPY_BELOW and _is_shareable(array):
                view = self._import(position, array)
            else:
                staging, view = self._staging.get(position) or self._allocate_staging(position)
                np.copyto(staging, array)
            arguments.push_ref(view)
        return arguments

    def _import(self, position: int, array: np.ndarray) -> rt.HalBufferView:
        """A buffer view over the memory of `array`, which it keeps alive."""
        buffer = self.device.hal.allocator.import_host_allocation(array, _HOST_MEMORY, _HOST_USAGE)
        return rt.HalBufferView(buffer, array.shape, self._input_types[position][1])

    def _allocate_staging(self, position: int) -> tuple[np.ndarray, rt.HalBufferView]:
        spec = self.artifact.inputs[position]
        # One byte at least: a buffer of none has no address to import. The view's shape says that it is empty.
        data = aligned_memory(max(spec.nbytes, 1))
        buffer = self.device.hal.allocator.import_host_allocation(data, _HOST_MEMORY, _HOST_USAGE)
        view = rt.HalBufferView(buffer, spec.shape, self._input_types[position][1])
        array = data[: spec.nbytes].view(self._input_dtypes[position]).reshape(spec.shape)
        self._staging[position] = array, view
        return array, view

    def _device_copy(self, position: int, array: np.ndarray) -> rt.HalBufferView:
        flat = np.ascontiguousarray(array).reshape(-1).view(np.uint8)
        buffer = self.device.hal.allocator.allocate_buffer_copy(_DEVICE_MEMORY, _DEVICE_USAGE, self.device.hal, flat)
        return rt.HalBufferView(buffer, array.shape, self._input_types[position][1])

    def _read(self, results: rt.VmVariantList, inputs: Sequence[np.ndarray]) -> list[np.ndarray]:
        """The results as arrays that own their memory or share it with nobody."""
        views = [results.get_as_object(index, rt.HalBufferView) for index in range(len(results))]
        if not self._outputs_checked:
            self._check_outputs(views)
        if not self.device.is_local:
            outputs = zip(views, self.artifact.outputs, self._output_dtypes, strict=True)
            return [_transfer(self.device, view, spec.shape, dtype) for view, spec, dtype in outputs]
        arrays: list[np.ndarray] = []
        for view, spec, dtype in zip(views, self.artifact.outputs, self._output_dtypes, strict=True):
            array = view.map().asarray(spec.shape, dtype)
            # A module may hand back an input, or one tensor twice.
            is_copied = array.nbytes < _COPY_BELOW or self._shares_memory(array, inputs, arrays)
            arrays.append(array.copy() if is_copied else _ResultMemory(array, self.device).as_array())
        return arrays

    def _shares_memory(self, array: np.ndarray, inputs: Sequence[np.ndarray], others: Sequence[np.ndarray]) -> bool:
        staging = (memory for memory, _ in self._staging.values())
        return any(np.may_share_memory(array, other) for group in (inputs, staging, others) for other in group)

    def _check_outputs(self, views: Sequence[rt.HalBufferView]) -> None:
        specs, found = self.artifact.outputs, ""
        if len(views) != len(specs):
            found = f"the module returns {len(views)} outputs, the artifact describes {len(specs)}"
        for spec, view in zip(specs, views, strict=False):
            if tuple(view.shape) != spec.shape or view.byte_length != spec.nbytes:
                found = (
                    found or f"the module returns {view.byte_length} bytes of shape {view.shape} for output '{spec}'"
                )
        if found:
            where = self.artifact.model or self.artifact.function
            raise ArtifactError(found, where=where, hint="the description does not fit the module; compile again")
        self._outputs_checked = True


class BoundCall:
    """A model with its inputs on the device: calling it runs the model and drops the outputs."""

    __slots__ = ("_arguments", "_session")

    def __init__(self, session: Session, arguments: rt.VmVariantList) -> None:
        self._session, self._arguments = session, arguments

    def __call__(self) -> None:
        self._session._invoke(self._arguments)

    def outputs(self) -> tuple[np.ndarray, ...]:
        """Run the model and return its outputs, as copies."""
        return tuple(array.copy() for array in self._session._read(self._session._invoke(self._arguments), ()))


class _ResultMemory:
    """Owner of a result's memory, which belongs to a pool of its device: the device must outlive every array over it
    (IREE's own array does not see to that, and reading it after its device is gone ends the process)."""

    __slots__ = ("_array", "_device")

    def __init__(self, array: np.ndarray, device: Device) -> None:
        self._array, self._device = array, device

    def __del__(self) -> None:
        del self._array  # before the device

    @property
    def __array_interface__(self) -> dict[str, Any]:
        return self._array.__array_interface__

    def as_array(self) -> np.ndarray:
        return np.asarray(self).view(self._array.dtype)


def _load_module(artifact: Artifact, device: Device, where: str) -> tuple[rt.VmContext, rt.VmFunction]:
    check_vmfb(artifact.vmfb, where=where)
    check_device(artifact.target, device)
    try:
        # In place where it can be: the weights are most of the memory that a session holds.
        make = rt.VmModule.wrap_buffer if is_aligned(artifact.vmfb) else rt.VmModule.copy_buffer
        module = make(instance(), artifact.vmfb)
    except (RuntimeError, ValueError) as error:
        raise ArtifactError(f"truncated or damaged module: {first_line(error)}", where=where) from error
    if artifact.function not in module.function_names:
        public = [name for name in module.function_names if not name.startswith("__")]
        raise ArtifactError(f"no function '{artifact.function}'", where=where, hint="it has " + ", ".join(public))
    modules = [rt.create_hal_module(instance(), device.hal)]
    try:
        if artifact.parameters is not None:
            index = rt.ParameterIndex()
            index.load(str(artifact.parameters))
            modules.append(rt.create_io_parameters_module(instance(), index.create_provider(scope="model")))
        context = rt.VmContext(instance(), [*modules, module])
    except (RuntimeError, ValueError) as error:
        wanted = re.search(r'#hal\.executable\.target<"([^"]+)", "([^"]+)"', str(error))
        reason = f"its code is for {wanted[1]} ({wanted[2]})" if wanted else first_line(error)
        raise ArtifactError(f"cannot be loaded on {device.name}: {reason}", where=where) from error
    return context, module.lookup_function(artifact.function)


def _element_type(spec: TensorSpec, where: str) -> tuple[np.dtype, Any]:
    try:
        element = ELEMENT_TYPES[spec.dtype]
    except KeyError as error:
        raise ArtifactError(
            f"'{spec.name}' has the unknown dtype {spec.dtype!r}",
            where=where,
            hint="known: " + ", ".join(ELEMENT_TYPES),
        ) from error
    return element.dtype, getattr(rt.HalElementType, element.hal)


def _is_shareable(array: np.ndarray) -> bool:
    """True if the device can read the array where it lies; the import asks for writable memory, and never writes."""
    flags = array.flags
    return flags.c_contiguous and flags.writeable and array.ctypes.data % ALIGNMENT == 0


def _transfer(device: Device, view: rt.HalBufferView, shape: tuple[int, ...], dtype: np.dtype) -> np.ndarray:
    """A result as an array, by a buffer that device and host share.

    (IREE's ``DeviceArray`` copies to memory of the host's that it imports, which Vulkan wants aligned to pages.)
    """
    if view.byte_length == 0:
        return np.empty(shape, dtype)
    staging = device.hal.allocator.allocate_buffer(_STAGING_MEMORY, _STAGING_USAGE, view.byte_length)
    done = device.hal.create_semaphore(0)
    before, after = rt.HalFence.create_at(done, 0), rt.HalFence.create_at(done, 1)
    device.hal.queue_copy(view.get_buffer(), staging, before, after)
    after.wait()
    return staging.map().asarray(shape, dtype).copy()

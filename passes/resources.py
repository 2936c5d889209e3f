"""``dense_resource`` constants made readable.

The Python bindings can make a resource but not read one, and text would double the size of a model's weights. What
they can do is write bytecode: its resource section holds every blob as raw bytes, and this module reads just that
section (format: https://mlir.llvm.org/docs/BytecodeFormat/).
"""

from __future__ import annotations

import io
import math
import re
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np

from dlas.errors import FrontendError
from dlas.passes.constants import bindings, numpy_dtype
from dlas.passes.generics import walk

_MAGIC = b"ML\xefR"
_SECTION_STRING, _SECTION_RESOURCE, _SECTION_RESOURCE_OFFSET = 0, 5, 6
_KIND_BLOB = 0
_RESOURCE_NAME = re.compile(r'dense_resource<("[^"]*"|[^>]*)>')
# Element types that numpy lacks, by what holds their bits; signs matter to the torch dialect only.
_STORAGE: dict[str, np.dtype] = {
    "si8": np.dtype(np.int8),
    "si16": np.dtype(np.int16),
    "si32": np.dtype(np.int32),
    "si64": np.dtype(np.int64),
    "bf16": np.dtype(np.int16),
}


@dataclass
class _Reader:
    """A cursor over bytecode."""

    data: memoryview
    position: int = 0

    def byte(self) -> int:
        self.position += 1
        return self.data[self.position - 1]

    def varint(self) -> int:
        """MLIR's prefix varint: the number of trailing zeros of the first byte is the number of bytes that follow."""
        first = self.byte()
        if first & 1:
            return first >> 1
        if first == 0:
            return int.from_bytes(self.take(8), "little")
        extra = (first & -first).bit_length() - 1
        value = int.from_bytes(bytes([first]) + bytes(self.take(extra)), "little")
        return value >> (extra + 1)

    def take(self, count: int) -> memoryview:
        self.position += count
        return self.data[self.position - count : self.position]

    def align(self, alignment: int) -> None:
        self.position += -self.position % alignment

    @property
    def done(self) -> bool:
        return self.position >= len(self.data)


def _sections(data: memoryview) -> Iterator[tuple[int, int, int]]:
    """Kind, start and end of each section."""
    reader = _Reader(data)
    if bytes(reader.take(4)) != _MAGIC:
        raise FrontendError("not MLIR bytecode")
    reader.varint()
    while reader.byte() != 0:  # the producer's name
        pass
    while not reader.done:
        kind = reader.byte()
        length = reader.varint()
        if kind & 0x80:
            reader.align(reader.varint())
        yield kind & 0x7F, reader.position, reader.position + length
        reader.position += length


def _strings(section: memoryview) -> list[str]:
    reader = _Reader(section)
    # Sizes come last string first; the bytes fill the end of the section.
    sizes = [reader.varint() for _ in range(reader.varint())][::-1]
    reader.position = len(section) - sum(sizes)
    return [bytes(reader.take(size))[:-1].decode() for size in sizes]


def read_resources(bytecode: bytes) -> dict[str, memoryview]:
    """The blobs of a module's resources by name, as views of ``bytecode``."""
    data = memoryview(bytecode)
    parts = {kind: (start, end) for kind, start, end in _sections(data)}
    if _SECTION_RESOURCE not in parts or _SECTION_RESOURCE_OFFSET not in parts:
        return {}
    strings = _strings(data[slice(*parts[_SECTION_STRING])])
    offsets = _Reader(data[slice(*parts[_SECTION_RESOURCE_OFFSET])])
    start, _ = parts[_SECTION_RESOURCE]
    # Alignment counts from the start of the file, so the cursor runs over the whole of it.
    blobs = _Reader(data, start)
    external = offsets.varint()
    found: dict[str, memoryview] = {}
    group = 0
    while not offsets.done:
        offsets.varint()  # the dialect, or the key of an external group
        for _ in range(offsets.varint()):
            key = offsets.varint()
            size = offsets.varint()
            kind = offsets.byte()
            end = blobs.position + size
            if size and kind == _KIND_BLOB:
                alignment, length = blobs.varint(), blobs.varint()
                blobs.align(alignment)
                if group >= external:
                    found[strings[key]] = blobs.take(length)
            blobs.position = end
        group += 1
    return found


def inline_resources(module: Any) -> int:
    """Make every ``dense_resource`` of a numpy-readable type a dense attribute, in place; the number of them.

    Raises:
        FrontendError: a resource has no data, or not as much as its type says.
    """
    ir = bindings(module)
    holders = [(op, key) for op in walk(module) for key in op.attributes if _is_resource(ir, op.attributes[key])]
    if not holders:
        return 0
    buffer = io.BytesIO()
    module.operation.write_bytecode(buffer)
    blobs = read_resources(buffer.getvalue())
    done: dict[Any, Any] = {}
    for op, key in holders:
        attribute = op.attributes[key]
        if attribute not in done:
            done[attribute] = _to_dense(ir, attribute, blobs)
        if done[attribute] is not None:
            op.attributes[key] = done[attribute]
    return len(holders)


def _is_resource(ir: Any, attribute: Any) -> bool:
    # The bindings leave this kind of attribute without a class of its own; a cast says what it is. (Printing one
    # would do too, but prints every element of the other kinds.)
    if type(attribute) is not ir.Attribute:
        return False
    try:
        ir.DenseResourceElementsAttr(attribute)
    except ValueError:
        return False
    return True


def _to_dense(ir: Any, attribute: Any, blobs: dict[str, memoryview]) -> Any | None:
    match = _RESOURCE_NAME.match(str(attribute))
    name = "" if match is None else match.group(1).strip('"')
    kind = ir.RankedTensorType(ir.DenseResourceElementsAttr(attribute).type)
    dtype = _STORAGE.get(str(kind.element_type)) or numpy_dtype(kind.element_type)
    if dtype is None:
        return None
    if name not in blobs:
        raise FrontendError(
            f"the module has no data for its resource {name!r}", hint="was it printed with elided constants?"
        )
    expected = dtype.itemsize * math.prod(kind.shape)
    if len(blobs[name]) != expected:
        raise FrontendError(f"resource {name!r} has {len(blobs[name])} bytes, {kind} needs {expected}")
    array = np.frombuffer(blobs[name], dtype=dtype)
    return ir.DenseElementsAttr.get(array, type=kind.element_type, shape=list(kind.shape))

"""The end of kernels that make their results vector by vector: a column of pixels, through the epilogue, in place."""

from __future__ import annotations

from collections.abc import Sequence

from iree.compiler import ir

from dlas.passes import dispatch as d
from dlas.passes import vectors as v
from dlas.passes.kernel_frame import IDENTITY, Epilogue, KernelFrame, ResultSpec, Slices, dims

UNROLL = 4
"""Channels of a step of multiply-adds by splats: of more, LLVM loads more than registers can hold."""


class LaneTail:
    """What loop nests over tiles of one channel block share.

    Attributes:
        frame: emits the kernel.
        epilogue, results: of the kernel.
        vector: the lanes of a block.
    """

    frame: KernelFrame
    epilogue: Epilogue
    results: Sequence[ResultSpec]
    vector: ir.VectorType

    def read(self, value: ir.Value, place: Sequence[v.Index], index: v.Indices, shape: Sequence[int] = ()) -> ir.Value:
        """A vector of lanes, or ``shape`` of them."""
        vector = ir.VectorType.get([*shape, *self.vector.shape], self.frame.element)
        return v.read(value, place, vector, d.float_constant(0.0, self.frame.element), index)

    def write_column(
        self,
        outputs: Sequence[ir.Value],
        slices: Slices,
        outs: Sequence[ir.Value],
        place: tuple[ir.Value, ir.Value, ir.Value],
        index: v.Indices,
    ) -> list[ir.Value]:
        """Vectors of pixels below each other, through the epilogue, from ``place`` (block, top, column) on."""
        block, top, column = place
        identity = d.affine_map(4, dims(*IDENTITY))
        lanes = {key: self.read(value, [block, 0], index) for key, value in slices.lanes.items()}
        outs = list(outs)
        for p, output in enumerate(outputs):
            pixel = [block, v.plus(top, p), column, 0]
            values = [output]
            if self.epilogue.ops:
                known = {
                    key: self.read(value, pixel if map_ == identity else [block, 0], index)
                    for key, (value, map_) in slices.sources.items()
                }
                if self.epilogue.source is not None:
                    known[self.epilogue.source] = output
                values = self.frame.apply_epilogue(self.epilogue, known, lanes, self.results)
            outs = [v.write(value, out, pixel, index) for value, out in zip(values, outs, strict=True)]
        return outs

"""The steps that all schedules of windowed kernels share; loops are (k, h, w, o | reductions)."""

from __future__ import annotations

from dlas.dialects import TransformScript


def tile_rows(script: TransformScript, width: int, ow: int, *, epilogue: bool) -> None:
    """Tiles the last op of the kernel by rows and by ``ow`` pixels, with its producers fused into the loops.

    The last, partial tile of a row is peeled off, so that both kinds have static shapes.
    """
    last = script.match_role("epilogue" if epilogue else "root")
    sizes = [0, 1, ow if ow < width else 0, 0]
    _, loops = script.fuse(last, sizes)
    if width % ow and ow < width:
        script.peel(loops[1])
    script.cleanup()


def tile_borders(script: TransformScript) -> None:
    """One vector store per pixel of the border."""
    script.comment("The halo: one vector store per border pixel.")
    script.tile(script.match_role("border"), [1, 1, 1, 0])


def finish(script: TransformScript, *, contract: bool, copies: bool = False) -> None:
    """Vectorises, turns the accumulators into loop-carried vectors, and lowers contractions to FMAs.

    ``copies``: the kernel has ops that only copy. Without their unit dimensions they would fold to slices, which
    bufferise to scalar loops.
    """
    script.comment("Vectorise op by op; hoist the accumulators out of the reduction loops.")
    if not copies:
        script.fold_unit_dims()
    script.vectorize()
    if contract:
        script.contractions()
    script.hoist_accumulators()
    if contract:
        script.lower_contractions()

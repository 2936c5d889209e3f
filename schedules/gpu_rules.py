"""The rule that picks schedules on a GPU."""

from __future__ import annotations

from dataclasses import dataclass

from dlas.passes.conv import ConvShape
from dlas.passes.plan import Choice, Refusal

# Threads of a workgroup: a few subgroups, so that small images do not leave most of them idle.
_THREADS = 64


@dataclass(frozen=True)
class GpuRules:
    """The default policy for one GPU.

    Attributes:
        subgroup: lanes of a subgroup; a workgroup has whole ones.
        max_threads: of a workgroup.
        max_workgroups: of a dispatch.
        sparse_share: a convolution is computed by its non-zero weights up to this share of them.
        sparse_share_pointwise: the same for pointwise ones.
    """

    subgroup: int
    max_threads: int
    max_workgroups: int
    sparse_share: float
    sparse_share_pointwise: float

    def sparse(self, shape: ConvShape, nonzeros: int) -> Choice | Refusal:
        """The schedule of a convolution by its non-zero weights; or why it is better left as it is."""
        share = nonzeros / (shape.c_out * shape.c_per_group * shape.k_h * shape.k_w)
        limit = self.sparse_share_pointwise if shape.kind == "pointwise" else self.sparse_share
        if share > limit:
            what = f"{limit:.0%} for {'pointwise' if shape.kind == 'pointwise' else 'such'} convolutions"
            return Refusal(f"{share:.1%} of the weights are not zero, more than the target's {what}")
        threads = max(self.subgroup, min(_THREADS, self.max_threads) // self.subgroup * self.subgroup)
        tiles = shape.batch * -(-shape.out_h * shape.out_w // threads)
        channels = range(1, shape.c_out + 1)
        fits = (k for k in channels if shape.c_out % k == 0 and tiles * (shape.c_out // k) <= self.max_workgroups)
        k_w = next(fits, None)
        if k_w is None:
            return Refusal(f"{tiles} workgroups for one channel alone, and the device has {self.max_workgroups}")
        at_a_time = f", {k_w} channels one after the other" if k_w > 1 else ""
        reason = f"{share:.1%} of the weights are not zero: {threads} threads of a pixel each{at_a_time}"
        knobs = {"threads": threads, "k_w": k_w}
        return Choice("sparse_pixel_conv", knobs, reason, f"{shape.problem} nonzeros={nonzeros}")

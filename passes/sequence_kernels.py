"""Form kernels of what the blocked layout left and works along rows: attention, softmax, layer norm and their like.

The pass walks the function once more, after :mod:`dlas.passes.blocked_layout`. See :mod:`dlas.passes.row_groups` for
what becomes one kernel along rows, and :mod:`dlas.passes.attention` for what becomes one with the products around it.

    before: batch_matmul -> scale -> mask -> max -> sub -> exp -> sum -> div -> batch_matmul -> transpose
    after:  kernel(q, k, v, mask)
"""

from __future__ import annotations

import time
from dataclasses import replace
from typing import Protocol

from iree.compiler import ir

from dlas.passes.attention import AttentionSite, BatchProduct, View
from dlas.passes.attention_kernels import AttentionKernels
from dlas.passes.blocked_layout import LayoutReport
from dlas.passes.generics import defining_op, layer_of, shape_of
from dlas.passes.plan import Choice, Refusal
from dlas.passes.row_groups import RowGroup, RowGroups
from dlas.passes.row_kernels import reshaped


class SequencePolicy(Protocol):
    """What chooses schedules."""

    def rows(self, rows: int, columns: int) -> Choice:
        """Of a program along rows."""

    def attention(self, m: int, n: int, k: int, context_n: int) -> Choice | Refusal:
        """Of attention, from (m, n, k) of the scores and n of the context."""

    def batch_matmul(self, m: int, n: int, k: int) -> Choice:
        """Of a batched product."""

    def plain(self, kind: str, height: int, width: int) -> Choice:
        """Of a kernel without multiply-accumulates."""


class SequenceKernels:
    """The pass, for one function."""

    def __init__(self, policy: SequencePolicy) -> None:
        self.policy = policy

    def run(self, function: ir.Operation) -> LayoutReport:
        """Rewrites ``function`` (``func.func`` or ``util.func``) in place."""
        start = time.perf_counter()
        rewriter = _Rewriter(self.policy, function)
        rewriter.run()
        rewriter.report.seconds = time.perf_counter() - start
        return rewriter.report


class _Rewriter:
    def __init__(self, policy: SequencePolicy, function: ir.Operation) -> None:
        self.policy = policy
        self.ops: list[ir.Operation] = [view.operation for view in function.regions[0].blocks[0].operations]
        self.emitter = AttentionKernels(block=1)
        self.report = LayoutReport(kernels=self.emitter.kernels)
        # The hash of an operation depends on its operands: no operand of an op in a dict changes before the last step.
        self.replaced: list[tuple[ir.Value, ir.Value]] = []
        self.products: dict[ir.Operation, BatchProduct] = {}

    def run(self) -> None:
        for op in self.ops:
            if op.name == "linalg.batch_matmul":
                product = BatchProduct.analyze(op)
                if isinstance(product, Refusal):
                    self._refuse(op, product)
                else:
                    self.products[op] = product
        for seed, group in list(RowGroups(self.ops).find()):
            if isinstance(group, Refusal):
                self._refuse(seed, group)
            else:
                self._emit_group(group)
        for product in list(self.products.values()):
            self._emit_product(product)
        for old, new in self.replaced:
            old.replace_all_uses_with(new)
        for op in reversed(self.ops):
            if op.results and not any(True for result in op.results for _ in result.uses):
                op.erase()

    def _refuse(self, op: ir.Operation, refusal: Refusal) -> None:
        self.report.refused.append((layer_of(op), op.name, refusal.reason))

    def _emit_group(self, group: RowGroup) -> None:
        """A group as the middle of an attention kernel, or as a kernel of its own with the reason for that."""
        site = AttentionSite.analyze(group, self.products)
        if site is None:
            self._emit_rows(group)
            return
        scores, context = site.scores, site.context
        choice = self.policy.attention(scores.m, scores.n, scores.k, context.n)
        if not self.emitter.fits_between(site):
            choice = Refusal("the scores are read again after the first of its results is written")
        if isinstance(choice, Refusal):
            self._emit_rows(group, f"; not with the products around it: {choice.reason}")
            return
        out = View.ahead(context.result)
        last = defining_op(out.source)
        assert last is not None
        pack = self.policy.plain("pack_matrix", scores.k, scores.n)
        with ir.InsertionPoint.after(last), last.location:
            value = self.emitter.attention(site, out, choice, pack, layer_of(scores.op))
        self.replaced.append((out.source, value))
        del self.products[scores.op], self.products[context.op]

    def _emit_product(self, product: BatchProduct) -> None:
        choice = self.policy.batch_matmul(product.m, product.n, product.k)
        out = View.ahead(product.result)
        last = defining_op(out.source)
        assert last is not None
        pack = self.policy.plain("pack_matrix", product.k, product.n)
        with ir.InsertionPoint.after(last), last.location:
            value = self.emitter.batch_product(product, out, choice, pack, layer_of(product.op))
        self.replaced.append((out.source, value))

    def _emit_rows(self, group: RowGroup, note: str = "") -> None:
        choice = self.policy.rows(group.rows, group.columns)
        choice = replace(choice, reason=choice.reason + note)
        last = group.ops[-1].op
        with ir.InsertionPoint.after(last), last.location:
            values = self.emitter.row_program(group, choice, layer_of(group.ops[0].op))
            by_value = dict(zip(dict.fromkeys(value for value, _ in group.results), values, strict=True))
            # Readers may come to see the value before it was reshaped (View.behind), so both are replaced.
            forms = [(old, value) for value, alias in group.results for old in (value, alias)]
            for old, value in dict.fromkeys(forms):
                self.replaced.append((old, reshaped(by_value[value], shape_of(old))))

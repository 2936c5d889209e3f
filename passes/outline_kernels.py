"""Keep the bodies of planned kernels out of the module while IREE plans memory and execution around them.

IREE's phases from global optimisation to streams walk every op of every dispatch again and again, and nothing that they
do to the body of a planned kernel is wanted. So each distinct kernel becomes one ``flow.executable`` whose function
holds its bindings only, under an optimization barrier that carries the kernel's identity; the bodies wait in a module
of their own, and :func:`restore_kernels` puts them back behind the bindings that IREE made.

    before: flow.dispatch.workgroups (body of k) ... flow.dispatch.workgroups (body of k)
    after:  flow.executable @k { func @k(bindings) { util.optimization_barrier bindings {dlas.kernel = "k"} } }
            flow.dispatch @k::@k ... flow.dispatch @k::@k

IREE evaluates at compile time what depends on constants only, for which it would compile a kernel without its body. So
the workload of a call on constants goes through a barrier, too, which leaves the call to run time.
"""

from __future__ import annotations

from iree.compiler import ir

from dlas.passes.generics import walk, walk_op

_KERNEL = "dlas.kernel"
_FUNCTIONS = ("func.func", "util.func")


class OutlinedKernels:
    """The bodies of the kernels of a module, by identity, while they are not in it."""

    def __init__(self, module: ir.Module) -> None:
        """Takes the bodies out of ``module``."""
        self._module = module
        self._bodies = ir.Module.create()
        self._functions: dict[str, ir.Operation] = {}
        self._first = module.body.operations[0].operation
        varying = _varying(module)
        calls = walk(module, "flow.dispatch.workgroups")
        constant = [not any(operand in varying for operand in op.operands) for op in calls]
        for op, evaluable in zip(calls, constant, strict=True):
            key = kernel_of(op)
            if key is None:  # formed by IREE, or by the model's author
                continue
            if key not in self._functions:
                self._functions[key] = self._take_body(op, key)
            self._call(op, key, evaluable)

    @property
    def keys(self) -> tuple[str, ...]:
        """The identities of the kernels."""
        return tuple(self._functions)

    def _take_body(self, op: ir.Operation, key: str) -> ir.Operation:
        """Moves the body into a function of its own, and leaves an executable without it in the module."""
        block = op.regions[0].blocks[0]
        tied, shapes = self._untie(block)
        arguments = ", ".join(f"%{i}: {argument.type}" for i, argument in enumerate(block.arguments))
        names = ", ".join(f"%t{i}" if i in tied else f"%{i}" for i in range(len(block.arguments)))
        types = ", ".join(str(argument.type) for argument in block.arguments)
        stub = ir.Module.parse(
            f"flow.executable private @{key} {{\n"
            f"  flow.executable.export public @{key} workgroups(%0: index) -> (index, index, index) {{\n"
            "    %1 = arith.constant 1 : index\n"
            "    flow.return %0, %1, %1 : index, index, index\n  }\n"
            f"  builtin.module {{\n    func.func @{key}({arguments}) {{\n{shapes}"
            f'      %r:{len(block.arguments)} = util.optimization_barrier {{{_KERNEL} = "{key}"}} {names} : {types}\n'
            "      return\n    }\n  }\n}"
        )
        executable = stub.body.operations[0].operation
        executable.detach_from_parent()
        ir.InsertionPoint(self._first).insert(executable)  # in order of the calls
        with ir.InsertionPoint(self._bodies.body), ir.Location.unknown():
            function = ir.Operation.create(
                "func.func",
                attributes={
                    "sym_name": ir.StringAttr.get(key),
                    "function_type": ir.TypeAttr.get(ir.FunctionType.get([a.type for a in block.arguments], [])),
                },
                regions=1,
            )
        block.append_to(function.regions[0])
        end = list(block.operations)[-1].operation
        with ir.InsertionPoint(end), ir.Location.unknown():
            ir.Operation.create("func.return")
        end.erase()
        for id_ in walk(function, "flow.dispatch.workgroup.id"):
            with ir.InsertionPoint(id_), ir.Location.unknown():
                new = ir.Operation.create(
                    "hal.interface.workgroup.id",
                    results=[id_.results[0].type],
                    attributes={"dimension": id_.attributes["dimension"]},
                )
            id_.results[0].replace_all_uses_with(new.results[0])
            id_.erase()
        return function

    def _untie(self, block: ir.Block) -> tuple[set[int], str]:
        """Takes the ops out of a body that give bindings their dynamic extents; returns which, and the ops as text."""
        tied, text = set(), ""
        for op in [view.operation for view in block.operations if view.operation.name == "flow.dispatch.tie_shape"]:
            binding, extent = (ir.BlockArgument(operand).arg_number for operand in op.operands)
            op.results[0].replace_all_uses_with(op.operands[0])
            op.erase()
            tied.add(binding)
            kind = block.arguments[binding].type
            text += f"      %t{binding} = flow.dispatch.tie_shape %{binding} : {kind}{{%{extent}}}\n"
        return tied, text

    def _call(self, op: ir.Operation, key: str, evaluable: bool) -> None:
        """Calls the executable with tensors of the extents that they have, whatever the kernel takes.

        ``evaluable``: IREE could evaluate the call at compile time.
        """
        symbol = ir.Attribute.parse(f"@{key}::@{key}")
        workloads, arguments, *_ = ir.DenseI32ArrayAttr(op.attributes["operandSegmentSizes"])
        operands = [_without_cast(value) for value in list(op.operands)[: workloads + arguments]]
        casts = [_casts_of(result) for result in op.results]
        with ir.InsertionPoint(op), op.location:
            if evaluable:
                operands[0] = ir.Operation.create(
                    "util.optimization_barrier", results=[operands[0].type], operands=[operands[0]]
                ).result
            call = ir.Operation.create(
                "flow.dispatch",
                results=[
                    cast[0].results[0].type if cast else value.type
                    for value, cast in zip(op.results, casts, strict=True)
                ],
                operands=operands,
                attributes={
                    "entry_points": ir.ArrayAttr.get([symbol]),
                    "operandSegmentSizes": ir.DenseI32ArrayAttr.get([workloads, arguments, 0, 0]),
                    "tied_operands": op.attributes["tied_operands"],
                },
            )
        for old, new, cast in zip(op.results, call.results, casts, strict=True):
            if not cast:
                old.replace_all_uses_with(new)
            for use in cast:
                use.results[0].replace_all_uses_with(new)
                use.erase()
        sources = [value.owner.operation for value in op.operands if _without_cast(value) != value]
        op.erase()
        for source in sources:
            source.erase()

    def restore(self) -> None:
        """Puts each body back where its barrier is; the bindings may have moved, merged or got offsets meanwhile."""
        for barrier in walk(self._module, "util.optimization_barrier"):
            if _KERNEL not in barrier.attributes:
                continue
            function = self._functions[ir.StringAttr(barrier.attributes[_KERNEL]).value].clone().operation
            block = function.regions[0].blocks[0]
            for argument, binding in zip(block.arguments, barrier.operands, strict=True):
                argument.replace_all_uses_with(binding)
            for view in list(block.operations)[:-1]:
                view.operation.move_before(barrier)
            function.erase()
            barrier.erase()


def kernel_of(op: ir.Operation) -> str | None:
    """The identity of the planned kernel that ``op`` contains, None for anything else."""
    found: list[str] = []

    def visit(inner: ir.Operation) -> ir.WalkResult:
        if _KERNEL in inner.attributes:
            found.append(ir.StringAttr(inner.attributes[_KERNEL]).value)
            return ir.WalkResult.INTERRUPT
        return ir.WalkResult.ADVANCE

    op.walk(visit)
    return found[0] if found else None


def _varying(module: ir.Module) -> set[ir.Value]:
    """What is computed from arguments of a function of the module."""
    found: set[ir.Value] = set()
    for function in module.body.operations:
        for block in function.operation.regions[0].blocks if function.operation.name in _FUNCTIONS else ():
            found.update(block.arguments)
            for view in block.operations:
                op = view.operation
                read = [op] if op.name == "flow.dispatch.workgroups" else walk_op(op)  # whose body captures nothing
                if any(operand in found for each in read for operand in each.operands):
                    found.update(op.results)
    return found


def _without_cast(value: ir.Value) -> ir.Value:
    """The tensor whose extent a cast hides, or the value itself."""
    op: ir.Operation | None = getattr(value.owner, "operation", None)
    if op is None or op.name != "tensor.cast" or ir.ShapedType(value.type).has_static_shape:
        return value
    return op.operands[0]


def _casts_of(result: ir.Value) -> list[ir.Operation]:
    """The casts that give a dispatch's result its extent."""
    if ir.ShapedType(result.type).has_static_shape:
        return []
    return [use.owner.operation for use in result.uses]

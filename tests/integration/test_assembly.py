"""What the code generator emits for the kernels of each target: vector FMAs of full width, and no scalar ones.

A schedule that fell apart on its way to machine code still computes the right numbers, slowly: this is where it shows.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

torch = pytest.importorskip("torch")
pytest.importorskip("torch_mlir.ir")
pytest.importorskip("iree.compiler")

from torch import nn  # noqa: E402

import dlas  # noqa: E402
from dlas.compiler.targets import load_target  # noqa: E402
from dlas.compiler.targets.detect import is_x86_host  # noqa: E402
from dlas.dialects import TransformScript  # noqa: E402
from dlas.passes.layout_assignment import PLANAR, Implementation  # noqa: E402
from dlas.passes.plan import Choice  # noqa: E402
from dlas.runtime import Artifact  # noqa: E402
from dlas.schedules.rules import Rules  # noqa: E402
from dlas.schedules.sparse_cost import sparse_tiles  # noqa: E402


@dataclass(frozen=True)
class Machine:
    """Patterns of one instruction set: FMAs on whole vectors, FMAs on one element, and shuffles of a transpose."""

    vector_fma: str
    scalar_fma: str
    shuffle: str


AVX2 = Machine(r"vf[n]?madd\d+ps\s.*%ymm", r"vf[n]?madd\d+ss", r"vunpck|vshufps|vperm")
AVX512 = Machine(r"vf[n]?madd\d+ps\s.*%zmm", r"vf[n]?madd\d+ss", r"vunpck|vshufps|vperm")
NEON = Machine(r"fmla\s+v\d+\.4s", r"fmadd\s+s\d+", r"zip[12]|trn[12]|uzp[12]|st4|ld4|mov\s+v\d+\.s\[")

MACHINES = {"x86_64-v3": AVX2, "x86_64-v4": AVX512, "aarch64": NEON, "cortex-a72": NEON, "cortex-a73": NEON}


class Network(nn.Sequential):
    """Every class of multiplying kernel, between a pack and the pooling of the last features."""

    def __init__(self) -> None:
        super().__init__(
            nn.Conv2d(32, 64, 1),
            nn.ReLU(),
            nn.Conv2d(64, 64, 3, padding=1, groups=2),
            nn.ReLU(),
            nn.Conv2d(64, 64, 3, padding=1, groups=16),
            nn.Conv2d(64, 64, 3, padding=1, groups=64),
            nn.Conv2d(64, 32, 3, padding=1, stride=2),
            nn.AdaptiveAvgPool2d(1),
            nn.Flatten(),
            nn.Linear(32, 48),
        )


LAYERS = {"0": "pointwise", "2": "grouped", "4": "grouped", "5": "depthwise", "6": "conv", "9": "matmul"}


def example() -> tuple[nn.Module, Any]:
    torch.manual_seed(0)
    return Network().eval(), torch.randn(1, 32, 14, 15)


def functions(folder: Path) -> dict[str, str]:
    """The assembly in ``folder``, by function."""
    found = {}
    for path in folder.glob("*.s"):
        for match in re.finditer(r"^(\w+):[^\n]*\n(.*?)^\.?L?func_end|^(\w+):", path.read_text(), re.S | re.M):
            if match.group(1):
                found[match.group(1)] = match.group(2)
    return found


Compiled = tuple[Artifact, dict[str, str]]


@pytest.fixture(scope="module")
def compiled(tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], Compiled]:
    """The artifact and the assembly of :class:`Network` for a target, compiled once."""
    known: dict[str, Compiled] = {}

    def compile_for(target: str) -> Compiled:
        if target not in known:
            folder = tmp_path_factory.mktemp(target)
            options = dlas.Options(iree_flags=(f"--iree-hal-dump-executable-intermediates-to={folder}",))
            model, x = example()
            known[target] = dlas.compile(model, (x,), target=target, options=options), functions(folder)
        return known[target]

    return compile_for


def check_kernels(artifact: Artifact, assembly: dict[str, str], machine: Machine) -> None:
    kinds = {layer: record.kind for record in artifact.kernels for layer in record.layer.split(", ") if layer in LAYERS}
    assert {layer: kinds[layer] for layer in LAYERS} == LAYERS
    for record in artifact.kernels:
        code = assembly[record.name]
        if record.kind in LAYERS.values():
            assert record.schedule is not None, record.reason
            assert len(re.findall(machine.vector_fma, code)) >= 8, f"{record.kind}: vector FMAs"
        assert not re.search(machine.scalar_fma, code), f"{record.kind}: scalar FMAs"
        if record.kind in ("pack", "unpack"):
            assert re.search(machine.shuffle, code), f"{record.kind}: no shuffles"


@pytest.mark.parametrize("target", MACHINES)
def test_cross_compiled_kernels(target: str, compiled: Callable[[str], Compiled]) -> None:
    check_kernels(*compiled(target), MACHINES[target])


@pytest.mark.skipif(not is_x86_host(), reason="the patterns of this host's instruction set are not in the table")
def test_kernels_of_this_host(compiled: Callable[[str], Compiled]) -> None:
    lanes = load_target("x86_64").simd_lanes
    if lanes < 8:
        pytest.skip(f"this processor has {lanes} lanes and no vector FMA")
    check_kernels(*compiled("x86_64"), AVX512 if lanes == 16 else AVX2)


def test_copies_move_whole_vectors(tmp_path: Path) -> None:
    """Padding an NCHW tensor, and giving a blocked one another halo: no loop over scalars."""

    class Copies(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.lanes = nn.Conv2d(32, 32, 3, padding=1, groups=16)
            self.blocks = nn.Conv2d(16, 16, 1)
            self.pool = nn.MaxPool2d(3, 1, 1)
            self.conv = nn.Conv2d(16, 16, 3, padding=1)

        def forward(self, x, y):
            y = self.blocks(y)
            return self.lanes(x), self.pool(y), self.conv(y)  # a halo of the least value, and one of zeros

    torch.manual_seed(0)
    inputs = torch.randn(1, 32, 10, 32), torch.randn(1, 16, 6, 12)
    options = dlas.Options(iree_flags=(f"--iree-hal-dump-executable-intermediates-to={tmp_path}",))
    artifact = dlas.compile(Copies().eval(), inputs, target="x86_64-v3", options=options)
    assembly = functions(tmp_path)
    copies = {record.kind: record for record in artifact.kernels if record.kind in ("pad", "copy")}
    assert set(copies) == {"pad", "copy"}
    for kind, record in copies.items():
        assert record.schedule is not None, record.reason
        assert re.search(r"vmov[ua]ps\s+%ymm\d+, -?\d*\(", assembly[record.name]), f"{kind}: no vector is stored"
        assert not re.search(r"vmovss\s+-?\d*\(", assembly[record.name]), f"{kind}: a scalar is loaded"


@pytest.mark.parametrize("target", ["x86_64-v3", "x86_64-v4", "aarch64"])
def test_a_stem_by_phases(target: str, tmp_path: Path) -> None:
    """Products and transforms of whole vectors, and the input transposed by shuffles."""
    torch.manual_seed(0)
    stem = nn.Sequential(nn.Conv2d(3, 32, 7, stride=2, padding=3), nn.ReLU())
    options = dlas.Options(iree_flags=(f"--iree-hal-dump-executable-intermediates-to={tmp_path}",))
    artifact = dlas.compile(stem.eval(), (torch.randn(1, 3, 70, 75),), target=target, options=options)
    assembly, machine = functions(tmp_path), MACHINES[target]
    kernels = {record.schedule: assembly[record.name] for record in artifact.kernels}
    assert len(re.findall(machine.vector_fma, kernels["polyphase_conv"])) >= 12 * 8
    assert re.search(machine.shuffle, kernels["polyphase_input"])
    for schedule in ("polyphase_conv", "polyphase_input"):
        assert not re.search(machine.scalar_fma, kernels[schedule]), schedule


@pytest.mark.parametrize("target", ["x86_64-v3", "x86_64-v4", "aarch64"])
def test_strassens_products_stay_in_registers(target: str, tmp_path: Path) -> None:
    """Accumulators and what they are multiplied by: of all loops of FMAs, LLVM keeps at most one vector in memory."""
    torch.manual_seed(0)
    script = TransformScript("__transform_main", "%module")
    conv = script.match_ops("linalg.conv_2d_nchw_fchw")
    script.annotate(conv, "dlas.knobs", {"schedule": "strassen_conv"})
    flags = (f"--iree-hal-dump-executable-intermediates-to={tmp_path}",)
    options = dlas.Options(iree_flags=flags, transform_script=script)
    layer = nn.Sequential(nn.Conv2d(128, 128, 1), nn.ReLU())
    artifact = dlas.compile(layer.eval(), (torch.randn(1, 128, 16, 16),), target=target, options=options)
    (record,) = (record for record in artifact.kernels if record.schedule == "strassen_conv")
    code, machine = functions(tmp_path)[record.name], MACHINES[target]
    blocks = re.split(r"^\.?L\w+:", code, flags=re.M)
    inner = [block for block in blocks if len(re.findall(machine.vector_fma, block)) >= 16]
    assert len(inner) >= 7 and not re.search(machine.scalar_fma, code)
    store = r"\bst[pr]\s+q" if target == "aarch64" else r"vmov[ua]ps\s+%[yz]mm\d+, [-\w]*\("
    loops = [re.split(r"^\s+(?:j|b\.)\w+\s", block, flags=re.M)[0] for block in inner]
    assert sum(len(re.findall(store, loop)) for loop in loops) <= 1


@pytest.mark.parametrize(("target", "ow"), [("x86_64-v4", 4), ("aarch64", 2)])
def test_a_filter_transformed_online_stays_in_registers(target: str, ow: int, tmp_path: Path) -> None:
    """A loop for each of the 6 rows of points: accumulators, and weights made of taps, are not in memory."""
    torch.manual_seed(0)
    script = TransformScript("__transform_main", "%module")
    knobs = {"schedule": "winograd_conv", "m": 4, "rows": 2, "columns": 2, "online": 1, "staged": 1}
    script.annotate(script.match_ops("linalg.conv_2d_nchw_fchw"), "dlas.knobs", knobs)
    flags = (f"--iree-hal-dump-executable-intermediates-to={tmp_path}",)
    options = dlas.Options(iree_flags=flags, transform_script=script)
    layer = nn.Sequential(nn.Conv2d(96, 96, 3, padding=1), nn.ReLU())
    artifact = dlas.compile(layer.eval(), (torch.randn(1, 96, 8, 8),), target=target, options=options)
    (record,) = (record for record in artifact.kernels if record.schedule == "winograd_conv")
    assert record.knobs["ow"] == ow
    code, machine = functions(tmp_path)[record.name], MACHINES[target]
    inner = [
        re.split(r"^\s+(?:j|b\.)\w+\s", block, flags=re.M)[0] for block in re.split(r"^\.?L\w+:", code, flags=re.M)
    ]
    inner = [loop for loop in inner if len(re.findall(machine.vector_fma, loop)) >= 2 * 6 * ow]
    assert len(inner) == 6 and not re.search(machine.scalar_fma, code)
    store = r"\bst[pr]\s+q" if target == "aarch64" else r"vmov[ua]ps\s+%zmm\d+, [-\w]*\("
    assert not any(re.search(store, loop) for loop in inner)


@pytest.mark.parametrize(("target", "register"), [("x86_64-v3", "ymm"), ("x86_64-v4", "zmm")])
def test_sparse_variants_multiply_from_memory(
    target: str, register: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A multiply-add per vector of pixels whose operand is in memory; scratch begins on a cache line."""
    variants = {16: "direct", 32: "shift", 48: "pack", 64: "tile"}

    def sparse(self, shape, nonzeros, algorithm):
        tile = sparse_tiles(self.unit, shape, nonzeros, [variants[shape.c_out]])[0]
        return Implementation((PLANAR,), PLANAR, 0.0, Choice("sparse_conv", tile.knobs, tile.variant))

    monkeypatch.setattr(Rules, "sparse", sparse)
    torch.manual_seed(0)
    layers = [nn.Conv2d(c_in, c_out, 3, padding=1) for c_in, c_out in ((8, 16), (16, 32), (32, 48), (48, 64))]
    model = dlas.prune(nn.Sequential(*layers).eval(), 0.9, "layer")
    options = dlas.Options(iree_flags=(f"--iree-hal-dump-executable-intermediates-to={tmp_path}",))
    artifact = dlas.compile(model, (torch.randn(1, 8, 20, 20),), target=target, options=options)
    assembly = functions(tmp_path)
    kernels = [record for record in artifact.kernels if record.kind == "sparse"]
    assert [{"shift", "pack", "tile"} & set(record.knobs) for record in kernels] == [
        set(),
        {"shift"},
        {"pack"},
        {"tile"},
    ]
    for record in kernels:
        code = assembly[record.name]
        from_memory = rf"vfmadd\d+ps\s+[-\w]*\([^)]*\)[^%]*, %{register}\d+, %{register}"
        assert len(re.findall(from_memory, code)) >= 5, record.knobs
        assert not re.search(r"vfmadd\d+ss", code), record.knobs
        if record.knobs.get("pack"):
            assert re.search(r"andq\s+\$-64, %rsp", code)


@pytest.mark.parametrize(
    ("target", "instruction", "stack"),
    [
        ("x86_64-v3", r"prefetcht1\s", r"subq\s+\$(\d+), %rsp"),
        ("x86_64-v4", r"prefetcht1\s", r"subq\s+\$(\d+), %rsp"),
        ("cortex-a72", r"prfm\s+pldl2keep,", r"sub\s+sp, sp, #(\d+)"),
    ],
)
def test_sparse_tiles_are_prefetched(target: str, instruction: str, stack: str, tmp_path: Path) -> None:
    """An instruction per line that a row asks for, whatever the layout of the buffer, which is not copied."""
    torch.manual_seed(0)
    model = dlas.prune(nn.Sequential(nn.Conv2d(64, 32, 1), nn.Conv2d(32, 48, 3, padding=1)).eval(), 0.9, "layer")
    code = {}
    for batch, prefetch in ((1, 0), (1, 1), (2, 3)):
        script = TransformScript("__transform_main", "%module")
        knobs = {"schedule": "sparse_conv", "variant": "tile", "channels": 32, "accumulators": 4, "prefetch": prefetch}
        script.annotate(script.match_sparse("any", "linalg.conv_2d_nchw_fchw"), "dlas.knobs", knobs)
        folder = tmp_path / f"{batch}_{prefetch}"
        flags = (f"--iree-hal-dump-executable-intermediates-to={folder}",)
        options = dlas.Options(iree_flags=flags, transform_script=script)
        artifact = dlas.compile(model, (torch.randn(batch, 64, 20, 20),), target=target, options=options)
        assembly = functions(folder)
        code[batch, prefetch] = [assembly[record.name] for record in artifact.kernels if record.kind == "sparse"]
    for key, kernels in code.items():
        assert len(kernels) == 2
        for number, (kernel, before) in enumerate(zip(kernels, code[1, 0], strict=True)):
            found = len(re.findall(instruction, kernel))
            assert found == 0 if not key[1] else found >= 1, (key, number)
            frames = [sum(map(int, re.findall(stack, text))) for text in (kernel, before)]
            assert frames[0] <= frames[1] + 256, (key, number)  # the tile of the first has 8 KB at least

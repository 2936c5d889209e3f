"""Target files: what the shipped ones say, what detection reads, and what a wrong file is told."""

from __future__ import annotations

import re
from dataclasses import replace
from pathlib import Path

import pytest

from dlas.compiler.backends import rules_for
from dlas.compiler.pipeline import Options, compile_model
from dlas.compiler.targets import GpuTarget, Target, list_targets, load_target
from dlas.compiler.targets import target as target_module
from dlas.compiler.targets.detect import detect_x86
from dlas.compiler.targets.llvm import check_processor
from dlas.errors import TargetError, UsageError

VALUES = {
    "name": '"board"',
    "description": '"a board"',
    "triple": '"aarch64-linux-gnu"',
    "cpu": '"cortex-a53"',
    "features": '"+crc"',
    "simd_lanes": "4",
    "vector_registers": "32",
    "fma_units": "1",
    "fma_latency": "8",
    "l1d_kb": "32",
    "l2_kb": "512",
    "l3_kb": "0",
    "cores": "4",
    "f16": "false",
}

MATMUL = """
func.func @main(%a: tensor<8x8xf32>, %b: tensor<8x8xf32>, %c: tensor<8x8xf32>) -> tensor<8x8xf32> {
  %r = linalg.matmul ins(%a, %b : tensor<8x8xf32>, tensor<8x8xf32>) outs(%c : tensor<8x8xf32>) -> tensor<8x8xf32>
  return %r : tensor<8x8xf32>
}
"""


def write(folder: Path, **changes: str | None) -> Path:
    """A target file of VALUES with some values replaced, added, or (None) left out."""
    values = {key: value for key, value in (VALUES | changes).items() if value is not None}
    path = folder / "board.toml"
    path.write_text("".join(f"{key} = {value}\n" for key, value in values.items()), encoding="utf-8")
    return path


CPUS = ["aarch64", "cortex-a72", "cortex-a73", "x86_64", "x86_64-v3", "x86_64-v4"]
GPUS = ["cuda-sm_80", "cuda-sm_90", "vulkan-ampere", "vulkan-lavapipe", "vulkan-valhall"]


def test_the_shipped_targets():
    assert list_targets() == sorted(CPUS + GPUS)
    assert all(isinstance(load_target(name), Target) for name in CPUS)
    assert all(isinstance(load_target(name), GpuTarget) for name in GPUS)


@pytest.mark.parametrize("name", list_targets())
def test_a_shipped_target_loads_under_its_file_name(name):
    assert load_target(name).name == name


@pytest.mark.parametrize(
    ("name", "lanes", "registers"),
    [("x86_64-v3", 8, 16), ("x86_64-v4", 16, 32), ("aarch64", 4, 32), ("cortex-a72", 4, 32), ("cortex-a73", 4, 32)],
)
def test_vector_registers_of_the_fixed_targets(name, lanes, registers):
    target = load_target(name)
    assert (target.simd_lanes, target.vector_registers) == (lanes, registers)


@pytest.mark.parametrize("name", CPUS)
def test_lanes_are_the_vector_width_iree_generates_for(name):
    """IREE derives its native vector size from the same flags: schedules and code generator must agree."""
    from iree.compiler import compile_str

    target = load_target(name)
    flow = compile_str(MATMUL, extra_args=[*target.iree_flags(), "--compile-to=flow"]).decode()
    assert re.search(r"native_vector_size = (\d+)", flow)[1] == str(4 * target.simd_lanes)


def test_flags_of_a_fixed_target():
    assert load_target("cortex-a72").iree_flags() == [
        "--iree-hal-target-device=local",
        "--iree-hal-local-target-device-backends=llvm-cpu",
        "--iree-llvmcpu-target-triple=aarch64-linux-gnu",
        "--iree-llvmcpu-target-cpu=cortex-a72",
    ]


def test_the_host_is_left_to_iree(monkeypatch):
    monkeypatch.setattr(target_module, "is_x86_host", lambda: True)
    host = load_target("x86_64")
    assert host.is_host
    assert host.iree_flags()[2:] == ["--iree-llvmcpu-target-cpu=host"]


def test_x86_64_is_the_baseline_on_another_architecture(monkeypatch):
    monkeypatch.setattr(target_module, "is_x86_host", lambda: False)
    target = load_target("x86_64")
    assert (target.cpu, target.simd_lanes, target.vector_registers) == ("x86-64", 4, 16)
    assert "--iree-llvmcpu-target-cpu=x86-64" in target.iree_flags()


def test_a_file_of_the_user(tmp_path):
    target = load_target(write(tmp_path, clock_ghz="1"))
    assert target == load_target(str(tmp_path / "board.toml"))
    assert isinstance(target, Target)
    assert (target.cpu, target.l2_kb, target.clock_ghz) == ("cortex-a53", 512, 1)
    assert target.iree_flags()[-1] == "--iree-llvmcpu-target-cpu-features=+crc"
    assert target.to_dict()["vector_registers"] == 32


def test_an_unknown_name_lists_the_known_ones():
    with pytest.raises(TargetError, match=r"unknown target 'cortex-a99' \(known: aarch64, .*x86_64-v4; or a path"):
        load_target("cortex-a99")
    assert issubclass(TargetError, UsageError)


def test_names_do_not_reach_outside_the_folder():
    with pytest.raises(TargetError, match="cannot read the target file"):
        load_target("../targets/none.toml")


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"l1d_kb": "-32"}, r"l1d_kb = -32 \(must be an integer from 1 to 4096 KB\)"),
        ({"l3_kb": "-1"}, r"l3_kb = -1 \(must be an integer from 0 to \d+ KB, 0 for none\)"),
        ({"l1d_kb": "32768"}, r"l1d_kb = 32768 \(must be"),  # bytes
        ({"simd_lanes": "12"}, r"simd_lanes = 12 \(must be a power of two from 1 to 64\)"),
        ({"simd_lanes": "0"}, r"simd_lanes = 0 \(must be a power of two"),
        ({"vector_registers": "0"}, r"vector_registers = 0 \(must be an integer from 1 to 256\)"),
        ({"cores": "2.5"}, r"cores = 2\.5 \(must be an integer"),
        ({"cores": "true"}, r"cores = True \(must be an integer"),
        ({"f16": "1"}, r"f16 = 1 \(must be true or false\)"),
        ({"cpu": "72"}, r"cpu = 72 \(must be a non-empty string\)"),
        ({"triple": '""'}, r"triple = '' \(must be an LLVM triple that begins with x86_64"),
        ({"triple": '"zx81-linux-gnu"'}, r"triple = 'zx81-linux-gnu' \(must be an LLVM triple"),
        ({"features": '"crc"'}, r"features = 'crc' \(must be a comma-separated list of \+feature or -feature"),
        ({"features": '"+crc,"'}, r"features = '\+crc,' \(must be"),
        ({"clock_ghz": "1800"}, r"clock_ghz = 1800 \(must be a number above 0 and up to 20 GHz\)"),
        ({"clock_ghz": "nan"}, r"clock_ghz = nan \(must be"),
        ({"l4_kb": "1"}, r"unknown key 'l4_kb' = 1 \(known: name, .*f16\)"),
        ({"cores": None, "cpu": None}, r"missing cpu, cores \(cpu: a non-empty string\)"),
        ({"cores": ""}, r"not a TOML file: Invalid value \(at line 13"),
    ],
)
def test_an_impossible_file_is_refused(tmp_path, changes, message):
    path = write(tmp_path, **changes)
    with pytest.raises(TargetError, match=re.escape(str(path)) + ": " + message):
        load_target(path)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"cpu": '"cortex-a99"'}, "cpu = 'cortex-a99': LLVM knows no such processor of aarch64 (nearest of "),
        ({"cpu": '"haswell"'}, "cpu = 'haswell': LLVM knows no such processor of aarch64 (nearest of "),
        ({"cpu": '"help"'}, "cpu = 'help': LLVM knows no such processor of aarch64 (nearest of "),
        ({"features": '"+crc,+warp"'}, "features = '+crc,+warp': LLVM knows no feature 'warp' of aarch64 (nearest of "),
        ({"features": '"-avx2"'}, "features = '-avx2': LLVM knows no feature 'avx2' of aarch64 (nearest of "),
        ({"features": '"+help"'}, "features = '+help': LLVM knows no feature 'help' of aarch64 (nearest of "),
        (
            {"triple": '"x86_64-linux-gnu"', "cpu": '"haswell"', "features": '"-64bit"'},
            "LLVM generates no code for triple = 'x86_64-linux-gnu', cpu = 'haswell', features = '-64bit': 64-bit ",
        ),
        (
            {"cpu": '"host"', "features": '"+avx2"'},
            "features = '+avx2' with cpu = 'host' (the host's features are ",
        ),
    ],
    ids=lambda value: " ".join(f"{key}={text}" for key, text in value.items()) if isinstance(value, dict) else "",
)
def test_a_processor_that_llvm_cannot_compile_for(tmp_path, changes, message):
    path = write(tmp_path, **changes)
    with pytest.raises(TargetError, match="^" + re.escape(f"{path}: {message}")):
        load_target(path)


def test_the_nearest_names_are_shown(tmp_path):
    with pytest.raises(TargetError, match=r"\(nearest of \d{2,3}: (\S+, )*cortex-a53(,|\))"):
        load_target(write(tmp_path, cpu='"cortex-a5x"'))
    with pytest.raises(TargetError, match=r"\(nearest of \d{2,3}: (\S+, )*neon(,|\))"):
        load_target(write(tmp_path, features='"+neom"'))


@pytest.mark.parametrize("name", CPUS)
def test_llvm_compiles_for_a_shipped_target(name):
    target = load_target(name)
    check_processor(target.triple, target.cpu, target.features, target.iree_flags(), name)


def test_a_target_made_in_python_is_checked_before_it_is_compiled_for():
    target = replace(load_target("cortex-a72"), features="+warp")
    with pytest.raises(TargetError, match=r"^target cortex-a72: features = '\+warp': LLVM knows no feature 'warp'"):
        compile_model("zoo:layer", None, target, Options())


def test_a_file_that_cannot_be_read(tmp_path):
    with pytest.raises(TargetError, match="cannot read the target file: No such file"):
        load_target(tmp_path / "none.toml")
    with pytest.raises(TargetError, match="cannot read the target file: Is a directory"):
        load_target(tmp_path)
    (tmp_path / "bytes.toml").write_bytes(b"name = '\xff'\n")
    with pytest.raises(TargetError, match="not a TOML file"):
        load_target(tmp_path / "bytes.toml")


def host(root: Path, flags: str, threads: tuple[tuple[int, int], ...] = ((0, 0),)) -> Path:
    """A made-up /proc and /sys: ``threads`` gives (package, core) of each logical processor."""
    blocks = [
        f"processor\t: {n}\nmodel name\t: Test CPU\ncpu MHz\t\t: 2500.0\n"
        f"physical id\t: {package}\ncore id\t\t: {core}\nflags\t\t: {flags}\n"
        for n, (package, core) in enumerate(threads)
    ]
    (root / "proc").mkdir()
    (root / "proc" / "cpuinfo").write_text("\n".join(blocks), encoding="utf-8")
    for n, (level, kind, size) in enumerate(
        [(1, "Data", "48K"), (1, "Instruction", "32K"), (2, "Unified", "2M"), (3, "Unified", "61440K")]
    ):
        cache = root / "sys" / "devices" / "system" / "cpu" / "cpu0" / "cache" / f"index{n}"
        cache.mkdir(parents=True)
        for name, value in (("level", str(level)), ("type", kind), ("size", size)):
            (cache / name).write_text(value + "\n", encoding="utf-8")
    return root


@pytest.mark.parametrize(
    ("flags", "lanes", "registers", "f16"),
    [
        ("fpu sse2", 4, 16, False),
        ("sse2 avx2", 4, 16, False),  # no FMA
        ("sse2 avx avx2 fma", 8, 16, False),
        ("sse2 avx2 fma avx512f", 16, 32, False),
        ("sse2 avx2 fma avx512f avx512_fp16", 16, 32, True),
    ],
)
def test_detection_of_the_vector_unit(tmp_path, flags, lanes, registers, f16):
    found = detect_x86(host(tmp_path, flags))
    assert (found["simd_lanes"], found["vector_registers"], found["f16"]) == (lanes, registers, f16)


@pytest.mark.parametrize(
    ("vendor", "family", "flags", "units"),
    [
        ("AuthenticAMD", 25, "sse2 avx2 fma avx512f", 1),  # Zen 4
        ("AuthenticAMD", 25, "sse2 avx2 fma", None),  # Zen 3: the file's two
        ("AuthenticAMD", 26, "sse2 avx2 fma avx512f", None),  # Zen 5
        ("GenuineIntel", 25, "sse2 avx2 fma avx512f", None),
    ],
)
def test_detection_of_fma_units(tmp_path, vendor, family, flags, units):
    root = host(tmp_path, flags)
    cpuinfo = root / "proc" / "cpuinfo"
    made_by = f"vendor_id\t: {vendor}\ncpu family\t: {family}\n"
    cpuinfo.write_text("\n\n".join(made_by + block for block in cpuinfo.read_text().split("\n\n")))
    assert detect_x86(root).get("fma_units") == units


@pytest.mark.parametrize(
    ("flags", "units"),
    [("sse2 avx2 fma avx512f avx512vl", 2), ("sse2 avx2 fma avx512f", None), ("sse2 avx2 fma avx512vl", None)],
)
def test_detection_of_half_width_vectors(tmp_path, flags, units):
    assert detect_x86(host(tmp_path, flags)).get("narrow_fma_units") == units


def test_only_avx512_has_half_width_vectors():
    found = {name: load_target(name).narrow_fma_units for name in CPUS if name != "x86_64"}
    assert {name for name, units in found.items() if units} == {"x86_64-v4"}
    assert rules_for(load_target("x86_64-v4")).blocks == (16, 8)
    assert rules_for(load_target("x86_64-v3")).blocks == (8,)


def test_a_lane_has_no_half(tmp_path):
    file = write(tmp_path, simd_lanes="1", narrow_fma_units="1")
    with pytest.raises(
        TargetError, match="narrow_fma_units = 1 with simd_lanes = 1 .there is no vector of half a lane"
    ):
        load_target(file)


def test_detection_of_caches_clock_and_cores(tmp_path, monkeypatch):
    monkeypatch.setattr("os.sched_getaffinity", lambda pid: {0, 1, 2}, raising=False)
    found = detect_x86(host(tmp_path, "sse2", threads=((0, 0), (0, 0), (0, 1), (0, 1))))
    assert (found["l1d_kb"], found["l2_kb"], found["l3_kb"]) == (48, 2048, 61440)
    assert found["clock_ghz"] == 2.5
    assert found["cores"] == 2  # threads 0 and 1 share a core, thread 3 is not ours
    assert found["description"] == "this host (Test CPU)"


def test_the_file_stands_in_for_what_cannot_be_read(tmp_path, monkeypatch):
    monkeypatch.setattr(target_module, "is_x86_host", lambda: True)
    monkeypatch.setattr(target_module, "detect_x86", lambda: detect_x86(tmp_path))
    target = load_target("x86_64")
    assert (target.simd_lanes, target.vector_registers, target.l1d_kb, target.clock_ghz) == (4, 16, 32, None)
    assert target.cores >= 1

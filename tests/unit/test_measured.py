"""``dlas.schedules.measured``: times of an earlier ``dlas explain`` in place of estimates."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

pytest.importorskip("iree.compiler")

from dlas.errors import UsageError  # noqa: E402
from dlas.passes.conv import ConvShape  # noqa: E402
from dlas.passes.plan import Refusal  # noqa: E402
from dlas.schedules.knobs import VectorUnit  # noqa: E402
from dlas.schedules.measured import load_measurements  # noqa: E402
from dlas.schedules.rules import Rules  # noqa: E402

UNIT = VectorUnit(lanes=8, registers=16, fma_units=2)
SHAPE = ConvShape(1, 32, 32, 8, 32, 32, 32, 32, 3, 3, pads=(1, 1, 1, 1))


def explained(**changes: Any) -> dict[str, Any]:
    """What ``dlas explain --json`` says of a kernel that ran twice in 50 us, on a core of 2 GHz."""
    found = Rules(UNIT).implementations(SHAPE)
    assert not isinstance(found, Refusal)
    choice = found[0].choice
    assert choice is not None
    kernel = {
        "problem": SHAPE.problem,
        "schedule": choice.schedule,
        "knobs": dict(choice.knobs),
        "calls": 2,
        "time_us": 50.0,
    }
    untimed = {"problem": SHAPE.problem, "schedule": "w_lanes", "knobs": {}, "calls": None, "time_us": None}
    pack = {"problem": "", "schedule": "transpose", "knobs": {"ow": 8}, "calls": 1, "time_us": 9.0}
    peak = {"peak_gflops": 2 * 8 * 2 * 2.0}
    return {"target": "x86_64", "roofline": peak, "kernels": [kernel, untimed, pack], **changes}


def test_times_replace_the_estimates_of_the_same_kernel(tmp_path: Path) -> None:
    path = tmp_path / "explained.json"
    path.write_text(json.dumps(explained()))
    estimated, measured = Rules(UNIT), Rules(UNIT, measured=load_measurements(path, UNIT, "x86_64"))
    before, after = estimated.implementations(SHAPE), measured.implementations(SHAPE)
    assert not isinstance(before, Refusal) and not isinstance(after, Refusal)
    assert [way.choice for way in before] == [way.choice for way in after]
    assert after[0].cycles == pytest.approx(25e-6 * 2e9) != before[0].cycles
    assert [way.cycles for way in after[1:]] == [way.cycles for way in before[1:]]


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("{", "not JSON"),
        ("[]", "lacks what `dlas explain --json` writes"),
        (json.dumps({"target": "x86_64"}), "lacks what `dlas explain --json` writes: 'roofline'"),
        (json.dumps({"target": "aarch64", "roofline": None, "kernels": []}), "measured for target 'aarch64'"),
        (json.dumps({"target": "x86_64", "roofline": None, "kernels": []}), "no measured peak"),
        (json.dumps({"target": "x86_64", "roofline": {"peak_gflops": 9}, "kernels": []}), "has no timed convolution"),
        (json.dumps({"target": "x86_64", "roofline": {"peak_gflops": 9}, "kernels": [1]}), "lacks what"),
    ],
)
def test_files_that_do_not_fit(text: str, message: str, tmp_path: Path) -> None:
    path = tmp_path / "explained.json"
    path.write_text(text)
    with pytest.raises(UsageError, match=message) as error:
        load_measurements(path, UNIT, "x86_64")
    assert str(path) in str(error.value)


def test_a_file_that_is_not_there(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="cannot be read: No such file"):
        load_measurements(tmp_path / "none.json", UNIT, "x86_64")

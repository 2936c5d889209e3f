"""The lit suite: FileCheck on IR, for every pass and every schedule.

Runs from a CMake build folder (``check-lit``, whose lit.site.cfg.py sets ``dlas_python`` and ``dlas_exec_root``) and
as plain ``lit tests/lit`` with the environment that lit itself is installed in. lit provides ``config`` and
``lit_config``.
"""

from __future__ import annotations

import os
import shlex
import sys
from pathlib import Path

import lit.formats

source_root = Path(__file__).resolve().parent
python = Path(getattr(config, "dlas_python", sys.executable))
tools = python.parent  # not resolved: a virtual environment's python is a link out of it

config.name = "dlas"
config.test_format = lit.formats.ShTest()
config.suffixes = [".mlir", ".py", ".test"]
config.excludes = ["lit.cfg.py", "CMakeLists.txt", "Inputs", "Output", "__pycache__"]
config.test_source_root = str(source_root)
config.test_exec_root = getattr(config, "dlas_exec_root", str(source_root.parents[1] / "build" / "lit"))

# Longest names first: lit replaces in this order, and one tool's name may be the end of another's.
config.substitutions += [
    (r"\bdlas-opt\b", f"{shlex.quote(str(python))} -m dlas.compiler.cli opt"),
    (r"(?<![-\w])torch-mlir-opt\b", shlex.quote(str(tools / "torch-mlir-opt"))),
    (r"(?<![-\w])iree-opt\b", shlex.quote(str(tools / "iree-opt"))),
    (r"\bFileCheck\b", shlex.quote(str(tools / "filecheck"))),
    ("%python", shlex.quote(str(python))),
]

# A checkout that is on PYTHONPATH instead of installed is tested as it stands.
for variable in ("PYTHONPATH", "HOME", "XDG_CACHE_HOME"):
    if variable in os.environ:
        config.environment[variable] = os.environ[variable]

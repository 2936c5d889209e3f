"""Runs mypy on the package ``dlas`` as it is installed.

The package's folders lie at the top level of the checkout; the map in pyproject.toml says which becomes what. mypy
does not follow that map, so the folders are linked together under build/mypy first.
"""

from __future__ import annotations

import shutil
import subprocess
import sys
import tomllib
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]


def link_package(tree: Path) -> None:
    """Builds ``tree/dlas`` of symbolic links to the folders of the package map."""
    with (ROOT / "pyproject.toml").open("rb") as file:
        packages = tomllib.load(file)["tool"]["scikit-build"]["wheel"]["packages"]
    shutil.rmtree(tree, ignore_errors=True)
    for installed, folder in sorted(packages.items()):  # "dlas" comes before "dlas/..."
        source, link = ROOT / folder, tree / installed
        if "/" in installed:
            link.symlink_to(source, target_is_directory=True)
        else:
            link.mkdir(parents=True)
            for module in source.glob("*.py"):
                (link / module.name).symlink_to(module)


if __name__ == "__main__":
    link_package(ROOT / "build" / "mypy")
    sys.exit(subprocess.run([sys.executable, "-m", "mypy", *sys.argv[1:]], cwd=ROOT, check=False).returncode)

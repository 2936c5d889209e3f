#!/usr/bin/env bash
# Sets up a virtual environment with dlas installed in editable mode: scripts/setup.sh [FOLDER] (default .venv).
# Needs Python 3.11 or later with venv, and a package index. Every version comes from pyproject.toml.
set -euo pipefail
cd "$(dirname "$0")/.."
venv=${1:-.venv}

find_python() {
  local candidate
  for candidate in python3.11 python3 python3.12 python3.13; do
    if "$candidate" -c 'import sys, venv, ensurepip; sys.exit(sys.version_info < (3, 11))' 2>/dev/null; then
      echo "$candidate"
      return
    fi
  done
  echo "setup: no Python 3.11 or later with the venv module found (Debian: apt install python3-venv)" >&2
  return 1
}

if [ ! -x "$venv/bin/python" ]; then
  python=$(find_python)
  "$python" -m venv "$venv"
fi

# PyTorch goes first, alone and pinned: whatever else wants a torch then finds this one.
torch=$("$venv/bin/python" - <<'PY'
import tomllib

with open("pyproject.toml", "rb") as file:
    print(tomllib.load(file)["project"]["optional-dependencies"]["torch"][0])
PY
)
"$venv/bin/python" -m pip install "$torch"
"$venv/bin/python" -m pip install --editable '.[torch,peers,dev]'

#!/usr/bin/env bash
# Runs every check of `make test`, all of them even when one fails, and pytest last. Fails if any failed.
set -uo pipefail
cd "$(dirname "$0")/.."
venv=${VENV:-.venv}
bin=$venv/bin
failed=()

check() {
  local name=$1
  shift
  printf '\n== %s\n' "$name"
  "$@" || failed+=("$name")
}

check "system packages" scripts/install-test-system-packages.sh "$venv"
check ruff "$bin/ruff" check .
check mypy "$bin/python" scripts/typecheck.py
check lit "$bin/lit" -v tests/lit
check pytest "$bin/pytest"

if [ ${#failed[@]} -ne 0 ]; then
  echo "failed: ${failed[*]}" >&2
  exit 1
fi

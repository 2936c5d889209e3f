#!/usr/bin/env bash
# What the AArch64 tests need besides Python packages: scripts/install-test-system-packages.sh [VENV] (default .venv).
#
#   qemu-user-static and Debian's AArch64 libraries, by apt (as root, or by a sudo that asks for no password)
#   build/aarch64/iree-base-runtime-VERSION: the AArch64 wheel of the pinned iree-base-runtime, unpacked
#
# What is there already is left alone. Where something cannot be had, one line says so and the tests that need it are
# skipped; with DLAS_CI=1 that is a failure.
set -euo pipefail
cd "$(dirname "$0")/.."
python=${1:-.venv}/bin/python
packages=(qemu-user-static libc6-arm64-cross libstdc++6-arm64-cross libgcc-s1-arm64-cross)
libraries=/usr/aarch64-linux-gnu/lib
version=$(sed -n 's/^ *"iree-base-runtime==\([^"]*\)".*/\1/p' pyproject.toml)
runtime=build/aarch64/iree-base-runtime-$version

give_up() {
  if [ "${DLAS_CI:-}" = 1 ]; then
    echo "AArch64 tests cannot run: $1" >&2
    exit 1
  fi
  echo "AArch64 tests will be skipped: $1" >&2
  exit 0
}

has_system_packages() {
  command -v qemu-aarch64-static >/dev/null || return 1
  local library
  for library in ld-linux-aarch64.so.1 libstdc++.so.6 libgcc_s.so.1; do
    [ -e "$libraries/$library" ] || return 1
  done
}

install_system_packages() {
  local root=()
  command -v apt-get >/dev/null || give_up "no apt-get to install ${packages[*]}"
  if [ "$(id -u)" -ne 0 ]; then
    sudo -n true 2>/dev/null || give_up "neither root nor sudo without a password to apt-get install ${packages[*]}"
    root=(sudo -n)
  fi
  # An old package list names files that are gone; one that cannot be brought up to date may still do.
  "${root[@]}" apt-get -qq update >"$work/log" 2>&1 || true
  "${root[@]}" env DEBIAN_FRONTEND=noninteractive apt-get -qq -o DPkg::Lock::Timeout=300 install \
    --no-install-recommends --yes "${packages[@]}" >>"$work/log" 2>&1 \
    || give_up "apt-get install ${packages[*]}: $(grep '^E:' "$work/log" | tail -1)"
  has_system_packages || give_up "no AArch64 libraries in $libraries after apt-get install ${packages[*]}"
}

unpack_runtime() {
  "$python" -m pip download --quiet --disable-pip-version-check --no-deps --only-binary=:all: --dest "$work" \
    --platform manylinux_2_28_aarch64 "iree-base-runtime==$version" 2>"$work/log" \
    || give_up "no iree-base-runtime $version for AArch64: $(grep '^ERROR:' "$work/log" | tail -1)"
  "$python" -m zipfile -e "$work"/*.whl "$work/runtime"
  chmod +x "$work"/runtime/iree/_runtime_libs/iree-*
  rm -rf "$runtime"
  mv "$work/runtime" "$runtime"
}

has_runtime() {
  [ -x "$runtime/iree/_runtime_libs/iree-run-module" ]
}

if has_system_packages && has_runtime; then
  exit
fi
mkdir -p build/aarch64
work=$(mktemp -d build/aarch64/work.XXXXXX)
trap 'rm -rf "$work"' EXIT
has_system_packages || install_system_packages
has_runtime || unpack_runtime

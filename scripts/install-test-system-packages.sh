#!/usr/bin/env bash
# What the AArch64 and Vulkan tests need besides Python packages: scripts/install-test-system-packages.sh [VENV]
# (default .venv).
#
#   qemu-user-static and Debian's AArch64 libraries, by apt (as root, or by a sudo that asks for no password)
#   build/aarch64/iree-base-runtime-VERSION: the AArch64 wheel of the pinned iree-base-runtime, unpacked
#   the Vulkan loader and lavapipe, Mesa's Vulkan on the CPU, by apt
#
# What is there already is left alone. Where something cannot be had, one line says so and the tests that need it are
# skipped; with DLAS_CI=1 that is a failure.
set -euo pipefail
cd "$(dirname "$0")/.."
python=${1:-.venv}/bin/python
emulator=(qemu-user-static libc6-arm64-cross libstdc++6-arm64-cross libgcc-s1-arm64-cross)
libraries=/usr/aarch64-linux-gnu/lib
version=$(sed -n 's/^ *"iree-base-runtime==\([^"]*\)".*/\1/p' pyproject.toml)
runtime=build/aarch64/iree-base-runtime-$version
vulkan=(libvulkan1 mesa-vulkan-drivers)
drivers=/usr/share/vulkan/icd.d

# $tests names those that what is being installed is for.
give_up() {
  if [ "${DLAS_CI:-}" = 1 ]; then
    echo "$tests tests cannot run: $1" >&2
    exit 1
  fi
  echo "$tests tests will be skipped: $1" >&2
  exit 0
}

install_packages() {
  local root=()
  command -v apt-get >/dev/null || give_up "no apt-get to install $*"
  if [ "$(id -u)" -ne 0 ]; then
    sudo -n true 2>/dev/null || give_up "neither root nor sudo without a password to apt-get install $*"
    root=(sudo -n)
  fi
  # An old package list names files that are gone; one that cannot be brought up to date may still do.
  "${root[@]}" apt-get -qq update >"$work/log" 2>&1 || true
  "${root[@]}" env DEBIAN_FRONTEND=noninteractive apt-get -qq -o DPkg::Lock::Timeout=300 install \
    --no-install-recommends --yes "$@" >>"$work/log" 2>&1 \
    || give_up "apt-get install $*: $(grep '^E:' "$work/log" | tail -1)"
}

has_emulator() {
  command -v qemu-aarch64-static >/dev/null || return 1
  local library
  for library in ld-linux-aarch64.so.1 libstdc++.so.6 libgcc_s.so.1; do
    [ -e "$libraries/$library" ] || return 1
  done
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

install_aarch64() {
  tests=AArch64
  if ! has_emulator; then
    install_packages "${emulator[@]}"
    has_emulator || give_up "no AArch64 libraries in $libraries after apt-get install ${emulator[*]}"
  fi
  has_runtime || unpack_runtime
}

# Whether there is the loader and a driver of lavapipe's.
has_vulkan() {
  "$python" -c 'import ctypes; ctypes.CDLL("libvulkan.so.1")' 2>/dev/null || return 1
  compgen -G "$drivers/lvp_icd*.json" >/dev/null
}

install_vulkan() {
  tests=Vulkan
  if ! has_vulkan; then
    install_packages "${vulkan[@]}"
    has_vulkan || give_up "no libvulkan.so.1, or no lvp_icd*.json in $drivers, after apt-get install ${vulkan[*]}"
  fi
}

if has_emulator && has_runtime && has_vulkan; then
  exit
fi
mkdir -p build/aarch64
work=$(mktemp -d build/aarch64/work.XXXXXX)
trap 'rm -rf "$work"' EXIT
# One that gives up leaves the other to be tried. (In a condition, -e would not hold inside.)
set +e
(set -e; install_aarch64)
aarch64=$?
(set -e; install_vulkan)
exit $((aarch64 || $?))

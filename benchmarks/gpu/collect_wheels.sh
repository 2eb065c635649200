#!/usr/bin/env bash
# benchmarks/gpu/collect_wheels.sh WHEELS [PACKAGE…]
#
# Prepares offline.sh, on a machine with access to a package index: downloads wheels into the directory WHEELS,
# in the versions of constraints.txt and without dependencies. Default packages: those that a machine with
# PyTorch usually lacks, and the pinned transformers with its tokenizers.
#
# PYTHON_VERSION: Python of the GPU machine (default: 3.12), which must run Linux on x86-64.
set -euo pipefail
if [ $# -lt 1 ]; then
  sed -n '2,/^set/{/^set/d;s/^# \{0,1\}//;p}' "$0" >&2
  exit 2
fi
root=$(cd "$(dirname "$0")/../.." && pwd)
wheels=$1
shift
version=${PYTHON_VERSION:-3.12}
packages=("$@")
if [ ${#packages[@]} -eq 0 ]; then
  packages=(httptools msgspec uvicorn uvloop transformers tokenizers retrying sagemaker-inference)
fi
mkdir -p "$wheels"

# pip takes each of these literally, not as "at least"
platforms=()
for glibc in 34 31 28 27 24 17 12 5; do
  platforms+=(--platform "manylinux_2_${glibc}_x86_64")
done
platforms+=(--platform manylinux2014_x86_64 --platform manylinux2010_x86_64 --platform manylinux1_x86_64)

pinned() {
  grep -iE "^$1==" "$root/constraints.txt" || { echo "constraints.txt has no $1" >&2; return 1; }
}

download() {
  python3 -m pip download --quiet --disable-pip-version-check --no-deps --only-binary=:all: \
    --python-version "$version" --implementation cp --abi "cp${version/./}" --abi abi3 --abi none \
    "${platforms[@]}" --dest "$wheels" "$1"
}

# Some packages of pure Python have no wheel: made here, where they run on any Python
build() {
  python3 -m pip wheel --quiet --disable-pip-version-check --no-deps --wheel-dir "$wheels" "$1"
}

for package in "${packages[@]}"; do
  requirement=$(pinned "$package")
  download "$requirement" 2>/dev/null || build "$requirement"
done
du -sh "$wheels"

#!/usr/bin/env bash
# benchmarks/gpu/offline.sh WHEELS TARGET [ARGUMENT…]
#
# Runs the GPU benchmarks without network and `make`, on a machine with Python and PyTorch for CUDA.
# Installs the wheels in the directory WHEELS (see collect_wheels.sh) into the directory TARGET, which takes
# precedence over installed packages, and runs `python -m benchmarks.gpu` with the other arguments:
#
#   benchmarks/gpu/offline.sh wheels /tmp/site --seconds 480 --output /tmp/gpu-day
#
# PYTHON: the interpreter (default: python3). GPU_DAY_COMMIT: the measured commit, for a copy whose .git is missing or behind.
set -euo pipefail
if [ $# -lt 2 ]; then
  sed -n '2,/^set/{/^set/d;s/^# \{0,1\}//;p}' "$0" >&2
  exit 2
fi
python=${PYTHON:-python3}
wheels=$(realpath "$1")
target=$(realpath --canonicalize-missing "$2")
shift 2
mkdir -p "$target"
if compgen -G "$wheels/*.whl" >/dev/null; then
  "$python" -m pip install --quiet --disable-pip-version-check --no-index --no-deps --no-compile --no-cache-dir \
    --upgrade --target "$target" "$wheels"/*.whl
fi
export PYTHONPATH="$target${PYTHONPATH:+:$PYTHONPATH}"
export PYTHONUNBUFFERED=1 HF_HUB_OFFLINE=1 TRANSFORMERS_OFFLINE=1
cd "$(dirname "$0")/../.."
exec "$python" -m benchmarks.gpu "$@"

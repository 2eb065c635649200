#!/usr/bin/env bash
# Runs the image on this machine without SageMaker. Each subdirectory and .tar.gz in DIRECTORY is a model.
#
#   scripts/run_local.sh DIRECTORY [docker run options …]
#
#   IMAGE=…   image to run (default: localhost/mme:cpu, built by `make image`)
#   GPU=all   give the container all GPUs (needs the NVIDIA container toolkit and an image of FLAVOR=gpu)
#   PORT=…    port on 127.0.0.1 (default: 8080)
#
# Example request, for a model in DIRECTORY/sentiment or DIRECTORY/sentiment.tar.gz:
#
#   curl http://127.0.0.1:8080/invocations -H 'X-Amzn-SageMaker-Target-Model: sentiment' \
#     -H 'Content-Type: application/json' -d '{"inputs": "I love this little camera."}'
set -euo pipefail
[ $# -ge 1 ] || { sed -n '2,/^set/{/^set/d;s/^# \{0,1\}//;p}' "$0" >&2; exit 2; }
models=$(cd "$1" && pwd)
shift

engine=docker
docker info >/dev/null 2>&1 || engine=podman

options=(
  --rm --interactive               # run in the foreground, and remove the container on Ctrl-C
  --publish "127.0.0.1:${PORT:-8080}:8080"
  --volume "$models:/opt/ml/model:ro" # directory of the model of a single-model endpoint
  --read-only --tmpfs /tmp:exec    # only /tmp is writable: archives are unpacked there
  --shm-size 1g                    # shared memory for PyTorch; the default is 64 MB
)
[ -z "${GPU:-}" ] || options+=(--gpus "$GPU")

exec "$engine" run "${options[@]}" "$@" "${IMAGE:-localhost/mme:cpu}" serve

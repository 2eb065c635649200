#!/usr/bin/env bash
# The image on this machine, without the platform: every directory and .tar.gz below a directory is a model.
#
#   scripts/run_local.sh DIRECTORY [docker run options …]
#
#   IMAGE=…   which image (default localhost/mme:cpu, what `make image` builds)
#   GPU=all   give it the GPUs (needs the NVIDIA container toolkit and an image of FLAVOR=gpu)
#   PORT=…    where it listens on this machine (default 8080)
#
# Then, for a model in DIRECTORY/sentiment or DIRECTORY/sentiment.tar.gz:
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
  --rm --interactive               # in the foreground, gone with ^C
  --publish "127.0.0.1:${PORT:-8080}:8080"
  --volume "$models:/opt/ml/model:ro" # where SageMaker puts the one model of an ordinary endpoint
  --read-only --tmpfs /tmp:exec    # as strict as it gets: archives are unpacked into /tmp
  --shm-size 1g                    # PyTorch's workers share memory; the default is 64 MB
)
[ -z "${GPU:-}" ] || options+=(--gpus "$GPU")

exec "$engine" run "${options[@]}" "$@" "${IMAGE:-localhost/mme:cpu}" serve

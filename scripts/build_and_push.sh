#!/usr/bin/env bash
# Builds the image and pushes it to ECR, tagged with its commit and its version.
#
#   scripts/build_and_push.sh [cpu|gpu]      (default: cpu)
#
#   IMAGE=…       push this image, built earlier with image/build.sh, instead of building one
#   REPOSITORY=…  repository name (default: mme); created in ECR if it does not exist
#   REGISTRY=…    host:port of another registry than ECR; log in to it first. No AWS API is called.
#
# Account and region come from the usual AWS settings of boto3, including AWS_ENDPOINT_URL. The last line
# of the output is the image URI for `deploy.py --image`. The script can be run again: existing tags in ECR
# are neither pushed again nor moved.
set -euo pipefail
cd "$(dirname "$0")/.."

usage() { sed -n '2,/^set/{/^set/d;s/^# \{0,1\}//;p}' scripts/build_and_push.sh; }
fail() { echo "build_and_push.sh: $*" >&2; exit 1; }

case ${1:-cpu} in
  cpu | gpu) flavor=${1:-cpu} ;;
  -h | --help) usage; exit ;;
  *) usage >&2; exit 2 ;;
esac
[ $# -le 1 ] || { usage >&2; exit 2; }

python=${PYTHON:-.venv/bin/python}
command -v "$python" >/dev/null || python=python3
ecr() { "$python" scripts/ecr.py "$@"; }

# Check what can fail before the build, which takes minutes

if [ -z "${IMAGE:-}" ]; then
  changes=$(git status --porcelain)
  [ -z "$changes" ] || fail "a tag names a commit, and these files are not committed:"$'\n'"$changes"
fi
name=${REPOSITORY:-mme}
taken=
if [ -n "${REGISTRY:-}" ]; then
  uri=$REGISTRY/$name
else
  uri=$(ecr repository "$name")
  taken=$(ecr tags "$name")
fi

image=${IMAGE:-localhost/mme:$flavor}
[ -n "${IMAGE:-}" ] || IMAGE=$image image/build.sh "$flavor"

engine=docker
docker info >/dev/null 2>&1 || engine=podman
command -v "$engine" >/dev/null || fail "there is neither a Docker engine nor podman"
export CONTAINERS_CONF=${CONTAINERS_CONF:-$PWD/image/containers.conf}

# Read commit, version and flavor from the labels of the image

label() { "$engine" image inspect --format "{{index .Config.Labels \"$1\"}}" "$image"; }

revision=$(label org.opencontainers.image.revision)
version=$(label org.opencontainers.image.version)
cuda=$(label com.amazonaws.sagemaker.inference.cuda.verified_versions)
[[ $revision =~ ^[0-9a-f]{40}$ ]] || fail "$image is of no commit (revision '$revision'): build it from a clean tree"
[ -n "$version" ] || fail "$image has no version: build it with image/build.sh"
[ "$cuda" = none ] && flavor=cpu || flavor=gpu

# Push it

options=(--quiet)
if [ "$engine" = podman ]; then
  options+=(--format v2s2) # SageMaker refuses OCI manifests
  # Docker allows HTTP on the loopback interface by default; podman needs an option
  [[ ! $uri =~ ^(127\.|localhost[:/]) ]] || options+=(--tls-verify=false)
fi

push() {
  if grep -qxF "$1" <<<"$taken"; then
    echo "kept $uri:$1, which is there and does not move"
  else
    "$engine" tag "$image" "$uri:$1"
    "$engine" push "${options[@]}" "$uri:$1"
    echo "pushed $uri:$1"
  fi
}

[ -n "${REGISTRY:-}" ] || ecr password | "$engine" login --username AWS --password-stdin "${uri%%/*}"
push "${revision:0:12}-$flavor"
push "$version-$flavor"
echo "$uri:${revision:0:12}-$flavor"

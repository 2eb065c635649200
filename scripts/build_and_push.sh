#!/usr/bin/env bash
# Builds the image, or takes one that is built, and pushes it to ECR under its commit and its version.
#
#   scripts/build_and_push.sh [cpu|gpu]
#
#   IMAGE=…       push this image of image/build.sh instead of building one
#   REPOSITORY=…  its name in the registry (default mme); ECR gets it when it is missing
#   REGISTRY=…    host:port of a registry that is not ECR; AWS is not asked, and logging in is yours
#
# Account and region are what boto3 finds, AWS_ENDPOINT_URL included. The last line printed is what
# `deploy.py --image` takes. It can be run again: a tag that ECR has is not pushed twice and never moves.
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

# What would fail is asked before the minutes that a build takes

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

# The image says itself what it is

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
  # As docker treats the loopback by itself
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

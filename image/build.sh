#!/usr/bin/env bash
# Builds the image with whatever can build images here.
#
#   image/build.sh [cpu|gpu]
#
# IMAGE=name:tag, FRONT=multi-model-server and BASE_IMAGE=… are taken from the environment. With a Docker
# engine it is `docker build`. Without one, as root on Debian: buildah, over a Debian base that mmdebstrap
# makes, so that no registry is asked for anything. PIP_CONFIG_FILE, or the machine's pip settings, say where wheels come from; the CPU build
# of PyTorch needs an index that has it (https://pytorch.org/get-started).
set -euo pipefail
cd "$(dirname "$0")/.."
flavor=${1:-cpu}
image=${IMAGE:-localhost/mme:$flavor}
scratch=$(mktemp -d)
trap 'rm -rf "$scratch"' EXIT

# What pip is set to here, for the build alone: a secret leaves nothing in the image.
python3 -m pip config list | python3 -c '
import ast, sys
pairs = (line.strip().partition("=") for line in sys.stdin)  # the environment comes last and wins
settings = {key.rpartition(".")[2].strip("."): ast.literal_eval(value) for key, _, value in pairs}
print("[global]", *(f"{key} = {value}" for key, value in settings.items()), sep="\n")
' >"$scratch/pip.conf"

revision=$(git rev-parse HEAD 2>/dev/null || echo unknown)
[ -z "$(git status --porcelain 2>/dev/null)" ] || revision+=-dirty

arguments=(
  --build-arg "FLAVOR=$flavor"
  --build-arg "FRONT=${FRONT:-uvicorn}"
  --build-arg "VERSION=$(sed -n 's/^version = "\(.*\)"/\1/p' pyproject.toml)"
  --build-arg "CUDA=$([ "$flavor" = gpu ] && echo 13.0 || echo none)"
  # As a label and no argument: a new commit with the same files is the same image but for its name
  --label "org.opencontainers.image.revision=$revision"
  --secret "id=pip,src=$scratch/pip.conf"
  --tag "$image"
)

with_docker() {
  # An attestation would make the image an OCI index, which SageMaker refuses
  export DOCKER_BUILDKIT=1 BUILDX_NO_DEFAULT_ATTESTATIONS=1
  docker build "${arguments[@]}" ${BASE_IMAGE:+--build-arg "BASE_IMAGE=$BASE_IMAGE"} .
}

tools=(buildah podman runc mmdebstrap eatmydata)

with_buildah() {
  for tool in "${tools[@]}"; do
    command -v "$tool" >/dev/null || { install_tools; break; }
  done
  export CONTAINERS_CONF=$PWD/image/containers.conf
  # shellcheck disable=SC2046  # the mounts are words
  buildah bud --pull-never --isolation chroot --network host --format docker --layers \
    --build-arg "BASE_IMAGE=${BASE_IMAGE:-$(debian_base)}" "${arguments[@]}" $(mounts) .
}

install_tools() {
  [ "$(id -u)" = 0 ] || { echo "there is no Docker engine, and only root can install buildah" >&2; exit 1; }
  apt-get update --quiet --quiet
  apt-get install --yes --quiet --quiet --no-install-recommends "${tools[@]}"
}

# Debian with Python, once per list of packages.
debian_base() {
  local packages=ca-certificates,python3,python3-venv base=localhost/debian-python:bookworm
  if ! podman image exists "$base"; then
    eatmydata mmdebstrap --mode=root --variant=minbase --quiet \
      --dpkgopt='path-exclude=/usr/share/doc/*' --dpkgopt='path-exclude=/usr/share/man/*' \
      --dpkgopt='path-exclude=/usr/share/locale/*' --include="$packages" bookworm "$scratch/base.tar" >&2
    podman import --quiet "$scratch/base.tar" "$base" >&2
  fi
  echo "$base"
}

# Directories that pip's settings speak of, as this machine has them; an index's files lie beside its pages.
mounts() {
  {
    grep -oE 'file:///[^ ]+' "$scratch/pip.conf" | sed 's,^file://,,' | xargs -r -n1 dirname
    grep -oE '(= | )/[^ ]+' "$scratch/pip.conf" | tr -d '= '
  } | sort -u | while read -r path; do
    if [ -e "$path" ]; then echo "--volume $path:$path:ro"; fi
  done
}

if docker info >/dev/null 2>&1; then with_docker; else with_buildah; fi
echo "built $image"

#!/usr/bin/env bash
# Builds the image, with or without a Docker engine.
#
#   image/build.sh [cpu|gpu]      (default: cpu)
#
#   IMAGE=…                   name and tag of the image (default: localhost/mme:cpu or localhost/mme:gpu)
#   FRONT=multi-model-server  add multi-model-server and Java
#   BASE_IMAGE=…              base image with Python
#
# With a Docker engine the script runs `docker build`. Without one it must run as root on Debian: it installs buildah and
# uses a Debian base image made by mmdebstrap, so that no image registry is needed. Wheels come from the package index in
# pip's settings (PIP_CONFIG_FILE and others); for the CPU image the index must have PyTorch's CPU build
# (https://pytorch.org/get-started).
set -euo pipefail
cd "$(dirname "$0")/.."
flavor=${1:-cpu}
image=${IMAGE:-localhost/mme:$flavor}
scratch=$(mktemp -d)
trap 'rm -rf "$scratch"' EXIT

# pip's settings, passed to the build as a secret, which is not stored in the image
python3 -m pip config list | python3 -c '
import ast, sys
pairs = (line.strip().partition("=") for line in sys.stdin)  # environment variables come last and take precedence
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
  # A label, not a build argument: a new commit with the same files reuses all cached layers
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
  # shellcheck disable=SC2046  # each word of the output is one argument
  buildah bud --pull-never --isolation chroot --network host --format docker --layers \
    --build-arg "BASE_IMAGE=${BASE_IMAGE:-$(debian_base)}" "${arguments[@]}" $(mounts) .
}

install_tools() {
  [ "$(id -u)" = 0 ] || { echo "there is no Docker engine, and only root can install buildah" >&2; exit 1; }
  apt-get update --quiet --quiet
  apt-get install --yes --quiet --quiet --no-install-recommends "${tools[@]}"
}

# Create a base image of Debian with Python, unless it exists. Prints its name.
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

# Mount options for the local directories in pip's settings, such as a package index on disk.
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

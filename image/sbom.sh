#!/usr/bin/env bash
# Prints the image's Python packages as CycloneDX 1.6 in JSON, with cyclonedx-py (from PATH).
#
# They are the packages of requirements.lock with the hashes of their files, and PyTorch in the version of
# constraints.txt, without hashes, because its file differs by flavor and index. cyclonedx-py has no option to describe
# the whole as a container, and it puts the line of the lock file into each description: sed corrects both.
set -euo pipefail
cd "$(dirname "$0")/.."
{ cat image/requirements.lock; grep '^torch==' constraints.txt; } |
  PYTHONWARNINGS=ignore cyclonedx-py requirements - --pyproject pyproject.toml |
  sed -e '/"bom-ref": "root-component"/,/"type"/s/"application"/"container"/' -e '/"description": "requirements line /d'

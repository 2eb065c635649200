#!/usr/bin/env bash
# Prints what Python packages the image holds, as CycloneDX 1.6 in JSON, by cyclonedx-py, which is on PATH.
#
# They are those of requirements.lock with the hashes of their files, and PyTorch in the version of constraints.txt,
# whose file and CUDA libraries differ by flavor and index. cyclonedx-py has no option for a container as the whole,
# and describes each package by its line of the lock, hashes included: sed mends both.
set -euo pipefail
cd "$(dirname "$0")/.."
{ cat image/requirements.lock; grep '^torch==' constraints.txt; } |
  PYTHONWARNINGS=ignore cyclonedx-py requirements - --pyproject pyproject.toml |
  sed -e '/"bom-ref": "root-component"/,/"type"/s/"application"/"container"/' -e '/"description": "requirements line /d'

"""What the front learns of an artifact before its load, and how that travels from the process that reads
it."""

import dataclasses
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import msgspec

from model_handler.artifacts import artifact, content
from model_handler.artifacts.artifact import Artifact


def read(
    url: str, roots: Sequence[str], *, default_task: str | None, dtype: str, device: str
) -> Artifact:
    """The artifact that a load's url names, with its digest. Raises as `locate` and `inspect` do."""
    path = artifact.locate(url, [Path(root) for root in roots])
    found = artifact.inspect(path, default_task=default_task, dtype=dtype, device=device)
    if found.isolated:
        return found
    digest = content.digest(found.path, found.convention, found.task, found.dtype)
    return dataclasses.replace(found, digest=digest)


def to_wire(found: Artifact) -> dict[str, Any]:
    """Values that MessagePack knows."""
    fields: dict[str, Any] = msgspec.to_builtins(found, enc_hook=str)
    return fields


def from_wire(fields: dict[str, Any]) -> Artifact:
    """Raises msgspec.ValidationError for anything that `to_wire` does not return."""
    return msgspec.convert(fields, Artifact, dec_hook=lambda kind, value: kind(value))

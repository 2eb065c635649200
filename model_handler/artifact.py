"""The files of one model on disk, read-only: where they are and what they say before they are read.

Everything here touches the file system and belongs off the event loop.
"""

import json
import logging
import os
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from model_handler import properties, tasks, weights
from model_handler.errors import ArtifactNotFound, InvalidRequest, ModelLoadFailed
from model_handler.properties import Properties

log = logging.getLogger(__name__)
MAX_JSON_NBYTES = 16 << 20  # parsed by the process that answers /ping
WEIGHTS = (
    "model.safetensors",
    "model.safetensors.index.json",
    "pytorch_model.bin",
    "pytorch_model.bin.index.json",
)


@dataclass(frozen=True, slots=True)
class Artifact:
    """What a load needs to know. `nbytes`: weights on the device, in the dtype they will run in."""

    path: Path
    task: str
    dtype: str
    nbytes: int
    properties: Properties


def locate(url: str, roots: Sequence[Path]) -> Path:
    """The directory a load's url names. Raises InvalidRequest off the roots, ArtifactNotFound."""
    if not url.startswith("/") or "\0" in url:
        raise InvalidRequest("url must be an absolute path here: the platform downloads, we load")
    path = Path(os.path.realpath(url))
    if not any(path.is_relative_to(os.path.realpath(root)) for root in roots):
        allowed = ", ".join(map(str, roots))
        raise InvalidRequest(
            f"url lies outside the directories models may be loaded from: {allowed}"
        )
    if path.is_file():
        raise ArtifactNotFound(f"{url} is a file: a model is loaded from its unpacked directory")
    if not path.is_dir():
        raise ArtifactNotFound(f"no directory at {url}")
    return path


def inspect(path: Path, *, default_task: str | None, dtype: str, device: str) -> Artifact:
    """Read the artifact's settings, config and weight headers. Raises ModelLoadFailed."""
    try:
        root = _root(path)
        settings = properties.read(root)
        config = _config(root)
        run_dtype = _run_dtype(settings.dtype or dtype, device)
        nbytes = weights.nbytes(_weight_files(root), run_dtype)
    except OSError as error:
        raise ModelLoadFailed(f"the artifact cannot be read: {error.strerror}") from error
    _mention_code(root)
    task = settings.task or default_task
    return Artifact(
        path=root,
        task=tasks.normalise(task) if task else tasks.infer(config),
        dtype=run_dtype or "auto",
        nbytes=nbytes,
        properties=settings,
    )


def _root(path: Path) -> Path:
    """The artifact itself, or the single directory that an archive was packed with around it."""
    entries = [entry for entry in path.iterdir() if not entry.name.startswith(".")]
    if len(entries) != 1 or not entries[0].is_dir() or entries[0].name == "code":
        return path
    if not entries[0].resolve().is_relative_to(path):
        raise ModelLoadFailed(f"{entries[0].name} is a link that leads out of the artifact")
    return entries[0]


def _mention_code(root: Path) -> None:
    """Whoever brings code expects it to run."""
    for name in ("code/inference.py", "handler.py"):
        if (root / name).exists():
            log.warning("code is not run", extra={"artifact": str(root), "file": name})


def _config(root: Path) -> dict[str, Any]:
    file = root / "config.json"
    if not file.is_file():
        raise ModelLoadFailed("config.json is missing: not a Hugging Face model directory")
    return _json_object(file)


def _json_object(file: Path) -> dict[str, Any]:
    if file.stat().st_size > MAX_JSON_NBYTES:
        raise ModelLoadFailed(f"{file.name} is too large to be one")
    try:
        value = json.loads(file.read_bytes())
    except (ValueError, RecursionError) as error:
        raise ModelLoadFailed(f"{file.name} is not JSON: {error}") from error
    if not isinstance(value, dict):
        raise ModelLoadFailed(f"{file.name} must hold an object")
    return value


def _run_dtype(dtype: str, device: str) -> str | None:
    """None: each tensor stays as it is stored."""
    if dtype != "auto":
        return dtype
    return "float32" if device == "cpu" else None


def _weight_files(root: Path) -> list[Path]:
    for name in WEIGHTS:
        if (root / name).is_file():
            return _shards(root / name) if name.endswith(".json") else [root / name]
    raise ModelLoadFailed(f"no weights: none of {', '.join(WEIGHTS)}")


def _shards(index: Path) -> list[Path]:
    weight_map = _json_object(index).get("weight_map")
    if not isinstance(weight_map, dict):
        raise ModelLoadFailed(f"{index.name} has no weight_map")
    shards = [index.parent / str(name) for name in sorted({*map(str, weight_map.values())})]
    for shard in shards:
        if shard.parent != index.parent or not shard.is_file():
            raise ModelLoadFailed(f"{index.name} names {shard.name}, which is missing")
    return shards

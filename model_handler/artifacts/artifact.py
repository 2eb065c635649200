"""The files of one model on disk, which are only read: their location, and their metadata before a load.

Everything here blocks on the file system: never call it on the event loop.
"""

import json
import os
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from model_handler.artifacts import conventions, properties, tasks, weights
from model_handler.artifacts.conventions import ON_CPU, SCRIPTED, Convention
from model_handler.artifacts.properties import Properties
from model_handler.errors import ArtifactNotFound, InvalidRequest, ModelLoadFailed

MAX_JSON_NBYTES = 16 << 20  # the front process, which answers /ping, parses it
WEIGHTS = (
    "model.safetensors",
    "model.safetensors.index.json",
    "pytorch_model.bin",
    "pytorch_model.bin.index.json",
)


@dataclass(frozen=True, slots=True)
class Artifact:
    """Properties of an artifact that a load needs.

    `nbytes`: size of the weights on the device, in the dtype they will run in. For conventions other than
    Hugging Face it is an estimate; the measurement after the load corrects it. `task` is empty where the
    convention has none.
    """

    path: Path
    convention: Convention
    task: str
    dtype: str
    nbytes: int
    properties: Properties

    @property
    def isolated(self) -> bool:
        """The artifact contains code, which runs in a process separate from the device worker."""
        return self.convention in SCRIPTED

    @property
    def on_cpu(self) -> bool:
        """The model computes on the CPU, also on a machine with a GPU."""
        return self.convention in ON_CPU


def locate(url: str, roots: Sequence[Path]) -> Path:
    """The directory that a load's url names.

    Raises InvalidRequest for a url outside the roots, ArtifactNotFound where there is no directory.
    """
    if not url.startswith("/") or "\0" in url:
        raise InvalidRequest(
            "url must be an absolute path: downloading models is left to the platform"
        )
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
        convention = settings.convention or conventions.detect(root)
        run_dtype = _run_dtype(settings.dtype or dtype, device)
        task = settings.task or default_task
        if convention is Convention.HUGGING_FACE:
            config = _config(root)
            task = tasks.normalise(task) if task else tasks.infer(config)
            nbytes = weights.nbytes(_weight_files(root), run_dtype)
        else:
            nbytes = _hinted(settings, device) or _files_nbytes(root)
    except OSError as error:
        raise ModelLoadFailed(f"the artifact cannot be read: {error.strerror}") from error
    return Artifact(root, convention, task or "", run_dtype or "auto", nbytes, settings)


def _hinted(settings: Properties, device: str) -> int | None:
    """The memory that the artifact declares in serving.properties, under the names DJL Serving uses."""
    if device == "cpu":
        return settings.required_memory_nbytes
    return settings.gpu_required_memory_nbytes


def _files_nbytes(root: Path) -> int:
    """The size on disk: an estimate for formats without headers."""
    files = (Path(directory) / name for directory, _, names in os.walk(root) for name in names)
    return sum(file.stat().st_size for file in files)


def _root(path: Path) -> Path:
    """`path`, or its only subdirectory where the archive was packed with a top-level directory."""
    entries = [entry for entry in path.iterdir() if not entry.name.startswith(".")]
    if len(entries) != 1 or not entries[0].is_dir() or entries[0].name == "code":
        return path
    if not entries[0].resolve().is_relative_to(path):
        raise ModelLoadFailed(f"{entries[0].name} is a link that leads out of the artifact")
    return entries[0]


def _config(root: Path) -> dict[str, Any]:
    file = root / "config.json"
    if not file.is_file():
        raise ModelLoadFailed("config.json is missing: not a Hugging Face model directory")
    return _json_object(file)


def _json_object(file: Path) -> dict[str, Any]:
    if file.stat().st_size > MAX_JSON_NBYTES:
        raise ModelLoadFailed(f"{file.name} is larger than {MAX_JSON_NBYTES} bytes")
    try:
        value = json.loads(file.read_bytes())
    except (ValueError, RecursionError) as error:
        raise ModelLoadFailed(f"{file.name} is not JSON: {error}") from error
    if not isinstance(value, dict):
        raise ModelLoadFailed(f"{file.name} must hold an object")
    return value


def _run_dtype(dtype: str, device: str) -> str | None:
    """None: each tensor keeps the dtype it is stored in."""
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

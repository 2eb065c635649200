"""The files of one model on disk, which are only read: their location, and their metadata before a load.

Everything here blocks on the file system: never call it on the event loop.
"""

import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from model_handler.artifacts import (
    config_limits,
    conventions,
    documents,
    files,
    properties,
    tasks,
    weights,
)
from model_handler.artifacts.conventions import ON_CPU, SCRIPTED, Convention
from model_handler.artifacts.properties import Properties
from model_handler.errors import ArtifactNotFound, InvalidRequest, ModelLoadFailed


@dataclass(frozen=True, slots=True)
class Artifact:
    """Properties of an artifact that a load needs.

    `nbytes`: size of the weights on the device, in the dtype they will run in. For conventions other than
    Hugging Face it is an estimate; the measurement after the load corrects it. `task` is empty where the
    convention has none. `digest`: see `content`; empty for artifacts with code, and where none was computed.
    """

    path: Path
    convention: Convention
    task: str
    dtype: str
    nbytes: int
    properties: Properties
    digest: str = ""

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
        sizes = files.sizes(root)
        settings = properties.read(root)
        convention = settings.convention or conventions.detect(root)
        run_dtype = _run_dtype(settings.dtype or dtype, device)
        task = settings.task or default_task
        if convention is Convention.HUGGING_FACE:
            config = read_config(root, sizes)
            task = tasks.normalise(task) if task else tasks.infer(config)
            nbytes = weights.nbytes(weights.files(root), run_dtype)
        else:
            nbytes = _hinted(settings, device) or sum(sizes.values())
    except OSError as error:
        raise ModelLoadFailed(f"the artifact cannot be read: {error.strerror}") from error
    return Artifact(root, convention, task or "", run_dtype or "auto", nbytes, settings)


def _hinted(settings: Properties, device: str) -> int | None:
    """The memory that the artifact declares in serving.properties, under the names DJL Serving uses."""
    if device == "cpu":
        return settings.required_memory_nbytes
    return settings.gpu_required_memory_nbytes


def _root(path: Path) -> Path:
    """`path`, or its only subdirectory where the archive was packed with a top-level directory."""
    entries = [entry for entry in path.iterdir() if not entry.name.startswith(".")]
    if len(entries) != 1 or not entries[0].is_dir() or entries[0].name == "code":
        return path
    if not entries[0].resolve().is_relative_to(path):
        raise ModelLoadFailed(f"{entries[0].name} is a link that leads out of the artifact")
    return entries[0]


def read_config(root: Path, sizes: Mapping[str, int]) -> dict[str, Any]:
    """The config.json of a Hugging Face artifact. `sizes`: of its files.

    Raises ModelLoadFailed, also where another file is beyond the limits of its kind, or a number in
    config.json beyond what the weights allow.
    """
    if "config.json" not in sizes:
        raise ModelLoadFailed("config.json is missing: not a Hugging Face model directory")
    files.check_limits(sizes)
    for name in sizes.keys() & files.CONFIGS.keys():
        documents.check(documents.octets(root / name, documents.CONFIG_NBYTES), name)
    config = documents.read(root / "config.json")
    config_limits.check(config, weights.files(root))
    return config


def _run_dtype(dtype: str, device: str) -> str | None:
    """None: each tensor keeps the dtype it is stored in."""
    if dtype != "auto":
        return dtype
    return "float32" if device == "cpu" else None

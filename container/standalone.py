"""Stand-alone mode: loads all artifacts in a directory, and selects a model for each request.

Invariant: a load that fails does not affect other models; `/ping` is 503 until all loads have ended.
"""

import asyncio
import logging
import os
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Self

import msgspec

from container import archive
from container.archive import ArchiveRefused
from container.engine import EngineInterface
from container.http import names
from container.selection import available, only_model
from model_handler.errors import EngineError, InvalidRequest, ModelNotFound

log = logging.getLogger(__name__)
SUFFIXES = (".tar.gz", ".tgz")
MARKERS = ("config.json", "code", "handler.py", "serving.properties")
MODEL_ID = "model_id"

_objects = msgspec.json.Decoder(dict[str, msgspec.Raw])
_json = msgspec.json.Encoder()


class FoundArtifact(msgspec.Struct, frozen=True):
    """`target`: file name, which the Target-Model header may contain instead of `name`."""

    name: str
    path: Path
    target: str

    @property
    def packed(self) -> bool:
        return self.path.name.endswith(SUFFIXES)


def find(directory: Path) -> list[FoundArtifact]:
    """The artifacts in a directory, or the directory itself if it is one. Sorted; names are unique."""
    if not directory.is_dir():
        log.error(
            "model directory not found", extra={"setting": "MME_MODEL_DIR", "path": directory}
        )
        return []
    if any((directory / marker).exists() for marker in MARKERS):
        return [_found(directory)]
    chosen: dict[str, FoundArtifact] = {}
    # Directories first: an archive next to its unpacked directory is skipped.
    for path in sorted(_candidates(directory), key=lambda path: (path.is_file(), path.name)):
        found = _found(path)
        if found.name in chosen:
            log.warning(
                "artifact skipped", extra={"path": path, "reason": "another artifact has this name"}
            )
        else:
            chosen[found.name] = found
    return [chosen[name] for name in sorted(chosen)]


def _candidates(directory: Path) -> Iterator[Path]:
    for path in directory.iterdir():
        if path.name.startswith(".") or path.name == "lost+found":
            continue
        if path.is_dir() or (path.is_file() and path.name.endswith(SUFFIXES)):
            yield path
        else:
            reason = f"neither a directory nor {' nor '.join(SUFFIXES)}"
            log.warning("artifact skipped", extra={"path": path, "reason": reason})


def _found(path: Path) -> FoundArtifact:
    for suffix in SUFFIXES:
        if path.name.endswith(suffix) and path.is_file():
            return FoundArtifact(path.name.removesuffix(suffix), path, path.name)
    return FoundArtifact(path.name, path, f"{path.name}{SUFFIXES[0]}")


class StandaloneModels:
    """Loads models when entered; removes unpacked archives at exit, with the scratch directory if it is
    new."""

    def __init__(self, engine: EngineInterface, directory: Path, scratch: Path) -> None:
        self._engine = engine
        self._directory = directory
        self._scratch = scratch
        self._made: list[Path] = []  # directories, inner ones last
        self._loading: asyncio.Task[None] | None = None

    # ---- start and end ----

    async def __aenter__(self) -> Self:
        """Returns at once: models are loaded in the background."""
        self._loading = asyncio.create_task(self._load_all())
        return self

    async def __aexit__(self, *_: object) -> None:
        if self._loading is not None:
            self._loading.cancel()
            await asyncio.wait([self._loading])
        for path in reversed(self._made):
            shutil.rmtree(path, ignore_errors=True)

    async def _load_all(self) -> None:
        artifacts = await asyncio.to_thread(find, self._directory)
        for found in artifacts:
            try:
                await self._load(found)
            except Exception:  # a defect must cost one artifact, not those after it
                log.exception(
                    "artifact not served", extra={"model": found.name, "path": found.path}
                )
        log.info(
            "all artifacts loaded or refused",
            extra={"found": len(artifacts), "loaded": self._count()},
        )

    def _count(self) -> int:
        return len(self._engine.models())

    async def _load(self, found: FoundArtifact) -> None:
        try:
            path = await self._unpacked(found)
            await self._engine.load(names.check(found.name), str(path), target=found.target)
        except (EngineError, ArchiveRefused, OSError) as error:
            extra = {"model": found.name, "path": found.path, "reason": str(error)}
            log.error("artifact not served", extra=extra)

    async def _unpacked(self, found: FoundArtifact) -> Path:
        if not found.packed:
            return found.path
        path = self._scratch / found.name
        if not self._scratch.exists():
            self._made.append(self._scratch)
        self._made.append(path)
        await asyncio.to_thread(unpack_into_scratch, found.path, path, self._scratch)
        return path

    # ---- selection ----

    def health(self) -> str | None:
        if self._loading is None or not self._loading.done():
            return "models are being loaded"
        return None if self._engine.models() else f"no model in {self._directory} could be loaded"

    def select(self, target: str | None, body: bytes) -> tuple[str, bytes]:
        """Select by the Target-Model header, else by "model_id" in a JSON body, else the only model."""
        if target is not None:
            return self._resolve(target), body
        wanted, body = pop_model_id(body)
        return (only_model(self._engine) if wanted is None else self._resolve(wanted)), body

    def _resolve(self, target: str) -> str:
        try:
            return self._engine.resolve(target)
        except ModelNotFound as error:
            raise ModelNotFound(f"{error}; {available(self._engine)}") from None


def unpack_into_scratch(source: Path, into: Path, scratch: Path) -> None:
    """Blocks the thread. Raises ArchiveRefused if the scratch directory belongs to another user, who could
    replace the unpacked files."""
    scratch.mkdir(mode=0o700, parents=True, exist_ok=True)
    if scratch.is_symlink() or scratch.stat().st_uid != os.geteuid():
        raise ArchiveRefused(f"{scratch} is a link or belongs to another user")
    shutil.rmtree(into, ignore_errors=True)
    archive.unpack_apart(source, into)


def pop_model_id(body: bytes) -> tuple[str | None, bytes]:
    """The "model_id" of a JSON object, and the object without it; all other values keep their bytes."""
    if b'"model_id"' not in body:
        return None, body
    try:
        document = _objects.decode(body)
    except (msgspec.MsgspecError, UnicodeError, RecursionError):
        return None, body  # not a JSON object: the model decides whether to accept it
    raw = document.pop(MODEL_ID, None)
    if raw is None:
        return None, body
    return _model_id(raw), _json.encode(document)


def _model_id(raw: msgspec.Raw) -> str:
    try:
        return msgspec.json.decode(raw, type=str)
    except msgspec.MsgspecError:
        raise InvalidRequest(f"{MODEL_ID} must be a string") from None

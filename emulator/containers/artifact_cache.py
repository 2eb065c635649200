"""The disk cache of one instance: artifacts from S3, extracted to `<root>/<model name>/model`.

Invariant: the artifacts never exceed the budget, and an artifact in use is never removed.
"""

import asyncio
import secrets
import shutil
import time
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from pathlib import Path

from emulator.containers.archive import ArchiveTooLarge, BadArchive, extract, measure
from emulator.containers.s3 import DownloadFailed, S3Downloader, S3Location
from emulator.invocation_errors import invalid


@dataclass(frozen=True, slots=True)
class FetchedArtifact:
    """`download_s` is None for a cache hit."""

    directory: Path
    download_s: float | None = None


class ArtifactCache:
    """`in_use(name)` protects an artifact. `free()` takes one more out of use, False if none is left."""

    def __init__(
        self,
        downloader: S3Downloader,
        root: Path,
        budget_nbytes: int,
        *,
        in_use: Callable[[str], bool],
        free: Callable[[], Awaitable[bool]],
    ) -> None:
        self._downloader = downloader
        self._root = root
        self._budget = budget_nbytes
        self._in_use = in_use
        self._free = free
        self._sizes: dict[str, int] = {}  # bytes by model name, least recently used first

    @property
    def nbytes(self) -> int:
        return sum(self._sizes.values())

    async def fetch(self, location: S3Location) -> FetchedArtifact:
        """Must not run twice at a time for one model. Raises InvocationFailed."""
        name = location.model_name
        directory = self._root / name / "model"
        if name in self._sizes:
            self._sizes[name] = self._sizes.pop(name)
            return FetchedArtifact(directory)
        began = time.perf_counter()
        archive = self._root / f".{name}.{secrets.token_hex(4)}.tar.gz"
        try:
            await asyncio.to_thread(self._downloader.download, location, archive)
            seconds = time.perf_counter() - began
            await self._extract(name, archive, directory)
        except DownloadFailed:
            raise invalid(location.download_error()) from None
        except ArchiveTooLarge as error:
            raise invalid(f"No space left on the volume for {location.url}: {error}.") from None
        except BadArchive:
            raise invalid(location.extract_error()) from None
        finally:
            archive.unlink(missing_ok=True)
        return FetchedArtifact(directory, seconds)

    async def remove(self, name: str) -> None:
        """Renames the directory first, so that its space and name are free before the deletion ends."""
        if self._sizes.pop(name, None) is None:
            return
        removed = self._root / f".{name}.{secrets.token_hex(4)}"
        (self._root / name).rename(removed)
        await asyncio.to_thread(shutil.rmtree, removed, True)

    async def _extract(self, name: str, archive: Path, directory: Path) -> None:
        nbytes = await asyncio.to_thread(measure, archive, self._budget)
        await self._reserve(name, nbytes)
        try:
            await asyncio.to_thread(extract, archive, directory)
        except BaseException:  # cancellation included: an incomplete artifact must not stay cached
            await self.remove(name)
            raise

    async def _reserve(self, name: str, nbytes: int) -> None:
        while self.nbytes + nbytes > self._budget:
            unused = next((cached for cached in self._sizes if not self._in_use(cached)), None)
            if unused is not None:
                await self.remove(unused)
            elif not await self._free():
                raise ArchiveTooLarge("every artifact on it is in use")
        self._sizes[name] = nbytes
        (self._root / name).mkdir(parents=True, exist_ok=True)

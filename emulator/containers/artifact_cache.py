"""The volume of one instance: artifacts from S3, unpacked to `<root>/<name>/model`.

What is on it never exceeds the budget, and nothing that is in use is ever removed.
"""

import asyncio
import hashlib
import re
import secrets
import shutil
import time
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import boto3
from botocore.exceptions import BotoCoreError, ClientError

from emulator.account import DEFAULT_REGION
from emulator.containers.archive import ArchiveTooLarge, BadArchive, extract, measure
from emulator.invocation_errors import invalid

_S3 = re.compile(r"s3://(?P<bucket>[^/]+)/?(?P<key>.*)")
_PATH_STYLE = re.compile(r"https://s3[.-][^/]*amazonaws\.com[^/]*/(?P<bucket>[^/]+)/?(?P<key>.*)")
_HOST_STYLE = re.compile(r"https://(?P<bucket>[^/]+?)\.s3[.-][^/]*amazonaws\.com[^/]*/?(?P<key>.*)")
_CHUNK = 1024 * 1024


class DownloadFailed(Exception):
    """No such object, or one that may not be read."""


@dataclass(frozen=True, slots=True)
class S3Location:
    """An object that holds an archive; `target` is the name the caller knows it by."""

    bucket: str
    key: str
    target: str = ""

    @property
    def name(self) -> str:
        """What the platform calls the model towards the container: opaque, one to one."""
        return hashlib.sha256(f"{self.bucket}/{self.key}".encode()).hexdigest()[:32]

    @property
    def url(self) -> str:
        return f"s3://{self.bucket}/{self.key}"

    @classmethod
    def parse(cls, url: str) -> "S3Location":
        for form in (_S3, _PATH_STYLE, _HOST_STYLE):
            if found := form.fullmatch(url):
                return cls(found["bucket"], found["key"])
        raise ValueError(f"{url!r} is neither an s3:// nor an S3 https:// address")

    def below(self, target: str) -> "S3Location":
        """A target model under this prefix, which may lack its slash as the target may have one."""
        prefix = f"{self.key.rstrip('/')}/" if self.key.strip("/") else ""
        return S3Location(self.bucket, prefix + target.lstrip("/"), target)

    def missing(self) -> str:
        return (
            f"Failed to download model data(bucket: {self.bucket}, key: {self.key}). Please ensure "
            "that there is an object located at the URL and that the role passed to CreateModel "
            "has permissions to download the model."
        )

    def unreadable(self) -> str:
        return (
            f'Failed to extract model data archive from URL "{self.url}". Please ensure that the '
            "object located at the URL is a valid tar.gz archive."
        )


class S3Downloader:
    """S3 at an address of its own, read with calls that block."""

    def __init__(self, url: str, region: str = DEFAULT_REGION) -> None:
        self._client: Any = boto3.client(
            "s3",
            endpoint_url=url,
            region_name=region,
            aws_access_key_id="local",
            aws_secret_access_key="local",
        )

    def download(self, source: S3Location, path: Path) -> None:
        """Raises DownloadFailed."""
        try:
            body = self._client.get_object(Bucket=source.bucket, Key=source.key)["Body"]
            with path.open("wb") as file:
                shutil.copyfileobj(body, file, _CHUNK)
        except (ClientError, BotoCoreError) as error:
            raise DownloadFailed(str(error)) from error


@dataclass(frozen=True, slots=True)
class FetchedArtifact:
    """`downloading_s` is None for one that was on the volume already."""

    directory: Path
    downloading_s: float | None = None


class ArtifactCache:
    """`in_use(name)`: must stay. `free()`: take one more out of use; False when none is left."""

    def __init__(
        self,
        objects: S3Downloader,
        root: Path,
        budget_nbytes: int,
        *,
        in_use: Callable[[str], bool],
        free: Callable[[], Awaitable[bool]],
    ) -> None:
        self._objects = objects
        self._root = root
        self._budget = budget_nbytes
        self._in_use = in_use
        self._free = free
        self._held: dict[str, int] = {}  # bytes by name, least recently used first

    @property
    def nbytes(self) -> int:
        return sum(self._held.values())

    async def fetch(self, source: S3Location) -> FetchedArtifact:
        """One call at a time for a model. Raises InvocationFailed."""
        directory = self._root / source.name / "model"
        if source.name in self._held:
            self._held[source.name] = self._held.pop(source.name)
            return FetchedArtifact(directory)
        began = time.perf_counter()
        archive = self._root / f".{source.name}.{secrets.token_hex(4)}.tar.gz"
        try:
            await asyncio.to_thread(self._objects.download, source, archive)
            seconds = time.perf_counter() - began
            await self._unpack(source, archive, directory)
        except DownloadFailed:
            raise invalid(source.missing()) from None
        except ArchiveTooLarge as error:
            raise invalid(f"No space left on the volume for {source.url}: {error}.") from None
        except BadArchive:
            raise invalid(source.unreadable()) from None
        finally:
            archive.unlink(missing_ok=True)
        return FetchedArtifact(directory, seconds)

    async def remove(self, name: str) -> None:
        """Its place is free for a new download at once, while the bytes go."""
        if self._held.pop(name, None) is None:
            return
        grave = self._root / f".{name}.{secrets.token_hex(4)}"
        (self._root / name).rename(grave)
        await asyncio.to_thread(shutil.rmtree, grave, True)

    async def _unpack(self, source: S3Location, archive: Path, directory: Path) -> None:
        nbytes = await asyncio.to_thread(measure, archive, self._budget)
        await self._reserve(source.name, nbytes)
        try:
            await asyncio.to_thread(extract, archive, directory)
        except BaseException:  # also a cancellation: half an artifact must not pass for one
            await self.remove(source.name)
            raise

    async def _reserve(self, name: str, nbytes: int) -> None:
        while self.nbytes + nbytes > self._budget:
            unused = next((held for held in self._held if not self._in_use(held)), None)
            if unused is not None:
                await self.remove(unused)
            elif not await self._free():
                raise ArchiveTooLarge("everything on it is in use")
        self._held[name] = nbytes
        (self._root / name).mkdir(parents=True, exist_ok=True)

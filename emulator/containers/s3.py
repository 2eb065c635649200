"""Model archives in S3: their addresses and their download."""

import hashlib
import re
import shutil
from dataclasses import dataclass
from pathlib import Path

from botocore.exceptions import BotoCoreError, ClientError

from emulator.account import DEFAULT_REGION, local_client

_S3 = re.compile(r"s3://(?P<bucket>[^/]+)/?(?P<key>.*)")
_PATH_STYLE = re.compile(r"https://s3[.-][^/]*amazonaws\.com[^/]*/(?P<bucket>[^/]+)/?(?P<key>.*)")
_HOST_STYLE = re.compile(r"https://(?P<bucket>[^/]+?)\.s3[.-][^/]*amazonaws\.com[^/]*/?(?P<key>.*)")
_CHUNK = 1024 * 1024


class DownloadFailed(Exception):
    """The object does not exist, or it cannot be read."""


@dataclass(frozen=True, slots=True)
class S3Location:
    """An object or a prefix; `target` is the TargetModel that selected it."""

    bucket: str
    key: str
    target: str = ""

    @property
    def model_name(self) -> str:
        """The name under which the platform loads the model: unique and opaque, as on AWS."""
        return hashlib.sha256(f"{self.bucket}/{self.key}".encode()).hexdigest()[:32]

    @property
    def url(self) -> str:
        return f"s3://{self.bucket}/{self.key}"

    @classmethod
    def parse(cls, url: str) -> "S3Location":
        """Raises ValueError."""
        for form in (_S3, _PATH_STYLE, _HOST_STYLE):
            if found := form.fullmatch(url):
                return cls(found["bucket"], found["key"])
        raise ValueError(f"{url!r} is neither an s3:// nor an S3 https:// address")

    def below(self, target: str) -> "S3Location":
        """A target model under this prefix; exactly one slash joins the two."""
        prefix = f"{self.key.rstrip('/')}/" if self.key.strip("/") else ""
        return S3Location(self.bucket, prefix + target.lstrip("/"), target)

    def download_error(self) -> str:
        return (
            f"Failed to download model data(bucket: {self.bucket}, key: {self.key}). Please ensure "
            "that there is an object located at the URL and that the role passed to CreateModel "
            "has permissions to download the model."
        )

    def extract_error(self) -> str:
        return (
            f'Failed to extract model data archive from URL "{self.url}". Please ensure that the '
            "object located at the URL is a valid tar.gz archive."
        )


class S3Downloader:
    def __init__(self, url: str, region: str = DEFAULT_REGION) -> None:
        self._client = local_client("s3", url, region)

    def download(self, location: S3Location, path: Path) -> None:
        """Blocks. Raises DownloadFailed."""
        try:
            body = self._client.get_object(Bucket=location.bucket, Key=location.key)["Body"]
            with path.open("wb") as file:
                shutil.copyfileobj(body, file, _CHUNK)
        except (ClientError, BotoCoreError) as error:
            raise DownloadFailed(str(error)) from error

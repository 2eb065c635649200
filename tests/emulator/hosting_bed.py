"""Fixtures for hosting tests: artifacts in moto's S3, and the stand-in server as the container."""

import asyncio
import io
import json
import re
import sys
import tarfile
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import boto3

from emulator.containers.process_runner import ProcessRunner
from emulator.containers.runner import ContainerLaunch, RunningContainer
from emulator.hosting.fleet_hosting import FleetHosting, create_hosting
from emulator.interfaces import Invocation
from emulator.limits import PlatformLimits
from emulator.records import ContainerSpec, ModelSpec, VariantSpec

STAND_IN = (sys.executable, str(Path(__file__).parent / "stand_in.py"), "serve")
BUCKET = "models"
PREFIX = f"s3://{BUCKET}/mme/"


@dataclass
class RecordingRunner:
    """A process runner that records its containers, so that tests can kill and count them."""

    commands: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    started: list[RunningContainer] = field(default_factory=list)
    inner: ProcessRunner = field(init=False)

    def __post_init__(self) -> None:
        self.inner = ProcessRunner(command=STAND_IN, commands=self.commands)

    async def check(self, spec: ContainerSpec, labels: Any) -> None:
        await self.inner.check(spec, labels)

    async def start(self, launch: ContainerLaunch) -> RunningContainer:
        running = await self.inner.start(launch)
        self.started.append(running)
        return running

    @property
    def pids(self) -> list[int]:
        return [running.pid for running in self.started]  # type: ignore[attr-defined]

    def alive(self) -> list[int]:
        return [pid for pid in self.pids if Path(f"/proc/{pid}").exists()]


@dataclass(frozen=True)
class HostingBed:
    """A hosting side, its runner and its root directory."""

    hosting: FleetHosting
    runner: RecordingRunner
    root: Path

    async def ask(
        self, target: str | None, body: bytes = b"x", endpoint: str = "e", **more: Any
    ) -> bytes:
        answer = await self.hosting.invoke(endpoint, Invocation(body, target_model=target, **more))
        return answer.body

    def requests(self, method: str, path: str = "/.*") -> int:
        """The number of requests in the logs of all containers; `path` is a regular expression."""
        wanted = re.compile(rf"^\S+ {method} {path}$", re.MULTILINE)
        return sum(len(wanted.findall(log.read_text())) for log in self.root.glob("*/*.log"))

    def artifacts(self) -> int:
        return len(list(self.root.glob("*/models/*/model")))


@asynccontextmanager
async def bed(s3: str, root: Path, **options: Any) -> AsyncIterator[HostingBed]:
    runner = options.pop("runner", None) or RecordingRunner()
    options.setdefault("limits", PlatformLimits(ping_period_s=0.1, startup_s=10, stop_s=5))
    context = create_hosting(s3=s3, runner=runner, root=root, tick_every_s=None, seed=1, **options)
    async with context as hosting:
        yield HostingBed(hosting, runner, root)
    assert not runner.alive(), "containers left behind"


def container(**changed: Any) -> ContainerSpec:
    given: dict[str, Any] = {"image": "mme", "multi_model": True, "model_data_url": PREFIX}
    return ContainerSpec(**(given | changed))


def variant(
    *containers: ContainerSpec, name: str = "v", count: int = 1, **more: Any
) -> VariantSpec:
    model = ModelSpec("m", containers or (container(),))
    return VariantSpec(name, model, "ml.m5.xlarge", count, **more)


def memory(units: int) -> ContainerSpec:
    return container(environment={"MEMORY": str(units)})


def client(s3: str, service: str = "s3") -> Any:
    return boto3.client(
        service,
        endpoint_url=s3,
        region_name="us-east-1",
        aws_access_key_id="local",
        aws_secret_access_key="local",
    )


def packed(document: Any, extra: int = 0) -> bytes:
    """A model archive in the stand-in's format."""
    buffer = io.BytesIO()
    files = {"model.json": json.dumps(document).encode(), "weights": b"\0" * extra}
    with tarfile.open(fileobj=buffer, mode="w:gz") as archive:
        for name, content in files.items():
            member = tarfile.TarInfo(name)
            member.size = len(content)
            archive.addfile(member, io.BytesIO(content))
    return buffer.getvalue()


def upload(s3: str, key: str, *, extra: int = 0, **document: Any) -> None:
    document.setdefault("answer", key)
    client(s3).put_object(Bucket=BUCKET, Key=f"mme/{key}", Body=packed(document, extra))


def run(work: Any) -> None:
    asyncio.run(work)

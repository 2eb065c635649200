"""Settings and services that all instances of the platform share."""

import itertools
import random
import socket
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path

from emulator.account import DEFAULT_REGION
from emulator.background_tasks import BackgroundTasks
from emulator.containers.runner import ContainerRunner
from emulator.containers.s3 import S3Downloader
from emulator.interfaces import DeploymentFailed
from emulator.limits import PlatformLimits
from emulator.metrics import CloudWatchMetrics

# Below the ephemeral ports of the kernel, and below 32767, which multi-model-server refuses.
_PORTS = range(26_000, 32_000)


def _port_cycle() -> Iterator[int]:
    """Cycles through all ports from a random start: two platforms rarely try the same port."""
    start = random.randrange(len(_PORTS))
    return itertools.cycle([*_PORTS[start:], *_PORTS[:start]])


@dataclass(frozen=True, slots=True)
class HostingContext:
    """`cleanup` runs tasks that must finish even if their caller is cancelled, such as stopping
    containers."""

    runner: ContainerRunner
    downloader: S3Downloader
    metrics: CloudWatchMetrics
    root: Path
    limits: PlatformLimits
    region: str = DEFAULT_REGION
    clock: Callable[[], float] = time.time
    cleanup: BackgroundTasks = field(default_factory=BackgroundTasks)
    ports: Iterator[int] = field(default_factory=_port_cycle)

    def free_port(self) -> int:
        """Raises DeploymentFailed."""
        for port in itertools.islice(self.ports, len(_PORTS)):
            with socket.socket() as probe:
                try:
                    probe.bind(("127.0.0.1", port))
                except OSError:
                    continue
                return port
        raise DeploymentFailed("No port is free for the container.")

"""A server on the fake GPU, what its clients may ask, and what can be seen of it from outside."""

import functools
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

from tests.contract.client import Client
from tests.contract.targets import RESERVED, ServerProcess
from tests.contract.waiting import until
from tests.fake_cuda.gpu import FakeMachine, FakeProcess
from tests.fake_cuda.models import contents

CAPACITY = 'mme_memory_capacity_bytes{tier="device"}'
SERVED_AGAIN_S = 20.0  # after the loss of a device: a new process, and its models


@dataclass(frozen=True, slots=True)
class House:
    machine: FakeMachine
    server: ServerProcess
    client: Client

    def worker(self) -> FakeProcess:
        """The device's process, once it holds its context."""
        found = until(
            lambda: [each for each in self.machine.processes() if each.name == "mme-worker"]
        )
        assert len(found) == 1
        return found[0]

    def load(self, artifacts: Iterable[Path]) -> list[str]:
        """Each under its directory's name; those names."""
        artifacts = list(artifacts)
        for artifact in artifacts:
            response = self.client.load(artifact.name, artifact)
            assert response.status_code == 200, response.text
        return [artifact.name for artifact in artifacts]

    def reserved(self) -> int:
        return int(self.client.gauges()[RESERVED])

    def capacity(self) -> int:
        return int(self.client.gauges()[CAPACITY])

    def status(self, name: str) -> int:
        return self.client.invoke(name).status_code

    def served(self, name: str) -> None:
        """Invoke until it answers: a lost device comes back within seconds."""
        until(functools.partial(self._is_served, name), within_s=SERVED_AGAIN_S)

    def _is_served(self, name: str) -> bool:
        status = self.status(name)
        assert status in (200, 503, 507), status
        return status == 200

    def resident(self, artifact: Path) -> bool:
        """Is all of the model on the device, as its file has it?"""
        return not self.worker().missing(contents(artifact))

    def erase(self, artifact: Path) -> int:
        """What the device's memory keeps of it, to see it written again; how many tensors there were."""
        return self.worker().erase(contents(artifact))

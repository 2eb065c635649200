"""A server on the fake GPU: requests to it, and measurements of it from outside."""

import functools
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

import torch

from tests.contract.client import TEXT, Client
from tests.contract.targets import RESERVED, ServerProcess
from tests.contract.waiting import until
from tests.fake_cuda.gpu import MIB, FakeMachine, FakeProcess
from tests.fake_cuda.models import contents, nbytes

CAPACITY = 'mme_memory_capacity_bytes{tier="device"}'
# PyTorch keeps workspaces for cuBLAS, one for each thread that computes, and small blocks
WORKSPACES_NBYTES = 24 * MIB
ROUNDING_NBYTES = 2 * MIB  # of one model
SERVED_AGAIN_S = 60.0  # after the loss of a device: a new process and its models, on a busy machine


@dataclass(frozen=True, slots=True)
class GpuServer:
    """A server process, its fake machine, and a client."""

    machine: FakeMachine
    process: ServerProcess
    client: Client

    def worker(self) -> FakeProcess:
        """The device worker, once it holds its context; the first of several workers."""
        return until(self._workers)[0]

    def replace_worker(self) -> None:
        """Kill the worker and wait for its replacement."""
        former = self.worker()
        former.end()
        until(lambda: [each for each in self._workers() if each != former], within_s=SERVED_AGAIN_S)

    def _workers(self) -> list[FakeProcess]:
        found = [each for each in self.machine.processes() if each.name == "mme-worker"]
        return sorted(found, key=lambda each: each.started)

    def load(self, artifacts: Iterable[Path]) -> list[str]:
        """Load each artifact under its directory's name. Returns the names."""
        artifacts = list(artifacts)
        for artifact in artifacts:
            response = self.client.load(artifact.name, artifact)
            assert response.status_code == 200, response.text
        return [artifact.name for artifact in artifacts]

    def workers(self, device: int) -> list[FakeProcess]:
        """The device workers that hold memory on this device, the oldest first."""
        return [each for each in self._workers() if each.counters()[f"used.{device}"]]

    def joined(self, count: int) -> None:
        """Wait until the workers of so many devices run."""
        series = [f'mme_worker_running{{worker="cuda:{device}"}}' for device in range(count)]

        def running() -> bool:
            gauges = self.client.gauges()
            return all(gauges[each] for each in series)

        until(running, within_s=SERVED_AGAIN_S)

    def reserved_on(self, device: int) -> int:
        return int(
            self.client.gauges()[f'mme_device_memory_reserved_bytes{{device="cuda:{device}"}}']
        )

    def reserved(self) -> int:
        return int(self.client.gauges()[RESERVED])

    def capacity(self) -> int:
        return int(self.client.gauges()[CAPACITY])

    def status(self, name: str, body: object = TEXT) -> int:
        return self.client.invoke(name, body).status_code

    def served(self, name: str, body: object = TEXT) -> None:
        """Invoke the model until it succeeds: a lost device is replaced within seconds."""
        until(functools.partial(self._is_served, name, body), within_s=SERVED_AGAIN_S)

    def _is_served(self, name: str, body: object) -> bool:
        status = self.status(name, body)
        assert status in (200, 503, 507), status
        return status == 200

    def holders(self, artifact: Path) -> list[FakeProcess]:
        """The processes that hold all tensors of the model on the device, as stored in its file."""
        wanted = contents(artifact)
        return [each for each in self.machine.processes() if not each.missing(wanted)]

    def devices_of(self, artifact: Path, count: int) -> list[int]:
        """The devices whose memory holds all tensors of the model, also after it was freed."""
        wanted = contents(artifact)
        return [
            device
            for device in range(count)
            if any(not each.missing(wanted, device) for each in self.workers(device))
        ]

    def resident(self, artifact: Path) -> bool:
        return bool(self.holders(artifact))

    def erase(self, artifact: Path) -> int:
        """Overwrite the model's tensors in device memory, so that a later copy is visible. Returns their
        number."""
        wanted = contents(artifact)
        return sum(each.erase(wanted) for each in self.machine.processes())

    def check_ledger(self, resident: Iterable[Path], dtype: torch.dtype | None = None) -> None:
        """Assert that the reserved bytes are those of these models, each rounded up to the driver's
        granularity, and that the worker has allocated at least as much."""
        sizes = [nbytes(artifact, dtype) for artifact in resident]
        assert sum(sizes) <= self.reserved() <= sum(sizes) + ROUNDING_NBYTES * len(sizes)
        assert self.worker().held_nbytes() >= self.reserved()

"""An error at any step of a load, a promotion or an unload: nothing stays reserved, leased or waiting."""

import asyncio
from collections.abc import Iterator
from typing import Any

import pytest

from model_handler.engine.admission import QueueBounds
from model_handler.errors import EngineError
from model_handler.memory.pools import MemoryPool, Tier
from tests.model_handler import ledger
from tests.model_handler.engine.several_workers import Workers, model
from tests.model_handler.engine.test_injected_failures import Injection, found
from tests.model_handler.virtual_time import VirtualLoop

MEMORY = "model_handler.memory"
LOADING = {
    "record": f"{MEMORY}.residency.Residence",
    "overhead": "model_handler.engine.fleet.Fleet.overhead",
    "place": "model_handler.engine.device_worker.DeviceWorker.place",
    "queue": "model_handler.engine.scheduler.ModelQueue",
    "reservation": f"{MEMORY}.pools.MemoryPool.reserve",
    "room": f"{MEMORY}.room.Room.find",
    "load": "tests.model_handler.fake_supervisor.ProcessSupervisor.load",
    "measurement": f"{MEMORY}.lease.Residence.measured",
    "correction": f"{MEMORY}.room.Room.correct",
    "arrival": f"{MEMORY}.lease.Residence.ascend",
    "lease": f"{MEMORY}.residency.Lease",
    "use": f"{MEMORY}.lease.Residences.count_use",
}
UNLOADING = {
    "drop": f"{MEMORY}.moves.Moves.drop",
    "leave": f"{MEMORY}.moves.Moves.leave",
    "worth keeping": f"{MEMORY}.moves._worth_keeping",
    "unload": "tests.model_handler.fake_supervisor.ProcessSupervisor.unload",
    "vacate": f"{MEMORY}.lease.Residence.descend",
}
ERRORS = [KeyError("thread"), OverflowError(), MemoryError()]
KEY, OTHER = 1, 2


class Machine:
    """One worker; on a GPU with main memory beside it."""

    def __init__(self, device: str) -> None:
        self.loop = VirtualLoop()
        self.escaped: list[dict[str, Any]] = []
        self.loop.set_exception_handler(lambda _, context: self.escaped.append(context))
        host = None if device == "cpu" else MemoryPool(Tier.HOST, 250)
        self.workers = Workers((device,), 2, host, lambda model, reason: None)
        self.core = self.workers.core
        self.residency = self.core.residencies[device]
        self.loop.run_until_complete(self.workers.start_all())

    def do(self, work: Any) -> BaseException | None:
        """Its error, once the worker has done all that it was asked for."""
        task = self.loop.create_task(work)
        for _ in range(50):
            self.loop.turns()
            if task.done():
                return task.exception()
            for worker in self.workers.busy:
                worker.let_go(0)
        raise AssertionError("it waits for ever")

    def load(self, key: int) -> BaseException | None:
        self.model = model(key)
        return self.do(self.core.admit(self.model, QueueBounds(5, 2)))

    def nothing_is_kept(self) -> None:
        assert self.residency.device.reserved == 0
        assert self.residency.host is None or self.residency.host.reserved == 0
        assert not ledger.replicas(self.residency)
        assert ledger.overhead_nbytes(self.residency) == 0
        assert not ledger.model_queues(self.core.scheduler)
        assert not any(main.models for main in self.core.mains())
        assert not self.escaped


@pytest.fixture(params=["cpu", "cuda:0"])
def machine(request: pytest.FixtureRequest) -> Iterator[Machine]:
    machine = Machine(request.param)
    yield machine
    machine.loop.close()


@pytest.mark.parametrize("calls", [{1}, {2}, {1, 2, 3}], ids=str)
@pytest.mark.parametrize("step", LOADING)
def test_a_load_that_fails_leaves_nothing(
    machine: Machine, monkeypatch: pytest.MonkeyPatch, step: str, calls: set[int]
) -> None:
    injection = Injection(found(LOADING[step]), calls, ERRORS[len(step) % len(ERRORS)])
    with monkeypatch.context() as patch:
        patch.setattr(LOADING[step], injection)
        failure = machine.load(KEY)
    assert (failure is not None) == bool(injection.raised)
    if failure is None:
        assert machine.do(machine.core.remove(machine.model, 0.0)) is None
    machine.nothing_is_kept()
    assert not machine.workers.all[0].held
    assert machine.load(OTHER) is None
    assert machine.load(KEY) is None


@pytest.mark.parametrize("step", UNLOADING)
def test_an_unload_that_fails_leaves_nothing(
    machine: Machine, monkeypatch: pytest.MonkeyPatch, step: str
) -> None:
    assert machine.load(KEY) is None
    with monkeypatch.context() as patch:
        patch.setattr(
            UNLOADING[step], Injection(found(UNLOADING[step]), {1}, ERRORS[len(step) % 3])
        )
        machine.do(machine.core.remove(machine.model, 0.0))
    machine.nothing_is_kept()


def test_claims_of_a_promotion_that_fails_get_an_error(
    machine: Machine, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert machine.load(KEY) is None
    machine.residency.lost([machine.model])
    machine.workers.all[0].held.clear()

    async def claims() -> None:
        each = (machine.residency.acquire(machine.model) for _ in range(3))
        results = await asyncio.gather(*each, return_exceptions=True)
        assert all(isinstance(one, EngineError) for one in results), results

    with monkeypatch.context() as patch:
        for path in (LOADING["room"], LOADING["load"]):
            patch.setattr(path, Injection(found(path), {1}, KeyError("thread")))
        assert machine.do(claims()) is None
    assert machine.do(machine.residency.promote(machine.model)) is None
    assert machine.do(machine.core.remove(machine.model, 0.0)) is None
    machine.nothing_is_kept()

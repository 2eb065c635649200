"""The options with which a worker is started, and what follows from its death."""

import asyncio
import os
import signal
import socket
from collections.abc import Callable, Coroutine, Mapping
from typing import Any, cast

import msgspec
import pytest

from model_handler.errors import ModelLoadFailed, WorkerDied
from model_handler.framing import frame
from model_handler.messages import Ready
from model_handler.options import WorkerOptions
from model_handler.processes.deaths import Death
from model_handler.processes.forkserver_client import (
    ForkedProcess,
    ForkServerClient,
    ForkServerProcess,
)
from model_handler.processes.supervisor import SICK_AFTER, Supervisor
from model_handler.sharing import work_record
from tests.model_handler.engine.test_scheduling import model


class Orders(ForkServerClient):
    """A fake fork server that records orders and starts no process."""

    def __init__(self) -> None:
        super().__init__()
        self.taken: asyncio.Queue[Mapping[str, Any]] = asyncio.Queue()

    async def fork(self, order: Mapping[str, Any], second: int | None = None) -> ForkedProcess:
        self.taken.put_nowait(order)
        raise OSError("no process can be had")


@pytest.mark.parametrize("options", [WorkerOptions(), WorkerOptions(False, "high", 1 << 30)])
def test_the_order_carries_the_options(options: WorkerOptions) -> None:
    async def ordered() -> Mapping[str, Any]:
        orders = Orders()
        supervisor = Supervisor(
            "cpu", orders, options, lambda _: None, lambda: None, lambda _: False
        )
        supervisor.start()
        try:
            return await asyncio.wait_for(orders.taken.get(), 10)
        finally:
            await supervisor.stop()

    order = msgspec.json.decode(msgspec.json.encode(asyncio.run(ordered())))
    assert (order["fork"], order["device"]) == ("worker", "cpu")
    assert msgspec.convert(order["options"], WorkerOptions) == options


class PlayedProcess(ForkedProcess):
    """A worker that the test plays. `killed`: the front has ended it."""

    def __init__(self, record: int) -> None:
        ours, self.theirs = socket.socketpair()
        ours.setblocking(False)
        super().__init__(cast("ForkServerProcess", None), ours)
        self.record = os.dup(record)
        self.status: asyncio.Future[int | None] = asyncio.get_running_loop().create_future()

    lost = False

    def started(self, pid: int) -> None:
        self.pid = pid

    def kill(self) -> None:
        if not self.status.done():
            self.status.set_result(-signal.SIGKILL)

    async def exited(self) -> int | None:
        return await asyncio.shield(self.status)

    def ready(self) -> None:
        self.theirs.sendall(frame(Ready(7, "cpu", 0, 0)))

    def die(self, status: int | None, *at_work: int) -> None:
        for number, model_id in enumerate(at_work):
            cell = work_record.CELL.pack(number + 1, model_id)
            os.pwrite(self.record, cell, number * len(cell))
        self.status.set_result(status)
        self.close()

    def close(self) -> None:
        self.theirs.close()
        if self.record >= 0:
            os.close(self.record)
            self.record = -1


class PlayedForks(ForkServerClient):
    def __init__(self) -> None:
        super().__init__()
        self.started: asyncio.Queue[PlayedProcess] = asyncio.Queue()
        self.all: list[PlayedProcess] = []

    async def fork(self, order: Mapping[str, Any], second: int | None = None) -> ForkedProcess:
        assert second is not None
        process = PlayedProcess(second)
        self.all.append(process)
        self.started.put_nowait(process)
        return process


class Bed:
    """`deaths`: those that were examined. A death with suspects is explained."""

    def __init__(self, *, alone: bool = False) -> None:
        self.forks = PlayedForks()
        self.deaths: asyncio.Queue[Death] = asyncio.Queue()
        self.broken = 0  # calls of `on_ready` that fail
        calls = self.on_ready, lambda: None, self.on_examined
        self.supervisor = Supervisor("cpu", self.forks, WorkerOptions(), *calls, alone=alone)

    def on_ready(self, ready: Ready) -> None:
        self.broken -= 1
        if self.broken >= 0:
            raise RuntimeError("a mistake of ours")

    def on_examined(self, death: Death) -> bool:
        self.deaths.put_nowait(death)
        return bool(death.suspects)

    async def worker(self) -> PlayedProcess:
        """The next process, ready."""
        process = await self.forks.started.get()
        process.ready()
        await self.supervisor.attempted()
        return process


def supervised(
    scenario: Callable[[Bed], Coroutine[Any, Any, None]], *, alone: bool = False
) -> None:
    async def limited() -> None:
        bed = Bed(alone=alone)
        bed.supervisor.start()
        try:
            async with asyncio.timeout(20):
                await scenario(bed)
        finally:
            for process in bed.forks.all:
                process.close()
                if not process.status.done():
                    process.status.set_result(0)
            await bed.supervisor.stop()

    asyncio.run(limited())


def test_a_first_load_that_crashes_is_refused_and_is_no_failed_start() -> None:
    async def scenario(bed: Bed) -> None:
        for _ in range(2 * SICK_AFTER):
            worker = await bed.worker()
            load = asyncio.create_task(bed.supervisor.load(model(1)))
            await asyncio.sleep(0)
            worker.die(-signal.SIGSEGV, 1, 2)
            with pytest.raises(ModelLoadFailed, match="SIGSEGV"):
                await load
            assert (await bed.deaths.get()).suspects == {1, 2}
            assert bed.supervisor.sickness() is None

    supervised(scenario)


def test_neither_models_nor_starts_are_blamed_when_the_fork_server_ends() -> None:
    """A neighbour that is asked all the while is at work in each such death."""

    async def scenario(bed: Bed) -> None:
        for _ in range(2 * SICK_AFTER):
            worker = await bed.worker()
            await bed.supervisor.available()
            worker.lost = True
            worker.die(None, 1)
            death = await bed.deaths.get()
            assert not death.suspects
            assert "fork server" in death.reason
            assert bed.supervisor.sickness() is None

    supervised(scenario)


@pytest.mark.parametrize(("suspects", "sick"), [((), True), ((1,), False)])
def test_deaths_soon_after_the_start(suspects: tuple[int, ...], sick: bool) -> None:
    """They are failed starts, unless a model explains them."""

    async def scenario(bed: Bed) -> None:
        for _ in range(SICK_AFTER):
            (await bed.worker()).die(-signal.SIGKILL, *suspects)
        await bed.forks.started.get()
        assert (bed.supervisor.sickness() is not None) is sick

    supervised(scenario)


async def wanted(supervisor: Supervisor) -> None:
    """Ask for the worker until it is there."""
    while True:
        try:
            return await supervisor.available()
        except WorkerDied:
            await asyncio.sleep(0.01)  # of the delay, which the supervisor takes from the clock


def test_one_models_worker_waits_for_a_request_after_several_deaths() -> None:
    """Requests get the reason and the delay; after it, one of them starts the worker."""

    async def scenario(bed: Bed) -> None:
        for _ in range(4):
            (await bed.worker()).die(-signal.SIGSEGV, 1)
            await bed.deaths.get()
        with pytest.raises(WorkerDied, match=r"4 times in a row, next attempt in 1 s: .*SIGSEGV"):
            await bed.supervisor.load(model(1))
        assert bed.forks.started.empty()
        load = asyncio.create_task(wanted(bed.supervisor))
        worker = await bed.worker()
        await load
        worker.die(-signal.SIGSEGV, 1)

    supervised(scenario, alone=True)


def test_a_stop_ends_all_waits() -> None:
    async def scenario(bed: Bed) -> None:
        waiting = [
            asyncio.create_task(bed.supervisor.attempted()),
            asyncio.create_task(bed.supervisor.available()),
        ]
        await asyncio.sleep(0)
        await bed.supervisor.stop()
        await asyncio.wait(waiting)
        assert isinstance(waiting[1].exception(), WorkerDied)

    supervised(scenario)


def test_a_mistake_of_ours_is_not_the_end_of_all_starts() -> None:
    async def scenario(bed: Bed) -> None:
        bed.broken = 1
        await bed.worker()
        await bed.worker()
        await bed.supervisor.available()

    supervised(scenario)

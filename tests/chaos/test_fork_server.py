"""The fork server is stopped: it is replaced with its workers, and nothing waits for it."""

import asyncio
import signal

import psutil

from model_handler.errors import EngineError
from tests.chaos.running_engine import RunningEngine


def fork_server(worker: int) -> psutil.Process:
    server = psutil.Process(worker).parent()
    assert server is not None
    assert server.name() == "mme-forkserver"
    return server


async def served(running: RunningEngine, name: str) -> int:
    """The process that answers the model, as soon as there is one."""
    while True:
        try:
            return await running.pid(name)
        except EngineError:
            await asyncio.sleep(0)


def test_a_stopped_fork_server(running: RunningEngine) -> None:
    async def scenario() -> None:
        before = await running.pid(), await running.pid("neighbour")
        stopped = fork_server(before[0])
        stopped.send_signal(signal.SIGSTOP)
        psutil.Process(before[0]).kill()
        load = asyncio.create_task(running.engine.load("third", str(running.root / "neighbour")))
        await asyncio.to_thread(stopped.wait, 10)
        await asyncio.wait([load])
        after = await served(running, "rogue"), await served(running, "neighbour")
        assert not {*before} & {*after}
        assert running.engine.health() is None
        if load.exception() is not None:  # the worker died under it: the platform tries again
            await running.engine.load("third", str(running.root / "neighbour"))
        await running.engine.unload("third")
        assert fork_server(after[0]).pid != stopped.pid

    running.run(scenario())

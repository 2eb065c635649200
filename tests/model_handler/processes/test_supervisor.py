"""The options with which a worker is started."""

import asyncio
from collections.abc import Mapping
from typing import Any

import msgspec
import pytest

from model_handler.options import WorkerOptions
from model_handler.processes.forkserver_client import ForkedProcess, ForkServerClient
from model_handler.processes.supervisor import Supervisor


class Orders(ForkServerClient):
    """A fake fork server that records orders and starts no process."""

    def __init__(self) -> None:
        super().__init__()
        self.taken: asyncio.Queue[Mapping[str, Any]] = asyncio.Queue()

    async def fork(self, order: Mapping[str, Any], output: int | None = None) -> ForkedProcess:
        self.taken.put_nowait(order)
        raise OSError("no process can be had")


@pytest.mark.parametrize("options", [WorkerOptions(), WorkerOptions(False, "high", 1 << 30)])
def test_the_order_carries_the_options(options: WorkerOptions) -> None:
    async def ordered() -> Mapping[str, Any]:
        orders = Orders()
        supervisor = Supervisor("cpu", orders, options, lambda _: None, lambda _: None)
        supervisor.start()
        try:
            return await asyncio.wait_for(orders.taken.get(), 10)
        finally:
            await supervisor.stop()

    order = msgspec.json.decode(msgspec.json.encode(asyncio.run(ordered())))
    assert (order["fork"], order["device"]) == ("worker", "cpu")
    assert msgspec.convert(order["options"], WorkerOptions) == options

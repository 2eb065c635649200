"""A running engine with a model that misbehaves on request, and a neighbour that must not be affected."""

import asyncio
import itertools
import json
from collections.abc import AsyncIterator, Coroutine
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from model_handler.engine.engine import Engine
from model_handler.errors import WorkerDied
from model_handler.messages import InferenceRequest
from tests.chaos.scripts import do
from tests.model_handler import ledger

BUDGET_NBYTES = 600 << 20
PATIENCE_S = 90.0
ANSWER = do("answer")


@dataclass
class RunningEngine:
    """The engine, and the asyncio runner of its event loop. `root`: directory of the artifacts."""

    engine: Engine
    runner: asyncio.Runner
    root: Path

    def run(self, scenario: Coroutine[Any, Any, None]) -> None:
        async def within() -> None:
            async with asyncio.timeout(PATIENCE_S):
                await scenario

        self.runner.run(within())

    async def ask(self, name: str, body: bytes) -> Any:
        response = await self.engine.invoke(name, InferenceRequest(body, "application/json"))
        return json.loads(response.body)

    async def pid(self, name: str = "rogue") -> int:
        """Process id that serves the model now; waits while the process is being replaced."""
        body = ANSWER if name == "rogue" else b"[]"
        while True:
            try:
                return int((await self.ask(name, body))["pid"])
            except WorkerDied:
                await asyncio.sleep(0)

    @asynccontextmanager
    async def neighbour_served(self) -> AsyncIterator[None]:
        """Send requests to the neighbour during the block; its process and results must stay correct."""
        before = await self.pid("neighbour")
        served = asyncio.Event()

        async def ask_on() -> None:
            for number in itertools.count():
                answer = await self.ask("neighbour", json.dumps([number, 1]).encode())
                assert answer == {"pid": before, "sum": number + 1}
                served.set()

        async with asyncio.TaskGroup() as group:  # a wrong response ends the block
            asking = group.create_task(ask_on())
            yield
            await served.wait()
            asking.cancel()

    def reserved(self) -> int:
        return ledger.residency(self.engine).device.reserved

    def held(self) -> int:
        places = ledger.residences(ledger.residency(self.engine)).values()
        return sum(place.device.nbytes for place in places if place.device is not None)

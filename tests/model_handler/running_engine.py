"""An engine for artifacts with their own code, with blocking calls for tests that are not coroutines."""

import asyncio
import json
from collections.abc import Coroutine, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from model_handler.engine.engine import Engine
from model_handler.engine.factory import create_engine
from model_handler.messages import InferenceRequest, InferenceResponse
from model_handler.options import EngineOptions

JSON = "application/json"
PATIENCE_S = 90.0


@dataclass
class RunningEngine:
    """The engine, and the asyncio runner of its event loop. `root`: directory of the artifacts."""

    engine: Engine
    runner: asyncio.Runner
    root: Path

    def run(self, work: Coroutine[Any, Any, Any]) -> Any:
        async def within() -> Any:
            async with asyncio.timeout(PATIENCE_S):
                return await work

        return self.runner.run(within())

    def load(self, name: str) -> None:
        self.run(self.engine.load(name, str(self.root / name)))

    def invoke(self, name: str, body: bytes, **fields: Any) -> InferenceResponse:
        request = InferenceRequest(body, **{"content_type": JSON, **fields})
        response: InferenceResponse = self.run(self.engine.invoke(name, request))
        return response

    def ask(self, name: str, document: Any, **fields: Any) -> Any:
        return json.loads(self.invoke(name, json.dumps(document).encode(), **fields).body)


@contextmanager
def opened(root: Path, requirements: Path) -> Iterator[RunningEngine]:
    options = EngineOptions(
        model_roots=(root,),
        device="cpu",
        install_requirements=True,
        requirements_dir=requirements,
    )
    with asyncio.Runner() as runner:
        engine = create_engine(options)
        runner.run(engine.__aenter__())
        try:
            yield RunningEngine(engine, runner, root)
        finally:
            runner.run(engine.__aexit__(None, None, None))

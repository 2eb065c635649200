"""A real server on a loopback port, in a thread, over a FakeEngine."""

import asyncio
import json
import socket
import threading
from collections.abc import Callable, Iterator
from typing import Any

import httpx
import pytest

from container.entrypoint import create_server
from container.http.server import HttpServer
from container.request_log import RequestLog
from container.settings import Settings
from tests.container.fake_engine import FakeEngine
from tests.container.http.raw_client import RawClient

STOP_TIMEOUT_S = 10.0


class Running:
    """One server. `port` accepts connections from the beginning: the socket listens before it runs."""

    def __init__(
        self,
        engine: FakeEngine,
        environ: dict[str, str],
        request_log: RequestLog | None = None,
    ) -> None:
        self.engine = engine
        self._socket = socket.create_server(("127.0.0.1", 0))
        self.port: int = self._socket.getsockname()[1]
        self.server: HttpServer = create_server(Settings.from_environ(environ), engine, request_log)
        self._thread = threading.Thread(target=self.server.run, args=([self._socket],))
        self.http = httpx.Client(base_url=f"http://127.0.0.1:{self.port}", timeout=10)

    def start(self) -> None:
        self._thread.start()

    def raw(self) -> RawClient:
        return RawClient(self.port)

    def load(self, *names: str, url: str = "/somewhere") -> None:
        for name in names:
            assert self.post("/models", model_name=name, url=url).status_code == 200

    def post(self, path: str, **document: Any) -> httpx.Response:
        return self.http.post(path, content=json.dumps(document))

    def call_soon(self, callback: Callable[[], object]) -> None:
        self.server.call_soon(callback)

    def join(self) -> bool:
        """Wait for the server to stop. False if it does not."""
        self._thread.join(STOP_TIMEOUT_S)
        return not self._thread.is_alive()

    def stop(self) -> None:
        self.http.close()
        self.server.should_exit = True
        assert self.join()
        self._socket.close()


Serve = Callable[..., Running]


@pytest.fixture
def serve() -> Iterator[Serve]:
    """Starts a server in MultiModel mode, or as the given variables say."""
    started: list[Running] = []

    def start(
        protocol: type[asyncio.Protocol] | None = None,
        request_log: RequestLog | None = None,
        **environ: str,
    ) -> Running:
        settings = {"SAGEMAKER_MULTI_MODEL": "true"} | environ
        running = Running(FakeEngine(), settings, request_log)
        running.server.config.http = protocol or running.server.config.http
        started.append(running)
        running.start()
        return running

    yield start
    for running in started:
        running.stop()


@pytest.fixture(scope="session")
def shared() -> Iterator[Running]:
    running = Running(FakeEngine(), {"SAGEMAKER_MULTI_MODEL": "true"})
    running.start()
    yield running
    running.stop()


@pytest.fixture
def running(shared: Running) -> Running:
    """A server in MultiModel mode without models. Tests must not stop it."""
    shared.engine.reset()
    return shared

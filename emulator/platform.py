"""The local SageMaker on one loopback port, the rest of AWS on another.

    with LocalSageMaker(hosting) as aws:
        aws.client("sagemaker").create_model(...)

The server runs on its own event loop in a thread. Leaving the context stops it and every container.
"""

import asyncio
import os
import socket
import threading
from collections.abc import Callable, Mapping
from concurrent.futures import Future
from contextlib import AbstractAsyncContextManager, ExitStack
from typing import Any, Self

import uvicorn
from starlette.applications import Starlette
from starlette.routing import Route

from emulator import cloudformation
from emulator.account import ACCESS_KEY, DEFAULT_REGION, local_client
from emulator.aws import moto_server
from emulator.control.api import ControlApi
from emulator.interfaces import Hosting
from emulator.runtime import RuntimeApi

HOST = "127.0.0.1"
# Below the default read timeout of boto3 and the AWS CLI, which is 60 s.
DESCRIBE_WAIT_S = 45.0

# Gets the address of moto; the context manager starts and stops the hosting side.
HostingFactory = Callable[[str], AbstractAsyncContextManager[Hosting]]

_VARIABLE = "AWS_ENDPOINT_URL"
_SHUTDOWN_S = 5


class LocalSageMaker:
    """`port` 0 selects a free port. Credentials and region that `environ` has are kept."""

    def __init__(
        self,
        hosting: HostingFactory,
        *,
        port: int = 0,
        describe_wait_s: float = DESCRIBE_WAIT_S,
        environ: Mapping[str, str] = os.environ,
    ) -> None:
        self._hosting = hosting
        self._port = port
        self._describe_wait_s = describe_wait_s
        self._environ = environ
        self._started: Future[uvicorn.Server] = Future()
        self._thread = threading.Thread(target=self._run, name="local-sagemaker")
        self._running = ExitStack()
        self._socket: socket.socket | None = None
        self.url = self._aws_url = ""

    def __enter__(self) -> Self:
        with ExitStack() as stack:
            self._socket = stack.enter_context(_listen(self._port))
            self.url = f"http://{HOST}:{self._socket.getsockname()[1]}"
            self._aws_url = stack.enter_context(moto_server())
            self._thread.start()
            stack.callback(self._stop)
            self._started.result()
            self._running = stack.pop_all()
        return self

    def __exit__(self, *_: object) -> None:
        self._running.close()

    @property
    def environment(self) -> dict[str, str]:
        """The environment variables that send a process's AWS calls to this platform."""
        missing = {name: value for name, value in _DEFAULTS.items() if not self._environ.get(name)}
        if self._environ.get("AWS_PROFILE") or self._environ.get("AWS_ACCESS_KEY_ID"):
            missing = {name: v for name, v in missing.items() if name not in _CREDENTIALS}
        urls = {
            f"{_VARIABLE}_{name.upper().replace('-', '_')}": url
            for name, url in self._service_urls.items()
        }
        return {_VARIABLE: self._aws_url, **urls, **missing}

    def client(self, name: str, **options: Any) -> Any:
        """A boto3 client for a service of the platform; `options` are boto3's."""
        region = self._environ.get("AWS_DEFAULT_REGION") or DEFAULT_REGION
        url = self._service_urls.get(name, self._aws_url)
        return local_client(name, url, region, **options)

    @property
    def _service_urls(self) -> dict[str, str]:
        """The addresses of the services that moto does not serve."""
        return {
            "cloudformation": self.url + cloudformation.PATH,
            "sagemaker": self.url,
            "sagemaker-runtime": self.url,
        }

    def _stop(self) -> None:
        if self._started.exception() is None:
            self._started.result().should_exit = True
        self._thread.join()

    def _run(self) -> None:
        try:
            asyncio.run(self._serve())
        # Before the start is complete, __enter__ waits for it and raises the error.
        except BaseException as error:
            if self._started.done():
                raise
            self._started.set_exception(error)

    async def _serve(self) -> None:
        async with self._hosting(self._aws_url) as hosting:
            control = ControlApi(hosting, self._describe_wait_s)
            routes = _routes(control, RuntimeApi(hosting, control.endpoints))
            server = uvicorn.Server(_config(Starlette(routes=routes)))
            self._started.set_result(server)
            try:
                await server.serve(sockets=[self._socket] if self._socket else None)
            finally:
                await control.endpoints.close()


def _listen(port: int) -> socket.socket:
    # asyncio disables Nagle's algorithm only if the socket names the protocol (IPPROTO_TCP), as one made
    # from a descriptor does. With the algorithm, every response waits 40 ms for the client's delayed
    # acknowledgement.
    return socket.socket(fileno=socket.create_server((HOST, port)).detach())


def _routes(control: ControlApi, runtime: RuntimeApi) -> list[Route]:
    endpoint = "/endpoints/{name}/"
    return [
        Route("/", control.respond, methods=["POST"]),
        Route(cloudformation.PATH, cloudformation.refuse, methods=["GET", "POST"]),
        Route(endpoint + "invocations", runtime.invoke, methods=["POST"]),
        Route(endpoint + "async-invocations", runtime.refuse_async, methods=["POST"]),
        Route(endpoint + "invocations-response-stream", runtime.refuse_stream, methods=["POST"]),
    ]


def _config(app: Starlette) -> uvicorn.Config:
    return uvicorn.Config(
        app,
        lifespan="off",
        log_config=None,
        access_log=False,
        timeout_graceful_shutdown=_SHUTDOWN_S,
    )


_CREDENTIALS = {"AWS_ACCESS_KEY_ID": ACCESS_KEY, "AWS_SECRET_ACCESS_KEY": ACCESS_KEY}
_DEFAULTS = {**_CREDENTIALS, "AWS_DEFAULT_REGION": DEFAULT_REGION}

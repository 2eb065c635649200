"""A local SageMaker on one loopback port; the rest of AWS on another.

    with LocalSageMaker(hosting) as aws:
        aws.client("sagemaker").create_model(...)

The server runs on an event loop of its own in a thread, and stops with everything it started.
"""

import asyncio
import os
import socket
import threading
from collections.abc import Callable, Mapping
from concurrent.futures import Future
from contextlib import AbstractAsyncContextManager, ExitStack
from types import TracebackType
from typing import Any, Self

import boto3
import uvicorn
from starlette.applications import Starlette
from starlette.routing import Route

from emulator import cloudformation
from emulator.account import DEFAULT_REGION
from emulator.aws import MotoServer
from emulator.control.api import ControlApi
from emulator.interfaces import Hosting
from emulator.runtime import RuntimeApi

HOST = "127.0.0.1"
# Below the 60 s after which boto3 and the `aws` CLI give up reading an answer.
PATIENCE_S = 45.0

# The url of the rest of AWS → the side that runs containers, there from enter to exit.
HostingFactory = Callable[[str], AbstractAsyncContextManager[Hosting]]

_LINE = "AWS_ENDPOINT_URL"
_GRACE_S = 5


class LocalSageMaker:
    """`port` 0 takes a free one; `environ` is looked at for credentials and region to keep."""

    def __init__(
        self,
        hosting: HostingFactory,
        *,
        port: int = 0,
        patience_s: float = PATIENCE_S,
        environ: Mapping[str, str] = os.environ,
    ) -> None:
        self._hosting = hosting
        self._port = port
        self._patience_s = patience_s
        self._environ = environ
        self._aws = MotoServer()
        self._started: Future[uvicorn.Server] = Future()
        self._thread = threading.Thread(target=self._run, name="local-sagemaker")
        self._running = ExitStack()
        self._socket: socket.socket | None = None
        self.url = ""

    def __enter__(self) -> Self:
        with ExitStack() as stack:
            self._socket = stack.enter_context(_listening(self._port))
            self.url = f"http://{HOST}:{self._socket.getsockname()[1]}"
            stack.enter_context(self._aws)
            self._thread.start()
            stack.callback(self._stop)
            self._started.result()
            self._running = stack.pop_all()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self._running.close()

    @property
    def environment(self) -> dict[str, str]:
        """What a process needs in its environment to meet this platform instead of AWS."""
        missing = {name: value for name, value in _DUMMIES.items() if not self._environ.get(name)}
        if self._environ.get("AWS_PROFILE") or self._environ.get("AWS_ACCESS_KEY_ID"):
            missing = {name: v for name, v in missing.items() if name not in _CREDENTIALS}
        lines = {
            f"{_LINE}_{name.upper().replace('-', '_')}": url for name, url in self._ours.items()
        }
        return {_LINE: self._aws.url, **lines, **missing}

    def client(self, name: str, **options: Any) -> Any:
        """A boto3 client of the service, with credentials of no account and nothing else set."""
        return boto3.client(
            name,
            **{
                "endpoint_url": self._ours.get(name, self._aws.url),
                "region_name": self._environ.get("AWS_DEFAULT_REGION") or DEFAULT_REGION,
                "aws_access_key_id": _DUMMIES["AWS_ACCESS_KEY_ID"],
                "aws_secret_access_key": _DUMMIES["AWS_SECRET_ACCESS_KEY"],
                **options,
            },
        )

    @property
    def _ours(self) -> dict[str, str]:
        """Where the services answer that are not moto's."""
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
        # Handed to the thread that waits for the start; after the start nobody waits for it.
        except BaseException as error:
            if self._started.done():
                raise
            self._started.set_exception(error)

    async def _serve(self) -> None:
        async with self._hosting(self._aws.url) as hosting:
            control = ControlApi(hosting, self._patience_s)
            app = application(control, RuntimeApi(hosting, control.endpoints))
            server = uvicorn.Server(_config(app))
            self._started.set_result(server)
            try:
                await server.serve(sockets=[self._socket] if self._socket else None)
            finally:
                await control.endpoints.close()


def _listening(port: int) -> socket.socket:
    # The event loop turns Nagle's algorithm off only where the protocol is named; with it on,
    # every answer waits 40 ms for the client's delayed acknowledgement.
    listening = socket.socket(socket.AF_INET, socket.SOCK_STREAM, socket.IPPROTO_TCP)
    try:
        listening.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listening.bind((HOST, port))
        listening.listen()
    except OSError:
        listening.close()
        raise
    return listening


def application(control: ControlApi, door: RuntimeApi) -> Starlette:
    endpoint = "/endpoints/{name}/"
    return Starlette(
        routes=[
            Route("/", control.answer, methods=["POST"]),
            Route(cloudformation.PATH, cloudformation.refuse, methods=["GET", "POST"]),
            Route(endpoint + "invocations", door.invoke, methods=["POST"]),
            Route(endpoint + "async-invocations", door.refuse_async, methods=["POST"]),
            Route(endpoint + "invocations-response-stream", door.refuse_stream, methods=["POST"]),
        ]
    )


def _config(app: Starlette) -> uvicorn.Config:
    return uvicorn.Config(
        app,
        lifespan="off",
        log_config=None,
        access_log=False,
        timeout_graceful_shutdown=_GRACE_S,
    )


_CREDENTIALS = {"AWS_ACCESS_KEY_ID": "local", "AWS_SECRET_ACCESS_KEY": "local"}
_DUMMIES = {**_CREDENTIALS, "AWS_DEFAULT_REGION": DEFAULT_REGION}

"""Requests of the sections, one at a time or concurrent, with times and responses."""

import asyncio
import json
import re
import time
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import httpx
import uvloop

from benchmarks import traffic
from benchmarks.connection import LOST, Connection, request
from benchmarks.stacks import MeasuredServer

OK = 200
RESERVED = "mme_memory_reserved_bytes{tier=device}"
CAPACITY = "mme_memory_capacity_bytes{tier=device}"
RESTARTS = "mme_worker_restarts_total"
clock = time.perf_counter
_SAMPLE = re.compile(r'^(mme_[a-z_]+(?:\{tier="[a-z]+"\})?) ([0-9.e+-]+)$', re.MULTILINE)


class Refused(Exception):
    """A response other than 200 without which the section cannot continue."""


@dataclass(frozen=True)
class Ask:
    model: str
    document: Any

    @property
    def path(self) -> str:
        return f"/models/{self.model}/invoke"


def text_of(model: str, text: str, **parameters: object) -> Ask:
    more = {"parameters": parameters} if parameters else {}
    return Ask(model, {"inputs": text, **more})


@dataclass(frozen=True)
class CallerAnswer:
    """`status` 0: the connection was closed before the response."""

    ask: Ask
    status: int
    seconds: float
    body: bytes = field(repr=False)

    def brief(self) -> list[Any]:
        return [self.status, ms(self.seconds), self.body[:300].decode("utf-8", "replace")]


# ---- one at a time ----


def post(server: MeasuredServer, path: str, ask: Ask) -> CallerAnswer:
    began = clock()
    try:
        response = server.client.post(path, json=ask.document)
    except httpx.TransportError as error:
        return CallerAnswer(ask, LOST, clock() - began, str(error).encode())
    return CallerAnswer(ask, response.status_code, clock() - began, response.content)


def invoke(server: MeasuredServer, ask: Ask) -> CallerAnswer:
    return post(server, ask.path, ask)


def load(server: MeasuredServer, name: str, directory: Path) -> CallerAnswer:
    return post(server, "/models", Ask(name, {"model_name": name, "url": str(directory)}))


def must_load(server: MeasuredServer, name: str, directory: Path) -> float:
    """Seconds. Raises Refused."""
    answer = load(server, name, directory)
    if answer.status != OK:
        raise Refused(f"the load of {name} was answered {answer.brief()}")
    return answer.seconds


def must_answer(server: MeasuredServer, ask: Ask) -> float:
    """Seconds. Raises Refused."""
    answer = invoke(server, ask)
    if answer.status != OK:
        raise Refused(f"{ask.model} answered {answer.brief()}")
    return answer.seconds


def ping(server: MeasuredServer) -> int:
    try:
        return server.client.get("/ping").status_code
    except httpx.TransportError:
        return LOST


def gauges(server: MeasuredServer) -> dict[str, float]:
    """The container's metrics, without buckets of histograms and without labels of single models."""
    found = _SAMPLE.findall(server.client.get("/metrics").text)
    return {name.replace('"', ""): float(value) for name, value in found}


# ---- many at once ----


class Reading(Connection):
    """A connection that keeps the body of the answer."""

    def __init__(self) -> None:
        super().__init__(self._came)
        self._body = bytearray()
        self._answer_due: asyncio.Future[int] | None = None

    async def ask(self, ask: Ask) -> CallerAnswer:
        self._body.clear()
        self._answer_due = asyncio.get_running_loop().create_future()
        began = clock()
        self.send(request("POST", ask.path, json.dumps(ask.document).encode()))
        status = await self._answer_due
        return CallerAnswer(ask, status, clock() - began, bytes(self._body))

    def on_body(self, data: bytes) -> None:
        self._body += data

    def _came(self, connection: Connection, status: int) -> None:
        if self._answer_due is not None and not self._answer_due.done():
            self._answer_due.set_result(status)


async def _connected(port: int) -> Reading:
    loop = asyncio.get_running_loop()
    _, reading = await loop.create_connection(Reading, "127.0.0.1", port)
    return reading


def together(port: int, asks: Iterable[Ask], clients: int) -> list[CallerAnswer]:
    """Send all of `asks` with several clients, each with one request at a time."""
    answers: list[CallerAnswer] = uvloop.run(together_async(port, iter(asks), clients))
    return answers


async def together_async(port: int, asks: Iterator[Ask], clients: int) -> list[CallerAnswer]:
    answers: list[CallerAnswer] = []
    await asyncio.gather(*(_client(port, asks, answers) for _ in range(clients)))
    return answers


async def _client(port: int, asks: Iterator[Ask], answers: list[CallerAnswer]) -> None:
    reading = await _connected(port)
    for ask in asks:
        if not reading.open:
            reading = await _connected(port)
        answers.append(await reading.ask(ask))
    reading.close()


def volleys(port: int, asks: Sequence[Ask], rounds: int) -> list[tuple[float, list[CallerAnswer]]]:
    """Send all of `asks` at the same time, `rounds` times: seconds to the last response of each round."""
    found: list[tuple[float, list[CallerAnswer]]] = uvloop.run(volleys_async(port, asks, rounds))
    return found


async def volleys_async(
    port: int, asks: Sequence[Ask], rounds: int
) -> list[tuple[float, list[CallerAnswer]]]:
    found = []
    for _ in range(rounds):
        readings = [await _connected(port) for _ in asks]
        began = clock()
        answers = await asyncio.gather(
            *(reading.ask(ask) for reading, ask in zip(readings, asks, strict=True))
        )
        found.append((clock() - began, list(answers)))
        for reading in readings:
            reading.close()
    return found


# ---- figures ----


def ms(seconds: float) -> float:
    return round(seconds * 1e3, 2)


def spread(seconds: Iterable[float]) -> dict[str, float]:
    """Percentiles in milliseconds; empty without samples."""
    ordered = sorted(seconds)
    if not ordered:
        return {}
    shares = {f"p{share}_ms": traffic.percentile(ordered, share / 100) for share in (50, 95, 99)}
    return {"count": len(ordered)} | {name: ms(value) for name, value in shares.items()}


def statuses(answers: Iterable[CallerAnswer]) -> dict[str, int]:
    return dict(Counter(str(answer.status) for answer in answers))

"""Clients that send requests all the while, each in a thread, and what they saw."""

import http.client
import json
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

PAUSE_S = 0.02
PATIENCE_S = 70.0
JSON = {"Content-Type": "application/json"}


@dataclass(frozen=True, slots=True)
class Seen:
    """One answer. `status`: 0 if the connection broke; `right`: whether status and body are as expected."""

    began: float
    seconds: float
    status: int
    right: bool
    body: bytes = b""

    @property
    def ended(self) -> float:
        return self.began + self.seconds


@dataclass
class Observer:
    """Sends one request again and again, with a short pause. `right`: whether a body is the right answer."""

    address: tuple[str, int]
    method: str
    path: str
    body: bytes
    right: Callable[[bytes], bool]
    seen: list[Seen] = field(default_factory=list)
    _over: threading.Event = field(default_factory=threading.Event)
    _thread: threading.Thread | None = None

    def start(self) -> None:
        self._thread = threading.Thread(target=self._run, name=self.path, daemon=True)
        self._thread.start()

    def stop(self) -> None:
        self._over.set()
        assert self._thread is not None
        self._thread.join(PATIENCE_S)
        assert not self._thread.is_alive(), f"{self.path} is not answered"

    def since(self, moment: float) -> list[Seen]:
        """Answers that ended after the moment (of time.monotonic())."""
        return [each for each in tuple(self.seen) if each.ended >= moment]

    def _run(self) -> None:
        connection = http.client.HTTPConnection(*self.address, timeout=PATIENCE_S)
        while not self._over.wait(PAUSE_S):
            began = time.monotonic()
            status, body = exchange(connection, self.method, self.path, self.body)
            right = status == 200 and self.right(body)
            kept = b"" if right else body[:300]
            self.seen.append(Seen(began, time.monotonic() - began, status, right, kept))
        connection.close()


def exchange(
    connection: http.client.HTTPConnection,
    method: str,
    path: str,
    body: bytes = b"",
    headers: Mapping[str, str] = JSON,
) -> tuple[int, bytes]:
    """Status and body; status 0 and the error if the connection broke. The connection can be used again."""
    try:
        connection.request(method, path, body or None, dict(headers))
        response = connection.getresponse()
        return response.status, response.read()
    except (OSError, http.client.HTTPException) as error:
        connection.close()
        return 0, repr(error).encode()


def same(expected: Any) -> Callable[[bytes], bool]:
    """A check that a JSON body equals the expected value, with numbers equal to three digits."""
    return lambda body: rounded(json.loads(body)) == rounded(expected)


def rounded(value: Any) -> Any:
    if isinstance(value, float):
        return round(value, 3)
    if isinstance(value, list):
        return [rounded(each) for each in value]
    if isinstance(value, dict):
        return {key: rounded(each) for key, each in value.items()}
    return value


def longest_outage(seen: Sequence[Seen]) -> float:
    """The longest time, in seconds, from a right answer to the next one with errors between them."""
    longest, last, failing = 0.0, None, False
    for each in sorted(seen, key=lambda each: each.ended):
        if not each.right:
            failing = True
            continue
        if failing and last is not None:
            longest = max(longest, each.ended - last)
        last, failing = each.ended, False
    return longest

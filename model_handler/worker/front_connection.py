"""The worker's end of its connection to the front.

Invariants: a report that can be read by the front is sent for every request, whatever the model answered. A
process that an unexpected error ends says so first, in the log and to the front.
"""

import logging
import os
import socket
import threading
from collections.abc import Iterator
from typing import NoReturn

from model_handler.errors import InferenceFailed
from model_handler.messages import (
    MAX_RESPONSE_HEADERS,
    MAX_RESPONSE_NBYTES,
    Command,
    Done,
    InferenceResponse,
    Poisoned,
    Refusal,
    Report,
    commands,
    frame,
)

log = logging.getLogger(__name__)
LAST_WORD_S = 1.0  # for the last report, while other threads may hold the socket
Result = InferenceResponse | Refusal


class FrontConnection:
    """`max_nbytes`: largest response to one request, with its headers."""

    def __init__(self, end: socket.socket, max_nbytes: int = MAX_RESPONSE_NBYTES) -> None:
        self._end = end
        self._max_nbytes = max_nbytes
        self._sending = threading.Lock()

    def commands(self) -> Iterator[Command]:
        """Those of the front, until it closes the socket."""
        return commands(self._end)

    def send(self, report: Report) -> None:
        """From any thread. Ends the process if the front is gone."""
        data = self._done(report) if type(report) is Done else frame(report)
        try:
            with self._sending:
                self._end.sendall(data)
        except OSError:
            log.info("the front is gone")
            os._exit(1)

    def fail(self, error: BaseException, model_id: int = 0) -> NoReturn:
        """End the process after an error that ends neither a request nor a load. `model_id`: the model at
        work, 0 if there is none.

        The front is told the error's class only: the text, which may quote a request, would reach the
        clients of other models.
        """
        log.critical("worker failed", exc_info=error, extra={"model_id": model_id})
        self.end_process(f"unexpected {type(error).__name__} in the worker", model_id)

    def end_process(self, reason: str, model_id: int = 0) -> NoReturn:
        """Tell the front the reason, and exit. Never raises and never waits for long."""
        try:
            if self._sending.acquire(timeout=LAST_WORD_S):
                self._end.settimeout(LAST_WORD_S)
                self._end.sendall(frame(Poisoned(reason, model_id)))
        finally:
            os._exit(1)

    # ---- results ----

    def _done(self, done: Done) -> bytes:
        for number, result in enumerate(done.results):
            if isinstance(result, InferenceResponse) and (
                result.headers or len(result.body) > self._max_nbytes
            ):
                done.results[number] = self._bounded(result)
        try:
            return frame(done)
        except (UnicodeError, TypeError, ValueError, OverflowError) as error:
            log.warning("a response cannot be sent", exc_info=error)
            done.results[:] = map(_sendable, done.results)
            return frame(done)

    def _bounded(self, response: InferenceResponse) -> Result:
        headers = response.headers
        nbytes = len(response.body) + sum(len(name) + len(value) for name, value in headers)
        if len(headers) > MAX_RESPONSE_HEADERS:
            text = f"the response has {len(headers)} headers, more than {MAX_RESPONSE_HEADERS}"
        elif nbytes > self._max_nbytes:
            text = f"the response of {nbytes} bytes is larger than MME_MAX_RESPONSE"
        else:
            return response
        return Refusal(InferenceFailed.__name__, text)


def _sendable(result: Result) -> Result:
    try:
        frame(Done(0, [result], 0.0, 0.0))
    except (UnicodeError, TypeError, ValueError, OverflowError) as error:
        text = f"the response cannot be sent: {type(error).__name__}"
        return Refusal(InferenceFailed.__name__, text)
    return result

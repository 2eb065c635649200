"""Messages as frames on a socket, and a worker's end of its socket to the front.

A frame is a 4-byte big-endian length and one MessagePack document. Invariant of the worker's end: the front
can read the report on every request, whatever the model answered.
"""

import logging
import os
import socket
import struct
import threading
from collections.abc import Iterator
from typing import NoReturn

import msgspec

from model_handler.messages import (
    MAX_RESPONSE_HEADERS,
    MAX_RESPONSE_NBYTES,
    Command,
    Done,
    InferenceResponse,
    Poisoned,
    Refusal,
    Report,
    decode_command,
)

HEADER = struct.Struct(">I")
MAX_FRAME_NBYTES = 2**31 - 1
RECEIVE_NBYTES = 1 << 20
LAST_WORD_S = 1.0  # for a process's last report, while other threads may hold the socket
FAILED = "InferenceFailed"  # the class in errors.py
UNENCODABLE = UnicodeError, TypeError, ValueError, OverflowError
log = logging.getLogger(__name__)


_encoder = msgspec.msgpack.Encoder()


def frame(message: Command | Report) -> bytes:
    payload = _encoder.encode(message)
    return HEADER.pack(len(payload)) + payload


class FrameBuffer:
    """Splits a byte stream into frames; holds at most one incomplete frame. `limit`: of the next frames."""

    def __init__(self, limit: int = MAX_FRAME_NBYTES) -> None:
        self.limit = limit
        self._data = bytearray()

    def clear(self) -> None:
        """Drop the incomplete frame."""
        self._data = bytearray()

    def feed(self, chunk: bytes) -> list[bytes]:
        """The payloads completed by `chunk`, in order.

        Raises ValueError as soon as the header of a frame arrives that is longer than `limit`.
        """
        data = self._data
        data += chunk
        payloads, start = [], 0
        while len(data) >= start + HEADER.size:
            (length,) = HEADER.unpack_from(data, start)
            if length > self.limit:
                raise ValueError(f"a frame of {length} bytes, more than {self.limit}")
            end = start + HEADER.size + length
            if len(data) < end:
                break
            payloads.append(bytes(memoryview(data)[start + HEADER.size : end]))
            start = end
        del data[:start]
        return payloads


class FrontConnection:
    """`max_nbytes`: largest response to one request, with its headers."""

    def __init__(self, end: socket.socket, max_nbytes: int = MAX_RESPONSE_NBYTES) -> None:
        self._end = end
        self._max_nbytes = max_nbytes
        self._sending = threading.Lock()

    def commands(self) -> Iterator[Command]:
        """Those of the front, until it closes the socket."""
        frames = FrameBuffer()
        while chunk := self._end.recv(RECEIVE_NBYTES):
            yield from map(decode_command, frames.feed(chunk))

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
        """End the process after an unexpected error. `model_id`: the model at work, 0 if there is none.

        The front gets the error's class only: its text may quote a request.
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
        except UNENCODABLE as error:
            log.warning("a response cannot be sent", exc_info=error)
            done.results[:] = map(_sendable, done.results)
            return frame(done)

    def _bounded(self, response: InferenceResponse) -> InferenceResponse | Refusal:
        headers = response.headers
        nbytes = len(response.body) + sum(len(name) + len(value) for name, value in headers)
        if len(headers) > MAX_RESPONSE_HEADERS:
            text = f"the response has {len(headers)} headers, more than {MAX_RESPONSE_HEADERS}"
        elif nbytes > self._max_nbytes:
            text = f"the response of {nbytes} bytes is larger than MME_MAX_RESPONSE"
        else:
            return response
        return Refusal(FAILED, text)


def _sendable(result: InferenceResponse | Refusal) -> InferenceResponse | Refusal:
    try:
        frame(Done(0, [result], 0.0, 0.0))
    except UNENCODABLE as error:
        text = f"the response cannot be sent: {type(error).__name__}"
        return Refusal(FAILED, text)
    return result

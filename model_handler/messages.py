"""What crosses the socket between the front process and a worker, in both directions.

Frames are a 4-byte big-endian length and one MessagePack document. MessagePack and not pickle: a worker
may run code out of an artifact, and what it sends must not be able to execute in the front.
"""

import struct
from collections.abc import Iterator
from typing import Annotated

import msgspec

Count = Annotated[int, msgspec.Meta(ge=0)]
HEADER = struct.Struct(">I")
MAX_FRAME_NBYTES = 2**31 - 1


class InferenceRequest(msgspec.Struct, frozen=True, array_like=True):
    """One caller's request, undecoded: the front never looks inside a payload."""

    body: bytes
    content_type: str | None = None
    accept: str | None = None
    custom_attributes: str | None = None
    request_id: str | None = None
    headers: tuple[tuple[bytes, bytes], ...] = ()  # all of them, names in lower case


class InferenceResponse(msgspec.Struct, frozen=True, array_like=True, tag="answer"):
    """A model's answer, encoded. `custom_attributes` only where the handler set it."""

    body: bytes
    content_type: str
    custom_attributes: str | None = None
    headers: tuple[tuple[str, str], ...] = ()  # further ones that the handler set


class Refusal(msgspec.Struct, frozen=True, array_like=True, tag="refusal"):
    """An error that belongs to one request or one load; `error` is a class name of errors.py.

    `status`: what a handler of the artifact's own asked to be answered, see `errors.HandlerRefusal`.
    """

    error: str
    message: str
    status: int | None = None


# ---- front → worker ----


class Load(msgspec.Struct, frozen=True, array_like=True, tag="load"):
    """Bring one model to the device. `model_id` is the front's own number, never reused.

    `task` is empty where the convention needs none. `name`: as the platform says it, for the artifact's
    own code to see.
    """

    model_id: int
    path: str
    task: str
    dtype: str
    convention: str = "huggingface"
    concurrency: int = 1  # requests that a handler of the artifact's own may be given at a time
    name: str = ""


class Unload(msgspec.Struct, frozen=True, array_like=True, tag="unload"):
    model_id: int


class Demote(msgspec.Struct, frozen=True, array_like=True, tag="demote"):
    """Free the model's device memory and keep the rest of it (handler, tokenizer, modules), so that the
    next `Load` of this model only copies weights. Answered by `Unloaded`. Works for any loaded model; one
    that cannot be kept is unloaded."""

    model_id: int


class Trim(msgspec.Struct, frozen=True, array_like=True, tag="trim"):
    """Return the allocator's unused blocks to the device, for other processes. Answered by `Trimmed`."""

    trim_id: int


class Run(msgspec.Struct, frozen=True, array_like=True, tag="run"):
    """One batch for one model. `timeout_s` is what is left of the most patient request's time."""

    batch_id: int
    model_id: int
    requests: list[InferenceRequest]
    timeout_s: float


# ---- worker → front ----


class Ready(msgspec.Struct, frozen=True, array_like=True, tag="ready"):
    """First message of a worker. Bytes are those of the device's memory, 0 where there is no device."""

    pid: int
    device: str
    total_nbytes: Count
    free_nbytes: Count


class Loaded(msgspec.Struct, frozen=True, array_like=True, tag="loaded"):
    """`nbytes`: what the model holds on the device. `main_nbytes`: main memory that its own process holds
    besides, on a machine with a GPU."""

    model_id: int
    nbytes: Count
    seconds: float
    main_nbytes: Count = 0


class LoadFailed(msgspec.Struct, frozen=True, array_like=True, tag="load_failed"):
    model_id: int
    reason: Refusal


class Unloaded(msgspec.Struct, frozen=True, array_like=True, tag="unloaded"):
    """`leaked_nbytes`: bytes of the model that are still held after collection, normally 0."""

    model_id: int
    leaked_nbytes: Count


class Trimmed(msgspec.Struct, frozen=True, array_like=True, tag="trimmed"):
    """`free_nbytes`: device memory that the driver reports as free now; 0 on a CPU."""

    trim_id: int
    free_nbytes: Count


class Done(msgspec.Struct, frozen=True, array_like=True, tag="done"):
    """One result per request of the batch, in its order.

    `held_nbytes` and `held_main_nbytes`: what an isolated process holds now because of its models, as in
    `Loaded`; 0 where it was not measured.
    """

    batch_id: int
    results: list[InferenceResponse | Refusal]
    prepare_s: float
    forward_s: float
    held_nbytes: Count = 0
    held_main_nbytes: Count = 0


class Poisoned(msgspec.Struct, frozen=True, array_like=True, tag="poisoned"):
    """The device refuses all further work in this process; the worker exits after sending this.

    `model_id`: whose load or batch was running when it was noticed; 0 where none was.
    """

    reason: str
    model_id: int = 0


Command = Load | Unload | Demote | Trim | Run
Report = Ready | Loaded | LoadFailed | Unloaded | Trimmed | Done | Poisoned

_encoder = msgspec.msgpack.Encoder()
_commands = msgspec.msgpack.Decoder(Command)
_reports = msgspec.msgpack.Decoder(Report)


def frame(message: Command | Report) -> bytes:
    payload = _encoder.encode(message)
    return HEADER.pack(len(payload)) + payload


def decode_command(payload: bytes | bytearray | memoryview) -> Command:
    command: Command = _commands.decode(payload)
    return command


def decode_report(payload: bytes | bytearray | memoryview) -> Report:
    report: Report = _reports.decode(payload)
    return report


class FrameBuffer:
    """Cuts a byte stream back into frames; holds at most one incomplete frame."""

    def __init__(self) -> None:
        self._data = bytearray()

    def feed(self, chunk: bytes) -> Iterator[bytes]:
        """The payloads completed by `chunk`, in order. Raises ValueError on an absurd length."""
        self._data += chunk
        while (payload := self._take()) is not None:
            yield payload

    def _take(self) -> bytes | None:
        if len(self._data) < HEADER.size:
            return None
        (length,) = HEADER.unpack_from(self._data)
        if length > MAX_FRAME_NBYTES:
            raise ValueError(f"frame of {length} bytes")
        end = HEADER.size + length
        if len(self._data) < end:
            return None
        payload = bytes(memoryview(self._data)[HEADER.size : end])
        del self._data[:end]
        return payload

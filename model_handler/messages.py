"""Messages that the front process and a worker exchange over a socket, in both directions.

They travel as MessagePack (see framing.py) and not as pickle, because a worker may run code from an artifact,
and its messages must not execute code in the front.
"""

from collections.abc import Callable
from typing import Annotated, Any

import msgspec

Count = Annotated[int, msgspec.Meta(ge=0)]
Seconds = Annotated[float, msgspec.Meta(ge=0, le=1e7)]  # no NaN either: it would spread to all sums
MAX_RESPONSE_NBYTES = 64 << 20  # default of the largest response to one request
MAX_RESPONSE_HEADERS = 128
MAX_BATCH_SIZE = 4096


class InferenceRequest(msgspec.Struct, frozen=True, array_like=True):
    """One caller's request, undecoded: the front never parses a payload."""

    body: bytes
    content_type: str | None = None
    accept: str | None = None
    custom_attributes: str | None = None
    request_id: str | None = None
    headers: tuple[tuple[bytes, bytes], ...] = ()  # all request headers, names in lower case


class InferenceResponse(msgspec.Struct, frozen=True, array_like=True, tag="answer"):
    """A model's encoded response. `custom_attributes` is set only if the handler set it."""

    body: bytes
    content_type: str
    custom_attributes: str | None = None
    # Additional headers that the handler set
    headers: Annotated[
        tuple[tuple[str, str], ...], msgspec.Meta(max_length=MAX_RESPONSE_HEADERS)
    ] = ()


class Refusal(msgspec.Struct, frozen=True, array_like=True, tag="refusal"):
    """The error of one request or one load; `error` is the name of a class in errors.py.

    `status`: HTTP status chosen by the artifact's own handler, see `errors.HandlerRefusal`.
    """

    error: str
    message: str
    status: int | None = None


# ---- front → worker ----


class Load(msgspec.Struct, frozen=True, array_like=True, tag="load"):
    """Load one model onto the device. The front assigns `model_id` and never reuses it.

    `task` is empty if the convention needs none. `name`: the platform's name for the model, passed on to
    the artifact's own code. `uid`: the user to become before any code of the artifact runs, with the groups
    `gids` and the directory `home`; 0: the process keeps its user.
    """

    model_id: int
    path: str
    task: str
    dtype: str
    convention: str = "huggingface"
    concurrency: int = 1  # requests that the artifact's own handler may process at the same time
    name: str = ""
    uid: int = 0
    gids: tuple[int, ...] = ()
    home: str = ""


class Unload(msgspec.Struct, frozen=True, array_like=True, tag="unload"):
    model_id: int


class Demote(msgspec.Struct, frozen=True, array_like=True, tag="demote"):
    """Free the model's device memory and keep its handler, tokenizer and modules, so that the next `Load`
    of this model only copies weights. The response is `Unloaded`. Valid for every loaded model; a model
    that cannot be kept is unloaded."""

    model_id: int


class Trim(msgspec.Struct, frozen=True, array_like=True, tag="trim"):
    """Return the allocator's unused blocks to the device, for other processes. The response is `Trimmed`."""

    trim_id: int


class Run(msgspec.Struct, frozen=True, array_like=True, tag="run"):
    """One batch for one model. `timeout_s`: time left until the latest deadline of its requests.

    `threads`: PyTorch's thread count for the forward; 0: the worker's usual count.
    """

    batch_id: int
    model_id: int
    requests: list[InferenceRequest]
    timeout_s: float
    threads: Count = 0


# ---- front → process that reads artifacts ----


class Inspect(msgspec.Struct, frozen=True, array_like=True, tag="inspect"):
    """Read settings, config and headers of the artifact in the directory `url`, which has to be in one of
    `roots`. The response is `Inspected` or `LoadFailed`. `device`: kind of the device, cpu or cuda."""

    model_id: int
    url: str
    roots: list[str]
    default_task: str | None
    dtype: str
    device: str


class TryOut(msgspec.Struct, frozen=True, array_like=True, tag="try_out"):
    """Open the model on the CPU, let it answer one small request, and close it. The response is `Loaded` or
    `LoadFailed`.

    `memory_nbytes`, `cpu_s`: memory that the process may allocate for this, and CPU time. `computes`: False
    to open the weights in the dtype in which they are stored, and only to prepare the request.
    """

    load: Load
    memory_nbytes: int
    cpu_s: float
    computes: bool


# ---- worker → front ----


class Ready(msgspec.Struct, frozen=True, array_like=True, tag="ready"):
    """The worker's first message. The byte counts describe device memory and are 0 on a CPU.

    `devices`: number of devices of this kind that the machine has; a CPU counts as one.
    """

    pid: int
    device: str
    total_nbytes: Count
    free_nbytes: Count
    devices: Count = 1


class Loaded(msgspec.Struct, frozen=True, array_like=True, tag="loaded"):
    """`nbytes`: memory that the model holds on the device. `main_nbytes`: main memory that the model's own
    process holds in addition, on a machine with a GPU.

    `seconds`: time of the load, without its wait for earlier loads. `private_nbytes`: anonymous main memory
    that the device worker gained during the load: structure, tokenizer, buffers, and weights that differ from
    the file's. Weights used as the file has them are not included: workers share their pages.
    """

    model_id: int
    nbytes: Count
    seconds: Seconds
    main_nbytes: Count = 0
    private_nbytes: Count = 0


class LoadFailed(msgspec.Struct, frozen=True, array_like=True, tag="load_failed"):
    model_id: int
    reason: Refusal


class Inspected(msgspec.Struct, frozen=True, array_like=True, tag="inspected"):
    """`artifact`: fields of an Artifact, as `artifacts.inspection` writes them."""

    model_id: int
    artifact: dict[str, Any]


class Unloaded(msgspec.Struct, frozen=True, array_like=True, tag="unloaded"):
    """`leaked_nbytes`: bytes of the model that are still held after garbage collection, normally 0."""

    model_id: int
    leaked_nbytes: Count


class Trimmed(msgspec.Struct, frozen=True, array_like=True, tag="trimmed"):
    """`free_nbytes`: device memory that the driver now reports as free; 0 on a CPU."""

    trim_id: int
    free_nbytes: Count


class Done(msgspec.Struct, frozen=True, array_like=True, tag="done"):
    """One result per request of the batch, in the order of the batch.

    `held_nbytes` and `held_main_nbytes`: memory that an isolated process now holds for its models, as in
    `Loaded`; 0 if it was not measured.
    """

    batch_id: int
    results: Annotated[list[InferenceResponse | Refusal], msgspec.Meta(max_length=MAX_BATCH_SIZE)]
    prepare_s: Seconds
    forward_s: Seconds
    held_nbytes: Count = 0
    held_main_nbytes: Count = 0


class Poisoned(msgspec.Struct, frozen=True, array_like=True, tag="poisoned"):
    """The last message of a process that ends itself: its device accepts no further work, or an error
    escaped that ends neither one request nor one load.

    `reason`: one line that may be shown to the clients of every model. `model_id`: the model at work in the
    thread that failed; 0 if there was none.
    """

    reason: str
    model_id: int = 0


Command = Load | Unload | Demote | Trim | Run | Inspect | TryOut
Report = Ready | Loaded | LoadFailed | Inspected | Unloaded | Trimmed | Done | Poisoned

decode_command: Callable[[bytes], Command] = msgspec.msgpack.Decoder(Command).decode
decode_report: Callable[[bytes], Report] = msgspec.msgpack.Decoder(Report).decode

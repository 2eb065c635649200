"""The handler interface: a handler turns decoded requests for one model into answers.

This folder is the extension point of the engine: a new kind of model is one new file here. A handler lives
in a worker process and owns its model and its preprocessing. Each step is called by one thread at a time.
"""

from collections.abc import Hashable, Sequence
from dataclasses import dataclass, field
from typing import Any, Protocol, runtime_checkable

from model_handler.artifacts.stamps import Stamps
from model_handler.messages import InferenceRequest


@dataclass(frozen=True, slots=True)
class Payload:
    """A decoded request: the inputs of the model and the parameters of the call."""

    inputs: Any
    parameters: dict[str, Any] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Unit:
    """The smallest piece of work: one row of one forward. A request has one or more.

    Units of one handler with equal `group` may share a forward. `length` is the padded dimension
    (tokens, frames; 1 where nothing is padded): a batch costs rows × the longest length.
    """

    features: Any
    length: int
    group: Hashable


@dataclass(frozen=True, slots=True)
class Prepared:
    """One request after preprocessing. `state`: data that the handler keeps for postprocessing."""

    units: list[Unit]
    state: Any = None


class Codec(Protocol):
    """Decodes a handler's requests from bytes and encodes its answers."""

    def check_accept(self, accept: str | None) -> None:
        """Raises UnacceptableAccept. Called before the forward, to save the work of a doomed request."""
        ...

    def decode(self, request: InferenceRequest) -> Payload:
        """Decode the body. Raises InvalidRequest if it does not have the format of its media type."""
        ...

    def encode(self, answer: Any, accept: str | None) -> tuple[bytes, str]:
        """The answer's bytes and media type."""
        ...


class Handler(Protocol):
    """One loaded model."""

    @property
    def codec(self) -> Codec | None:
        """None: the formats of the Hugging Face inference toolkit."""
        ...

    @property
    def nbytes(self) -> int:
        """Size of the weights and buffers on the device; shared storage counts once."""
        ...

    def preprocess(self, payload: Payload) -> Prepared:
        """Raises InvalidRequest when the inputs or parameters do not fit the task."""
        ...

    def forward(self, units: Sequence[Unit], deadline: float) -> list[Any]:
        """One output per unit, in order. `deadline` is on time.monotonic's clock.

        Raises DeadlineExceeded after the deadline, InvalidRequest for a parameter that only the forward can
        reject, and what the allocator raises when memory runs out.
        """
        ...

    def postprocess(self, prepared: Prepared, outputs: list[Any]) -> Any:
        """The answer in the form its codec encodes; plain Python values if `codec` is None."""
        ...


class Mapped(Protocol):
    """A handler with weights that are views of files: what is written to these changes its answers."""

    @property
    def mapped(self) -> Stamps:
        """The files, as they were when the model was loaded."""
        ...


@runtime_checkable
class Encodes(Protocol):
    """A handler that can preprocess a whole batch in one call, cheaper than request by request."""

    def encode(self, payloads: Sequence[Payload]) -> list[Any]:
        """Encode a batch. Returns for each payload the `encoded` argument of its `preprocess`, or None.

        An exception concerns the batch as a whole: the caller then preprocesses each payload without
        `encoded`.
        """
        ...

    def preprocess(self, payload: Payload, encoded: Any = None) -> Prepared: ...

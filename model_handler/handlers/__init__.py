"""Handlers: what turns decoded requests into answers for one model.

The open set of the engine: a new kind of model is one new file here. A handler lives in a worker
process, is called from one thread at a time per step, and owns its module and its preprocessing.
"""

from collections.abc import Hashable, Sequence
from dataclasses import dataclass, field
from typing import Any, Protocol, runtime_checkable

from model_handler.messages import InferenceRequest


@dataclass(frozen=True, slots=True)
class Payload:
    """A decoded request: what goes into the model and how it is asked to behave."""

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
    """One request after preprocessing; `state` is the handler's own note for postprocessing."""

    units: list[Unit]
    state: Any = None


class Codec(Protocol):
    """How a handler's requests and answers look as bytes."""

    def check_accept(self, accept: str | None) -> None:
        """Raises UnacceptableAccept now rather than after the model has run."""
        ...

    def decode(self, request: InferenceRequest) -> Payload:
        """Raises InvalidRequest for a body that is not what its media type says."""
        ...

    def encode(self, answer: Any, accept: str | None) -> tuple[bytes, str]:
        """The answer's bytes and media type."""
        ...


class Handler(Protocol):
    """One loaded model."""

    @property
    def codec(self) -> Codec | None:
        """None: the forms of the Hugging Face inference toolkit."""
        ...

    @property
    def nbytes(self) -> int:
        """Bytes its weights and buffers hold on the device, shared storage counted once."""
        ...

    def preprocess(self, payload: Payload) -> Prepared:
        """Raises InvalidRequest when the inputs or parameters do not fit the task."""
        ...

    def forward(self, units: Sequence[Unit], deadline: float) -> list[Any]:
        """One output per unit, in order. `deadline` is on time.monotonic's clock.

        Raises DeadlineExceeded when it gave up, InvalidRequest when a parameter proves unusable
        here, and whatever the allocator raises when memory runs out.
        """
        ...

    def postprocess(self, prepared: Prepared, outputs: list[Any]) -> Any:
        """The answer as its codec takes it; plain Python values where it has none of its own."""
        ...


@runtime_checkable
class Encodes(Protocol):
    """A handler with work that is cheaper done for a whole batch than for each of its requests."""

    def encode(self, payloads: Sequence[Payload]) -> list[Any]:
        """For each payload what its `preprocess` gets besides it, or None. What it raises is about the
        batch: each payload is then preprocessed without."""
        ...

    def preprocess(self, payload: Payload, encoded: Any = None) -> Prepared: ...

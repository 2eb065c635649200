"""Every error of the engine. Errors carry data and no HTTP: statuses are in container.http.responses.

EngineError
├── InvalidRequest              what the caller sent cannot be understood
│   ├── UnsupportedContentType  the request's media type has no decoder
│   └── UnacceptableAccept      the answer's media type has no encoder
├── NotFound
│   ├── ModelNotFound           no such model is loaded (or it is being unloaded)
│   └── ArtifactNotFound        no directory at the given url
├── ModelAlreadyLoaded          the name is taken: loaded or loading
├── InsufficientMemory          the one error that makes the platform evict and retry
├── ModelLoadFailed             the artifact is there and cannot be served
├── InferenceFailed             the model raised
│   └── HandlerRefusal          the artifact's own code answered with a status of its choice
├── DeadlineExceeded            the answer would come too late to be of use
└── Unavailable                 try again: nothing is wrong with the request
    ├── QueueFull
    ├── Draining
    ├── ModelUnloading          the model left while the request was in flight
    └── WorkerDied              the process that was computing is gone
"""

from collections.abc import Iterator


class EngineError(Exception):
    """Base of all; `str(error)` is one line that may be shown to the caller."""


class InvalidRequest(EngineError):
    pass


class UnsupportedContentType(InvalidRequest):
    pass


class UnacceptableAccept(InvalidRequest):
    pass


class NotFound(EngineError):
    pass


class ModelNotFound(NotFound):
    pass


class ArtifactNotFound(NotFound):
    pass


class ModelAlreadyLoaded(EngineError):
    pass


class InsufficientMemory(EngineError):
    pass


class ModelLoadFailed(EngineError):
    pass


class InferenceFailed(EngineError):
    pass


class HandlerRefusal(InferenceFailed):
    """`status` is between 400 and 599, and none that the platform acts upon (404, 409, 507)."""

    def __init__(self, message: str, status: int = 500) -> None:
        super().__init__(message)
        self.status = status


class DeadlineExceeded(EngineError):
    pass


class Unavailable(EngineError):
    pass


class QueueFull(Unavailable):
    pass


class Draining(Unavailable):
    pass


class ModelUnloading(Unavailable):
    pass


class WorkerDied(Unavailable):
    pass


def tree(root: type[EngineError] = EngineError) -> Iterator[type[EngineError]]:
    """The given error class and all below it, parents first."""
    yield root
    for child in root.__subclasses__():
        yield from tree(child)


PLATFORMS_OWN = (404, 409, 507)  # the platform reloads, forgets or evicts on these


def from_wire(name: str, message: str, status: int | None = None) -> EngineError:
    """The error a worker named; an unknown name means an engine newer than this front.

    A status comes from code out of an artifact: one that is no error's, or that the platform acts
    upon, becomes 500.
    """
    if status is not None:
        allowed = 400 <= status <= 599 and status not in PLATFORMS_OWN
        return HandlerRefusal(message, status if allowed else 500)
    classes = {cls.__name__: cls for cls in tree()}
    return classes.get(name, InferenceFailed)(message)

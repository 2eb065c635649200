"""All errors of the engine. They do not depend on HTTP: container.http.responses assigns the statuses.

EngineError
├── InvalidRequest              the request cannot be decoded or is not valid for the model
│   ├── UnsupportedContentType  no decoder for the request's media type
│   └── UnacceptableAccept      no encoder for the media types that the caller accepts
├── NotFound
│   ├── ModelNotFound           no such model is loaded (or it is being unloaded)
│   └── ArtifactNotFound        no directory at the given url
├── ModelAlreadyLoaded          the name is in use by a loaded or loading model
├── InsufficientMemory          the only error on which the platform evicts models and retries
├── ModelLoadFailed             the artifact exists but cannot be served
├── InferenceFailed             the model raised an exception
│   └── HandlerRefusal          the artifact's own code returned an error with its own status
├── DeadlineExceeded            the request's deadline passed before its response
└── Unavailable                 the request is valid and can be retried
    ├── QueueFull               the model's queue has reached its limit
    ├── Draining                the server is shutting down gracefully
    ├── ModelUnloading          the model was unloaded while the request was in flight
    └── WorkerDied              the process that computed the request exited
"""

from collections.abc import Iterator


class EngineError(Exception):
    """Base class of all errors; `str(error)` is one line that may be shown to the caller."""


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
    """`status` is between 400 and 599, except the statuses in PLATFORMS_OWN."""

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


def unloading(name: str) -> ModelUnloading:
    return ModelUnloading(f"model {name!r} was unloaded before the answer came")


def unexpected(error: BaseException) -> EngineError:
    """The answer to requests that an error in the engine's own code ended; EngineErrors as they are."""
    if isinstance(error, EngineError):
        return error
    return InferenceFailed(f"internal error: {type(error).__name__}")


def tree(root: type[EngineError] = EngineError) -> Iterator[type[EngineError]]:
    """The given error class and all its subclasses, parents first."""
    yield root
    for child in root.__subclasses__():
        yield from tree(child)


# Statuses on which the platform loads a model again (404), considers it loaded (409) or evicts others (507)
PLATFORMS_OWN = (404, 409, 507)


def from_wire(name: str, message: str, status: int | None = None) -> EngineError:
    """The error with the class name that a worker sent; an unknown name becomes InferenceFailed.

    `status` comes from code in an artifact: if it is not an error status, or is in PLATFORMS_OWN, it
    becomes 500.
    """
    if status is not None:
        allowed = 400 <= status <= 599 and status not in PLATFORMS_OWN
        return HandlerRefusal(message, status if allowed else 500)
    classes = {cls.__name__: cls for cls in tree()}
    return classes.get(name, InferenceFailed)(message)

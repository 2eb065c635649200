"""Artifacts with their own code, behind one interface: a Script turns one request into one answer.

A new convention is one new file here. Runs in isolated processes, and in the processes of multi-model-server;
neither the front process nor the device worker imports it.
"""

from typing import Any, Protocol

from model_handler.messages import InferenceRequest, InferenceResponse


class Script(Protocol):
    """One loaded model. Owned by the process that loads it."""

    def __call__(self, request: InferenceRequest) -> InferenceResponse:
        """Raises what the artifact's code raises; InputRefused for an error of its input step."""
        ...


class InputRefused(Exception):
    """The artifact's code could not read the request. `__cause__` is its exception."""


def as_bytes(answer: Any) -> bytes:
    """A handler's answer as body. Raises TypeError for other types than bytes and str."""
    if isinstance(answer, str):
        return answer.encode()
    if isinstance(answer, bytes | bytearray | memoryview):
        return bytes(answer)
    raise TypeError(f"the code returned {type(answer).__name__}, not bytes or str")

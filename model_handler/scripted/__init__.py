"""Artifacts that bring their own code: one request in, one answer out, whatever the code looks like.

A new convention is one new file here. Lives in isolated processes only; nothing in the front or in the
device's worker imports it.
"""

from typing import Any, Protocol

from model_handler.messages import InferenceRequest, InferenceResponse


class Script(Protocol):
    """One loaded model. Owned by the process that loaded it."""

    def __call__(self, request: InferenceRequest) -> InferenceResponse:
        """Raises whatever the artifact's code raises; InputRefused where it was its input step."""
        ...


class InputRefused(Exception):
    """The artifact's code could not read the request; `__cause__` says why."""


def as_bytes(answer: Any) -> bytes:
    """What handlers return as a body. Raises TypeError for what is none."""
    if isinstance(answer, str):
        return answer.encode()
    if isinstance(answer, bytes | bytearray | memoryview):
        return bytes(answer)
    raise TypeError(f"the code answered with {type(answer).__name__}, not with bytes or str")

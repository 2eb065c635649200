"""The deadline of the work on the calling thread, looked at between rows, windows and layers."""

import math
import threading
import time

from model_handler.errors import DeadlineExceeded


class _Current(threading.local):
    until: float = math.inf


current = _Current()
"""`until`: a time of time.monotonic(), set by whoever starts the work. An attribute instead of a function,
because it is set for every batch."""


def left_s() -> float | None:
    """Seconds to the deadline; None if there is none."""
    if current.until == math.inf:
        return None
    return max(0.0, current.until - time.monotonic())


def check() -> None:
    """Raises DeadlineExceeded after the deadline."""
    if time.monotonic() > current.until:
        raise DeadlineExceeded("the time for this request ran out")

"""python -m benchmarks.simulation.measuring.idle_worker DESCRIPTOR MILLISECONDS

A worker that computes nothing: every batch takes the given time, in which the process sleeps, and all
requests get the same answer. `idle_front` starts it.
"""

import os
import socket
import sys
import time

from model_handler.framing import FrontConnection
from model_handler.messages import (
    Command,
    Demote,
    Done,
    InferenceResponse,
    Load,
    Loaded,
    Ready,
    Report,
    Run,
    Trim,
    Trimmed,
    Unload,
    Unloaded,
)

ANSWER = InferenceResponse(b'[{"label":"LABEL_0","score":0.5123456}]', "application/json")


def main() -> None:
    with socket.socket(fileno=int(sys.argv[1])) as end:
        serve(end, float(sys.argv[2]) / 1e3)


def serve(end: socket.socket, batch_s: float) -> None:
    """Until the front closes the socket."""
    front = FrontConnection(end)
    front.send(Ready(os.getpid(), "cpu", 0, 0))
    for command in front.commands():
        if batch_s and isinstance(command, Run):
            time.sleep(batch_s)
        front.send(_report(command))


def _report(command: Command) -> Report:
    match command:
        case Load():
            return Loaded(command.model_id, 1, 0.0)
        case Unload() | Demote():
            return Unloaded(command.model_id, 0)
        case Trim():
            return Trimmed(command.trim_id, 0)
        case Run():
            return Done(command.batch_id, [ANSWER] * len(command.requests), 0.0, 0.0)
        case _:
            raise ValueError(f"{type(command).__name__} is not for a device worker")


if __name__ == "__main__":
    main()

"""The worker's end: every request gets a report, and an unexpected error ends the process with a reason."""

import socket
import subprocess
import sys
from typing import Any

import pytest

from model_handler.framing import FrameBuffer, FrontConnection
from model_handler.messages import (
    Done,
    InferenceResponse,
    Poisoned,
    Refusal,
    Report,
    decode_report,
)

MAX_NBYTES = 1000
ENDING = """
import logging, socket, sys, threading
from model_handler import logs
from model_handler.framing import FrontConnection
from model_handler.worker.threads import WorkerThread, at_work

logs.configure(logging.INFO, sys.stderr)
front = FrontConnection(socket.socket(fileno=int(sys.argv[1])))

class Secret(BaseException):
    def __str__(self):
        raise KeyError("thread")

def task():
    at_work.cell[1] = 7
    {task}

WorkerThread("broken", front.fail).put(task)
threading.Event().wait()
"""


def last_reports(task: str) -> tuple[list[Report], int, str]:
    """Of a process whose thread runs this task; its exit status and its log."""
    ours, theirs = socket.socketpair()
    with ours, theirs:
        program = [sys.executable, "-c", ENDING.replace("{task}", task), str(theirs.fileno())]
        done = subprocess.run(
            program, pass_fds=[theirs.fileno()], timeout=30, capture_output=True, text=True
        )
        theirs.close()
        received = b"".join(iter(lambda: ours.recv(1 << 16), b""))
    return (
        [decode_report(each) for each in FrameBuffer().feed(received)],
        done.returncode,
        done.stderr,
    )


@pytest.mark.parametrize(
    ("task", "name"),
    [
        ("1 / 0", "ZeroDivisionError"),
        ("raise Secret", "Secret"),
        ("raise SystemExit(0)", "SystemExit"),
        ("front._sending.acquire() and sys.exit()", None),  # a thread that holds the socket
    ],
)
def test_a_thread_ends_its_process_with_a_reason(task: str, name: str | None) -> None:
    reports, status, log = last_reports(task)
    assert status == 1
    assert '"model_id":7' in log
    assert "traceback" in log
    if name is not None:
        assert name in log
        assert reports == [Poisoned(f"unexpected {name} in the worker", 7)]


# ---- responses ----


def received(*results: Any) -> list[Any]:
    """What the front reads of a batch."""
    ours, theirs = socket.socketpair()
    with ours, theirs:
        FrontConnection(theirs, MAX_NBYTES).send(Done(1, [*results], 0.0, 0.0))
        (payload,) = FrameBuffer().feed(ours.recv(1 << 20))
    done = decode_report(payload)
    assert isinstance(done, Done)
    return done.results


def response(body: Any, **fields: Any) -> InferenceResponse:
    return InferenceResponse(body, "text/plain", **fields)


SMALL = response(b"x" * MAX_NBYTES)


@pytest.mark.parametrize(
    ("refused", "reason"),
    [
        (response(b"x" * (MAX_NBYTES + 1)), "larger than MME_MAX_RESPONSE"),
        (response(b"", headers=(("a", "b" * MAX_NBYTES),)), "larger than MME_MAX_RESPONSE"),
        (response(b"", headers=(("a", "b"),) * 129), "129 headers, more than 128"),
        (response(b"", custom_attributes="\ud800"), "cannot be sent: UnicodeEncodeError"),
        (response(b"", custom_attributes=object()), "cannot be sent: TypeError"),
    ],
)
def test_a_response_that_is_too_much_fails_alone(refused: InferenceResponse, reason: str) -> None:
    first, second, third = received(SMALL, refused, response(b"", headers=(("a", "b"),)))
    assert first == SMALL
    assert isinstance(second, Refusal)
    assert second.error == "InferenceFailed"
    assert reason in second.message
    assert third == response(b"", headers=(("a", "b"),))

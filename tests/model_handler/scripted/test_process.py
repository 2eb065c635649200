"""The isolated process stays correct, whatever the artifact's code does."""

import json
import os
import resource
import signal
from collections.abc import Callable
from pathlib import Path
from typing import Any

import psutil
import pytest

from model_handler.messages import Done, InferenceResponse, Poisoned
from tests.contract.waiting import until
from tests.model_handler.scripted.process import Model, Process, request, write

Deploy = Callable[..., Model]

# Executes the statements in the request and answers with their `result`
EXECUTING = """
import asyncio, json, os, signal, subprocess, sys, threading
KEPT = []
def model_fn(model_dir): return None
def transform_fn(model, body, content_type, accept):
    scope = globals() | {"result": None}
    exec(json.loads(body), scope)
    return json.dumps(scope["result"])
"""


def test_code_runs_on_the_main_thread(deploy: Deploy) -> None:
    """Signal handlers and event loops need it, and multi-model-server provides it."""
    model = deploy(EXECUTING)
    assert model.ask("result = threading.current_thread() is threading.main_thread()")
    handle = "signal.signal(signal.SIGALRM, lambda *_: KEPT.append('rang')); "
    assert model.ask(handle + "signal.raise_signal(signal.SIGALRM); result = KEPT") == ["rang"]
    loop = "async def answer(): return 7\nresult = asyncio.run(answer())"
    assert model.ask(loop) == 7


def test_tokenizers_use_one_thread(deploy: Deploy) -> None:
    """Many such processes share the cores, and code may fork, which is unsafe with threads."""
    asked = "result = os.environ['TOKENIZERS_PARALLELISM']"
    assert deploy(EXECUTING).ask(asked) == "false"


def test_concurrent_requests_where_the_artifact_allows_them(deploy: Deploy) -> None:
    """Each request waits for the other two, which would deadlock one after the other."""
    model = deploy(
        """
import threading
BARRIER = threading.Barrier(3)
def model_fn(model_dir): return None
def transform_fn(model, body, content_type, accept):
    BARRIER.wait()
    return body
""",
        concurrency=3,
    )
    started = {model.start(request(number)): number for number in range(3)}
    for _ in started:
        done = model.process.expect(Done)
        (answer,) = done.results
        assert isinstance(answer, InferenceResponse)
        assert json.loads(answer.body) == started[done.batch_id]


def test_requests_are_sequential_by_default(deploy: Deploy) -> None:
    model = deploy("""
import threading
LOCK = threading.Lock()
def model_fn(model_dir): return None
def transform_fn(model, body, content_type, accept):
    assert LOCK.acquire(blocking=False)
    for _ in range(100_000): pass
    LOCK.release()
    return body
""")
    started = [model.start(request(number)) for number in range(5)]
    for batch_id in started:
        done = model.process.expect(Done)
        assert (done.batch_id, [type(each) for each in done.results]) == (
            batch_id,
            [InferenceResponse],
        )


def test_a_batch_has_one_result_per_request(deploy: Deploy) -> None:
    """In the order of the requests, including refusals."""
    model = deploy(EXECUTING)
    results = model.run(request("result = 1"), request("raise ValueError('no')"), request(""))
    assert [getattr(each, "error", None) for each in results] == [None, "InferenceFailed", None]


@pytest.mark.parametrize("statement", ["sys.exit(3)", "raise KeyboardInterrupt", "exit()"])
def test_exit_calls_end_the_request_and_not_the_process(deploy: Deploy, statement: str) -> None:
    model = deploy(EXECUTING)
    assert model.refusal(statement).error == "InferenceFailed"
    assert model.ask("result = 1") == 1


def test_a_signal_handler_that_raises_between_two_requests(deploy: Deploy) -> None:
    """The exception is raised in the process's main loop."""
    model = deploy(EXECUTING)
    raising = "def ring(*_): raise RuntimeError('late')\nsignal.signal(signal.SIGUSR1, ring)"
    model.ask(raising)
    until(lambda: psutil.Process(model.process.pid).status() == psutil.STATUS_SLEEPING)
    os.kill(model.process.pid, signal.SIGUSR1)
    model.process.prints(b"late")
    assert model.ask("result = 1") == 1


def test_a_forked_child_cannot_use_the_socket(deploy: Deploy) -> None:
    """The socket is closed in the child, which exits when it would return to the main loop."""
    model = deploy(EXECUTING)
    child = """
pid = os.fork()
if pid:
    result = os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])
"""
    assert model.ask(child) == 0
    assert model.ask("result = 1") == 1
    sockets = """
def sockets():
    links = [f"/proc/self/fd/{fd}" for fd in os.listdir("/proc/self/fd")]
    return [os.readlink(link) for link in links if os.path.islink(link)]
reader, writer = os.pipe()
if os.fork() == 0:
    held = [name for name in sockets() if name.startswith("socket:")]
    os.write(writer, json.dumps(held).encode())
    os._exit(0)
result = json.loads(os.read(reader, 65536))
"""
    assert model.ask(sockets) == []


def test_signals_to_the_process_group_stay_in_the_process(
    deploy: Deploy, start: Callable[..., Process]
) -> None:
    """Code that kills its process group must not kill the fork server or other models."""
    model, other = deploy(EXECUTING), start()
    model.start(request("os.killpg(0, signal.SIGKILL)"))
    assert model.process.ended()
    assert psutil.Process(other.pid).status() != psutil.STATUS_ZOMBIE
    start()


@pytest.mark.parametrize(
    "statement",
    [
        "sys.stderr.close(); sys.stdout.close()",
        "os.close(1); os.close(2)",
        "sys.stdout = sys.stderr = None",
    ],
)
def test_the_log_survives_closed_output(deploy: Deploy, statement: str) -> None:
    model = deploy(EXECUTING)
    model.ask(statement)
    assert model.refusal("raise ValueError('a closed world')").error == "InferenceFailed"
    model.process.prints(b"ValueError: a closed world")


def test_the_traceback_goes_to_the_log_and_one_line_to_the_caller(deploy: Deploy) -> None:
    model = deploy(EXECUTING)
    refusal = model.refusal("raise ValueError('first\\nsecond')")
    assert refusal.message == "ValueError: first second"
    model.process.prints(b"Traceback")


def test_no_message_quotes_the_request(deploy: Deploy) -> None:
    model = deploy("""
def model_fn(model_dir): return None
def transform_fn(model, body, content_type, accept): raise ValueError(body)
""")
    refusal = model.refusal("the quick brown fox jumps over the lazy dog")
    assert "fox" not in refusal.message
    assert "withheld" in refusal.message


@pytest.mark.parametrize(
    "raising",
    [
        "raise ValueError('\\ud800')",
        "class Mute(Exception):\n    def __str__(self): raise OSError\nraise Mute",
        "class Odd(Exception): status_code = 10 ** 30\nraise Odd",
        "class Odd(Exception): status_code = 'teapot'\nraise Odd",
    ],
    ids=["half a character", "no words", "huge status", "status in words"],
)
def test_errors_that_cannot_be_sent_as_they_are(deploy: Deploy, raising: str) -> None:
    model = deploy(EXECUTING)
    refusal = model.refusal(raising)
    assert (refusal.error, refusal.status) == ("InferenceFailed", None)
    assert model.ask("result = 1") == 1


def test_exceeding_the_memory_limit_is_a_memory_error(
    start: Callable[..., Process], tmp_path: Path
) -> None:
    """The process survives and answers further requests."""
    process = start(memory_nbytes=64 << 20)
    model = process.load(write(tmp_path / "model", EXECUTING))
    assert model.ask("result = len(bytearray(16 << 20))") == 16 << 20
    refusal = model.refusal("bytearray(1 << 30)")
    assert refusal.error == "InsufficientMemory"
    torch = "import torch; torch.empty(1 << 28).fill_(1)"
    assert model.refusal(torch).error == "InsufficientMemory"
    assert model.ask("result = 1") == 1


def test_a_request_too_large_to_be_read_ends_the_process(
    start: Callable[..., Process], tmp_path: Path
) -> None:
    """Instead of leaving a process that cannot read requests."""
    process = start(memory_nbytes=64 << 20)
    model = process.load(write(tmp_path / "model", EXECUTING))
    model.ask("KEPT.append(bytearray(40 << 20))")
    try:
        model.start(request(b"x" * (64 << 20)))
    except (BrokenPipeError, ConnectionResetError):
        return  # it exited before it read the whole request
    assert process.ended()


def test_the_oom_killer_prefers_isolated_processes(process: Process) -> None:
    assert Path(f"/proc/{process.pid}/oom_score_adj").read_text() == "1000\n"


def test_a_load_reports_its_memory(deploy: Deploy) -> None:
    """Private memory of the process, including memory that Python does not allocate."""
    model = deploy("""
import torch
def model_fn(model_dir): return torch.ones(8 << 20)
def transform_fn(model, body, content_type, accept): return body
""")
    assert 32 << 20 <= model.nbytes < 40 << 20
    assert deploy_bytes(model) == pytest.approx(model.nbytes, abs=4 << 20)


def deploy_bytes(model: Model) -> int:
    model.start(request({}))
    return model.process.expect(Done).held_nbytes


def test_memory_of_a_tiny_handler(process: Process, deploy: Deploy) -> None:
    """Including its process."""
    model = deploy(EXECUTING)
    assert model.nbytes < 12 << 20
    assert psutil.Process(process.pid).memory_full_info().uss < 60 << 20


def test_a_lost_device_ends_the_process(deploy: Deploy) -> None:
    """Also if the error occurs in the input step, whose other errors are invalid requests."""
    model = deploy("""
def model_fn(model_dir): return None
def input_fn(body, content_type):
    raise RuntimeError("CUDA error: device-side assert triggered")
def predict_fn(data, model): return data
""")
    model.start(request({}))
    assert "device-side assert" in model.process.expect(Poisoned).reason
    assert model.process.ended()


def test_the_process_exits_when_its_socket_closes(process: Process, deploy: Deploy) -> None:
    """Also while the code blocks and ignores signals."""
    model = deploy(EXECUTING)
    deaf = "[signal.signal(each, signal.SIG_IGN) for each in (signal.SIGTERM, signal.SIGINT)]\n"
    model.start(request(deaf + "print('deaf', flush=True)\nthreading.Event().wait()"))
    process.prints(b"deaf")
    process.end.close()
    psutil.wait_procs([psutil.Process(process.pid)], timeout=60)
    assert not psutil.pid_exists(process.pid)


def test_unloading_one_of_two(start: Callable[..., Process], tmp_path: Path) -> None:
    """The memory of the unloaded model is freed, requests for it are refused, and the other model answers."""
    process = start(alone=False)
    code = """
import os, torch
def model_fn(model_dir): return torch.ones(8 << 20)
def transform_fn(model, body, content_type, accept): return body
"""
    first, second = (process.load(write(tmp_path / name, code)) for name in "ab")
    before = psutil.Process(process.pid).memory_full_info().uss
    first.unload()
    after = psutil.Process(process.pid).memory_full_info().uss
    assert before - after > 30 << 20
    assert second.ask(1) == 1
    assert first.refusal(1).error == "ModelNotFound"


@pytest.mark.parametrize(
    ("raising", "error"),
    [
        ("raise OSError('weights are missing')", "ModelLoadFailed: OSError: weights are missing"),
        ("raise MemoryError", "InsufficientMemory"),
        ("import sys; sys.exit(1)", "ModelLoadFailed: SystemExit: 1"),
        ("def (", "ModelLoadFailed: SyntaxError"),
    ],
)
def test_a_failed_load_reports_the_reason(
    process: Process, tmp_path: Path, raising: str, error: str
) -> None:
    """The process can load another model afterwards."""
    assert error in process.refused_load(write(tmp_path / "bad", raising))
    assert process.load(write(tmp_path / "good", EXECUTING)).ask("result = 1") == 1


def test_the_memory_limit_is_a_resource_limit_that_children_inherit(
    start: Callable[..., Process], tmp_path: Path
) -> None:
    process = start(memory_nbytes=64 << 20)
    model: Any = process.load(write(tmp_path / "model", EXECUTING))
    soft, hard = model.ask("import resource; result = resource.getrlimit(resource.RLIMIT_DATA)")
    assert soft == hard != resource.RLIM_INFINITY


def test_a_response_over_the_limit_is_an_error(
    start: Callable[..., Process], tmp_path: Path
) -> None:
    model = start(max_response_nbytes=1000).load(write(tmp_path / "model", EXECUTING))
    assert "larger than MME_MAX_RESPONSE" in model.refusal("result = 'x' * 1000").message
    assert len(model.ask("result = 'x' * 900")) == 900


@pytest.mark.parametrize("concurrency", [1, 2])
def test_an_error_of_our_own_ends_the_process_with_a_reason(
    deploy: Deploy, concurrency: int
) -> None:
    """The code replaces what measures the process, after it has answered."""
    model = deploy(EXECUTING, concurrency=concurrency)
    breaking = "from model_handler.device.held_memory import HeldMemory\nHeldMemory.now = lambda self: 1 / 0"
    model.start(request(breaking))
    last = model.process.expect(Poisoned)
    assert last == Poisoned("unexpected ZeroDivisionError in the worker", model.model_id)
    assert model.process.ended()

"""Threads that prepare and finish batches: no model waits behind another's slow step."""

import json
import queue
import threading
import time
from collections.abc import Callable, Iterator

import pytest

from model_handler.device.device import CpuDevice
from model_handler.messages import Done, InferenceRequest, InferenceResponse, Run
from model_handler.worker import host_threads
from model_handler.worker.host_threads import HostTask, HostThreads
from tests import artifacts
from tests.model_handler.front import ID, TEXT, Front

PATIENCE_S = 10.0
Log = queue.SimpleQueue[str]


@pytest.fixture(scope="module")
def threads() -> HostThreads:
    return HostThreads(lambda: None)


def steps(log: Log, *actions: str | Callable[[], object]) -> Iterator[None]:
    """Texts are logged, functions are called."""
    for action in actions:
        if isinstance(action, str):
            log.put(action)
        else:
            action()
        yield


def take(log: Log, count: int) -> list[str]:
    return [log.get(timeout=PATIENCE_S) for _ in range(count)]


def test_a_step_that_does_not_end_holds_up_its_own_lane_only(threads: HostThreads) -> None:
    log: Log = queue.SimpleQueue()
    go = threading.Event()
    for number in range(3):
        threads.put(HostTask(number, number, steps(log, go.wait, f"slow {number}")))
    threads.put(HostTask(0, 7, steps(log, "behind")))
    threads.put(HostTask("other", 8, steps(log, "beside")))
    assert take(log, 1) == ["beside"]
    threads.put(HostTask("other", 9, steps(log, "later")))
    assert take(log, 1) == ["later"]
    go.set()
    assert set(take(log, 4)) == {"slow 0", "slow 1", "slow 2", "behind"}


def busy() -> None:
    until = time.monotonic() + 2 * host_threads.TURN_S
    while time.monotonic() < until:
        pass


def test_models_of_a_lane_take_turns_and_a_model_keeps_its_order(threads: HostThreads) -> None:
    log: Log = queue.SimpleQueue()
    go = threading.Event()
    threads.put(HostTask("x", 1, steps(log, go.wait)))
    threads.put(HostTask("x", 2, steps(log, busy, "a1", busy, "a1 ends")))
    threads.put(HostTask("x", 2, steps(log, "a2")))
    threads.put(HostTask("x", 3, steps(log, "b")))
    threads.put(HostTask("x", 2, steps(log, "finish"), finishes=True))
    go.set()
    found = take(log, 5)
    assert found[0] == "finish"
    assert found.index("b") < found.index("a1 ends") < found.index("a2")


TURNS = 4_000  # squared: more than a second


@pytest.fixture(scope="module")
def front(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Front]:
    front = Front(CpuDevice())
    front.load(artifacts.bert_classifier(tmp_path_factory.mktemp("classifier")))
    chat = artifacts.gpt2(tmp_path_factory.mktemp("chat"))
    loop = f"{{% for _ in range({TURNS}) %}}"
    end = "{% endfor %}"
    (chat / "chat_template.jinja").write_text(f"{loop}{loop}{end}{end}a")
    front.load(chat, ID + 1, "text-generation")
    yield front
    front.close()


def chat(front: Front, timeout_s: float) -> None:
    document = {"inputs": [{"role": "user", "content": "hi"}], "parameters": {"max_new_tokens": 1}}
    body = json.dumps(document).encode()
    front.send(Run(50, ID + 1, [InferenceRequest(body, "application/json")], timeout_s))


def test_a_slow_template_costs_its_own_model_alone(front: Front) -> None:
    chat(front, 0.05)
    beside = front.ask(Run(1, ID, [InferenceRequest(TEXT, "application/json")], 60))
    assert isinstance(beside, Done)
    assert beside.batch_id == 1
    assert isinstance(beside.results[0], InferenceResponse)
    late = front.next()
    assert isinstance(late, Done)
    assert late.batch_id == 50
    assert "DeadlineExceeded" in str(late.results)

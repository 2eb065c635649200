"""A worker, tested over its socket: one report for each command, regardless of other work in progress."""

import ctypes
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NoReturn

import pytest

from model_handler.errors import ModelLoadFailed
from model_handler.handlers.pipeline import PipelineHandler
from model_handler.loading.loader import TorchLoader
from model_handler.messages import (
    Command,
    Demote,
    Done,
    InferenceRequest,
    InferenceResponse,
    Load,
    Loaded,
    LoadFailed,
    Refusal,
    Run,
    Trim,
    Trimmed,
    Unload,
    Unloaded,
)
from tests import artifacts
from tests.model_handler.front import ID, TEXT, Front
from tests.model_handler.tensors_alive import Emptied


@pytest.fixture
def device() -> Emptied:
    return Emptied()


@pytest.fixture
def front(device: Emptied) -> Iterator[Front]:
    front = Front(device)
    yield front
    front.close()


def test_a_demotion_on_a_cpu_unloads_the_model(front: Front, classifier: Path) -> None:
    """The weights are pages of the mapped file, which need no copy."""
    assert isinstance(front.load(classifier), Loaded)
    expected = front.answer()
    assert front.ask(Demote(ID)) == Unloaded(ID, 0)
    refusal = front.answer()
    assert isinstance(refusal, Refusal)
    assert refusal.error == "ModelNotFound"
    assert isinstance(front.load(classifier), Loaded)
    assert front.answer() == expected
    assert front.ask(Unload(ID)) == Unloaded(ID, 0)


@pytest.mark.parametrize("command", [Demote(ID), Unload(ID)])
def test_a_model_that_is_not_loaded(command: Command, front: Front) -> None:
    assert front.ask(command) == Unloaded(ID, 0)


def test_commands_sent_before_earlier_reports(front: Front, classifier: Path) -> None:
    """Each applies to the state after all earlier commands."""
    load = Load(ID, str(classifier), "text-classification", "auto")
    assert isinstance(front.ask(load), Loaded)
    front.send(Demote(ID), load)
    assert front.next() == Unloaded(ID, 0)
    assert isinstance(front.next(), Loaded)
    assert isinstance(front.answer(), InferenceResponse)
    front.send(Demote(ID), Unload(ID))
    assert [front.next(), front.next()] == [Unloaded(ID, 0)] * 2


def test_a_batch_before_a_demotion_is_answered(front: Front, classifier: Path) -> None:
    front.load(classifier)
    for _ in range(5):
        run = Run(1, ID, [InferenceRequest(TEXT, "application/json")], 60)
        front.send(run, Demote(ID))
        done, unloaded = sorted((front.next(), front.next()), key=lambda each: type(each).__name__)
        assert isinstance(done, Done)
        assert isinstance(done.results[0], InferenceResponse)
        assert unloaded == Unloaded(ID, 0)
        assert isinstance(front.load(classifier), Loaded)


def test_quick_forwards_take_no_other_thread(
    front: Front, classifier: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """On a CPU, where a forward has one thread."""
    front.load(classifier)
    expected, forward, threads = front.answer(), PipelineHandler.forward, list[str]()

    def recorded(handler: PipelineHandler, units: Any, deadline: float) -> Any:
        threads.append(threading.current_thread().name.split()[0])
        return forward(handler, units, deadline)

    monkeypatch.setattr(PipelineHandler, "forward", recorded)
    request = [InferenceRequest(TEXT, "application/json")]
    for granted in (1, 1, 2):
        done = front.ask(Run(1, ID, request, 60, granted))
        assert isinstance(done, Done)
        assert done.results == [expected]
    assert threads == ["host", "host", "device"]


def test_trim(front: Front, device: Emptied) -> None:
    assert front.ask(Trim(11)) == Trimmed(11, 0)
    assert len(device.times) == 1


def test_demotions_and_unloads_do_not_trim(front: Front, device: Emptied, classifier: Path) -> None:
    """A trim synchronizes the device and releases blocks that the next model could use."""
    for command in (Demote(ID), Unload(ID)):
        assert isinstance(front.load(classifier), Loaded)
        front.ask(command)
    assert not device.times


def test_trimming_does_not_wait_for_a_load(
    front: Front, copy: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    go_on = threading.Event()

    def blocked(*_: object) -> NoReturn:
        go_on.wait()
        raise ModelLoadFailed("blocked until the test went on")

    monkeypatch.setattr(TorchLoader, "load", blocked)
    front.send(Load(ID, str(copy), "text-classification", "auto"))
    assert front.ask(Trim(12)) == Trimmed(12, 0)
    go_on.set()
    assert isinstance(front.next(), LoadFailed)


def test_private_memory_of_a_load(front: Front, tmp_path: Path) -> None:
    """Weights that are pages of the file are not private; converted ones are, unless they get memory that
    earlier tests have freed."""
    ctypes.CDLL(None).malloc_trim(0)
    path = artifacts.bert_classifier(tmp_path, hidden_size=256, intermediate_size=8192)
    for model_id, dtype, private in ((1, "auto", False), (2, "auto", False), (3, "bfloat16", True)):
        loaded = front.ask(Load(model_id, str(path), "text-classification", dtype))
        assert isinstance(loaded, Loaded)
        assert loaded.seconds > 0
        assert (loaded.private_nbytes > loaded.nbytes / 2) == private

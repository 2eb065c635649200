"""PyTorch's thread count: what the front grants for a forward, otherwise the worker's usual count."""

from collections.abc import Iterator
from pathlib import Path

import pytest
import torch
from torch.nn.modules.module import register_module_forward_pre_hook

from model_handler.device.device import CpuDevice
from model_handler.messages import Done, InferenceRequest, InferenceResponse, Loaded, Run
from model_handler.worker.forward import computing
from tests import artifacts
from tests.model_handler.front import ID, TEXT, Front
from tests.model_handler.harness import Builder


@pytest.fixture(autouse=True)
def restored() -> Iterator[None]:
    before = torch.get_num_threads()
    yield
    torch.set_num_threads(before)


@pytest.mark.parametrize(("granted", "expected"), [(0, 2), (1, 1), (2, 2), (3, 3)])
def test_the_granted_count_holds_for_the_block(granted: int, expected: int) -> None:
    torch.set_num_threads(2)
    with computing(granted):
        assert torch.get_num_threads() == expected
    assert torch.get_num_threads() == 2


def test_the_usual_count_returns_after_an_error() -> None:
    torch.set_num_threads(1)
    with pytest.raises(ZeroDivisionError), computing(3):
        _ = 1 / 0
    assert torch.get_num_threads() == 1


@pytest.fixture
def counts() -> Iterator[set[int]]:
    """The thread counts with which modules of models computed."""
    counts = set[int]()
    hook = register_module_forward_pre_hook(lambda *_: counts.add(torch.get_num_threads()))
    yield counts
    hook.remove()


@pytest.mark.parametrize(
    ("build", "task"),
    [(artifacts.bert_classifier, "text-classification"), (artifacts.t5, "text2text-generation")],
)
def test_batches_compute_with_the_granted_count(
    build: Builder, task: str, tmp_path: Path, counts: set[int]
) -> None:
    """The warm-up of a model, and batches of one and of many steps, in a worker on a CPU."""
    front = Front(CpuDevice())
    assert isinstance(front.load(build(tmp_path), task=task), Loaded)
    assert counts == {1}
    for granted, expected in ((2, 2), (0, 1), (3, 3)):
        counts.clear()
        done = front.ask(Run(1, ID, [InferenceRequest(TEXT, "application/json")], 60, granted))
        assert isinstance(done, Done)
        assert isinstance(done.results[0], InferenceResponse)
        assert counts == {expected}
    front.close()

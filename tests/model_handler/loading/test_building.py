"""Half-precision checkpoints: loads run concurrently with forwards and build transformers' modules."""

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
import torch
import transformers

from model_handler.device.device import CpuDevice
from model_handler.loading.loader import TorchLoader
from model_handler.sharing.turnstile import Turn, Turnstile, WorkKind
from tests import artifacts
from tests.model_handler.harness import implied_task
from tests.model_handler.tensors_alive import retensor


def stored_as(dtype: torch.dtype, path: Path) -> Path:
    retensor(path, lambda tensors: {name: each.to(dtype) for name, each in tensors.items()})
    return path


class Watched(Turnstile):
    """Sets events when a long turn begins and ends."""

    def __init__(self) -> None:
        super().__init__()
        self.constructing, self.constructed = threading.Event(), threading.Event()

    @contextmanager
    def turn(self, kind: WorkKind) -> Iterator[Turn]:
        with super().turn(kind) as turn:
            if kind is WorkKind.LONG:
                self.constructing.set()
            yield turn
        if kind is WorkKind.LONG:
            self.constructed.set()


def test_turns_are_granted_while_a_half_precision_structure_is_built(tmp_path: Path) -> None:
    """The usual default dtype is set during every such turn."""
    path = stored_as(torch.bfloat16, artifacts.bert_classifier(tmp_path, layers=48))
    turnstile = Watched()
    owner = TorchLoader(CpuDevice(), turnstile)
    thread = threading.Thread(target=owner.load, args=(path, "text-classification"))
    thread.start()
    assert turnstile.constructing.wait(30)
    granted = 0
    while not turnstile.constructed.is_set():
        with turnstile.turn(WorkKind.BRIEF):
            granted += not turnstile.constructed.is_set()
            assert torch.ones(1).dtype is torch.float32
    thread.join(30)
    assert granted > 1
    assert torch.get_default_dtype() is torch.float32


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
@pytest.mark.parametrize("build", [artifacts.bert_classifier, artifacts.marian, artifacts.gpt2])
def test_modules_equal_those_of_from_pretrained(
    tmp_path: Path, build: Any, dtype: torch.dtype
) -> None:
    path = stored_as(dtype, build(tmp_path))
    task = implied_task(path)
    name = str(dtype).removeprefix("torch.")
    ours = TorchLoader(CpuDevice(), Turnstile()).load(path, task, name).model
    plain = type(ours).from_pretrained(path, dtype=dtype)
    for kind in ("named_parameters", "named_buffers"):
        expected = dict(getattr(plain, kind)())
        found = dict(getattr(ours, kind)())
        assert found.keys() == expected.keys()
        for name, tensor in expected.items():
            assert found[name].dtype is tensor.dtype, name
            assert torch.equal(found[name], tensor), name
    assert isinstance(ours, transformers.PreTrainedModel)

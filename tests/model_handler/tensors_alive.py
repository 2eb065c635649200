"""Shared by the tests of the loader: changes to an artifact, and a count of the tensors that are alive."""

import gc
import json
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
import safetensors.torch
import torch

from model_handler.device.device import CpuDevice
from model_handler.errors import ModelLoadFailed
from tests.model_handler.harness import loader

TEXT = {"inputs": "the film was a wonderful surprise"}


@dataclass(frozen=True)
class Emptied(CpuDevice):
    """A device that counts calls of empty_cache."""

    times: list[None] = field(default_factory=list)

    def empty_cache(self) -> None:
        self.times.append(None)


def edit(path: Path, **fields: Any) -> None:
    document = json.loads(path.read_bytes()) | fields
    path.write_text(json.dumps(document))


def retensor(path: Path, change: Callable[[dict[str, Any]], dict[str, Any]]) -> None:
    file = path / "model.safetensors"
    tensors = {name: each.clone() for name, each in safetensors.torch.load_file(file).items()}
    safetensors.torch.save_file(change(tensors), file, {"format": "pt"})


def failure(path: Path, task: str | None = None, dtype: str = "auto") -> str:
    """The message of a load that must fail; checks that the failed load leaves no tensors."""
    owner = loader()
    gc.collect()
    before = living_tensors()
    with pytest.raises(ModelLoadFailed) as caught:
        owner.load(path, task or "text-classification", dtype)
    message = str(caught.value)
    del caught
    assert living_tensors() == before
    assert len(owner.processors) == 0
    assert "\n" not in message
    assert len(message) <= 1000
    return message


def living_tensors() -> int:
    return sum(type(each) is torch.nn.Parameter for each in gc.get_objects())

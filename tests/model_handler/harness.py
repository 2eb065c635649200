"""Models loaded for tests, and requests processed in the worker's three steps."""

import json
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch

from model_handler.artifacts import tasks
from model_handler.device.device import CpuDevice
from model_handler.handlers import Handler
from model_handler.handlers.pipeline import PipelineHandler
from model_handler.loading.loader import TorchLoader
from model_handler.messages import InferenceRequest, InferenceResponse, Refusal
from model_handler.sharing.turnstile import Turnstile
from model_handler.worker.forward import finish, forward, prepare

Builder = Callable[..., Path]

# For models this small, the cost of a second thread is higher than its gain
torch.set_num_threads(1)


def loader() -> TorchLoader:
    return TorchLoader(CpuDevice(), Turnstile())


def implied_task(path: Path) -> str:
    return tasks.infer(json.loads((path / "config.json").read_bytes()))


@contextmanager
def loaded(path: Path, task: str | None = None, dtype: str = "auto") -> Iterator[PipelineHandler]:
    """Load a handler for the block, and check that the unload frees all of its memory."""
    owner = loader()
    handler = owner.load(path, task or implied_task(path), dtype)
    yield handler
    assert owner.unload(handler) == 0


def request(document: Any, **fields: Any) -> InferenceRequest:
    if isinstance(document, bytes):
        return InferenceRequest(document, **fields)
    return InferenceRequest(json.dumps(document).encode(), "application/json", **fields)


def run(
    handler: Handler, *documents: Any, timeout_s: float = 60, **options: Any
) -> list[InferenceResponse | Refusal]:
    """Run one batch. A document is a request, bytes, or any JSON value."""
    requests = [each if isinstance(each, InferenceRequest) else request(each) for each in documents]
    batch = prepare(handler, requests)
    forward(batch, CpuDevice(), time.monotonic() + timeout_s, **options)
    return finish(batch)


def answers(handler: Handler, *documents: Any, **options: Any) -> list[Any]:
    """The decoded responses of one batch without errors."""
    results = run(handler, *documents, **options)
    assert [each for each in results if isinstance(each, Refusal)] == []
    return [json.loads(each.body) for each in results if isinstance(each, InferenceResponse)]


def refusal(handler: Handler, document: Any, **options: Any) -> Refusal:
    (result,) = run(handler, document, **options)
    assert isinstance(result, Refusal), result
    return result

"""Building a model's modules under the dtype of its checkpoint, without keeping forwards waiting.

transformers sets the default dtype of the whole process while a model's constructor runs. Always true:
whoever computes behind the turnstile finds the usual one; constructors and forwards alternate.
"""

import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from typing import Any

import torch
import transformers
from torch.overrides import TorchFunctionMode

from model_handler.sharing.turnstile import Turnstile, WorkKind

SLICE_S = 0.001  # a constructor's calls of PyTorch are some 20 µs apart, 0.8 ms at most (bert-base)


class Construction(TorchFunctionMode):
    """Holds a turn for the block; between two calls of PyTorch it lets waiting turns go first."""

    def __init__(self, lane: Turnstile) -> None:
        super().__init__()
        self._lane = lane
        self._stay = ExitStack()
        self._since = 0.0

    def __enter__(self) -> Any:
        self._usual = torch.get_default_dtype()
        self._stay.enter_context(self._lane.turn(WorkKind.LONG))
        self._since = time.monotonic()
        return super().__enter__()  # type: ignore[no-untyped-call]

    def __exit__(self, *error: Any) -> None:
        super().__exit__(*error)  # type: ignore[no-untyped-call]
        self._stay.close()

    def __torch_function__(
        self, function: Callable[..., Any], types: Any, args: Any = (), kwargs: Any = None
    ) -> Any:
        if self._lane.waiting() and time.monotonic() - self._since > SLICE_S:
            self._pause()
        return function(*args, **(kwargs or {}))

    def _pause(self) -> None:
        dtype = torch.get_default_dtype()
        torch.set_default_dtype(self._usual)
        self._lane.give_way()
        torch.set_default_dtype(dtype)
        self._since = time.monotonic()


@contextmanager
def sharing(lane: Turnstile, dtype: torch.dtype) -> Iterator[None]:
    """For the block, which calls from_pretrained for `dtype`: constructors that change the default take
    turns at `lane`, and reading weights takes none.

    One thread of the process at a time.
    """
    if dtype is torch.get_default_dtype():
        yield
        return
    base = transformers.PreTrainedModel
    contexts = base.__dict__["get_init_context"]

    def shared(cls: Any, *args: Any, **kwargs: Any) -> list[Any]:
        return [Construction(lane), *contexts.__get__(None, cls)(*args, **kwargs)]

    base.get_init_context = classmethod(shared)
    try:
        yield
    finally:
        base.get_init_context = contexts

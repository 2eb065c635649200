"""Build a model's modules under the dtype of its checkpoint, without blocking forwards.

transformers sets the default dtype of the whole process while a model's constructor runs. Invariant: code
that holds a turn of the turnstile sees the usual default dtype; constructors and forwards alternate.
"""

import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from typing import Any

import torch
import transformers
from torch.overrides import TorchFunctionMode

from model_handler.sharing.turnstile import Turnstile, WorkKind

SLICE_S = (
    0.001  # bert-base: the PyTorch calls of its constructor are about 20 µs apart, at most 0.8 ms
)


class Construction(TorchFunctionMode):
    """Holds a turn for the block, and yields it to waiting ones between two PyTorch calls."""

    def __init__(self, turnstile: Turnstile) -> None:
        super().__init__()
        self._turnstile = turnstile
        self._stay = ExitStack()
        self._since = 0.0

    def __enter__(self) -> Any:
        self._usual = torch.get_default_dtype()
        self._stay.enter_context(self._turnstile.turn(WorkKind.LONG))
        self._since = time.monotonic()
        return super().__enter__()  # type: ignore[no-untyped-call]

    def __exit__(self, *error: Any) -> None:
        super().__exit__(*error)  # type: ignore[no-untyped-call]
        self._stay.close()

    def __torch_function__(
        self, function: Callable[..., Any], types: Any, args: Any = (), kwargs: Any = None
    ) -> Any:
        if self._turnstile.waiting() and time.monotonic() - self._since > SLICE_S:
            self._pause()
        return function(*args, **(kwargs or {}))

    def _pause(self) -> None:
        dtype = torch.get_default_dtype()
        torch.set_default_dtype(self._usual)
        self._turnstile.give_way()
        torch.set_default_dtype(dtype)
        self._since = time.monotonic()


@contextmanager
def sharing(turnstile: Turnstile, dtype: torch.dtype) -> Iterator[None]:
    """Share the process with forwards while the block calls from_pretrained for `dtype`.

    Constructors that change the default dtype take turns at `turnstile`; reading weights takes none. Only one
    thread of the process may be in such a block, because it patches transformers.
    """
    if dtype is torch.get_default_dtype():
        yield
        return
    base = transformers.PreTrainedModel
    contexts = base.__dict__["get_init_context"]

    def shared(cls: Any, *args: Any, **kwargs: Any) -> list[Any]:
        return [Construction(turnstile), *contexts.__get__(None, cls)(*args, **kwargs)]

    base.get_init_context = classmethod(shared)
    try:
        yield
    finally:
        base.get_init_context = contexts

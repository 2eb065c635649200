"""The commonest request, one text and no parameters, tokenized for a whole batch in one call.

Always true: a row made here is the row that the pipeline makes of the same text by itself.
"""

from collections.abc import Sequence
from typing import Any, Self

import torch

from model_handler.handlers.staged import Call, Staged

# Families whose rows are the tokenizer's answer to the text and nothing else
_FAMILIES = frozenset({"feature-extraction", "text-classification"})
_PROBE = "warm"


class PlainTexts:
    """`call`: what the pipeline does with any such request; `listed`: its answer is a list of one."""

    def __init__(self, staged: Staged, call: Call, *, listed: bool) -> None:
        self.call = call
        self._tokenizer = staged.pipeline.tokenizer
        self._listed = listed

    @classmethod
    def of(cls, family: str, staged: Staged, defaults: dict[str, Any]) -> Self | None:
        """None for models whose texts have to go one by one. `defaults`: parameters of the task."""
        if family not in _FAMILIES or staged.pipeline.tokenizer is None:
            return None
        call = staged.read(_PROBE, defaults)
        mark = object()
        listed = staged.answer(_PROBE, defaults, [mark]) is not mark
        return cls(staged, call, listed=listed)

    def rows(self, texts: Sequence[str]) -> list[dict[str, torch.Tensor]]:
        """Of each text its features, one row each. Raises what the tokenizer raises."""
        encoded = self._tokenizer(list(texts), **self.call.preprocess)
        columns = [(name, encoded[name]) for name in encoded]
        return [
            {name: torch.tensor([column[at]], dtype=torch.long) for name, column in columns}
            for at in range(len(texts))
        ]

    def shaped(self, answer: Any) -> Any:
        """The answer to the one text as the pipeline's caller gets it."""
        return [answer] if self._listed else answer

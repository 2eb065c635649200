"""The commonest request, one text and no parameters, tokenized for a whole batch in one call.

Always true: a row made here is the row that the pipeline makes of the same text by itself.
"""

from collections.abc import Callable, Sequence
from typing import Any, Self

import torch
from transformers.pipelines.text_classification import sigmoid, softmax

from model_handler.handlers.staged import PipelineCall, Staged

# Families whose rows are the tokenizer's answer to the text and nothing else
_FAMILIES = frozenset({"feature-extraction", "text-classification"})
_PROBE = "warm"
_Scores = Callable[[Any], Any]


class PlainTexts:
    """`call`: what the pipeline does with any such request; `listed`: its answer is a list of one."""

    def __init__(
        self, staged: Staged, call: PipelineCall, *, listed: bool, classifies: bool
    ) -> None:
        self.call = call
        self._tokenizer = staged.pipeline.tokenizer
        self._listed = listed
        self._config = staged.pipeline.model.config
        self._scores = _scores(self._config) if classifies else None

    @classmethod
    def of(cls, family: str, staged: Staged, defaults: dict[str, Any]) -> Self | None:
        """None for models whose texts have to go one by one. `defaults`: parameters of the task."""
        if family not in _FAMILIES or staged.pipeline.tokenizer is None:
            return None
        call = staged.read(_PROBE, defaults)
        mark = object()
        listed = staged.answer(_PROBE, defaults, [mark]) is not mark
        classifies = family == "text-classification" and not call.postprocess
        return cls(staged, call, listed=listed, classifies=classifies)

    def rows(self, texts: Sequence[str]) -> list[dict[str, torch.Tensor]]:
        """Of each text its features, one row each. Raises what the tokenizer raises."""
        encoded = self._tokenizer(list(texts), **self.call.preprocess)
        columns = [(name, encoded[name]) for name in encoded]
        return [
            {name: torch.tensor([column[at]], dtype=torch.long) for name, column in columns}
            for at in range(len(texts))
        ]

    def answers(self, outputs: Any) -> list[Any] | None:
        """Of rows that went through the model together; None where that is the pipeline's work."""
        if self._scores is None:
            return None
        scores = self._scores(outputs["logits"].float().numpy())
        labels = self._config.id2label
        best = zip(scores.argmax(-1).tolist(), scores.max(-1).tolist(), strict=True)
        return [{"label": labels[label], "score": score} for label, score in best]

    def shaped(self, answer: Any) -> Any:
        """The answer to the one text as the pipeline's caller gets it."""
        return [answer] if self._listed else answer


def _scores(config: Any) -> _Scores | None:
    """From logits to scores, chosen as the text-classification pipeline chooses where nothing was asked."""
    problem = config.problem_type
    if problem == "regression":
        return _unchanged
    if problem == "multi_label_classification" or config.num_labels == 1:
        return sigmoid  # type: ignore[no-any-return]
    if problem == "single_label_classification" or config.num_labels > 1:
        return softmax  # type: ignore[no-any-return]
    return None


def _unchanged(logits: Any) -> Any:
    return logits

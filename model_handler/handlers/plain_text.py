"""Fast path for the most frequent request, one text without parameters: one tokenizer call per batch.

Invariant: a row made here equals the row that the pipeline makes of the same text.
"""

from collections.abc import Callable, Sequence
from typing import Any, Self

import torch
from transformers.pipelines.text_classification import sigmoid, softmax

from model_handler.handlers.staged import PipelineCall, Staged

# Families whose rows consist of the tokenizer's output only
_FAMILIES = frozenset({"feature-extraction", "text-classification"})
_PROBE = "warm"
_Scores = Callable[[Any], Any]


class PlainTexts:
    """`call`: the pipeline call for any such request. `listed`: whether its answer is a list of one.

    `classifies`: scores are computed here for the whole batch instead of by the pipeline for each row.
    """

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
        """None for models without this fast path. `defaults`: parameters of the task."""
        if family not in _FAMILIES or staged.pipeline.tokenizer is None:
            return None
        call = staged.read(_PROBE, defaults)
        mark = object()
        listed = staged.answer(_PROBE, defaults, [mark]) is not mark
        classifies = family == "text-classification" and not call.postprocess
        return cls(staged, call, listed=listed, classifies=classifies)

    def rows(self, texts: Sequence[str]) -> list[dict[str, torch.Tensor]]:
        """The features of each text, one row each. Raises what the tokenizer raises."""
        encoded = self._tokenizer(list(texts), **self.call.preprocess)
        columns = [(name, encoded[name]) for name in encoded]
        return [
            {name: torch.tensor([column[at]], dtype=torch.long) for name, column in columns}
            for at in range(len(texts))
        ]

    def answers(self, outputs: Any) -> list[Any] | None:
        """The answers of the rows of one forward; None if the pipeline computes them in postprocessing."""
        if self._scores is None:
            return None
        scores = self._scores(outputs["logits"].float().numpy())
        labels = self._config.id2label
        best = zip(scores.argmax(-1).tolist(), scores.max(-1).tolist(), strict=True)
        return [{"label": labels[label], "score": score} for label, score in best]

    def shaped(self, answer: Any) -> Any:
        """The answer in the shape that the pipeline returns for one text."""
        return [answer] if self._listed else answer


def _scores(config: Any) -> _Scores | None:
    """The function from logits to scores that the text-classification pipeline uses by default."""
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

"""Fast path for the most frequent request, one text without parameters: one tokenizer call per batch.

Invariant: a row made here equals the row that the pipeline makes of the same text.
"""

import math
from collections.abc import Callable
from typing import Any, Self

import torch
from transformers.pipelines.text_classification import sigmoid, softmax

from model_handler.errors import InvalidRequest
from model_handler.handlers import Payload
from model_handler.handlers.embedding_limits import EmbeddingLimits
from model_handler.handlers.staged import PipelineCall, Staged

# Families whose rows consist of the tokenizer's output only
_FAMILIES = frozenset({"feature-extraction", "text-classification"})
_PROBE = "warm"
_Scores = Callable[[Any], Any]
_LONGEST = 10_000  # characters: the call for all texts of a batch cannot be interrupted
PlainRow = dict[str, list[int]]  # the tokenizer's columns for one text


def is_plain(payload: Payload) -> bool:
    """Whether it is one text without parameters, and not an empty one: some tokenizers make no row of it."""
    inputs = payload.inputs
    return type(inputs) is str and 0 < len(inputs) <= _LONGEST and not payload.parameters


class PlainTexts:
    """`call`: the pipeline call for any such request. `listed`: whether its answer is a list of one.

    `classifies`: scores are computed here for the whole batch instead of by the pipeline for each row.
    """

    def __init__(
        self,
        staged: Staged,
        call: PipelineCall,
        limits: EmbeddingLimits,
        most_tokens: int,
        *,
        listed: bool,
        classifies: bool,
    ) -> None:
        self.call = call
        self.listed = listed
        self._tokenizer = staged.pipeline.tokenizer
        self._limits = limits
        self._max_length = most_tokens if limits.tokens is None else limits.tokens
        self._kinds = limits.types[0] if limits.types else math.inf
        self._config = staged.pipeline.model.config
        self._scores = _scores(self._config) if classifies else None

    @classmethod
    def of(
        cls,
        family: str,
        staged: Staged,
        defaults: dict[str, Any],
        limits: EmbeddingLimits,
        most_tokens: int,
    ) -> Self | None:
        """None for models without this fast path. `defaults`: parameters of the task. `most_tokens`: limit
        of a row, where the model has none."""
        if family not in _FAMILIES or staged.pipeline.tokenizer is None:
            return None
        call = staged.read(_PROBE, defaults)
        mark = object()
        listed = staged.answer(_PROBE, defaults, [mark]) is not mark
        classifies = family == "text-classification" and not call.postprocess
        return cls(staged, call, limits, most_tokens, listed=listed, classifies=classifies)

    def rows(self, texts: list[str]) -> list[PlainRow]:
        """One row for each text. Raises what the tokenizer raises."""
        encoded = self._tokenizer(texts, **self.call.preprocess)
        names = list(encoded)
        columns = zip(*encoded.values(), strict=True)
        return [dict(zip(names, row, strict=True)) for row in columns]

    def inputs(self, row: PlainRow) -> tuple[dict[str, torch.Tensor], int]:
        """The model's inputs and their length. Raises InvalidRequest or InferenceFailed (EmbeddingLimits)."""
        inputs = {name: torch.tensor([column], dtype=torch.long) for name, column in row.items()}
        tokens, kinds = row["input_ids"], row.get("token_type_ids")
        length = len(tokens)
        fits = 0 < length <= self._max_length and max(tokens) < self._limits.vocabulary
        if not fits or (kinds and max(kinds) >= self._kinds):
            self._limits.check(inputs)
            if length > self._max_length:
                raise InvalidRequest(f"the input has more than {self._max_length} tokens")
        return inputs, length

    def answers(self, outputs: Any) -> list[Any] | None:
        """The answers of the rows of one forward; None if the pipeline computes them in postprocessing."""
        if self._scores is None:
            return None
        scores = self._scores(outputs["logits"].float().numpy())
        labels = self._config.id2label
        best = zip(scores.argmax(-1).tolist(), scores.max(-1).tolist(), strict=True)
        return [{"label": labels[label], "score": score} for label, score in best]


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

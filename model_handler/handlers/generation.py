"""What `generate` runs between two tokens, and the lengths of its inputs and outputs."""

import math
import time
from collections.abc import Mapping
from typing import Any

import torch
import transformers

from model_handler.budgets.rows import RowCount
from model_handler.errors import DeadlineExceeded, EngineError, InferenceFailed, InvalidRequest
from model_handler.sharing import turnstile

# A row that generates counts at least one token of a batch's limit for each of these that it keeps in memory
KEPT_PER_TOKEN = 64
_NEW_TOKENS = 20  # transformers' own default
_LARGEST_SCORE = 1e30  # stays finite when divided by the lowest temperature

# These parameters read the prompt in the batch with its padding, so that rows of different lengths would get
# other answers in a batch than alone.
_ENCODER_SENSITIVE = frozenset({"encoder_repetition_penalty", "encoder_no_repeat_ngram_size"})
_DECODER_SENSITIVE = _ENCODER_SENSITIVE | {
    *("max_length", "min_length", "repetition_penalty", "no_repeat_ngram_size", "bad_words_ids"),
    *("sequence_bias", "exponential_decay_length_penalty", "guidance_scale"),
}


class Deadline(transformers.StoppingCriteria):  # type: ignore[misc]
    """Runs between two tokens: raises DeadlineExceeded after the deadline, and yields the turn to others."""

    def __init__(self, deadline: float) -> None:
        self._deadline = deadline

    def __call__(self, input_ids: Any, scores: Any, **_: Any) -> torch.Tensor:
        if time.monotonic() > self._deadline:
            raise DeadlineExceeded("the time for this request ran out while generating")
        turnstile.give_way()
        return torch.zeros(input_ids.shape[0], dtype=torch.bool, device=input_ids.device)


class Scores(transformers.LogitsProcessor):  # type: ignore[misc]
    """Makes scores safe to sample from: no +infinity and no NaN, whatever earlier processors produced.

    A row without any token left gets equal scores, so that sampling does not fail, and `lost` becomes true.
    The processors that run after this one keep at least one token.
    """

    def __init__(self) -> None:
        self._lost: torch.Tensor | None = None

    def __call__(self, input_ids: Any, scores: Any) -> Any:
        lost = ~(scores.amax(-1, keepdim=True) > -math.inf)  # comparisons with NaN are false
        self._lost = lost.any() if self._lost is None else self._lost | lost.any()
        return torch.where(lost, 0.0, scores.clamp(max=_LARGEST_SCORE))

    @property
    def lost(self) -> bool:
        """Whether any row had no token left. Waits for the device."""
        return self._lost is not None and bool(self._lost)


def is_about_parameters(error: Exception) -> bool:
    """Whether `generate` raised it because of its parameters, rather than the device on a failure."""
    if isinstance(error, RuntimeError):  # beam sampling with fewer tokens left than beams
        return "multinomial" in str(error)
    return True


def no_token_error(asked: bool) -> EngineError:
    if asked:
        return InvalidRequest("these parameters leave no token to choose from")
    return InferenceFailed("the model's scores for the next token are not numbers")


def flat(parameters: Mapping[str, Any]) -> dict[str, Any]:
    """Parameters with those inside `generate_kwargs` and `forward_params` beside the others."""
    whole = dict(parameters)
    for name in ("generate_kwargs", "forward_params"):
        whole |= whole.pop(name, None) or {}
    return whole


def new_tokens(effective: Mapping[str, Any], prompt: int) -> int:
    total = _total(effective, prompt)
    return _NEW_TOKENS if total is None else max(0, total - prompt)


def count_generated(count: RowCount, effective: Mapping[str, Any], prompt: int) -> int:
    """Count a row that generates. Returns the least length that it has in a batch."""
    kept = count.generate(prompt, new_tokens(effective, prompt), beams(effective))
    return kept // KEPT_PER_TOKEN


def beams(effective: Mapping[str, Any]) -> int:
    """Rows that one row becomes in `generate`."""
    counts = [effective.get(name) for name in ("num_beams", "num_return_sequences")]
    return max(each for each in (*counts, 1) if type(each) is int)


def padding_matters(effective: Mapping[str, Any], *, encoder_decoder: bool) -> bool:
    """Whether rows of different lengths must not share a batch."""
    sensitive = set(_ENCODER_SENSITIVE if encoder_decoder else _DECODER_SENSITIVE)
    if effective.get("max_new_tokens") is not None:
        sensitive.discard("max_length")
    if effective.get("min_new_tokens") is not None or not effective.get("min_length"):
        sensitive.discard("min_length")
    return any(effective.get(name) is not None for name in sensitive)


def fit(
    asked: Mapping[str, Any], effective: Mapping[str, Any], start: int, limit: int | None
) -> dict[str, Any]:
    """`asked`, with the number of new tokens cut to what fits after `start` tokens.

    Only a default is cut. A length that the caller set raises InvalidRequest, which names both numbers.
    """
    if limit is None:
        return dict(asked)
    if start >= limit:
        raise InvalidRequest(f"the prompt has {start} tokens, the model takes at most {limit}")
    total = _total(effective, start)
    if total is None or total <= limit:
        return dict(asked)
    if asked.get("max_new_tokens") is not None or asked.get("max_length") is not None:
        raise InvalidRequest(f"{total} tokens were asked for, the model takes at most {limit}")
    return {**asked, "max_new_tokens": limit - start}


def _total(effective: Mapping[str, Any], start: int) -> int | None:
    if (new := effective.get("max_new_tokens")) is not None:
        return start + int(new)
    length = effective.get("max_length")
    return None if length is None else int(length)


def trim(sequences: torch.Tensor, start: int, ends: set[int]) -> torch.Tensor:
    """The sequences of one row (returned × tokens) without the padding to the batch's longest row."""
    rows = sequences[:, start:].tolist()
    return sequences[:, : start + max((_length(row, ends) for row in rows), default=0)]


def _length(row: list[int], ends: set[int]) -> int:
    return next((index + 1 for index, token in enumerate(row) if token in ends), len(row))

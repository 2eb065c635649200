"""Overlapping windows: how many a request asks for, computed before they are made.

tokenizers ends its calls with a panic instead of an error if windows overlap by more than they hold.
"""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from model_handler.budgets.limits import EXPANSION, check
from model_handler.errors import InvalidRequest
from model_handler.options import RequestLimits

# Upper bound of tokens for each character of a text, except where a normalizer expands it
_TOKENS_PER_CHARACTER = 4
_DAY_S = 86_400
_UNLIMITED = 10**9  # tokenizers without a maximum length have 10^30


@dataclass(frozen=True, slots=True)
class Windows:
    """`length`: tokens of a window with all that is in it. `others`: special tokens, and the question.

    `stride`: tokens that two neighbours have in common. `names`: the parameters of length and stride.
    """

    length: int
    others: int
    stride: int
    names: tuple[str, str] = ("max_length", "stride")

    @property
    def room(self) -> int:
        return self.length - self.others

    def check(self, tokens: int, limits: RequestLimits) -> None:
        """Raises InvalidRequest if a text of so many tokens has too many windows."""
        self.check_room()
        count = self._count(tokens)
        check(limits, "units", count, "windows")
        check(limits, "tokens", count * min(self.length, tokens + self.others), "tokens in windows")

    def check_room(self) -> None:
        longest, stride = self.names
        if self.room < 1:
            raise InvalidRequest(
                f"{longest} has to be more than {self.others}, which leaves no token for the text"
            )
        if not 0 <= self.stride < self.room:
            raise InvalidRequest(
                f"{stride} has to be from 0 to {self.room - 1}: a window has {self.room} tokens of the text"
            )

    def fits(self, tokens: int, limits: RequestLimits) -> bool:
        try:
            self.check(tokens, limits)
        except InvalidRequest:
            return False
        return True

    def _count(self, tokens: int) -> int:
        if tokens <= self.room:
            return 1
        return math.ceil((tokens - self.stride) / (self.room - self.stride))


def check_text(windows: Windows, text: Any, tokenizer: Any, limits: RequestLimits) -> None:
    """Raises InvalidRequest if the windows of the text (or of its words, in a list) are too many."""
    words = [text] if isinstance(text, str) else text
    if not isinstance(words, list) or not all(isinstance(each, str) for each in words):
        return  # the pipeline refuses it
    most = sum(_TOKENS_PER_CHARACTER * len(each) + 1 for each in words)
    windows.check_room()
    if not windows.fits(most, limits):
        windows.check(count(tokenizer, words), limits)


def count(tokenizer: Any, words: Sequence[str]) -> int:
    """Tokens of the words, without special ones."""
    if "bbox" in tokenizer.model_input_names:  # it is called with a box for each word
        return len(tokenizer.tokenize(" ".join(words)))
    encoded = tokenizer(list(words), add_special_tokens=False, truncation=False, verbose=False)
    return sum(map(len, encoded["input_ids"]))


def most_tokens(tokenizer: Any) -> int:
    return int(min(tokenizer.model_max_length, _UNLIMITED))


# ---- tasks of transformers that make windows ----


def check_entities(
    inputs: Any, parameters: Mapping[str, Any], tokenizer: Any, limits: RequestLimits
) -> None:
    """token-classification: `stride` makes windows of all that the model takes."""
    if (stride := parameters.get("stride")) is None:
        return
    _require_whole("stride", stride, 0)
    length = most_tokens(tokenizer)
    windows = Windows(
        length, tokenizer.num_special_tokens_to_add(), stride, ("the input", "stride")
    )
    split = parameters.get("is_split_into_words")
    nested = isinstance(inputs, list) and not (
        split and all(isinstance(each, str) for each in inputs)
    )
    for text in inputs if nested else [inputs]:
        check_text(windows, text, tokenizer, limits)


def check_page(
    inputs: Any, parameters: Mapping[str, Any], tokenizer: Any, limits: RequestLimits
) -> None:
    """document-question-answering: windows of the page's words, each with the question."""
    length, stride = parameters.get("max_seq_len"), parameters.get("doc_stride")
    for name, value in (("max_seq_len", length), ("doc_stride", stride)):
        if value is not None:
            _require_whole(name, value, int(name == "max_seq_len"))
    length = length or most_tokens(tokenizer)
    stride = min(length // 2, 256) if stride is None else stride
    for item in inputs if isinstance(inputs, list) else [inputs]:
        given = item if isinstance(item, Mapping) else {}
        question = given.get("question", parameters.get("question", ""))
        boxes = given.get("word_boxes", parameters.get("word_boxes"))
        if isinstance(question, str) and isinstance(boxes, list):
            words = [each[0] for each in boxes if isinstance(each, list) and each]
            others = count(tokenizer, [question]) + tokenizer.num_special_tokens_to_add(pair=True)
            names = "max_seq_len", "doc_stride"
            check_text(Windows(length, others, stride, names), words, tokenizer, limits)


def check_tokenizing(
    inputs: Any, given: Mapping[str, Any], tokenizer: Any, limits: RequestLimits
) -> None:
    """`given`: parameters of the tokenizer, for tasks that keep the first window only.

    tokenizers makes the others too.
    """
    texts = inputs if isinstance(inputs, list) else [inputs]
    length = given.get("max_length")
    if length is not None:
        _require_whole("max_length", length, 1)
        check(limits, "tokens", length, "tokens (max_length)")
        if given.get("padding") == "max_length":
            check(limits, "tokens", length * len(texts), "tokens (padding to max_length)")
    stride = given.get("stride")
    if length is None and stride is None:
        return
    stride = 0 if stride is None else stride
    _require_whole("stride", stride, 0)
    length = length or most_tokens(tokenizer)
    windows = Windows(length, tokenizer.num_special_tokens_to_add(pair=True), stride)
    for text in texts:
        parts = list(text.values()) if isinstance(text, Mapping) else text
        check_text(windows, parts, tokenizer, limits)


def check_chunks(
    samples: int, rate: int, parameters: Mapping[str, Any], shortest: int, limits: RequestLimits
) -> None:
    """automatic-speech-recognition: `shortest` is the number of samples to which a window is padded."""
    length = parameters.get("chunk_length_s")
    if not length:
        return
    _require_seconds("chunk_length_s", length)
    sides = parameters.get("stride_length_s")
    sides = length / 6 if sides is None else sides
    left, right = sides if isinstance(sides, list) and len(sides) == 2 else (sides, sides)
    for side in (left, right):
        _require_seconds("stride_length_s", side)
    step = int((length - left - right) * rate)
    if step < 1:
        raise InvalidRequest("chunk_length_s has to be longer than both strides together")
    windows = math.ceil(samples / step)
    check(limits, "units", windows, "windows of audio")
    seconds = windows * max(length, shortest / rate) if windows > 1 else 0
    check(limits, "audio_s", seconds, "seconds of audio in windows", times=EXPANSION)


def _require_seconds(name: str, value: Any) -> None:
    if type(value) not in (int, float) or not 0 <= value <= _DAY_S:
        raise InvalidRequest(f"{name} has to be seconds, from 0 to {_DAY_S}")


def _require_whole(name: str, value: Any, low: int) -> None:
    if type(value) is not int or not low <= value <= _UNLIMITED:
        raise InvalidRequest(f"{name} has to be a whole number from {low} to {_UNLIMITED}")

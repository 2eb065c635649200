"""Extractive question answering: the span of a context that answers a question.

transformers 5 has no pipeline for it. Inputs, parameters and answers are those of transformers 4.
"""

from collections.abc import Iterator, Mapping
from typing import Any

import numpy as np
import torch
from transformers.pipelines.base import ChunkPipeline

from model_handler.budgets import deadlines, windows
from model_handler.budgets.windows import Windows
from model_handler.errors import InvalidRequest
from model_handler.options import RequestLimits

_WINDOW = 384
_STRIDE = 128
_IMPOSSIBLE = -10000.0
_MOST = 10_000  # of each parameter that is a number of tokens or answers


class QuestionAnsweringPipeline(ChunkPipeline):  # type: ignore[misc]
    """Splits a context longer than the window into overlapping windows and returns the best span of all."""

    _load_tokenizer = True
    _load_processor = False
    _load_image_processor = False
    _load_feature_extractor = False
    limits = RequestLimits()

    def __init__(self, **parts: Any) -> None:
        super().__init__(**parts)
        if not self.tokenizer.is_fast:
            raise ValueError(
                "question-answering needs a fast tokenizer, which has offsets (tokenizer.json)"
            )

    def _sanitize_parameters(
        self,
        max_seq_len: int | None = None,
        doc_stride: int | None = None,
        max_question_len: int | None = None,
        top_k: int | None = None,
        topk: int | None = None,
        max_answer_len: int | None = None,
        handle_impossible_answer: bool | None = None,
    ) -> tuple[dict[str, Any], dict[str, Any], dict[str, Any]]:
        before = {
            "window": max_seq_len,
            "stride": doc_stride,
            "question_tokens": max_question_len,
        }
        after = {
            "top_k": top_k if top_k is not None else topk,
            "answer_tokens": max_answer_len,
            "impossible": handle_impossible_answer,
        }
        _check_numbers(before | after)
        return _given(before), {}, _given(after)

    def __call__(self, inputs: Any, **parameters: Any) -> Any:
        """One answer for one example, also if it is in a list; a list of answers for several."""
        examples = _examples(inputs)
        return super().__call__(examples[0] if len(examples) == 1 else examples, **parameters)

    def preprocess(
        self,
        example: dict[str, str],
        window: int | None = None,
        stride: int | None = None,
        question_tokens: int | None = None,
    ) -> Iterator[dict[str, Any]]:
        window = window or min(self.tokenizer.model_max_length, _WINDOW)
        if question_tokens is not None:
            example = example | {"question": self._cut(example["question"], question_tokens)}
        encoded = self._encode(example, window, self._stride(example, window, stride))
        count = len(encoded["input_ids"])
        for index in range(count):
            yield self._chunk(encoded, index, example) | {"is_last": index == count - 1}

    def _stride(self, example: dict[str, str], window: int, asked: int | None) -> int:
        """The tokens that two windows have in common; by default fewer beside a long question.

        Raises InvalidRequest if the question leaves no room for the context, or windows are too many.
        """
        others = self.tokenizer.num_special_tokens_to_add(pair=True)
        others += windows.count(self.tokenizer, [example["question"]])
        if others >= window:
            raise InvalidRequest(
                f"the question has {others} tokens with special ones, and a window has {window}: ask a"
                " shorter question, or set max_question_len or max_seq_len"
            )
        usual = min(window // 2, _STRIDE)
        fitting = usual if usual < window - others else (window - others) // 2
        stride = fitting if asked is None else asked
        names = "max_seq_len", "doc_stride"
        made = Windows(window, others, stride, names)
        windows.check_text(made, example["context"], self.tokenizer, self.limits)
        return stride

    def _encode(self, example: dict[str, str], window: int, stride: int) -> Any:
        """Overlapping windows. The question comes first unless the tokenizer pads on the left."""
        texts = (example["question"], example["context"])
        return self.tokenizer(
            *(texts if self._question_first else texts[::-1]),
            truncation="only_second" if self._question_first else "only_first",
            max_length=window,
            stride=stride,
            return_overflowing_tokens=True,
            return_offsets_mapping=True,
            return_special_tokens_mask=True,
        )

    @property
    def _question_first(self) -> bool:
        return bool(self.tokenizer.padding_side == "right")

    def _cut(self, question: str, length: int) -> str:
        """The text of the question's first `length` tokens."""
        encoded = self.tokenizer(question, add_special_tokens=False, return_offsets_mapping=True)
        offsets = encoded["offset_mapping"]
        return question if len(offsets) <= length else question[: offsets[length - 1][1]]

    def _chunk(self, encoded: Any, index: int, example: dict[str, str]) -> dict[str, Any]:
        names = [name for name in self.tokenizer.model_input_names if name in encoded]
        row = {name: torch.tensor([encoded[name][index]]) for name in names}
        context = [side == int(self._question_first) for side in encoded.sequence_ids(index)]
        first = encoded["input_ids"][index].index(self._first) if self._first is not None else 0
        row["p_mask"] = torch.tensor([[int(not each) for each in context]])
        extra = {"cls_index": first, "example": example, "encoding": encoded[index]}
        return {**row, **extra}

    @property
    def _first(self) -> int | None:
        token: int | None = self.tokenizer.cls_token_id
        return token

    def _forward(self, batch: dict[str, Any]) -> dict[str, Any]:
        rest = {
            key: batch[key] for key in ("p_mask", "cls_index", "example", "encoding", "is_last")
        }
        outputs = self.model(**{key: each for key, each in batch.items() if key not in rest})
        return {"start": outputs.start_logits, "end": outputs.end_logits, **rest}

    def postprocess(
        self,
        outputs: list[dict[str, Any]],
        top_k: int = 1,
        answer_tokens: int = 15,
        impossible: bool = False,
    ) -> Any:
        answers: list[dict[str, Any]] = []
        null_score = 1e6
        for output in outputs:
            start, end = self._probabilities(output)
            null_score = min(null_score, float(start[0] * end[0]))
            start[0] = end[0] = 0.0
            deadlines.check()
            answers += self._spans(output, start, end, top_k, answer_tokens)
            answers = sorted(answers, key=_score, reverse=True)[:top_k]
        if impossible:
            answers.append({"score": null_score, "start": 0, "end": 0, "answer": ""})
        best = sorted(answers, key=_score, reverse=True)[:top_k]
        return best[0] if len(best) == 1 else best

    def _probabilities(self, output: dict[str, Any]) -> tuple[Any, Any]:
        """Probabilities of each token to start and to end the answer, over context and null token only."""
        allowed = output["p_mask"][0].numpy() == 0
        allowed[output["cls_index"]] = True
        start, end = (output[side][0].float().numpy() for side in ("start", "end"))
        return _softmax(start, allowed), _softmax(end, allowed)

    def _spans(
        self, output: dict[str, Any], start: Any, end: Any, top_k: int, answer_tokens: int
    ) -> list[dict[str, Any]]:
        """The most likely spans of 1 to `answer_tokens` tokens."""
        scores = np.tril(np.triu(np.outer(start, end)), answer_tokens - 1)
        flat = scores.ravel()
        order = [int(flat.argmax())] if top_k == 1 else np.argsort(-flat, kind="stable")[:top_k]
        allowed = output["p_mask"][0].numpy() == 0
        spans = [divmod(int(index), len(end)) for index in order]
        kept = [span for span in spans if allowed[span[0]] and allowed[span[1]]]
        return [self._answer(output, *span, float(scores[span])) for span in kept]

    def _answer(self, output: dict[str, Any], start: int, end: int, score: float) -> dict[str, Any]:
        """The answer, extended to whole words if the tokenizer has word boundaries."""
        encoding, side = output["encoding"], int(self._question_first)
        words = encoding.word_ids[start], encoding.word_ids[end]
        if None in words:
            span = encoding.offsets[start][0], encoding.offsets[end][1]
        else:
            chars = [encoding.word_to_chars(word, side) for word in words]
            span = chars[0][0], chars[1][1]
        text = output["example"]["context"][slice(*span)]
        return {"score": score, "start": span[0], "end": span[1], "answer": text}


def _score(answer: dict[str, Any]) -> float:
    score: float = answer["score"]
    return score


def _softmax(logits: Any, allowed: Any) -> Any:
    masked = np.where(allowed, logits, _IMPOSSIBLE)
    weights = np.exp(masked - masked.max())
    return weights / weights.sum()


def _examples(inputs: Any) -> list[dict[str, str]]:
    items = inputs if isinstance(inputs, list) else [inputs]
    if not items:
        raise InvalidRequest("there is no question in the inputs")
    return [example for item in items for example in _expand(item)]


def _expand(item: Any) -> list[dict[str, str]]:
    """One example per question: `question` may be a list; `context` is one text for all or one for each."""
    if not isinstance(item, Mapping) or "question" not in item or "context" not in item:
        raise InvalidRequest(
            'question-answering takes {"question": …, "context": …} or a list of those'
        )
    questions, contexts = item["question"], item["context"]
    if not isinstance(questions, list):
        return [_example(questions, contexts)]
    contexts = contexts if isinstance(contexts, list) else [contexts] * len(questions)
    if len(questions) != len(contexts):
        raise InvalidRequest(f"{len(questions)} questions came with {len(contexts)} contexts")
    return [_example(*pair) for pair in zip(questions, contexts, strict=True)]


def _example(question: Any, context: Any) -> dict[str, str]:
    for name, text in (("question", question), ("context", context)):
        if not isinstance(text, str) or not text:
            raise InvalidRequest(f"the {name} has to be a text that is not empty")
    return {"question": question, "context": context}


def _check_numbers(parameters: Mapping[str, Any]) -> None:
    for name in ("window", "question_tokens", "top_k", "answer_tokens"):
        value = parameters[name]
        if value is not None and (type(value) is not int or not 1 <= value <= _MOST):
            raise InvalidRequest(
                "top_k, max_answer_len, max_seq_len and max_question_len are whole numbers from 1 to"
                f" {_MOST}"
            )
    stride = parameters["stride"]
    if stride is not None and (type(stride) is not int or stride < 0):
        raise InvalidRequest("doc_stride is a whole number from 0")


def _given(parameters: Mapping[str, Any]) -> dict[str, Any]:
    return {name: value for name, value in parameters.items() if value is not None}

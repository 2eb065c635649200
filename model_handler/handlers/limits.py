"""Which indices a model can look up, so that a request with others ends before the device sees it.

On a CPU an index out of range is an error of one request; on a GPU it is a device-side assert, which ends the
worker of all models.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch

from model_handler import bounds
from model_handler.errors import InferenceFailed, InvalidRequest

_TEXTS = "text_inputs"  # beside pictures and sounds: rows for a text model of their own


@dataclass(frozen=True, slots=True)
class Limits:
    """`tokens`: places for them, None where positions are computed; `types`: of token types, one for each
    kind; `boxes`: coordinates on a page."""

    tokens: int | None
    vocabulary: int
    types: tuple[int, ...] = ()
    boxes: int | None = None
    texts: "Limits | None" = None

    @classmethod
    def of(cls, model: Any, tokens: int | None) -> "Limits":
        config = model.config
        return cls(
            tokens or _number(getattr(config, "encoder", None), "max_position_embeddings"),
            vocabulary(model),
            _types(config),
            _number(config, "max_2d_position_embeddings"),
            _of_texts(model),
        )

    def check(self, features: Mapping[str, Any]) -> None:
        """Raises InvalidRequest for what the request is to blame for, InferenceFailed where tokenizer and
        model do not fit each other."""
        self._check_tokens(features.get("input_ids"))
        self._check_types(features.get("token_type_ids"))
        self._check_boxes(features.get("bbox"))
        if self.texts is not None:
            for texts in _mappings(features.get(_TEXTS)):
                self.texts.check(texts)

    def _check_tokens(self, tokens: Any) -> None:
        if not isinstance(tokens, torch.Tensor) or tokens.numel() == 0:
            return
        count = tokens.shape[-1]
        if self.tokens is not None and count > self.tokens:
            raise InvalidRequest(
                f"the input has {count} tokens, the model takes at most {self.tokens}"
            )
        if int(tokens.max()) >= self.vocabulary:
            raise InferenceFailed("the tokenizer knows tokens that the model does not")

    def _check_types(self, types: Any) -> None:
        if not isinstance(types, torch.Tensor) or types.numel() == 0 or not self.types:
            return
        columns = types.unsqueeze(-1) if types.dim() == 2 else types
        highest = columns.flatten(0, -2).amax(0).tolist()
        if any(index >= count for index, count in zip(highest, self.types, strict=False)):
            raise InferenceFailed(
                "the tokenizer tells more kinds of tokens apart than the model knows"
            )

    def _check_boxes(self, boxes: Any) -> None:
        """Left, top, right, bottom: models look up the differences too."""
        if not isinstance(boxes, torch.Tensor) or boxes.numel() == 0 or self.boxes is None:
            return
        inside = bool((boxes >= 0).all()) and int(boxes.max()) < self.boxes
        if not inside or not bool((boxes[..., 2:] >= boxes[..., :2]).all()):
            raise InvalidRequest(
                "word_boxes have to be [left, top, right, bottom] in thousandths of the page, from 0 to 1000"
            )


def vocabulary(model: Any) -> int:
    """Tokens the model can look up and can score; a number never reached where it looks up none."""
    try:
        embedding = model.get_input_embeddings()
    except NotImplementedError:  # transformers' own, of models that embed no tokens
        return bounds.UNKNOWN
    counts = [getattr(embedding, "num_embeddings", bounds.UNKNOWN)]
    scored = getattr(model.get_output_embeddings(), "out_features", None)
    return int(min(counts if scored is None else [*counts, scored]))


def positions(config: Any) -> int | None:
    """Places that a decoder can write to, where its positions are a table."""
    names = ("max_decoder_position_embeddings", "max_position_embeddings")
    found = [_number(config, name) for name in names]
    found.append(_number(getattr(config, "decoder", None), "max_position_embeddings"))
    return next((each for each in found if each is not None), None)


def _types(config: Any) -> tuple[int, ...]:
    sizes = getattr(config, "type_vocab_sizes", None)
    if isinstance(sizes, Sequence):
        return tuple(sizes)
    one = _number(config, "type_vocab_size")
    return () if one is None else (one,)


def _of_texts(model: Any) -> Limits | None:
    config = getattr(model.config, "text_config", None)
    if config is None:
        return None
    words = _number(config, "vocab_size") or bounds.UNKNOWN
    places = _number(config, "max_position_embeddings")
    return Limits(places and places - _first_place(model), words)


def _first_place(model: Any) -> int:
    """RoBERTa and its relatives count positions from the one after the padding's."""
    for name, module in model.named_modules():
        if name.endswith("text_model.embeddings.position_embeddings"):
            return 0 if module.padding_idx is None else int(module.padding_idx) + 1
    return 0


def _number(config: Any, name: str) -> int | None:
    value = getattr(config, name, None)
    return value if isinstance(value, int) and value > 0 else None


def _mappings(value: Any) -> Iterator[Mapping[str, Any]]:
    """Those in a value of nested lists and tuples."""
    if isinstance(value, Mapping):
        yield value
    elif isinstance(value, list | tuple):
        for each in value:
            yield from _mappings(each)

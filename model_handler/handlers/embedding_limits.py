"""The index ranges of a model's embedding tables; requests outside them are refused before the forward.

On a CPU an index out of range fails one request; on a GPU it is a device-side assert, which ends the worker
process of all models.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch

from model_handler.errors import InferenceFailed, InvalidRequest
from model_handler.handlers import bounds

_TEXTS = "text_inputs"  # texts beside images or audio: rows for the text model of a multimodal one


@dataclass(frozen=True, slots=True)
class EmbeddingLimits:
    """Sizes of the tables.

    `tokens`: positions, None where positions are computed. `types`: one size per kind of token type.
    `boxes`: coordinates on a page. `texts`: the limits of a text model inside a multimodal one.
    """

    tokens: int | None
    vocabulary: int
    types: tuple[int, ...] = ()
    boxes: int | None = None
    texts: "EmbeddingLimits | None" = None

    @classmethod
    def of(cls, model: Any, tokens: int | None) -> "EmbeddingLimits":
        config = model.config
        return cls(
            tokens or _number(getattr(config, "encoder", None), "max_position_embeddings"),
            vocabulary(model),
            _types(config),
            _number(config, "max_2d_position_embeddings"),
            _of_texts(model),
        )

    def check(self, features: Mapping[str, Any]) -> None:
        """Raises InvalidRequest where the request is wrong, InferenceFailed where tokenizer and model do not
        fit each other."""
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
            raise InferenceFailed("the tokenizer has tokens that the model does not have")

    def _check_types(self, types: Any) -> None:
        if not isinstance(types, torch.Tensor) or types.numel() == 0 or not self.types:
            return
        columns = types.unsqueeze(-1) if types.dim() == 2 else types
        highest = columns.flatten(0, -2).amax(0).tolist()
        if any(index >= count for index, count in zip(highest, self.types, strict=False)):
            raise InferenceFailed("the tokenizer has more kinds of tokens than the model")

    def _check_boxes(self, boxes: Any) -> None:
        """Boxes must also have right >= left and bottom >= top, because models look up the differences
        too."""
        if not isinstance(boxes, torch.Tensor) or boxes.numel() == 0 or self.boxes is None:
            return
        inside = bool((boxes >= 0).all()) and int(boxes.max()) < self.boxes
        if not inside or not bool((boxes[..., 2:] >= boxes[..., :2]).all()):
            raise InvalidRequest(
                "word_boxes must be [left, top, right, bottom] in thousandths of the page, from 0 to 1000"
            )


def vocabulary(model: Any) -> int:
    """Number of tokens that the model can both embed and score; UNKNOWN if it embeds none."""
    try:
        embedding = model.get_input_embeddings()
    except NotImplementedError:  # transformers raises it for models without token embeddings
        return bounds.UNKNOWN
    counts = [getattr(embedding, "num_embeddings", bounds.UNKNOWN)]
    scored = getattr(model.get_output_embeddings(), "out_features", None)
    return int(min(counts if scored is None else [*counts, scored]))


def positions(config: Any) -> int | None:
    """Length of a decoder's position table; None if it has no such table."""
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


def _of_texts(model: Any) -> EmbeddingLimits | None:
    config = getattr(model.config, "text_config", None)
    if config is None:
        return None
    words = _number(config, "vocab_size") or bounds.UNKNOWN
    places = _number(config, "max_position_embeddings")
    return EmbeddingLimits(places and places - _first_place(model), words)


def _first_place(model: Any) -> int:
    """The first usable position: RoBERTa-like models number positions after the padding token's index."""
    for name, module in model.named_modules():
        if name.endswith("text_model.embeddings.position_embeddings"):
            return 0 if module.padding_idx is None else int(module.padding_idx) + 1
    return 0


def _number(config: Any, name: str) -> int | None:
    value = getattr(config, name, None)
    return value if isinstance(value, int) and value > 0 else None


def _mappings(value: Any) -> Iterator[Mapping[str, Any]]:
    """All mappings in a value of nested lists and tuples."""
    if isinstance(value, Mapping):
        yield value
    elif isinstance(value, list | tuple):
        for each in value:
            yield from _mappings(each)

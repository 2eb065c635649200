"""Any transformers pipeline as a handler: same inputs and answers as the pipeline, batched across requests.

Invariant: rows share a forward only if every answer is the same as alone.
"""

from collections.abc import Hashable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
import transformers

from model_handler.artifacts.stamps import Stamps
from model_handler.artifacts.tasks import family, input_kind
from model_handler.budgets.demands import Demand, check_answers, check_demand, check_items
from model_handler.budgets.rows import RowCount
from model_handler.errors import InvalidRequest, ModelLoadFailed
from model_handler.handlers import Codec, Payload, Prepared, Unit, bounds, precedence
from model_handler.handlers.collation import collate, frozen, is_too_small, row_length, separate
from model_handler.handlers.embedding_limits import EmbeddingLimits, positions
from model_handler.handlers.generation import (
    Deadline,
    Scores,
    count_generated,
    fit,
    flat,
    is_about_parameters,
    no_token_error,
    padding_matters,
    trim,
)
from model_handler.handlers.media import materialise
from model_handler.handlers.parameters import accepted, asks
from model_handler.handlers.plain_text import PlainRow, PlainTexts, is_plain
from model_handler.handlers.staged import PipelineCall, Staged
from model_handler.handlers.task_parameters import (
    PADDING_SENSITIVE,
    TASK_PARAMETERS,
    Padding,
    row_padding,
    safe_padding,
)
from model_handler.options import RequestLimits


@dataclass(frozen=True, slots=True)
class Row:
    """One row before its forward.

    `asked`: the caller set parameters that affect the forward. `plain`: made by PlainTexts, and the only
    row of its request.
    """

    inputs: dict[str, Any]
    parameters: dict[str, Any]
    asked: bool
    plain: bool


@dataclass(frozen=True, slots=True)
class _Answered:
    """An output that is already postprocessed."""

    answer: Any


@dataclass(frozen=True, slots=True)
class _State:
    inputs: Any
    parameters: dict[str, Any]
    postprocess: dict[str, Any]
    counts: list[int]


class PipelineHandler:
    """Owns one pipeline and with it the model and the references to its tokenizer and processors."""

    def __init__(
        self,
        task: str,
        pipeline: Staged,
        *,
        nbytes: int,
        max_tokens: int | None,
        limits: RequestLimits | None = None,
        codec: Codec | None = None,
    ) -> None:
        self.task = task
        self.max_tokens = max_tokens
        self.mapped: Stamps = {}
        self.codec = codec
        self.limits = pipeline.pipeline.limits = limits or RequestLimits()
        self._family = family(task)
        self._task = TASK_PARAMETERS[self._family]
        self._staged: Staged | None = pipeline
        self._nbytes = nbytes
        self._padding = safe_padding(self._family, self.model.config, self.pipeline.tokenizer)
        self._padding_side, self._pad_id = row_padding(self._family, self.pipeline.tokenizer)
        self._limits = EmbeddingLimits.of(self.model, max_tokens)
        self._can_generate = self._task.calls_generate and bool(self.model.can_generate())
        self._generates = self._task.generates and self._can_generate
        self._samples = self._generates_with_sound_defaults()
        self._plain = PlainTexts.of(
            self._family, pipeline, self._task.defaults, self._limits, self.limits.tokens
        )
        self._plain_group: Hashable = None  # of plain rows that may be padded, after the first

    @property
    def nbytes(self) -> int:
        return self._nbytes

    @property
    def model(self) -> Any:
        return self.pipeline.model

    @property
    def processors(self) -> list[Any]:
        """Tokenizer, image processor and feature extractor, those that the pipeline has."""
        names = ("tokenizer", "image_processor", "feature_extractor")
        return [each for name in names if (each := getattr(self.pipeline, name)) is not None]

    @property
    def lane(self) -> Hashable:
        """Equal for handlers with the same tokenizer, whose settings each call changes; None: it has none."""
        tokenizer = self.pipeline.tokenizer
        return None if tokenizer is None else id(tokenizer)

    @property
    def whole(self) -> Any:
        """The complete transformers pipeline, for an artifact's own code."""
        return self._stages.whole

    def release(self) -> None:
        """Drop the model. Nothing else may be called afterwards."""
        self._staged = self._plain = None

    @property
    def _stages(self) -> Staged:
        assert self._staged is not None, "released"
        return self._staged

    @property
    def pipeline(self) -> Any:
        """The transformers pipeline, which stops between its steps."""
        return self._stages.pipeline

    # ---- preprocessing ----

    def encode(self, payloads: Sequence[Payload]) -> list[Any]:
        """One tokenizer call for all payloads that are one text without parameters; None for the others."""
        encoded: list[Any] = [None] * len(payloads)
        plain = [at for at, each in enumerate(payloads) if self._plain and is_plain(each)]
        if self._plain is not None and plain:
            rows = self._plain.rows([payloads[at].inputs for at in plain])
            for at, row in zip(plain, rows, strict=True):
                encoded[at] = row
        return encoded

    def preprocess(self, payload: Payload, encoded: Any = None) -> Prepared:
        if encoded is not None and self._plain is not None:
            return self._prepared(encoded, self._plain)
        inputs = materialise(payload.inputs, input_kind(self.task), self._rate(), self.limits)
        parameters = accepted(payload.parameters, self._family, self._limits.vocabulary)
        check_demand(self._family, Demand(inputs, parameters, self.pipeline, self.limits))
        call = self._read(inputs, parameters)
        check_items(call.items, self.limits)
        asked = asks(payload.parameters)
        count = RowCount(self.limits, width=self._answer_width())
        rows = [
            list(count.counted(self._stages.rows(item, call.preprocess))) for item in call.items
        ]
        check_answers(count.rows, parameters, self.limits)
        units = [self._unit(row, call.forward, asked, count) for group in rows for row in group]
        state = _State(inputs, parameters, call.postprocess, [len(group) for group in rows])
        return Prepared(units, state)

    def _prepared(self, row: PlainRow, plain: PlainTexts) -> Prepared:
        """Like `_unit`; what all plain rows have in common is computed once."""
        inputs, length = plain.inputs(row)
        parameters = plain.call.forward
        group = self._plain_group
        if group is None:
            group = self._group(inputs, parameters)
            if length and self._padding is Padding.MASKED and self._may_pad(inputs, parameters):
                self._plain_group = group
        features = Row(inputs, parameters, asked=False, plain=True)
        return Prepared([Unit(features, length, group)], plain)

    def _rate(self) -> int | None:
        rate = getattr(self.pipeline.feature_extractor, "sampling_rate", None)
        return rate if isinstance(rate, int) else None

    def _read(self, inputs: Any, parameters: dict[str, Any]) -> PipelineCall:
        if isinstance(inputs, list) and not inputs:
            raise InvalidRequest("the inputs are an empty list")
        if isinstance(inputs, bool | int | float) or inputs is None:
            raise InvalidRequest(f"{self._family} cannot take a bare number, boolean or null")
        return self._stages.read(inputs, parameters)

    def _answer_width(self) -> int:
        width = getattr(self.model.config, "hidden_size", 0)
        return width if self._family == "feature-extraction" and isinstance(width, int) else 0

    def _unit(self, features: Any, forward: dict[str, Any], asked: bool, count: RowCount) -> Unit:
        inputs = dict(features)
        self._limits.check(inputs)
        parameters = forward
        if "forced_bos_token_id" in inputs:  # the target language, set by multilingual tokenizers
            parameters = {**forward, "forced_bos_token_id": inputs.pop("forced_bos_token_id")}
        length = row_length(inputs)
        if self._generates:
            parameters = self._fitted(parameters, inputs)
        if self._can_generate:
            prompt = 0 if self.model.config.is_encoder_decoder else length
            effective = self._effective(flat(parameters))
            length = max(length, count_generated(count, effective, prompt))
        group = self._group(inputs, parameters)
        return Unit(Row(inputs, parameters, asked, plain=False), length, group)

    # ---- which rows may share a forward ----

    def _group(self, inputs: Mapping[str, Any], parameters: Mapping[str, Any]) -> Hashable:
        if self._padding is Padding.ALONE or row_length(inputs) == 0:
            return object()
        free = self._padding is Padding.MASKED and self._may_pad(inputs, parameters)
        shapes = tuple(
            (key, None if free else tuple(each.shape[1:]) if isinstance(each, torch.Tensor) else ())
            for key, each in sorted(inputs.items())
        )
        return shapes, frozen(parameters)

    def _may_pad(self, inputs: Mapping[str, Any], parameters: Mapping[str, Any]) -> bool:
        config = self.model.config
        if "attention_mask" not in inputs or config.model_type in PADDING_SENSITIVE:
            return False
        if not self._generates:
            return True
        effective = self._effective(parameters)
        return not padding_matters(effective, encoder_decoder=config.is_encoder_decoder)

    def _generates_with_sound_defaults(self) -> bool:
        """Whether the model samples by default. Raises ModelLoadFailed for defaults out of range."""
        if not self._generates:
            return False
        defaults = self._effective({})
        try:
            bounds.check_defaults(defaults, self._limits.vocabulary)
        except InvalidRequest as error:
            raise ModelLoadFailed(f"in generation_config.json or config.json {error}") from None
        unknown = bounds.unknown_tokens(defaults, self._limits.vocabulary)
        precedence.correct(self.pipeline, **dict.fromkeys(unknown))
        if defaults.get("temperature") == 0:
            precedence.correct(self.pipeline, do_sample=False, temperature=None)
            return False
        return bool(defaults.get("do_sample"))

    def _effective(self, parameters: Mapping[str, Any]) -> dict[str, Any]:
        return precedence.effective(self.pipeline, parameters)

    @property
    def _composed(self) -> bool:
        """Whether the model combines an encoder and a decoder that have separate configurations."""
        return getattr(self.model.config, "decoder", None) is not None

    def _fitted(self, parameters: dict[str, Any], inputs: Mapping[str, Any]) -> dict[str, Any]:
        if self._family == "automatic-speech-recognition" and not self._composed:
            return parameters  # Whisper and similar models limit the length themselves
        if self.model.config.is_encoder_decoder:
            start, limit = 1, positions(self.model.config)
        else:
            start, limit = row_length(inputs), self._limits.tokens
        effective = self._effective(parameters)
        # Passed even if None: otherwise transformers 5.17 lets its default override the caller's max_length
        new_tokens = {"max_new_tokens": effective.get("max_new_tokens")}
        return new_tokens | fit(parameters, effective, start, limit)

    # ---- the forward ----

    def forward(self, units: Sequence[Unit], deadline: float) -> list[Any]:
        rows: list[Row] = [unit.features for unit in units]
        batch = self._collated(rows) if len(rows) > 1 else dict(rows[0].inputs)
        parameters = dict(rows[0].parameters)
        scores = None
        if self._generates:
            scores = Scores()
            stop = transformers.StoppingCriteriaList([Deadline(deadline)])
            parameters["stopping_criteria"] = stop
            if rows[0].asked or self._samples:
                parameters["logits_processor"] = transformers.LogitsProcessorList([scores])
        try:
            outputs = self._stages.pipeline.forward(batch, **parameters)
        except (ValueError, TypeError, ArithmeticError, RuntimeError) as error:
            if is_too_small(error):
                raise InvalidRequest("the input is too small for this model") from error
            if not rows[0].asked or not is_about_parameters(error):
                raise
            raise InvalidRequest(f"these parameters do not go together: {error}") from error
        if scores is not None and scores.lost:
            raise no_token_error(rows[0].asked)
        if (answers := self._answers(rows, outputs)) is not None:
            return [_Answered(answer) for answer in answers]
        each = separate(outputs, len(rows)) if len(rows) > 1 else [outputs]
        return [self._unpadded(row, output) for row, output in zip(rows, each, strict=True)]

    def _answers(self, rows: list[Row], outputs: Any) -> list[Any] | None:
        if self._plain is None or not all(row.plain for row in rows):
            return None
        return self._plain.answers(outputs)

    def _collated(self, rows: list[Row]) -> dict[str, Any]:
        inputs = [row.inputs for row in rows]
        return collate(inputs, side=self._padding_side, pad_id=self._pad_id)

    def _unpadded(self, row: Row, output: Any) -> Any:
        """A generated output without the padding to the length of the batch's longest row, on either side."""
        if self._family == "text-generation" and (length := row_length(row.inputs)):
            padded = output["input_ids"].shape[1] - length
            sequences = output["generated_sequence"][0][:, padded:]
            cut = trim(sequences, length, self._ends(row))
            kept = {"input_ids": output["input_ids"][:, padded:], "generated_sequence": cut[None]}
            return {**output, **kept}
        if "output_ids" in output:
            return {**output, "output_ids": trim(output["output_ids"][0], 1, self._ends(row))[None]}
        return output

    def _ends(self, row: Row) -> set[int]:
        ends = self._effective(row.parameters).get("eos_token_id")
        return {end for end in (ends if isinstance(ends, list) else [ends]) if end is not None}

    # ---- postprocessing ----

    def postprocess(self, prepared: Prepared, outputs: list[Any]) -> Any:
        state: _State | PlainTexts = prepared.state
        if isinstance(state, PlainTexts):
            (output,) = outputs
            if not isinstance(output, _Answered):
                output = _Answered(self._stages.item_answer([output], state.call.postprocess))
            return [output.answer] if state.listed else output.answer
        answers, rest = [], iter(outputs)
        for count in state.counts:
            rows = [next(rest) for _ in range(count)]
            answers.append(self._stages.item_answer(rows, state.postprocess))
        return self._stages.answer(state.inputs, state.parameters, answers)

"""Text to text with encoder-decoder models: translation, summarization, text2text-generation.

transformers 5 has no pipelines for these tasks. Inputs, parameters and answers are those of transformers 4,
except that inputs are truncated to the encoder's maximum, which transformers 4 left to the caller.
"""

from collections.abc import Mapping
from typing import Any

from transformers import GenerationConfig, Pipeline

from model_handler.artifacts.tasks import family, languages
from model_handler.errors import InvalidRequest
from model_handler.handlers import precedence

Steps = tuple[dict[str, Any], dict[str, Any], dict[str, Any]]


class Text2TextPipeline(Pipeline):  # type: ignore[misc]
    """`generated_text`, one entry per returned sequence."""

    _load_tokenizer = True
    _load_processor = False
    _load_image_processor = False
    _load_feature_extractor = False
    # Defaults where neither caller nor checkpoint sets a value. `_forward` applies them, not transformers
    _default_generation_config = GenerationConfig(max_new_tokens=256, num_beams=4)
    answer_name = "generated"

    def __init__(self, **parts: Any) -> None:
        hints = task_parameters(parts["model"].config, parts["task"])
        prefix = hints.pop("prefix", None)
        known = set(vars(GenerationConfig()))
        self.hints = {key: hints[key] for key in hints if key in known}
        super().__init__(**parts)
        self._prefix = prefix if prefix is not None else getattr(self.model.config, "prefix", None)

    def _sanitize_parameters(self, **parameters: Any) -> Steps:
        """Parameters that are not named here go to `generate`."""
        before = {key: parameters.pop(key) for key in ("truncation",) if key in parameters}
        as_tokens, as_text = (
            parameters.pop(f"return_{form}", None) for form in ("tensors", "text")
        )
        after = {
            "as_tokens": bool(as_tokens) and not as_text,
            "clean_up": bool(parameters.pop("clean_up_tokenization_spaces", None)),
        }
        if (stop := parameters.pop("stop_sequence", None)) is not None:
            parameters["eos_token_id"] = self._first_token(stop)
        return before, parameters, after

    def __call__(self, inputs: Any, **parameters: Any) -> Any:
        """One list of answers per text; a flat list for a list of texts with one answer each."""
        answer = super().__call__(inputs, **parameters)
        if isinstance(inputs, list) and all(len(each) == 1 for each in answer):
            return [each[0] for each in answer]
        return answer

    def preprocess(self, text: Any, truncation: bool | str = True) -> dict[str, Any]:
        encoded = self.tokenizer(self._prompt(text), truncation=truncation, return_tensors="pt")
        encoded.pop("token_type_ids", None)
        return dict(encoded)

    def _prompt(self, text: Any) -> str:
        if not isinstance(text, str):
            raise InvalidRequest(f"{family(self.task)} takes a text or a list of texts")
        return (self._prefix or "") + text

    def _forward(self, batch: dict[str, Any], **generate: Any) -> dict[str, Any]:
        count = batch["input_ids"].shape[0]
        tokens = self.model.generate(**batch, **precedence.passed(self, generate))
        return {"output_ids": tokens.reshape(count, -1, tokens.shape[-1])}

    def postprocess(
        self, outputs: dict[str, Any], as_tokens: bool = False, clean_up: bool = False
    ) -> list[dict[str, Any]]:
        return [self._record(tokens, as_tokens, clean_up) for tokens in outputs["output_ids"][0]]

    def _record(self, tokens: Any, as_tokens: bool, clean_up: bool) -> dict[str, Any]:
        if as_tokens:
            return {f"{self.answer_name}_token_ids": tokens.tolist()}
        text = self.tokenizer.decode(
            tokens, skip_special_tokens=True, clean_up_tokenization_spaces=clean_up
        )
        return {f"{self.answer_name}_text": text}

    def _first_token(self, text: Any) -> int:
        tokens = self.tokenizer.encode(str(text), add_special_tokens=False)
        if not tokens:
            raise InvalidRequest("stop_sequence has no token in this model's vocabulary")
        return int(tokens[0])


class SummarizationPipeline(Text2TextPipeline):
    """`summary_text`."""

    answer_name = "summary"


class TranslationPipeline(Text2TextPipeline):
    """`translation_text`. Multilingual tokenizers take `src_lang` and `tgt_lang`; others ignore them."""

    answer_name = "translation"

    def _sanitize_parameters(self, **parameters: Any) -> Steps:
        source, target = languages(self.task) or (None, None)
        asked = {
            "src_lang": parameters.pop("src_lang", None) or source,
            "tgt_lang": parameters.pop("tgt_lang", None) or target,
        }
        before, generate, after = super()._sanitize_parameters(**parameters)
        return before | {key: each for key, each in asked.items() if each}, generate, after

    def preprocess(
        self,
        text: Any,
        truncation: bool | str = True,
        src_lang: str | None = None,
        tgt_lang: str | None = None,
    ) -> dict[str, Any]:
        build = getattr(self.tokenizer, "_build_translation_inputs", None)
        if build is None:
            return super().preprocess(text, truncation)
        source, target = self._pair(src_lang, tgt_lang)
        prompt = self._prompt(text)
        options = {"return_tensors": "pt", "truncation": truncation}
        return dict(build(prompt, src_lang=source, tgt_lang=target, **options))

    def _pair(self, source: str | None, target: str | None) -> tuple[str, str]:
        """The requested languages, else those that the tokenizer was saved with."""
        source = source or getattr(self.tokenizer, "src_lang", None)
        target = target or getattr(self.tokenizer, "tgt_lang", None)
        if not source or not target:
            raise InvalidRequest("this model translates many languages: give src_lang and tgt_lang")
        for code in (source, target):
            if not self._knows(code):
                raise InvalidRequest(f"this model does not know the language {str(code)[:40]!r}")
        return source, target

    def _knows(self, code: str) -> bool:
        """Whether the tokenizer has the language.

        It would map an unknown code to the unknown token, and the model would answer in any language.
        """
        known = getattr(self.tokenizer, "lang_code_to_id", None)
        if isinstance(known, Mapping):
            return code in known
        if hasattr(self.tokenizer, "get_lang_id"):
            return code in getattr(self.tokenizer, "lang_code_to_token", {code: code})
        unknown = self.tokenizer.unk_token_id
        return bool(self.tokenizer.convert_tokens_to_ids(code) != unknown)


PIPELINES = {
    "summarization": SummarizationPipeline,
    "text2text-generation": Text2TextPipeline,
    "translation": TranslationPipeline,
}


def task_parameters(config: Any, task: str) -> dict[str, Any]:
    """The parameters in a checkpoint's config.json for `task`: prefix, lengths and beams.

    Plain `translation` uses the entry of a language pair if there is exactly one.
    """
    hints = getattr(config, "task_specific_params", None)
    if not isinstance(hints, Mapping):
        return {}
    related = [name for name in hints if family(name) == task]
    name = related[0] if task not in hints and len(related) == 1 else task
    found = hints.get(name)
    return dict(found) if isinstance(found, Mapping) else {}

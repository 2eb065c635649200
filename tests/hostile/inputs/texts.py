"""Hostile JSON of Hugging Face artifacts: configs, tokenizers, chat templates, processors."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

from tests import artifacts
from tests.hostile.inputs.artifacts import ANSWERED, EITHER, FAILED, Hostile, edited
from tests.hostile.inputs.files import WEIGHTS
from tests.hostile.inputs.requests import encoded, png

ANY = ANSWERED | FAILED
CHAT = json.dumps({"inputs": [{"role": "user", "content": "hello"}]}).encode()
LETTERS = json.dumps({"inputs": "a" * 40 + "!"}).encode()
FEW_LETTERS = json.dumps({"inputs": "a" * 8}).encode()
NESTED = 2_000_000


# ---- config.json ----


def config_text(
    unit: str, times: int = 1, before: str = "", after: str = ""
) -> Callable[[Path], None]:
    """A classifier whose config.json is `unit` many times, between two other texts."""

    def write(to: Path) -> None:
        artifacts.bert_classifier(to)
        (to / "config.json").write_text(before + unit * times + after)

    return write


def config(**changes: Any) -> Callable[[Path], None]:
    """A classifier with changed keys of config.json."""

    def write(to: Path) -> None:
        artifacts.bert_classifier(to)
        edited(to / "config.json", **changes)

    return write


def tiny_file_of_large_model(to: Path) -> None:
    """The config asks for 2.4 GB of embeddings, the file has none."""
    config(vocab_size=18_750_000)(to)


def many_empty_lists(to: Path) -> None:
    config_text("[],", 5_000_000, '{"a": [', "[]]}")(to)


CONFIGS = (
    Hostile("config-15-megabytes", many_empty_lists),
    Hostile("config-nested", config_text("[", NESTED, '{"a":')),
    Hostile("config-nested-objects", config_text('{"a":', 500_000)),
    Hostile("config-long-number", config_text("9", 3_000_000, '{"vocab_size": ', "}")),
    Hostile("config-long-key", config_text("k", 40_000_000, '{"', '": 1}')),
    Hostile("config-vocabulary", tiny_file_of_large_model),
    Hostile("config-30000-layers", config(num_hidden_layers=30_000)),
    Hostile("config-no-heads", config(num_attention_heads=0)),
    Hostile("config-huge-width", config(hidden_size=1 << 31)),
    Hostile("config-huge-positions", config(max_position_embeddings=1 << 40)),
    Hostile("config-negative-layers", config(num_hidden_layers=-1)),
    Hostile("config-labels", config(id2label={str(n): "x" for n in range(300_000)})),
    Hostile("config-number-of-labels", config(num_labels=1 << 33)),
    Hostile(
        "config-remote-code", config(auto_map={"AutoConfig": "evil.Evil"}), EITHER, answers=ANY
    ),
    Hostile(
        "config-own-quantization",
        config(quantization_config={"quant_method": "bitsandbytes"}),
        EITHER,
        answers=ANY,
    ),
    Hostile("config-nan", config(layer_norm_eps=float("nan")), EITHER, answers=ANY),
    Hostile("config-padding", config(pad_token_id=1 << 40), EITHER, answers=ANY),
    Hostile("config-architectures", config(architectures=["x" * 100] * 50_000)),
)


# ---- tokenizer.json ----


def tokenizer(
    make: Callable[..., Any] = artifacts.bert_classifier, **parts: Any
) -> Callable[[Path], None]:
    """A model whose tokenizer.json has these parts."""

    def write(to: Path) -> None:
        make(to)
        edited(to / "tokenizer.json", **parts)

    return write


def replacing(factor: int, times: int) -> dict[str, Any]:
    """Normalizers of which each writes `factor` letters for one."""
    each = {"type": "Replace", "pattern": {"String": "a"}, "content": "a" * factor}
    return {"type": "Sequence", "normalizers": [each] * times}


def splitting(pattern: str) -> dict[str, Any]:
    return {
        "type": "Split",
        "pattern": {"Regex": pattern},
        "behavior": "Isolated",
        "invert": False,
    }


def unknown_ids(to: Path) -> None:
    """Each word has an id far beyond the embeddings."""
    artifacts.bert_classifier(to)
    model = json.loads((to / "tokenizer.json").read_text())["model"]
    vocabulary = {word: index + 1_000_000 for word, index in model["vocab"].items()}
    edited(to / "tokenizer.json", model=model | {"vocab": vocabulary})


def with_names(**changes: Any) -> Callable[[Path], None]:
    """A classifier with changed keys of tokenizer_config.json."""

    def write(to: Path) -> None:
        artifacts.bert_classifier(to)
        edited(to / "tokenizer_config.json", **changes)

    return write


TOKENIZERS = (
    Hostile(
        "tokenizer-backtracks",
        tokenizer(pre_tokenizer=splitting("(a+)+$")),
        EITHER,
        LETTERS,
        replaced=True,
    ),
    Hostile(
        "tokenizer-backtracks-in-normalizer",
        tokenizer(normalizer={"type": "Replace", "pattern": {"Regex": "(a|aa)+$"}, "content": "b"}),
        EITHER,
        LETTERS,
        ANY,
        replaced=True,
    ),
    Hostile(
        "tokenizer-grows", tokenizer(normalizer=replacing(4, 11)), EITHER, FEW_LETTERS, ANY, True
    ),
    Hostile(
        "tokenizer-prepends",
        tokenizer(normalizer={"type": "Prepend", "prepend": "a" * 30_000_000}),
        EITHER,
        answers=ANY,
    ),
    Hostile("tokenizer-nested", lambda to: _nested_tokenizer(to)),
    Hostile("tokenizer-unknown-ids", unknown_ids, EITHER, answers=ANY),
    Hostile("tokenizer-bad-regex", tokenizer(pre_tokenizer=splitting("((((("))),
    Hostile("tokenizer-no-model", tokenizer(model={"type": "WordPiece"})),
    Hostile(
        "tokenizer-truncation",
        tokenizer(
            truncation={
                "max_length": 0,
                "strategy": "LongestFirst",
                "stride": 1 << 40,
                "direction": "Right",
            }
        ),
        EITHER,
        answers=ANY,
    ),
    Hostile(
        "tokenizer-padding",
        tokenizer(
            padding={
                "strategy": {"Fixed": 1 << 33},
                "direction": "Right",
                "pad_to_multiple_of": None,
                "pad_id": 0,
                "pad_type_id": 0,
                "pad_token": "[PAD]",
            }
        ),
        EITHER,
        answers=ANY,
    ),
    Hostile("tokenizer-class", with_names(tokenizer_class="os.system"), EITHER, answers=ANY),
    Hostile("tokenizer-length", with_names(model_max_length=-5), EITHER, answers=ANY),
    Hostile(
        "tokenizer-inputs", with_names(model_input_names=["__class__"] * 9999), EITHER, answers=ANY
    ),
)


def _nested_tokenizer(to: Path) -> None:
    artifacts.bert_classifier(to)
    (to / "tokenizer.json").write_text('{"model":' + "[" * NESTED)


# ---- generating models ----


def chat(template: str) -> Callable[[Path], None]:
    def write(to: Path) -> None:
        artifacts.gpt2(to)
        edited(to / "tokenizer_config.json", chat_template=template)

    return write


def generation(**changes: Any) -> Callable[[Path], None]:
    def write(to: Path) -> None:
        artifacts.gpt2(to)
        edited(to / "generation_config.json", **changes)

    return write


TURNS = "{% for i in range(99999) %}{% for j in range(99999) %}{% endfor %}{% endfor %}"
GENERATING = (
    Hostile("template-turns", chat(TURNS), EITHER, CHAT, replaced=True),
    Hostile("template-grows", chat("{{ 'x' * 3000000000 }}"), EITHER, CHAT, ANY),
    Hostile("template-power", chat("{{ 9 ** (9 ** 9) }}"), EITHER, CHAT, ANY, True),
    Hostile("template-classes", chat("{{ ''.__class__.__mro__ }}"), EITHER, CHAT, ANY),
    Hostile(
        "template-recursion",
        chat("{% macro m() %}{{ m() }}{% endmacro %}{{ m() }}"),
        EITHER,
        CHAT,
        ANY,
    ),
    Hostile("generation-cold", generation(do_sample=True, temperature=1e-40), EITHER, answers=ANY),
    Hostile("generation-beams", generation(num_beams=1_000_000), EITHER, answers=ANY),
    Hostile(
        "generation-sequences",
        generation(num_return_sequences=1 << 30, do_sample=True),
        EITHER,
        answers=ANY,
    ),
    Hostile(
        "generation-suppressed", generation(suppress_tokens=list(range(400))), EITHER, answers=ANY
    ),
    Hostile(
        "generation-bad-words",
        generation(bad_words_ids=[[n] for n in range(400)]),
        EITHER,
        answers=ANY,
    ),
    Hostile("generation-nested", lambda to: _nested_generation(to), EITHER, answers=ANY),
)


def _nested_generation(to: Path) -> None:
    artifacts.gpt2(to)
    (to / "generation_config.json").write_text('{"a":' + "[" * NESTED)


# ---- images and audio ----


def processor(make: Callable[[Path], Any], **changes: Any) -> Callable[[Path], None]:
    def write(to: Path) -> None:
        make(to)
        edited(to / "preprocessor_config.json", **changes)

    return write


PICTURE = encoded(lambda: png(1, 1), 1)()
LARGE = {"height": 60_000, "width": 60_000}
PROCESSORS = (
    Hostile("picture-size", processor(artifacts.vit, size=LARGE), EITHER, PICTURE, ANY, True),
    Hostile(
        "picture-mean", processor(artifacts.vit, image_mean=[0.5] * 100_000), EITHER, PICTURE, ANY
    ),
    Hostile(
        "picture-class", processor(artifacts.vit, image_processor_type="../x"), EITHER, PICTURE, ANY
    ),
    Hostile(
        "audio-rate", processor(artifacts.wav2vec2, sampling_rate=1 << 40), EITHER, answers=ANY
    ),
    Hostile(
        "audio-features", processor(artifacts.wav2vec2, feature_size=1 << 31), EITHER, answers=ANY
    ),
)


def empty_weights(to: Path) -> None:
    """An index with a hundred thousand names and no shard."""
    artifacts.bert_classifier(to)
    (to / WEIGHTS).unlink()
    names = {f"x{number}": "none.safetensors" for number in range(100_000)}
    (to / f"{WEIGHTS}.index.json").write_text(json.dumps({"metadata": {}, "weight_map": names}))


INDEXES = (Hostile("index-of-nothing", empty_weights),)
TEXTS = (*CONFIGS, *TOKENIZERS, *GENERATING, *PROCESSORS, *INDEXES)

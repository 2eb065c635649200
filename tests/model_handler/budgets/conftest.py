"""One handler of each task, opened at its first use."""

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from model_handler.handlers.pipeline import PipelineHandler
from tests import artifacts
from tests.model_handler.harness import loaded

Build = Callable[..., Path]

TEXTS: dict[str, tuple[Build, str]] = {
    "text-classification": (artifacts.bert_classifier, "text-classification"),
    "zero-shot-classification": (artifacts.bert_nli, "zero-shot-classification"),
    "token-classification": (artifacts.bert_ner, "token-classification"),
    "question-answering": (artifacts.bert_qa, "question-answering"),
    "fill-mask": (artifacts.bert_mlm, "fill-mask"),
    "feature-extraction": (artifacts.bert_encoder, "feature-extraction"),
    "text-generation": (artifacts.gpt2, "text-generation"),
    "summarization": (artifacts.bart, "summarization"),
    "text2text-generation": (artifacts.t5, "text2text-generation"),
    "translation": (artifacts.marian, "translation"),
    "image-classification": (artifacts.vit, "image-classification"),
    "automatic-speech-recognition": (artifacts.wav2vec2, "automatic-speech-recognition"),
}


@pytest.fixture(scope="module")
def handlers(
    tmp_path_factory: pytest.TempPathFactory,
) -> Iterator[Callable[[str], PipelineHandler]]:
    open_blocks: dict[str, Any] = {}
    opened: dict[str, PipelineHandler] = {}

    def handler(name: str) -> PipelineHandler:
        if name not in opened:
            build, task = TEXTS[name]
            block = loaded(build(tmp_path_factory.mktemp(name)), task)
            opened[name], open_blocks[name] = block.__enter__(), block
        return opened[name]

    yield handler
    opened.clear()
    for block in open_blocks.values():
        next(block.gen, None)

"""Compare the responses of our handler and of the transformers pipeline for one artifact."""

import json
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import pytest
import transformers

from model_handler.codecs.toolkit import decode
from model_handler.handlers.pipeline import PipelineHandler
from tests.model_handler.harness import Builder, answers, loaded, request

LONG = "the quick brown fox jumps over the lazy dog"
TEXTS = [
    "good",
    "the film was a wonderful surprise",
    LONG,
    f"{LONG}, while {LONG} in Berlin!",
    "Angela Merkel met Emmanuel Macron in Berlin on Monday",
]
GREEDY = {"do_sample": False, "max_new_tokens": 8}


class Pair:
    """One artifact, loaded by our handler and by the transformers pipeline."""

    def __init__(self, path: Path, task: str, handler: PipelineHandler) -> None:
        self.handler = handler
        self._plain = transformers.pipeline(task, model=str(path), device="cpu")

    def plain(self, document: dict[str, Any], **defaults: Any) -> Any:
        parameters = defaults | document.get("parameters", {})
        return self._plain(document["inputs"], **parameters)

    def check(self, documents: Sequence[dict[str, Any]], **defaults: Any) -> None:
        """Run `documents` as one batch of our handler and one by one in the pipeline, and compare them."""
        ours = answers(self.handler, *documents)
        for document, answer in zip(documents, ours, strict=True):
            assert_same(
                answer, json.loads(json.dumps(self.plain(document, **defaults), default=float))
            )


def assert_same(ours: Any, plain: Any) -> None:
    """Assert equal shape, labels and text, and equal numbers to 1e-5."""
    if isinstance(plain, dict):
        assert list(ours) == list(plain)
        ours, plain = list(ours.values()), list(plain.values())
    if isinstance(plain, list):
        assert len(ours) == len(plain)
        for left, right in zip(ours, plain, strict=True):
            assert_same(left, right)
    elif isinstance(plain, float):
        assert ours == pytest.approx(plain, abs=1e-5)
    else:
        assert ours == plain


def pair(root: Path, build: Builder, task: str) -> Iterator[Pair]:
    path = root / build.__name__
    if not path.exists():
        build(path)
    with loaded(path, task) as handler:
        yield Pair(path, task, handler)


def groups(handler: PipelineHandler, *documents: dict[str, Any]) -> int:
    """The number of groups of these requests' units: units of one group may share a forward."""
    prepared = [handler.preprocess(decode(request(document))) for document in documents]
    return len({unit.group for each in prepared for unit in each.units})

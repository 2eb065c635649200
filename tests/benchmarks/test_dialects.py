"""Benchmarks state a request once; a dialect translates it for each server."""

import json
from pathlib import Path

from benchmarks.dialects import Dialect, HuggingFace, Triton
from benchmarks.scenarios import SCENARIOS, Hot, Mix, document
from benchmarks.steady import PEERS

DOCUMENT = document("tiny-000", "word1 word2")


def test_the_artifact_goes_as_it_is() -> None:
    dialect: Dialect = HuggingFace()
    assert dialect.place("tiny-000", Path("/models/x"), Path("/scratch")) == Path("/models/x")
    assert dialect.answer(dialect.request(DOCUMENT)) == DOCUMENT


def test_triton_gets_a_repository_of_one_model_around_the_artifact(tmp_path: Path) -> None:
    artifact = tmp_path / "model"
    artifact.mkdir()
    repository = Triton().place("tiny-000", artifact, tmp_path / "scratch")
    (inner,) = repository.iterdir()
    assert {path.name for path in inner.iterdir()} == {"config.pbtxt", "1"}
    assert (inner / "1/model.py").is_file()
    assert (inner / "1/artifact").resolve() == artifact


def test_triton_is_sent_and_sends_strings_in_tensors() -> None:
    (text,) = Triton().request(DOCUMENT)["inputs"]
    assert text["data"] == ["word1 word2"]
    answer = [{"label": "LABEL_0", "score": 0.5}]
    assert Triton().answer({"outputs": [{"data": [json.dumps(answer)]}]}) == answer


def test_every_peer_that_is_asked_for_is_known() -> None:
    asked = {each.peer for each in SCENARIOS.values() if isinstance(each, Hot | Mix)}
    assert asked - {None} <= set(PEERS)

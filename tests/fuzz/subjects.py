"""Valid artifacts and requests of every task, from which inputs are mutated."""

import base64
import json
import shutil
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from hypothesis import strategies as st

from model_handler.handlers.task_parameters import TASK_PARAMETERS
from tests import artifacts
from tests.fuzz import formats, mutations
from tests.fuzz.mutations import Draw
from tests.hostile.inputs.artifacts import properties
from tests.hostile.inputs.graphs import Adding, Endless, script
from tests.hostile.inputs.requests import png, tone
from tests.hostile.inputs.trees import booster, estimator
from tests.model_handler.formats import builders

ROWS = json.dumps({"inputs": [[1.0, 2.0, 3.0]]}).encode()
TEXT = {"inputs": "the quick brown fox"}
JSON = "application/json"


@dataclass(frozen=True, slots=True)
class Subject:
    """A valid model. `bodies`: valid requests by content type. `task`: of its parameters, "" for tables."""

    name: str
    write: Callable[[Path], object]
    bodies: dict[str, bytes]
    task: str = ""

    def at(self, root: Path) -> Path:
        directory = root / f"subject-{self.name}" / "model"
        directory.mkdir(parents=True)
        self.write(directory)
        if self.task == "zero-shot-classification":
            properties(directory, option__task=self.task)
        return directory


def _json(document: Any) -> dict[str, bytes]:
    return {JSON: json.dumps(document).encode()}


def _media(kind: str, data: bytes) -> dict[str, bytes]:
    return {kind: data, **_json({"inputs": base64.b64encode(data).decode()})}


TABLE = {JSON: ROWS, "text/csv": b"1,2,3\n4,5,6\n", "application/jsonlines": b"[1,2,3]\n[4,5,6]\n"}
QUESTION = {"question": "who is it", "context": "the fox is quick and the dog is lazy " * 4}
CHAT = {"inputs": [{"role": "user", "content": "hello"}]}
LABELS = {"inputs": "a film", "parameters": {"candidate_labels": ["good", "bad"]}}
SUBJECTS = (
    Subject(
        "classes",
        artifacts.bert_classifier,
        _json(TEXT) | {"text/csv": b"inputs\na fox\n", "text/plain": b"a fox"},
        "text-classification",
    ),
    Subject("answers", artifacts.bert_qa, _json({"inputs": QUESTION}), "question-answering"),
    Subject("entities", artifacts.bert_ner, _json(TEXT), "token-classification"),
    Subject("masks", artifacts.bert_mlm, _json({"inputs": "the [MASK] fox"}), "fill-mask"),
    Subject("vectors", artifacts.bert_encoder, _json(TEXT), "feature-extraction"),
    Subject("zero-shot", artifacts.bert_nli, _json(LABELS), "zero-shot-classification"),
    Subject("generated", artifacts.gpt2, _json(TEXT), "text-generation"),
    Subject("translated", artifacts.marian, _json(TEXT), "translation"),
    Subject("summarized", artifacts.bart, _json(TEXT), "summarization"),
    Subject("rewritten", artifacts.t5, _json(TEXT), "text2text-generation"),
    Subject("pictures", artifacts.vit, _media("image/png", png(8, 8)), "image-classification"),
    Subject(
        "speech", artifacts.wav2vec2, _media("audio/wav", tone(0.2)), "automatic-speech-recognition"
    ),
    Subject("trees", booster, TABLE | {"text/libsvm": b"1 0:1 1:2 2:3\n"}),
    Subject("estimator", estimator, TABLE),
    Subject("graph", builders.onnx_graph, TABLE),
    Subject("script", script(Adding()), TABLE),
    Subject("looping", script(Endless()), {JSON: ROWS}),
)
BY_NAME = {subject.name: subject for subject in SUBJECTS}


# ---- artifacts ----


def mutate_artifact(draw: Draw, valid: Path, to: Path) -> str:
    """Copy the artifact and change one file of it. Returns the file's name."""
    shutil.copytree(valid, to)
    names = sorted(file.name for file in to.iterdir())
    name: str = draw(st.sampled_from([*names, "serving.properties"]))
    if name == "model.json" and draw(st.booleans()):
        (to / "model.ubj").write_bytes(formats.ubj(draw, (to / name).read_bytes()))
        (to / name).unlink()
        return "model.ubj"
    file = to / name
    before = file.read_bytes() if file.exists() else b""
    file.write_bytes(_mutation(file)(draw, before))
    return name


def _mutation(file: Path) -> Callable[[Draw, bytes], bytes]:
    if file.name == "serving.properties":
        return mutations.lines
    by_suffix = {
        ".json": mutations.json_text,
        ".safetensors": mutations.safetensors,
        ".pt": formats.archive,
        ".skops": formats.archive,
        ".onnx": formats.graph,
    }
    return by_suffix.get(file.suffix, mutations.raw)


# ---- requests ----

CONTENT_TYPES = (
    *(JSON, "text/csv", "text/plain", "application/x-npy", "application/jsonlines", "text/libsvm"),
    *("image/png", "audio/wav", "application/octet-stream", "application/x-image", "x/y", ""),
)


@dataclass(frozen=True, slots=True)
class Request:
    body: bytes
    content_type: str
    accept: str


def mutate_request(draw: Draw, subject: Subject) -> Request:
    content_type = draw(st.sampled_from(sorted(subject.bodies)))
    body = subject.bodies[content_type]
    if content_type == JSON:
        body = json.dumps(_document(draw, subject, json.loads(body))).encode()
        if draw(st.integers(0, 9)) == 0:
            body = mutations.raw(draw, body)
    else:
        body = mutations.raw(draw, body)
    if draw(st.integers(0, 9)) == 0:
        content_type = draw(st.sampled_from(CONTENT_TYPES))
    accept = draw(st.sampled_from(("*/*", "*/*", JSON, "text/csv", "application/x-npy", "x/y")))
    return Request(body, content_type, accept)


def _document(draw: Draw, subject: Subject, valid: Any) -> Any:
    """A valid document with a few parameters of its task, of which some are odd; then a few changes."""
    names = _parameters(subject.task)
    if names:
        chosen = draw(st.lists(st.sampled_from(names), max_size=3, unique=True))
        given = valid.get("parameters", {})
        valid = valid | {"parameters": given | {name: draw(parameter()) for name in chosen}}
    return mutations.document(draw, valid) if draw(st.booleans()) else valid


def _parameters(task: str) -> list[str]:
    return sorted(TASK_PARAMETERS[task].allowed) if task in TASK_PARAMETERS else []


def parameter() -> st.SearchStrategy[Any]:
    plain = mutations.value(1) | mutations.value(0.5) | mutations.value("a") | st.booleans()
    named = st.sampled_from(
        (
            *(
                "max_length",
                "longest",
                "only_first",
                "simple",
                "average",
                "softmax",
                "word",
                "de_DE",
            ),
            *(
                {"max_length": 8, "truncation": True},
                {"stride": 4, "max_length": 6, "truncation": True},
            ),
            *(
                {"padding": "max_length"},
                {"num_beams": 3},
                ["a", "b"],
                [[5, 6]],
                [[[5], 1.5]],
                [0, 1, 2],
            ),
        )
    )
    return plain | named

"""Artifacts with their own code, through the engine and in real processes.

Handlers get the same arguments as from the toolkits; errors are classified by cause.
"""

import asyncio
import io
import json
import zipfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy
import pytest

from model_handler.errors import (
    EngineError,
    HandlerRefusal,
    InferenceFailed,
    InvalidRequest,
    ModelLoadFailed,
    UnacceptableAccept,
    UnsupportedContentType,
)
from model_handler.messages import InferenceRequest, InferenceResponse
from tests import artifacts
from tests.chaos.scripts import write
from tests.model_handler.formats import builders
from tests.model_handler.running_engine import JSON, RunningEngine, opened

CSV, NPY = "text/csv", "application/x-npy"


@pytest.fixture(scope="module")
def running(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RunningEngine]:
    requirements = tmp_path_factory.mktemp("requirements")
    with opened(tmp_path_factory.mktemp("models"), requirements) as running:
        yield running


@pytest.fixture
def deployed(running: RunningEngine, request: pytest.FixtureRequest) -> Iterator[Any]:
    """Write and load artifacts for one test; they are unloaded at its end."""
    loaded: list[str] = []

    def deploy(code: str, name: str = "", **properties: object) -> str:
        name = f"{request.node.name}-{name}"
        write(running.root / name, code, **properties)
        running.load(name)
        loaded.append(name)
        return name

    yield deploy
    for name in loaded:
        running.run(running.engine.unload(name))


def test_the_four_functions(running: RunningEngine, deployed: Any) -> None:
    """Each gets the result of the previous one; bodies are text for JSON and CSV, else bytes."""
    name = deployed("""
def model_fn(model_dir):
    return ["model"]
def input_fn(body, content_type):
    return [type(body).__name__, content_type]
def predict_fn(data, model):
    return model + data
def output_fn(prediction, accept):
    return " ".join(prediction), "text/x-" + accept.rpartition("/")[2]
""")
    answer = running.invoke(name, b"1,2", content_type=CSV)
    assert (answer.body, answer.content_type) == (b"model str text/csv", "text/x-json")
    answer = running.invoke(name, b"\x00", content_type="image/png", accept="text/plain")
    assert (answer.body, answer.content_type) == (b"model bytes image/png", "text/x-plain")


def test_transform_fn_and_the_context(running: RunningEngine, deployed: Any) -> None:
    """Headers in and out, the content type, and the model directory."""
    name = deployed("""
import json
def model_fn(model_dir, context):
    return context.system_properties["model_dir"] == model_dir
def transform_fn(model, body, content_type, accept, context):
    context.set_response_header(0, "X-Seen", context.get_request_header(0, "X-Asked"))
    context.set_response_header(0, "X-Amzn-SageMaker-Custom-Attributes", "trace=2")
    context.set_response_content_type(0, "application/x-mine")
    assert context.get_all_request_header(0)["x-asked"] == "this"
    return json.dumps([model, context.get_request_id()])
""")
    headers = ((b"x-asked", b"this"), (b"content-type", b"application/json"))
    answer = running.invoke(name, b"{}", headers=headers, request_id="7")
    assert json.loads(answer.body) == [True, "7"]
    assert answer.content_type == "application/x-mine"
    assert answer.custom_attributes == "trace=2"
    assert answer.headers == (("x-seen", "this"),)


def test_a_header_cannot_become_two(running: RunningEngine, deployed: Any) -> None:
    name = deployed("""
def model_fn(model_dir): return None
def transform_fn(model, body, content_type, accept, context):
    context.set_response_header(0, "X-A", "1\\r\\nX-B: 2")
""")
    with pytest.raises(InferenceFailed, match="line break"):
        running.invoke(name, b"{}")


def test_two_models_with_modules_of_the_same_names(running: RunningEngine, deployed: Any) -> None:
    """Each imports its own `helper`, during the load and later."""
    names = []
    for word in ("one", "two"):
        code = """
import helper
def model_fn(model_dir): return helper.WORD
def input_fn(body, content_type): return body
def predict_fn(data, model):
    import late
    return [model, late.WORD]
"""
        directory = write(running.root / f"same-{word}", code)
        for module in ("helper", "late"):
            (directory / f"code/{module}.py").write_text(f"WORD = {word!r}\n")
        running.load(f"same-{word}")
        names.append(f"same-{word}")
    for name, word in zip(names, ("one", "two"), strict=True):
        assert running.ask(name, {}) == [word, word]
        assert list((running.root / name).rglob("__pycache__")) == []
        running.run(running.engine.unload(name))


def test_defaults_read_and_write_arrays(running: RunningEngine, deployed: Any) -> None:
    """Without input_fn and output_fn: JSON, CSV and npy, as in sagemaker-inference."""
    name = deployed("""
def model_fn(model_dir): return lambda array: array * 2
""")
    assert running.ask(name, [1, 2]) == [2, 4]
    assert running.invoke(name, b"1,2\n3,4", content_type=CSV, accept=CSV).body == b"2,4\n6,8\n"
    buffer = io.BytesIO()
    numpy.save(buffer, numpy.array([1.5]))
    assert running.invoke(name, buffer.getvalue(), content_type=NPY).body == b"[3.0]"
    with pytest.raises(UnsupportedContentType):
        running.invoke(name, b"x", content_type="image/png")
    with pytest.raises(UnacceptableAccept):
        running.invoke(name, b"[1]", accept="image/png")


def test_a_pickle_in_a_request_is_not_opened(
    running: RunningEngine, deployed: Any, tmp_path: Path
) -> None:
    """sagemaker-inference's decoder would unpickle it."""

    class Bomb:
        def __reduce__(self) -> Any:
            return Path.touch, (tmp_path / "opened",)

    name = deployed("def model_fn(model_dir): return lambda array: array\n")
    buffer = io.BytesIO()
    numpy.save(buffer, numpy.array([Bomb()], dtype=object), allow_pickle=True)
    with pytest.raises(InvalidRequest):
        running.invoke(name, buffer.getvalue(), content_type=NPY)
    assert not (tmp_path / "opened").exists()


def test_a_pytorch_module_gets_a_tensor(running: RunningEngine, deployed: Any) -> None:
    name = deployed("""
import torch
def model_fn(model_dir):
    model = torch.nn.Linear(2, 1)
    torch.nn.init.ones_(model.weight); torch.nn.init.zeros_(model.bias)
    return model
""")
    assert running.ask(name, [[1, 2], [3, 4]]) == [[3.0], [7.0]]


def test_a_hugging_face_directory_with_code_for_one_step(running: RunningEngine) -> None:
    """The other steps follow the Hugging Face toolkit: a pipeline, a dictionary in, JSON out."""
    directory = artifacts.bert_classifier(running.root / "hugging", labels=("low", "high"))
    (directory / "code").mkdir()
    (directory / "code/inference.py").write_text("""
import json
def output_fn(prediction, accept):
    return json.dumps({"labels": [each["label"] for each in prediction]}), "application/json"
""")
    running.load("hugging")
    assert running.ask("hugging", {"inputs": "a film"})["labels"][0] in ("low", "high")
    running.run(running.engine.unload("hugging"))


def test_an_endpoint_handler(running: RunningEngine) -> None:
    """It gets all keys of the document; arrays in its answer become lists."""
    directory = running.root / "endpoint"
    directory.mkdir()
    (directory / "word.txt").write_text("hello")
    (directory / "handler.py").write_text("""
import numpy
class EndpointHandler:
    def __init__(self, path=""):
        self.word = open(path + "/word.txt").read()
    def __call__(self, data):
        return {"word": self.word, "keys": sorted(data), "array": numpy.arange(3)}
""")
    running.load("endpoint")
    answer = running.ask("endpoint", {"inputs": "x", "date": "today"})
    assert answer == {"word": "hello", "keys": ["date", "inputs"], "array": [0, 1, 2]}
    text = running.invoke("endpoint", b"plain", content_type="text/plain")
    assert json.loads(text.body)["keys"] == ["inputs"]
    with pytest.raises(InvalidRequest):
        running.invoke("endpoint", b"{")
    running.run(running.engine.unload("endpoint"))


def test_a_program_of_torch_export(running: RunningEngine) -> None:
    """Reading it can run code, so that it runs in an isolated process; requests are as for other arrays."""
    directory = running.root / "program"
    directory.mkdir()
    builders.exported(directory)
    running.load("program")
    rows = [[1.0, 2.0, 3.0], [4.0, 5.0, 6.0]]
    found = running.ask("program", {"instances": rows})["predictions"]
    numpy.testing.assert_allclose(found, rows @ builders.WEIGHT, rtol=1e-5)
    with pytest.raises(InvalidRequest, match="expected x"):
        running.ask("program", {"instances": [[1.0]]})
    running.run(running.engine.unload("program"))


@pytest.mark.parametrize(
    ("statement", "error", "says"),
    [
        ("raise ValueError('no such row')", InferenceFailed, "ValueError: no such row"),
        ("raise Custom('gone away')", HandlerRefusal, "gone away"),
        ("context.set_response_status(422, 'too short')", HandlerRefusal, "too short"),
        ("return 5", InferenceFailed, "not bytes or str"),
        ("raise ValueError(body)", InferenceFailed, "withheld"),
    ],
)
def test_what_the_code_says_went_wrong(
    running: RunningEngine, deployed: Any, statement: str, error: type[EngineError], says: str
) -> None:
    name = deployed(f"""
class Custom(Exception):
    status_code = 422
def model_fn(model_dir): return None
def transform_fn(model, body, content_type, accept, context):
    {statement}
""")
    with pytest.raises(error, match=says) as caught:
        running.invoke(name, b'{"secret": "the quick brown fox jumps over the lazy dog"}')
    if isinstance(caught.value, HandlerRefusal):
        assert caught.value.status == 422


@pytest.mark.parametrize(
    ("code", "says"),
    [
        (
            "def model_fn(model_dir): raise OSError('weights.bin is missing')",
            "weights.bin is missing",
        ),
        ("import not_there", "MME_INSTALL_REQUIREMENTS"),
        ("def predict_fn(data, model): pass", "no model_fn"),
        ("x = 1", "none of model_fn"),
        ("def transform_fn(): pass\ndef input_fn(): pass\ndef model_fn(d): pass", "in place of"),
        ("def model_fn(", "SyntaxError"),
    ],
)
def test_what_cannot_be_loaded(
    running: RunningEngine, code: str, says: str, request: pytest.FixtureRequest
) -> None:
    write(running.root / request.node.name, code)
    with pytest.raises(ModelLoadFailed, match=says):
        running.load(request.node.name)


def wheel(directory: Path) -> None:
    """A minimal wheel with one module. Reproducible, because its bytes are part of the key."""
    directory.mkdir(parents=True)
    info = "greeting-1.0.dist-info"
    tags = "Wheel-Version: 1.0\nRoot-Is-Purelib: true\nTag: py3-none-any\n"
    files = {
        "greeting.py": "WORD = 'from a wheel'\n",
        f"{info}/METADATA": "Metadata-Version: 2.1\nName: greeting\nVersion: 1.0\n",
        f"{info}/WHEEL": tags,
        f"{info}/RECORD": "",
    }
    with zipfile.ZipFile(directory / "greeting-1.0-py3-none-any.whl", "w") as archive:
        for name, text in files.items():
            archive.writestr(zipfile.ZipInfo(name), text)


def test_requirements_come_from_the_artifacts_own_wheels(running: RunningEngine) -> None:
    """Without an index; packages of the image count as installed; a second model reuses the directory."""
    for name in ("first", "second"):
        directory = write(
            running.root / name,
            """
import greeting, numpy
def model_fn(model_dir): return greeting.WORD
def input_fn(body, content_type): return body
def predict_fn(data, model): return model
""",
        )
        wheel(directory / "code/wheels")
        (directory / "code/requirements.txt").write_text("greeting==1.0\nnumpy\n")
        running.load(name)
        assert running.ask(name, {}) == "from a wheel"
        running.run(running.engine.unload(name))
    store = running.engine.options.requirements_dir
    assert len([entry for entry in store.iterdir() if entry.is_dir()]) == 1


def test_requests_side_by_side_where_the_code_allows_it(
    running: RunningEngine, deployed: Any
) -> None:
    """Each request waits for the other, which would deadlock one after the other."""
    name = deployed(
        """
import threading
BARRIER = threading.Barrier(3)
def model_fn(model_dir): return None
def transform_fn(model, body, content_type, accept):
    BARRIER.wait()
    return "met"
""",
        option__concurrency=3,
    )

    async def together() -> list[InferenceResponse]:
        request = InferenceRequest(b"{}", JSON)
        return await asyncio.gather(*(running.engine.invoke(name, request) for _ in range(3)))

    assert [answer.body for answer in running.run(together())] == [b"met"] * 3


def test_trusted_code_can_share_a_process(running: RunningEngine, deployed: Any) -> None:
    """One process for both models; modules with the same name are separate; unloading one keeps the other."""
    code = """
import os
NAME = {name!r}
def model_fn(model_dir): return NAME
def input_fn(body, content_type): return body
def predict_fn(data, model): return [model, NAME, os.getpid()]
"""
    names = [
        deployed(code.format(name=name), name, option__isolation="shared") for name in ("a", "b")
    ]
    answers = [running.ask(name, {}) for name in names]
    assert [answer[:2] for answer in answers] == [["a", "a"], ["b", "b"]]
    assert answers[0][2] == answers[1][2]

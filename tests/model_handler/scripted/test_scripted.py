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
from tests.model_handler.scripted_house import JSON, House, opened

CSV, NPY = "text/csv", "application/x-npy"


@pytest.fixture(scope="module")
def house(tmp_path_factory: pytest.TempPathFactory) -> Iterator[House]:
    requirements = tmp_path_factory.mktemp("requirements")
    with opened(tmp_path_factory.mktemp("models"), requirements) as house:
        yield house


@pytest.fixture
def deployed(house: House, request: pytest.FixtureRequest) -> Iterator[Any]:
    """Write and load artifacts for one test; they are unloaded at its end."""
    loaded: list[str] = []

    def deploy(code: str, name: str = "", **properties: object) -> str:
        name = f"{request.node.name}-{name}"
        write(house.root / name, code, **properties)
        house.load(name)
        loaded.append(name)
        return name

    yield deploy
    for name in loaded:
        house.run(house.engine.unload(name))


def test_the_four_functions(house: House, deployed: Any) -> None:
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
    answer = house.invoke(name, b"1,2", content_type=CSV)
    assert (answer.body, answer.content_type) == (b"model str text/csv", "text/x-json")
    answer = house.invoke(name, b"\x00", content_type="image/png", accept="text/plain")
    assert (answer.body, answer.content_type) == (b"model bytes image/png", "text/x-plain")


def test_transform_fn_and_the_context(house: House, deployed: Any) -> None:
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
    answer = house.invoke(name, b"{}", headers=headers, request_id="7")
    assert json.loads(answer.body) == [True, "7"]
    assert answer.content_type == "application/x-mine"
    assert answer.custom_attributes == "trace=2"
    assert answer.headers == (("x-seen", "this"),)


def test_a_header_with_a_line_break_is_refused(house: House, deployed: Any) -> None:
    name = deployed("""
def model_fn(model_dir): return None
def transform_fn(model, body, content_type, accept, context):
    context.set_response_header(0, "X-A", "1\\r\\nX-B: 2")
""")
    with pytest.raises(InferenceFailed, match="line break"):
        house.invoke(name, b"{}")


def test_two_models_with_modules_of_the_same_names(house: House, deployed: Any) -> None:
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
        directory = write(house.root / f"same-{word}", code)
        for module in ("helper", "late"):
            (directory / f"code/{module}.py").write_text(f"WORD = {word!r}\n")
        house.load(f"same-{word}")
        names.append(f"same-{word}")
    for name, word in zip(names, ("one", "two"), strict=True):
        assert house.ask(name, {}) == [word, word]
        assert list((house.root / name).rglob("__pycache__")) == []
        house.run(house.engine.unload(name))


def test_defaults_read_and_write_arrays(house: House, deployed: Any) -> None:
    """Without input_fn and output_fn: JSON, CSV and npy, as in sagemaker-inference."""
    name = deployed("""
def model_fn(model_dir): return lambda array: array * 2
""")
    assert house.ask(name, [1, 2]) == [2, 4]
    assert house.invoke(name, b"1,2\n3,4", content_type=CSV, accept=CSV).body == b"2,4\n6,8\n"
    buffer = io.BytesIO()
    numpy.save(buffer, numpy.array([1.5]))
    assert house.invoke(name, buffer.getvalue(), content_type=NPY).body == b"[3.0]"
    with pytest.raises(UnsupportedContentType):
        house.invoke(name, b"x", content_type="image/png")
    with pytest.raises(UnacceptableAccept):
        house.invoke(name, b"[1]", accept="image/png")


def test_a_pickle_in_a_request_is_not_opened(house: House, deployed: Any, tmp_path: Path) -> None:
    """sagemaker-inference's decoder would unpickle it."""

    class Bomb:
        def __reduce__(self) -> Any:
            return Path.touch, (tmp_path / "opened",)

    name = deployed("def model_fn(model_dir): return lambda array: array\n")
    buffer = io.BytesIO()
    numpy.save(buffer, numpy.array([Bomb()], dtype=object), allow_pickle=True)
    with pytest.raises(InvalidRequest):
        house.invoke(name, buffer.getvalue(), content_type=NPY)
    assert not (tmp_path / "opened").exists()


def test_a_pytorch_module_gets_a_tensor(house: House, deployed: Any) -> None:
    name = deployed("""
import torch
def model_fn(model_dir):
    model = torch.nn.Linear(2, 1)
    torch.nn.init.ones_(model.weight); torch.nn.init.zeros_(model.bias)
    return model
""")
    assert house.ask(name, [[1, 2], [3, 4]]) == [[3.0], [7.0]]


def test_a_hugging_face_directory_with_code_for_one_step(house: House) -> None:
    """The other steps follow the Hugging Face toolkit: a pipeline, a dictionary in, JSON out."""
    directory = artifacts.bert_classifier(house.root / "hugging", labels=("low", "high"))
    (directory / "code").mkdir()
    (directory / "code/inference.py").write_text("""
import json
def output_fn(prediction, accept):
    return json.dumps({"labels": [each["label"] for each in prediction]}), "application/json"
""")
    house.load("hugging")
    assert house.ask("hugging", {"inputs": "a film"})["labels"][0] in ("low", "high")
    house.run(house.engine.unload("hugging"))


def test_an_endpoint_handler(house: House) -> None:
    """It gets all keys of the document; arrays in its answer become lists."""
    directory = house.root / "endpoint"
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
    house.load("endpoint")
    answer = house.ask("endpoint", {"inputs": "x", "date": "today"})
    assert answer == {"word": "hello", "keys": ["date", "inputs"], "array": [0, 1, 2]}
    text = house.invoke("endpoint", b"plain", content_type="text/plain")
    assert json.loads(text.body)["keys"] == ["inputs"]
    with pytest.raises(InvalidRequest):
        house.invoke("endpoint", b"{")
    house.run(house.engine.unload("endpoint"))


def test_a_torch_export_program(house: House) -> None:
    """Reading it can run code, so that it runs in an isolated process; requests are as for other arrays."""
    directory = house.root / "program"
    directory.mkdir()
    builders.exported(directory)
    house.load("program")
    rows = [[1.0, 2.0, 3.0], [4.0, 5.0, 6.0]]
    found = house.ask("program", {"instances": rows})["predictions"]
    numpy.testing.assert_allclose(found, rows @ builders.WEIGHT, rtol=1e-5)
    with pytest.raises(InvalidRequest, match="expected x"):
        house.ask("program", {"instances": [[1.0]]})
    house.run(house.engine.unload("program"))


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
def test_errors_of_the_code(
    house: House, deployed: Any, statement: str, error: type[EngineError], says: str
) -> None:
    name = deployed(f"""
class Custom(Exception):
    status_code = 422
def model_fn(model_dir): return None
def transform_fn(model, body, content_type, accept, context):
    {statement}
""")
    with pytest.raises(error, match=says) as caught:
        house.invoke(name, b'{"secret": "the quick brown fox jumps over the lazy dog"}')
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
def test_failed_loads(house: House, code: str, says: str, request: pytest.FixtureRequest) -> None:
    write(house.root / request.node.name, code)
    with pytest.raises(ModelLoadFailed, match=says):
        house.load(request.node.name)


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


def test_requirements_come_from_the_artifacts_own_wheels(house: House) -> None:
    """Without an index; packages of the image count as installed; a second model reuses the directory."""
    for name in ("first", "second"):
        directory = write(
            house.root / name,
            """
import greeting, numpy
def model_fn(model_dir): return greeting.WORD
def input_fn(body, content_type): return body
def predict_fn(data, model): return model
""",
        )
        wheel(directory / "code/wheels")
        (directory / "code/requirements.txt").write_text("greeting==1.0\nnumpy\n")
        house.load(name)
        assert house.ask(name, {}) == "from a wheel"
        house.run(house.engine.unload(name))
    store = house.engine._options.requirements_dir
    assert len([entry for entry in store.iterdir() if entry.is_dir()]) == 1


def test_concurrent_requests_where_the_code_allows_them(house: House, deployed: Any) -> None:
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
        return await asyncio.gather(*(house.engine.invoke(name, request) for _ in range(3)))

    assert [answer.body for answer in house.run(together())] == [b"met"] * 3


def test_trusted_code_can_share_a_process(house: House, deployed: Any) -> None:
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
    answers = [house.ask(name, {}) for name in names]
    assert [answer[:2] for answer in answers] == [["a", "a"], ["b", "b"]]
    assert answers[0][2] == answers[1][2]

"""Defaults of functions that an inference.py does not define, by toolkit."""

import base64
import io
import json
import pickle
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy
import pytest
import torch
from PIL import Image

from tests import artifacts
from tests.model_handler.scripted.process import Model, Process

Deploy = Callable[..., Model]
NPY, NPZ = "application/x-npy", "application/x-npz"
DOUBLING = "def model_fn(model_dir): return lambda array: array * 2\n"
LINEAR = """
import torch
def model_fn(model_dir):
    model = torch.nn.Sequential(torch.nn.Linear(2, 1), torch.nn.Dropout(0.5))
    torch.nn.init.ones_(model[0].weight); torch.nn.init.zeros_(model[0].bias)
    return model
"""


def npy(array: Any, **options: Any) -> bytes:
    stream = io.BytesIO()
    numpy.save(stream, array, **options)
    return stream.getvalue()


# ---- arrays ----


@pytest.mark.parametrize(
    ("body", "content_type"),
    [
        (b"[[1, 2], [3, 4]]", "application/json"),
        (b"[[1, 2], [3, 4]]", "application/json; charset=utf-8"),
        (b"1,2\n3,4\n", "text/csv"),
        (npy(numpy.array([[1, 2], [3, 4]])), NPY),
    ],
)
def test_bodies_become_arrays(deploy: Deploy, body: bytes, content_type: str) -> None:
    answer = deploy(DOUBLING).answer(body, content_type=content_type)
    assert json.loads(answer.body) == [[2, 4], [6, 8]]
    assert answer.content_type == "application/json"


def test_arrays_are_encoded_by_accept(deploy: Deploy) -> None:
    model = deploy(DOUBLING)
    answer = model.answer([[1.5]], accept=NPY)
    assert numpy.load(io.BytesIO(answer.body)).tolist() == [[3.0]]
    assert answer.content_type == NPY
    assert model.answer([[1.5]], accept="text/html, text/csv;q=0.5").body == b"3.0\n"
    assert model.answer([[1.5]], accept="text/html, */*").content_type == "application/json"
    assert model.refusal([1], accept="text/html").error == "UnacceptableAccept"


@pytest.mark.parametrize(
    ("body", "content_type", "error"),
    [
        (b"[[1], [2, 3]]", "application/json", "InvalidRequest"),
        (b"{", "application/json", "InvalidRequest"),
        (b"not npy", NPY, "InvalidRequest"),
        (b"<a/>", "text/xml", "UnsupportedContentType"),
    ],
)
def test_bodies_that_are_not_arrays_are_refused(
    deploy: Deploy, body: bytes, content_type: str, error: str
) -> None:
    assert deploy(DOUBLING).refusal(body, content_type=content_type).error == error


class Bomb:
    """Touches a file when it is unpickled."""

    def __init__(self, file: Path) -> None:
        self.file = file

    def __reduce__(self) -> Any:
        return Path.touch, (self.file,)


@pytest.mark.parametrize("kind", ["array", "archive", "bare"])
def test_pickles_in_requests_are_not_opened(deploy: Deploy, tmp_path: Path, kind: str) -> None:
    """sagemaker-inference's decoder would open the first of the three."""
    objects = numpy.array([Bomb(tmp_path / "opened")], dtype=object)
    archive = io.BytesIO()
    numpy.savez(archive, format=objects, allow_pickle=True)
    body, content_type = {
        "array": (npy(objects, allow_pickle=True), NPY),
        "archive": (archive.getvalue(), NPZ),
        "bare": (pickle.dumps(Bomb(tmp_path / "opened")), NPY),
    }[kind]
    model = deploy(DOUBLING)
    assert model.refusal(body, content_type=content_type).error == "InvalidRequest"
    assert not (tmp_path / "opened").exists()
    numpy.load(io.BytesIO(npy(objects, allow_pickle=True)), allow_pickle=True)
    assert (tmp_path / "opened").exists(), "the test's own pickle does nothing"


def test_predict_method_is_called(deploy: Deploy) -> None:
    """model_fn of scikit-learn users returns an object with this method."""
    model = deploy("""
class Estimator:
    def predict(self, rows): return rows.sum(axis=1)
def model_fn(model_dir): return Estimator()
""")
    assert model.ask([[1, 2], [3, 4]]) == [3, 7]


# ---- tensors ----


def test_a_torch_module_gets_tensors(deploy: Deploy) -> None:
    """Float32 tensors, in evaluation mode and without gradients."""
    model = deploy(LINEAR)
    assert model.ask([[1, 2], [3, 4]]) == [[3.0], [7.0]]
    assert (
        model.answer(b"1,2\n3,4", content_type="text/csv", accept="text/csv").body == b"3.0\n7.0\n"
    )


def test_npy_keeps_its_dtype(deploy: Deploy) -> None:
    """Indices stay integers."""
    model = deploy("""
import torch
def model_fn(model_dir):
    return torch.nn.Embedding.from_pretrained(torch.eye(3))
""")
    assert model.ask(npy(numpy.array([2])), content_type=NPY) == [[0.0, 0.0, 1.0]]
    assert model.refusal([2]).error == "InferenceFailed"


def test_default_steps_before_own_ones(deploy: Deploy) -> None:
    """Own code may modify the prediction, which tensors of inference mode would forbid."""
    model = deploy(
        LINEAR
        + """
def output_fn(prediction, accept):
    prediction[0] = 0
    return str(prediction.tolist())
"""
    )
    assert model.ask([[1, 2], [3, 4]]) == [[0.0], [7.0]]


def test_torchscript_without_a_model_fn(deploy: Deploy, process: Process, tmp_path: Path) -> None:
    code = "def output_fn(prediction, accept): return str(prediction.tolist())"
    root = tmp_path / "model"
    (root / "code").mkdir(parents=True)
    (root / "code/inference.py").write_text(code)
    assert "neither a config.json nor one TorchScript file" in process.refused_load(root)
    with warnings.catch_warnings(action="ignore", category=DeprecationWarning):
        torch.jit.save(torch.jit.script(torch.nn.ReLU()), root / "model.pt")
    assert process.load(root).ask([[-1, 2]]) == [[0.0, 2.0]]


def test_half_precision_answers_are_encoded(deploy: Deploy) -> None:
    """NumPy has no bfloat16."""
    half = "torch.tensor([1.5], dtype=torch.bfloat16)"
    code = f"import torch\ndef model_fn(model_dir): return lambda array: {half}"
    assert deploy(code).ask([1]) == [1.5]


# ---- a Hugging Face directory ----


@pytest.fixture(scope="module")
def classifier(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return artifacts.bert_classifier(
        tmp_path_factory.mktemp("hugging") / "classifier", labels=("low", "high")
    )


def with_code(root: Path, code: str) -> Path:
    (root / "code").mkdir(exist_ok=True)
    (root / "code/inference.py").write_text(code)
    return root


def test_a_config_json_selects_the_pipeline_defaults(process: Process, classifier: Path) -> None:
    """One own step; the others follow the Hugging Face toolkit."""
    code = """
import transformers
def predict_fn(data, model):
    assert isinstance(model, transformers.TextClassificationPipeline)
    (first, *_) = model([data["inputs"]], top_k=1) if isinstance(data["inputs"], str) else [[{}]]
    return {"keys": sorted(data), "label": first[0].get("label")}
"""
    model = process.load(with_code(classifier, code))
    answer = model.ask({"inputs": "a film", "date": "today"})
    assert answer["keys"] == ["date", "inputs"]
    assert answer["label"] in ("low", "high")
    csv = model.answer(b"inputs\na film\n", content_type="text/csv")
    assert json.loads(csv.body)["keys"] == ["inputs"]
    assert model.ask(b"a film", content_type="text/plain")["keys"] == ["inputs"]
    assert model.refusal(b"{").error == "InvalidRequest"
    assert model.refusal(b"", content_type="text/xml").error == "UnsupportedContentType"


def test_default_prediction_equals_the_pipeline_call(process: Process, classifier: Path) -> None:
    """A list in, a list out; parameters go to the pipeline; also if the artifact defines no function."""
    model = process.load(with_code(classifier, "SEEN = []"))
    document = {"inputs": ["a film", "a book"], "parameters": {"top_k": 2}}
    labels = [{each["label"] for each in scores} for scores in model.ask(document)]
    assert labels == [{"low", "high"}] * 2
    assert isinstance(model.ask({"inputs": "a film"}), list)
    assert isinstance(model.ask(["a film"]), list)
    table = model.answer({"inputs": ["a film"]}, accept="text/csv")
    assert table.body.startswith(b"label,score")


def test_tasks_without_a_transformers_pipeline(process: Process, tmp_path: Path) -> None:
    root = with_code(artifacts.marian(tmp_path / "model"), "")
    (answer,) = process.load(root, task="translation").ask({"inputs": "a house"})
    assert answer.keys() == {"translation_text"}


def test_images_are_passed_to_the_code_as_pillow_images(process: Process, tmp_path: Path) -> None:
    root = artifacts.vit(tmp_path / "model")
    picture = io.BytesIO()
    Image.new("RGB", (8, 8), "red").save(picture, "PNG")
    steps = """
def input_fn(body, content_type):
    from sagemaker_huggingface_inference_toolkit import decoder_encoder
    data = decoder_encoder.decode(body, content_type)
    assert type(data["inputs"]).__module__.startswith("PIL") or isinstance(data["inputs"], str)
    return data
"""
    model = process.load(with_code(root, steps))
    answer = model.ask(picture.getvalue(), content_type="image/png")
    assert answer == model.ask({"inputs": base64.b64encode(picture.getvalue()).decode()})
    assert model.refusal(b"no picture", content_type="image/png").error == "InvalidRequest"


@pytest.mark.parametrize(
    "body", [b"null", b'{"inputs": 7}', b'{"inputs": []}', b'{"inputs": "a", "parameters": [1]}']
)
def test_unreadable_inputs_are_invalid_requests(
    process: Process, classifier: Path, body: bytes
) -> None:
    assert process.load(with_code(classifier, "")).refusal(body).error == "InvalidRequest"


def test_errors_of_the_forward_are_inference_failures(process: Process, tmp_path: Path) -> None:
    """The text is longer than the model's position table."""
    root = with_code(artifacts.bert_classifier(tmp_path / "model"), "")
    assert process.load(root).refusal({"inputs": "fox " * 400}).error == "InferenceFailed"


def test_octet_stream_is_an_image_for_image_tasks(process: Process, tmp_path: Path) -> None:
    picture = io.BytesIO()
    Image.new("RGB", (8, 8), "red").save(picture, "PNG")
    model = process.load(with_code(artifacts.vit(tmp_path / "model"), ""))
    octets = model.ask(picture.getvalue(), content_type="application/octet-stream")
    assert octets == model.ask(picture.getvalue(), content_type="image/png")
    refusal = model.refusal(b"no picture", content_type="application/octet-stream")
    assert refusal.error == "InvalidRequest"


def test_a_traceback_in_a_message_stays_in_the_log(process: Process, classifier: Path) -> None:
    code = "def model_fn(model_dir): raise ValueError('no: Traceback (most recent call last): x')"
    assert process.refused_load(with_code(classifier, code)).endswith(" ValueError: no:")


@pytest.mark.parametrize("address", ["http://127.0.0.1:9/picture.png", "FILE"])
def test_urls_and_paths_are_not_followed(process: Process, tmp_path: Path, address: str) -> None:
    """A plain transformers pipeline would follow them."""
    Image.new("RGB", (8, 8)).save(file := tmp_path / "secret.png")
    model = process.load(with_code(artifacts.vit(tmp_path / "model"), ""))
    refusal = model.refusal({"inputs": str(file) if address == "FILE" else address})
    assert refusal.error == "InvalidRequest"
    assert "not followed" in refusal.message


def test_a_config_json_of_another_tool_keeps_the_array_defaults(
    process: Process, tmp_path: Path
) -> None:
    root = tmp_path / "model"
    root.mkdir()
    (root / "config.json").write_text('{"layers": 3}')
    model = process.load(with_code(root, DOUBLING))
    assert model.ask([1, 2]) == [2, 4]

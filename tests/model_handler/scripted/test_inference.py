"""`inference.py`: its functions, their arguments, and their answers."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from model_handler.messages import Refusal
from tests.model_handler.scripted.process import Model, Process, write

Deploy = Callable[..., Model]
ECHO = "def model_fn(model_dir): return None\n"


def test_each_step_gets_the_result_of_the_previous_one(deploy: Deploy) -> None:
    model = deploy("""
def model_fn(model_dir): return ["model"]
def input_fn(body, content_type): return [type(body).__name__, content_type]
def predict_fn(data, model): return model + data
def output_fn(prediction, accept): return " ".join([*prediction, accept])
""")
    answer = model.answer(b"1,2", content_type="text/csv", accept="text/plain")
    assert (answer.body, answer.content_type) == (b"model str text/csv text/plain", "text/plain")


def test_every_step_may_take_the_context(deploy: Deploy) -> None:
    """A function with one more parameter than required gets the context. Each request has its own context."""
    model = deploy("""
SEEN = []
def model_fn(model_dir, context): return context.system_properties["model_dir"] == model_dir
def input_fn(body, content_type, context): return [context.get_request_id()]
def predict_fn(data, model, context): return data + [model, context.get_request_id()]
def output_fn(prediction, accept, context):
    context.set_response_content_type(0, "text/x-list")
    return str(prediction)
""")
    for name in ("first", "second"):
        answer = model.answer({}, request_id=name)
        assert answer.body.decode() == str([name, True, name])
        assert answer.content_type == "text/x-list"


def test_transform_fn_in_place_of_three(deploy: Deploy) -> None:
    model = deploy("""
import json
def model_fn(model_dir): return "model"
def transform_fn(model, body, content_type, accept, context):
    return json.dumps([model, body, content_type, accept, context.get_request_id()])
""")
    assert model.ask({}, request_id="7") == [
        "model",
        "{}",
        "application/json",
        "application/json",
        "7",
    ]


def test_functions_before_and_after_model_fn_run(deploy: Deploy) -> None:
    """pre_model_fn and model_warmup_fn of sagemaker-inference 1.10."""
    model = deploy("""
import json
DONE = []
def pre_model_fn(model_dir): DONE.append("before")
def model_fn(model_dir): DONE.append("load"); return "model"
def model_warmup_fn(model_dir, model): DONE.append("warm " + model)
def transform_fn(model, body, content_type, accept): return json.dumps(DONE)
""")
    assert model.ask() == ["before", "load", "warm model"]


@pytest.mark.parametrize(
    ("function", "given"),
    [
        ("def predict_fn(*given): return len(given)", 2),
        ("def predict_fn(data, model, **options): return len(options)", 0),
        ("def predict_fn(data, model, context=None): return context is not None", True),
        (
            "class Predict:\n    def __call__(self, data, model): return 5\npredict_fn = Predict()",
            5,
        ),
        ("import operator\npredict_fn = lambda data, model, a=1, b=2: a + b", 3),
    ],
)
def test_function_signatures(deploy: Deploy, function: str, given: Any) -> None:
    assert deploy(ECHO + function).ask({"a": 1}) == given


@pytest.mark.parametrize(
    ("code", "reason"),
    [
        ("x = 1", "none of model_fn, input_fn"),
        ("def predict_fn(data, model): return data", "no model_fn"),
        (
            ECHO + "def transform_fn(a, b, c, d): pass\ndef output_fn(a, b): pass",
            "in place of input_fn, predict_fn and output_fn",
        ),
        (ECHO + "def predict_fn(data): pass", "predict_fn(data) must take 2 arguments"),
        (ECHO + "def predict_fn(data, model, a, b): pass", "one more for the context"),
        (ECHO, "no predict_fn, and a NoneType cannot be called"),
    ],
)
def test_wrong_functions_fail_the_load(
    process: Process, tmp_path: Path, code: str, reason: str
) -> None:
    """Instead of every request."""
    refusal = process.refused_load(write(tmp_path / "model", code))
    assert refusal.startswith("ModelLoadFailed")
    assert reason in refusal


@pytest.mark.parametrize(
    ("content_type", "kind"),
    [
        ("application/json", "str"),
        ("application/json; charset=latin-1", "str"),
        ("text/csv", "str"),
        ("text/plain", "bytes"),
        ("image/png", "bytes"),
    ],
)
def test_text_for_json_and_csv_and_bytes_for_the_rest(
    deploy: Deploy, content_type: str, kind: str
) -> None:
    code = "def transform_fn(model, body, kind, accept): return type(body).__name__"
    assert deploy(ECHO + code).answer(b"1", content_type=content_type).body == kind.encode()


def test_bodies_are_decoded_by_their_charset(deploy: Deploy) -> None:
    model = deploy(ECHO + "def transform_fn(model, body, kind, accept): return body")
    body = "grün".encode("latin-1")
    assert model.answer(body, content_type="text/csv; charset=latin-1").body.decode() == "grün"
    refusal = model.refusal(body, content_type="text/csv")
    assert refusal.error == "InvalidRequest"


@pytest.mark.parametrize(
    ("returned", "body", "content_type"),
    [
        ("'grün'", "grün".encode(), "text/csv"),
        ("b'1'", b"1", "text/csv"),
        ("bytearray(b'1')", b"1", "text/csv"),
        ("('1', 'text/x-own')", b"1", "text/x-own"),
    ],
)
def test_valid_return_values(deploy: Deploy, returned: str, body: bytes, content_type: str) -> None:
    model = deploy(ECHO + f"def transform_fn(model, body, kind, accept): return {returned}")
    answer = model.answer(accept="text/csv;q=0.9, application/json")
    assert (answer.body, answer.content_type) == (body, content_type)


@pytest.mark.parametrize(
    "returned", ["None", "{'a': 1}", "('a', 'b', 'c')", "('a', 'b\\r\\nc: d')"]
)
def test_invalid_return_values_fail(deploy: Deploy, returned: str) -> None:
    model = deploy(ECHO + f"def transform_fn(model, body, kind, accept): return {returned}")
    assert model.refusal().error == "InferenceFailed"


# ---- errors by the step they come from ----

STEPS = """
import sagemaker_inference.errors
from sagemaker_inference.errors import *
def model_fn(model_dir): return None
def run(step, data):
    if data["in"] == step: exec(data["do"], globals())
    return data
def input_fn(body, content_type):
    import json
    return run("input", json.loads(body))
def predict_fn(data, model): return run("predict", data)
def output_fn(prediction, accept): return str(run("output", prediction))
"""


@pytest.mark.parametrize(
    ("step", "raising", "error"),
    [
        ("input", "raise KeyError('instances')", "InvalidRequest"),
        ("input", "raise MemoryError", "InsufficientMemory"),
        ("input", "import not_there", "InferenceFailed"),
        ("input", "undefined", "InferenceFailed"),
        ("input", "raise UnsupportedFormatError('text/x')", "UnsupportedContentType"),
        ("predict", "raise KeyError('layer')", "InferenceFailed"),
        ("predict", "raise MemoryError", "InsufficientMemory"),
        ("predict", "raise RuntimeError('CUDA out of memory. Tried')", "InsufficientMemory"),
        ("output", "raise UnsupportedFormatError('text/x')", "UnacceptableAccept"),
        ("output", "raise ValueError", "InferenceFailed"),
    ],
)
def test_the_error_depends_on_the_step(deploy: Deploy, step: str, raising: str, error: str) -> None:
    model = deploy(STEPS)
    assert model.refusal({"in": step, "do": raising}).error == error
    assert model.answer({"in": ""})


def test_invalid_json_is_an_invalid_request(deploy: Deploy) -> None:
    assert deploy(STEPS).refusal(b"{").error == "InvalidRequest"


@pytest.mark.parametrize(
    ("raising", "refusal"),
    [
        (
            "raise GenericInferenceToolkitError(422, 'too short', 'Unprocessable')",
            Refusal("HandlerRefusal", "too short", 422),
        ),
        (
            "class Busy(Exception): status_code = 429\nraise Busy('later')",
            Refusal("HandlerRefusal", "Busy: later", 429),
        ),
        (
            "from mms.service import PredictionException\nraise PredictionException('no', 418)",
            Refusal("HandlerRefusal", "no", 418),
        ),
    ],
)
@pytest.mark.parametrize("step", ["input", "predict"])
def test_errors_with_a_status(deploy: Deploy, step: str, raising: str, refusal: Refusal) -> None:
    """The toolkit's errors, and any with the same attributes."""
    assert deploy(STEPS).refusal({"in": step, "do": raising}) == refusal


def test_a_status_set_on_the_context(deploy: Deploy) -> None:
    """The caller gets the answer as message, as with multi-model-server; the phrase without an answer."""
    model = deploy("""
import json
def model_fn(model_dir): return None
def transform_fn(model, body, content_type, accept, context):
    given = json.loads(body)
    context.set_response_status(given["code"], "a phrase")
    return given["answer"]
""")
    said = Refusal("HandlerRefusal", "too many rows", 422)
    assert model.refusal({"code": 422, "answer": "too many rows"}) == said
    assert model.refusal({"code": 422, "answer": None}).message == "a phrase"
    assert model.answer({"code": 201, "answer": "made"}).body == b"made"


# ---- imports from toolkits ----


def test_helpers_of_the_hugging_face_toolkit(deploy: Deploy) -> None:
    """The example of its documentation, without the toolkit in the image."""
    model = deploy("""
from sagemaker_huggingface_inference_toolkit import content_types, decoder_encoder
def model_fn(model_dir): return lambda text: [{"text": text, "length": len(text)}]
def input_fn(input_data, content_type): return decoder_encoder.decode(input_data, content_type)
def predict_fn(data, model): return model(data["inputs"][0])
def output_fn(prediction, accept):
    return decoder_encoder.encode(prediction, accept)
""")
    expected = [{"text": "hello", "length": 5}]
    assert model.ask({"inputs": ["hello"]}) == expected
    answer = model.answer(b"inputs\nhello\n", content_type="text/csv", accept="text/csv")
    assert answer.body == b"text,length\r\nhello,5\r\n"
    assert json.loads(model.answer({"inputs": ["hello"]}, accept="*/*").body) == expected


def test_installed_packages_take_precedence_over_stand_ins(
    process: Process, tmp_path: Path
) -> None:
    """Here a package inside the artifact."""
    root = write(
        tmp_path / "model",
        """
from mms.service import WORD
def model_fn(model_dir): return WORD
def transform_fn(model, body, content_type, accept): return model
""",
    )
    (root / "code/mms").mkdir()
    (root / "code/mms/__init__.py").write_text("")
    (root / "code/mms/service.py").write_text("WORD = 'its own'")
    assert process.load(root).answer().body == b"its own"

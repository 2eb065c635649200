"""The context, with the names that handlers for multi-model-server use."""

import json
from collections.abc import Callable
from typing import Any

import pytest

from tests.model_handler.scripted.process import Model

Deploy = Callable[..., Model]
HEADERS = (
    (b"content-type", b"application/json"),
    (b"x-amzn-sagemaker-custom-attributes", b"trace=1"),
    (b"x-word", "grün".encode("latin-1")),
)
ASKING = """
import json
def model_fn(model_dir, context):
    context.kept = context.system_properties
    return None
def transform_fn(model, body, content_type, accept, context):
    scope = {"context": context, "result": None}
    exec(json.loads(body), scope)
    return json.dumps(scope["result"])
"""


@pytest.mark.parametrize(
    ("expression", "expected"),
    [
        ("context.get_request_id()", "the id"),
        ("context.get_request_id(0)", "the id"),
        ("context.get_request_header(0, 'X-Amzn-SageMaker-Custom-Attributes')", "trace=1"),
        ("context.get_request_header('x-word')", "grün"),
        ("context.get_request_header(0, 'X-None')", None),
        ("context.get_all_request_header(0)['X-Word']", "grün"),
        ("dict(context.get_all_request_header(0))['x-word']", "grün"),
        ("'X-WORD' in context.get_all_request_header(0)", True),
        ("context.get_all_request_header(0).get('X-None', 'none')", "none"),
        ("context.request_processor[0].get_request_property('X-Word')", "grün"),
        ("context.request_processor[0].get_request_properties()['Content-Type']", "application/json"),
        ("context.model_name", "the name"),
        ("context.manifest['model']['modelName']", "the name"),
        ("context.system_properties['gpu_id']", None),
        ("context.system_properties['batch_size']", 1),
        ("context.kept is context.system_properties", True),
        ("context.get_response_status(0)", [200, ""]),
        ("sorted(context.system_properties)",
         ["batch_size", "gpu_id", "model_dir", "server_name", "server_version"]),
    ],
)  # fmt: skip
def test_context_attributes_and_request_data(
    deploy: Deploy, expression: str, expected: Any
) -> None:
    model = deploy(ASKING, name="the name")
    result = model.ask(f"result = {expression}", headers=HEADERS, request_id="the id")
    assert result == expected


def test_response_headers_set_on_the_context(deploy: Deploy) -> None:
    """Custom attributes are a separate field, and the next request starts without headers."""
    model = deploy(ASKING)
    answer = model.answer("""
context.set_response_content_type(0, "text/x-a")
context.set_response_header(0, "X-One", "1")
context.set_response_header("X-Two", "2")
context.set_response_header(0, "x-one", 11)
context.request_processor[0].add_response_property("X-Three", "3")
context.set_response_header(0, "X-Amzn-SageMaker-Custom-Attributes", "trace=2")
result = [context.get_response_headers(0)["X-One"], context.get_response_content_type(0)]
""")
    assert json.loads(answer.body) == ["11", "text/x-a"]
    assert answer.content_type == "text/x-a"
    assert answer.custom_attributes == "trace=2"
    assert dict(answer.headers) == {"x-one": "11", "x-two": "2", "x-three": "3"}
    following = model.answer("result = dict(context.get_response_headers(0))")
    assert json.loads(following.body) == {}
    assert (following.headers, following.custom_attributes) == ((), None)


@pytest.mark.parametrize(
    "call",
    [
        "set_response_header(0, 'X-A', '1\\r\\nX-B: 2')",
        "set_response_header(0, 'X-A', '1\\n2')",
        "set_response_header(0, 'X-A', '\\0')",
        "set_response_header(0, 'X-A', '日本')",
        "set_response_header(0, 'X-A\\r\\nX-B', '1')",
        "set_response_header(0, 'X A:', '1')",
        "set_response_content_type(0, 'text/plain\\r\\nX-B: 2')",
    ],
)
def test_headers_that_would_split_the_response_are_refused(deploy: Deploy, call: str) -> None:
    """The setter raises, so that the traceback has the line of the artifact's code."""
    model = deploy(ASKING)
    assert model.refusal(f"context.{call}").message.startswith("ValueError: a header")
    caught = f"""
try: context.{call}
except ValueError: result = 'caught'
"""
    assert model.ask(caught) == "caught"


@pytest.mark.parametrize(
    "call",
    [
        "set_response_status(429, 'slowly', 0)",
        "set_response_status(code=429, phrase='slowly')",
        "set_all_response_status(429, 'slowly')",
        "request_processor[0].report_status(429, reason_phrase='slowly')",
    ],
)
def test_ways_to_set_a_status(deploy: Deploy, call: str) -> None:
    assert deploy(ASKING).refusal(f"context.{call}").status == 429


def test_metrics_go_to_the_log(deploy: Deploy) -> None:
    model = deploy(ASKING, name="the name")
    model.ask("""
context.metrics.add_counter("rows", 3)
context.metrics.add_time("reading", 1.5, None, "ms")
context.metrics.add_size("body", 2, idx=0, unit="MB")
""")
    for name in (b"rows", b"reading", b"body"):
        model.process.prints(b'"metric":"' + name)


@pytest.mark.parametrize(
    ("code", "limit"),
    [
        ("for n in range(50_000): context.set_response_header(0, f'X-{n}', '1')", "limit of 64"),
        ("context.set_response_header(0, 'X', 'v' * 20_000)", "limit of 16384"),
        ("context.set_response_content_type(0, 'a/' + 'v' * 20_000)", "limit of 16384"),
    ],
)
def test_too_many_headers_are_an_error_that_names_the_limit(
    deploy: Deploy, code: str, limit: str
) -> None:
    model = deploy(ASKING)
    assert limit in model.refusal(f"{code}\nresult = 1").message
    assert model.ask("result = 1") == 1

"""SageMaker's headers: those that reach the engine, those that are returned, and those that are ignored."""

import pytest

from tests.container.conftest import Running, Serve

ATTRIBUTES = "X-Amzn-SageMaker-Custom-Attributes"
TARGET = "X-Amzn-SageMaker-Target-Model"


def test_a_request_reaches_the_engine_as_it_came(running: Running) -> None:
    running.load("a")
    body = bytes(range(256))
    headers = {
        "Content-Type": "application/x-npy",
        "Accept": "text/csv",
        ATTRIBUTES: "c000b4f9",
        "X-Amzn-SageMaker-Inference-Id": "id-1",
    }
    running.http.post("/models/a/invoke", content=body, headers=headers)
    ((name, request),) = running.engine.requests
    assert (name, request.body) == ("a", body)
    assert request.content_type == "application/x-npy"
    assert request.accept == "text/csv"
    assert request.custom_attributes == "c000b4f9"
    assert request.request_id == "id-1"


def test_headers_that_were_not_sent_are_none(running: Running) -> None:
    running.load("a")
    with running.raw() as client:
        client.request("POST", "/models/a/invoke")
    ((_, request),) = running.engine.requests
    assert (request.body, request.content_type, request.accept) == (b"", None, None)
    assert (request.custom_attributes, request.request_id) == (None, None)


def test_accept_has_a_default(serve: Serve) -> None:
    running = serve(SAGEMAKER_DEFAULT_INVOCATIONS_ACCEPT="text/csv")
    running.load("a")
    with running.raw() as client:
        client.request("POST", "/models/a/invoke")
        client.request("POST", "/models/a/invoke", "Accept: application/json")
    accepts = [request.accept for _, request in running.engine.requests]
    assert accepts == ["text/csv", "application/json"]


def test_custom_attributes_return_only_if_the_model_set_them(running: Running) -> None:
    running.load("a")
    with running.raw() as client:
        silent = client.request("POST", "/models/a/invoke", f"{ATTRIBUTES}: trace=1")
        spoken = client.request("POST", "/models/a/invoke", f"{ATTRIBUTES}: return trace=2")
    assert silent.header(ATTRIBUTES.lower()) is None
    assert spoken.header(ATTRIBUTES.lower()) == "trace=2"


def test_a_model_cannot_write_headers(running: Running) -> None:
    running.load("a")
    with running.raw() as client:
        evil = client.request(
            "POST", "/models/a/invoke", f"{ATTRIBUTES}: return x\\r\\nX-Evil: 1\\r\\n"
        )
        assert evil.status == 500
        assert evil.header("x-evil") is None
        assert evil.json()["type"] == "InferenceException"
        assert client.request("GET", "/ping").status == 200


@pytest.mark.parametrize(
    "target", ["b.tar.gz", "", "../../x", "/abs", "x" * 1024, "x" * 60_000, "gr\xfc\xdfe", "\xff"]
)
def test_the_url_decides_and_not_the_target(running: Running, target: str) -> None:
    """On load, invoke and unload."""
    running.load("b")
    with running.raw() as client:
        load = b'{"model_name":"a","url":"/x"}'
        assert client.request("POST", "/models", f"{TARGET}: {target}", body=load).status == 200
        invoked = client.request("POST", "/models/a/invoke", f"{TARGET}: {target}", body=b"x")
        assert (invoked.status, invoked.body) == (200, b"x")
        assert client.request("DELETE", "/models/a", f"{TARGET}: {target}").status == 200
    assert [name for name, _ in running.engine.requests] == ["a"]
    assert [info.name for info in running.engine.models()] == ["b"]


@pytest.mark.parametrize(
    "headers",
    [
        ("Content-Type: a/b", "Content-Type: c/d"),
        ("Accept: " + "x" * 60_000,),
        ("Accept: \xe9\xff",),
        ("X-Amzn-SageMaker-Session-Id: NEW_SESSION", "X-Amzn-Whatever: 1"),
        (f"{ATTRIBUTES}: \xe9", f"{ATTRIBUTES}: b"),
        ("X-Amzn-SageMaker-Inference-Id: " + "i" * 30_000,),
        tuple(f"X-{number}: {number}" for number in range(2000)),
        ("Content-Type:",),
        ("Transfer-Encoding: identity",),
        ("Upgrade: h2c", "Connection: Upgrade"),
        ("Cookie: \x01",),
        ("Content-Length: 0",),
        ("Host: other",),
    ],
    ids=lambda headers: headers[0][:30],
)
def test_strange_headers_never_break_the_server(running: Running, headers: tuple[str, ...]) -> None:
    running.load("a")
    with running.raw() as client:
        assert client.request("POST", "/models/a/invoke", *headers, body=b"").status in (200, 400)
    assert running.http.get("/ping").status_code == 200


def test_invocations_go_where_the_target_says(running: Running) -> None:
    running.load("a")
    with running.raw() as client:
        assert client.request("POST", "/invocations", body=b"only").body == b"only"
        load = b'{"model_name":"b","url":"/x"}'
        client.request("POST", "/models", f"{TARGET}: dir/b.tar.gz", body=load)
        for target in ("b", "dir/b.tar.gz", "a"):
            client.request("POST", "/invocations", f"{TARGET}: {target}")
        unknown = client.request("POST", "/invocations", f"{TARGET}: c")
        unnamed = client.request("POST", "/invocations", body=b'{"model_id":"a"}')
    assert [name for name, _ in running.engine.requests] == ["a", "b", "b", "a"]
    assert unknown.status == 404
    assert unnamed.status == 400
    assert "available: a, b" in unnamed.json()["message"]

"""Every route, every method, and paths that try to reach another route."""

import httpx
import pytest

from tests.container.conftest import Running
from tests.container.fake_engine import MISSING

ROUTES = {
    "/ping": "GET, HEAD",
    "/metrics": "GET, HEAD",
    "/models": "GET, HEAD, POST",
    "/models/a": "DELETE, GET, HEAD",
    "/models/a/invoke": "POST",
    "/invocations": "POST",
}
METHODS = ("GET", "HEAD", "POST", "PUT", "DELETE", "PATCH", "OPTIONS", "TRACE")
WRONG = [
    (method, path)
    for path, allowed in ROUTES.items()
    for method in METHODS
    if method not in allowed
]


def error_type(response: httpx.Response) -> tuple[int, str]:
    document = response.json()
    assert document["code"] == response.status_code
    assert set(document) == {"code", "type", "message"}
    return response.status_code, document["type"]


def test_a_model_s_life(running: Running) -> None:
    running_url = "/opt/ml/models/a/model"
    assert running.http.get("/models").json() == {"models": []}
    loaded = running.post("/models", model_name="a", url=running_url)
    assert loaded.status_code == 200
    assert loaded.json() == {"modelName": "a", "modelUrl": running_url, "status": "LOADED"}
    description = {"modelName": "a", "modelUrl": running_url}
    assert running.http.get("/models").json() == {"models": [description]}
    assert running.http.get("/models/a").json() == description
    answer = running.http.post(
        "/models/a/invoke", content=b"\0\xff", headers={"Content-Type": "x/y"}
    )
    assert (answer.status_code, answer.content) == (200, b"\0\xff")
    assert answer.headers["content-type"] == "x/y"
    assert running.http.delete("/models/a").status_code == 200
    for method, path in [
        ("GET", "/models/a"),
        ("DELETE", "/models/a"),
        ("POST", "/models/a/invoke"),
    ]:
        response = running.http.request(method, path)
        assert error_type(response) == (404, "ModelNotFoundException")
    assert running.http.get("/models").json() == {"models": []}


def test_loading_what_is_loaded_or_absent(running: Running) -> None:
    running.load("a")
    again = running.post("/models", model_name="a", url="/elsewhere")
    assert error_type(again) == (409, "ModelAlreadyLoadedException")
    missing = running.post("/models", model_name="b", url=MISSING)
    assert error_type(missing) == (404, "ArtifactNotFoundException")


def test_ping_reports_the_engine_s_health(running: Running) -> None:
    assert running.http.get("/ping").status_code == 200
    running.engine.sick = "the device is lost"
    sick = running.http.get("/ping")
    assert error_type(sick) == (503, "ServiceUnavailableException")
    assert "the device is lost" in sick.text


@pytest.mark.parametrize("path", ["/ping", "/models", "/metrics"])
def test_head_is_get_without_the_body(running: Running, path: str) -> None:
    """And the connection stays usable."""
    with running.raw() as client:
        short = client.request("HEAD", path)
        full = client.request("GET", path)
    assert (short.status, short.body) == (200, b"")
    assert short.header("content-length") == str(len(full.body))


def test_metrics_are_prometheus_text(running: Running) -> None:
    response = running.http.get("/metrics")
    assert response.headers["content-type"].startswith("text/plain; version=0.0.4")
    assert "mme_models_loaded 0" in response.text


@pytest.mark.parametrize(("method", "path"), WRONG)
def test_wrong_methods_do_nothing(running: Running, method: str, path: str) -> None:
    running.load("a")
    response = running.http.request(method, path)
    assert response.status_code == 405
    assert response.headers["allow"] == ROUTES[path]
    assert running.engine.models()
    assert running.engine.requests == []


@pytest.mark.parametrize(
    "path",
    [
        "/",
        "/nothing",
        "/Ping",
        "/ping/",
        "/models/",
        "/models/a/",
        "/models/a/invoke/",
        "/metrics/",
    ],
)
def test_a_trailing_slash_is_ignored(running: Running, path: str) -> None:
    running.load("a")
    with running.raw() as client:
        with_slash = client.request("GET", path)
        without = client.request("GET", path.rstrip("/") or "/")
    assert (with_slash.status, with_slash.body) == (without.status, without.body)


@pytest.mark.parametrize(
    "path",
    [
        "/models/a%2Finvoke",
        "/models/a%2finvoke",
        "/models/%2Fetc%2Fpasswd",
        "/models/..",
        "/models/.",
        "/models/%2e%2e",
        "/models/%2E",
        "/models/../ping",
        "/models/a/../../ping",
        "/models/a/./invoke",
        "/models/a%00",
        "/models/a\\b",
        "/models/a%5Cb",
        "/models/a%0d%0aX",
        "/models/%7F",
        "/models/%",
        "/models/%zz",
        "/models/%2",
        "/models/%ff",
        "/models/%ed%a0%80",
        "/models//invoke",
        "/models//",
        "//models",
        "//ping",
        "/models/a//invoke",
        "/models/a/invoke/x",
        "/models/a/invoke//",
        "/ping/x",
        "/%70ing",
        "/ping%00",
        "/invocations/a",
        "/models;a",
        "/models/" + "n" * 256,
    ],
)
def test_tricks_reach_no_route(running: Running, path: str) -> None:
    """With every method: 4xx, and the model neither runs nor is unloaded."""
    running.load("a")
    with running.raw() as client:
        for method in ("GET", "POST", "DELETE"):
            response = client.request(method, path)
            assert response.status in (400, 404)
            assert response.json()["code"] == response.status
    assert [info.name for info in running.engine.models()] == ["a"]
    assert running.engine.requests == []


@pytest.mark.parametrize(
    ("name", "segment"),
    [
        ("models", "models"),
        ("invoke", "invoke"),
        ("ping", "ping"),
        ("a b", "a%20b"),
        ("a+b", "a+b"),
        ("a%25", "a%2525"),
        ("%2F", "%252F"),
        ("...", "..."),
        (".hidden", ".hidden"),
        ("größe", "gr%C3%B6%C3%9Fe"),
        ("模型", "%E6%A8%A1%E5%9E%8B"),
        ("🙂", "%f0%9f%99%82"),
        ("a;b,c=d&e", "a;b,c=d&e"),
        ("a?b#c", "a%3Fb%23c"),
        ("n" * 255, "n" * 255),
        ("ü" * 255, "%C3%BC" * 255),
    ],
)
def test_names_are_decoded_once(running: Running, name: str, segment: str) -> None:
    running.load(name)
    with running.raw() as client:
        assert client.request("GET", f"/models/{segment}").json()["modelName"] == name
        assert client.request("POST", f"/models/{segment}/invoke", body=b"x").body == b"x"
        assert client.request("DELETE", f"/models/{segment}").status == 200
        assert client.request("GET", f"/models/{segment}").status == 404


def test_a_target_that_is_no_path(running: Running) -> None:
    for target in ("*", "http://test", "\xe9", "/\xff"):
        with running.raw() as client:
            response = client.request("OPTIONS", target)
            assert response.status in (400, 404)
            assert response.json()["code"] == response.status
    assert running.http.get("/ping").status_code == 200


def test_an_absolute_target_is_its_path(running: Running) -> None:
    with running.raw() as client:
        assert client.request("GET", "http://test/ping").status == 200


def test_queries_are_ignored_on_routes_without_parameters(running: Running) -> None:
    running.load("a")
    assert running.http.get("/ping?x=1").status_code == 200
    assert running.http.post("/models/a/invoke?a=%zz&&=", content=b"x").content == b"x"

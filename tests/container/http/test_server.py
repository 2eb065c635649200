"""Graceful shutdown: requests in flight are answered, new ones are refused."""

import signal
import threading

import httpx
import pytest

from tests.container.conftest import Serve
from tests.container.http.raw_client import head


def test_the_engine_lives_as_long_as_the_server(serve: Serve) -> None:
    running = serve()
    assert running.http.get("/ping").status_code == 200
    assert running.engine.running
    running.server.handle_exit(signal.SIGTERM, None)
    assert running.join()
    assert not running.engine.running


def test_a_drain_answers_what_is_in_flight(serve: Serve) -> None:
    """While it lasts, health checks are answered with 503 and new work is refused."""
    running = serve()
    running.load("a")
    with running.raw() as waiting, running.raw() as other:
        waiting.send(head("POST", "/models/a/invoke", "Content-Length: 4"), b"wait")
        assert running.engine.waiting.wait(5)
        running.server.handle_exit(signal.SIGTERM, None)
        drained = threading.Event()
        running.call_soon(drained.set)  # after the drain began: callbacks run in order
        assert drained.wait(5)
        assert other.request("GET", "/ping").status == 503
        assert httpx.get(f"http://127.0.0.1:{running.port}/ping").status_code == 503
        load = b'{"model_name":"b","url":"/x"}'
        assert other.request("POST", "/models", body=load).status == 503
        assert other.request("POST", "/models/a/invoke").status == 503
        running.call_soon(running.engine.release)
        assert waiting.response().status == 200
    assert running.join()


@pytest.mark.parametrize("patience", ["once", "twice"])
def test_a_drain_has_an_end(serve: Serve, patience: str) -> None:
    """At the timeout or at a second signal, requests in flight are answered with 503."""
    running = serve(MME_DRAIN_TIMEOUT="5.2" if patience == "once" else "1000")
    running.load("a")
    with running.raw() as client:
        client.send(head("POST", "/models/a/invoke", "Content-Length: 4"), b"wait")
        assert running.engine.waiting.wait(5)
        running.server.handle_exit(signal.SIGTERM, None)
        if patience == "twice":
            running.server.handle_exit(signal.SIGINT, None)
        assert client.response().status == 503
    assert running.join()
    assert running.engine.cancelled.is_set()

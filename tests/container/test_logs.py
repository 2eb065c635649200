"""The log: one line per request and per record, with useful fields and without payloads."""

import io
import json
import logging
from typing import Any

import pytest

from model_handler.logs import JsonFormatter, TextFormatter
from tests.container.conftest import Running


def record(event: str, **extra: object) -> logging.LogRecord:
    return logging.makeLogRecord({"msg": event, "levelname": "INFO", "name": "test", **extra})


NASTY = "a\nb\r\x00\x1b[31m\u2028\ud800" + "x" * 5000


@pytest.mark.parametrize("formatter", [JsonFormatter(), TextFormatter()])
def test_a_record_is_one_line(formatter: logging.Formatter) -> None:
    line = formatter.format(record("loaded", model=NASTY, nbytes=7, path=object()))
    assert len(line.splitlines()) == 1
    assert line.isprintable()
    assert len(line) < 3000
    line.encode()


def test_json_lines_carry_the_facts() -> None:
    line = JsonFormatter().format(record("loaded", model="a", ms=1.5, ok=True, target=None))
    document = json.loads(line)
    assert document["event"] == "loaded"
    assert (document["model"], document["ms"], document["ok"]) == ("a", 1.5, True)
    assert "target" not in document


def test_exceptions_carry_their_traceback() -> None:
    stream = io.StringIO()
    logger = logging.Logger("test")
    handler = logging.StreamHandler(stream)
    handler.setFormatter(JsonFormatter())
    logger.addHandler(handler)
    try:
        raise KeyError("x")
    except KeyError:
        logger.exception("failed")
    document = json.loads(stream.getvalue())
    assert "KeyError" in document["traceback"]


def requests(caplog: pytest.LogCaptureFixture) -> list[dict[str, Any]]:
    return [vars(each) for each in caplog.records if each.getMessage() == "request"]


def test_one_line_per_request(running: Running, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO)
    running.load("a")
    headers = {"X-Amzn-SageMaker-Target-Model": "dir/a.tar.gz"}
    running.http.post("/models/a/invoke", content=b"payload", headers=headers)
    running.http.post("/models/b/invoke", content=b"payload")
    running.http.post("/models/a/invoke", content=b"raise InferenceFailed")
    load, good, missing, failed = requests(caplog)
    assert (load["route"], load["model"], load["status"]) == ("load_model", "a", 200)
    assert (good["model"], good["target"], good["status"]) == ("a", "dir/a.tar.gz", 200)
    assert (good["request_nbytes"], good["response_nbytes"]) == (7, 7)
    assert 0 <= good["ms"] < 5000
    assert (missing["model"], missing["status"], missing["error"]) == ("b", 404, "ModelNotFound")
    assert (failed["status"], failed["levelname"]) == (500, "WARNING")
    assert not any("payload" in JsonFormatter().format(each) for each in caplog.records)


def test_health_checks_are_logged_only_when_they_fail(
    running: Running, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO)
    for path in ("/ping", "/models", "/models?limit=1"):
        running.http.get(path)
    assert requests(caplog) == []
    running.engine.sick = "gone"
    running.http.get("/ping")
    running.http.get("/models?limit=0")
    assert [each["status"] for each in requests(caplog)] == [503, 400]


def test_an_unexpected_error_is_logged_with_its_traceback(
    running: Running, caplog: pytest.LogCaptureFixture
) -> None:
    running.load("a")
    running.http.post("/models/a/invoke", content=b"blunder")
    (failure,) = [each for each in caplog.records if each.exc_info]
    assert "secret" in JsonFormatter().format(failure)

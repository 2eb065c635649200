"""Logging never raises, whatever is logged and wherever it goes."""

import io
import json
import logging
from typing import Any

import pytest

from model_handler import logs
from model_handler.logs import JsonFormatter, SafeHandler, TextFormatter


class Hostile:
    """Its text cannot be had."""

    def __init__(self, error: BaseException) -> None:
        self.error = error

    def __str__(self) -> str:
        raise self.error

    __repr__ = __str__


class HostileError(Exception):
    def __str__(self) -> str:
        raise SystemExit(3)


class Broken(io.StringIO):
    def write(self, text: str) -> int:
        raise RecursionError


@pytest.fixture(params=[JsonFormatter, TextFormatter])
def lines(
    request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch
) -> tuple[logging.Logger, io.StringIO]:
    """A logger as `configure` leaves it, and its stream."""
    monkeypatch.setattr(logging.Logger, "makeRecord", logs.make_record)
    stream = io.StringIO()
    handler = SafeHandler(stream)
    handler.setFormatter(request.param())
    logger = logging.Logger("test")
    logger.addHandler(handler)
    return logger, stream


Lines = tuple[logging.Logger, io.StringIO]


@pytest.mark.parametrize("key", ["thread", "name", "args", "message", "msg", "process", "asctime"])
def test_a_field_with_the_name_of_an_attribute(lines: Lines, key: str) -> None:
    logger, stream = lines
    logger.critical("failed", extra={key: "seven", "model": "a"})
    line = stream.getvalue()
    assert all(word in line for word in ("failed", f"{key}_", "seven", "model"))


@pytest.mark.parametrize("error", [KeyError(), SystemExit(1), RecursionError(), GeneratorExit()])
def test_values_whose_text_raises(lines: Lines, error: BaseException) -> None:
    logger, stream = lines
    logger.error("failed", extra={"value": Hostile(error), "huge": 10**5000, "other": 10**70})
    logger.error("failed %s", Hostile(error))
    logger.error("failed %d and %d", "seven")
    logger.error(Hostile(error))
    assert len(stream.getvalue().splitlines()) == 4
    assert stream.getvalue().count("failed") == 3


@pytest.mark.parametrize(
    "error", [HostileError(), KeyError("\ud800"), Exception(Hostile(OSError()))]
)
def test_exceptions_whose_text_raises(lines: Lines, error: BaseException) -> None:
    logger, stream = lines
    logger.critical("failed", exc_info=error)
    assert "failed" in stream.getvalue()
    stream.getvalue().encode()


@pytest.mark.parametrize("stream", [Broken(), io.TextIOWrapper(io.BytesIO(), encoding="ascii")])
def test_a_stream_that_cannot_be_written(stream: Any) -> None:
    handler = SafeHandler(stream)
    handler.setFormatter(JsonFormatter())
    handler.handle(logging.makeLogRecord({"msg": "lost", "value": "\u00e9"}))
    stream.detach() if isinstance(stream, io.TextIOWrapper) else stream.close()
    handler.handle(logging.makeLogRecord({"msg": "lost"}))


def test_json_stays_json(lines: Lines) -> None:
    logger, stream = lines
    logger.info("loaded", extra={"nbytes": 7, "ms": float("nan"), "many": -(1 << 63)})
    if isinstance(logger.handlers[0].formatter, JsonFormatter):
        document = json.loads(stream.getvalue())
        assert (document["nbytes"], document["ms"], document["many"]) == (7, None, -(1 << 63))

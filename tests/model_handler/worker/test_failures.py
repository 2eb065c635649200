"""Whatever a library raises, wherever it raises it: one request or one load fails, and nothing else."""

import json
import logging
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import pytest

from model_handler.device.device import CpuDevice
from model_handler.errors import EngineError, InvalidRequest
from model_handler.handlers import Payload, Prepared, Unit
from model_handler.loading.loader import TorchLoader
from model_handler.messages import (
    InferenceRequest,
    InferenceResponse,
    Loaded,
    LoadFailed,
    Refusal,
    Unload,
    Unloaded,
)
from tests.model_handler.front import ID, Front
from tests.model_handler.harness import request, run

BAD = 13


@pytest.fixture(autouse=True)
def _not_captured() -> Iterator[None]:
    """pytest-xdist cannot send captured log lines with lone surrogates."""
    logging.disable()
    yield
    logging.disable(logging.NOTSET)


class PanicError(BaseException):
    """As pyo3's PanicException, which is no Exception."""


class Unsayable(RuntimeError):
    """As pybind's errors whose text is no UTF-8."""

    def __str__(self) -> str:
        return b"\xff".decode()


ERRORS: list[BaseException] = [
    PanicError("attempt to subtract with overflow"),
    SystemExit(1),
    KeyboardInterrupt(),
    GeneratorExit(),
    RecursionError(),
    MemoryError(),
    StopIteration(),
    StopAsyncIteration(),
    KeyError("thread"),
    Unsayable(),
    RuntimeError("\ud800"),
]


class Codec:
    def __init__(self, failing: "FailingHandler") -> None:
        self._fail = failing.fail

    def check_accept(self, accept: str | None) -> None:
        self._fail("check_accept", int(accept or 0))

    def decode(self, request: InferenceRequest) -> Payload:
        value = json.loads(request.body)
        self._fail("decode", value)
        return Payload(value, {})

    def encode(self, answer: Any, accept: str | None) -> tuple[bytes, str]:
        self._fail("encode", answer)
        return json.dumps(answer).encode(), "application/json"


class FailingHandler:
    """Answers with the request; raises in one step for one value."""

    nbytes = 0

    def __init__(self, step: str, error: BaseException) -> None:
        self._step = step
        self._error = error
        self.codec = Codec(self)

    def fail(self, step: str, value: int) -> None:
        if (step, value) == (self._step, BAD):
            raise self._error

    def encode(self, payloads: Sequence[Payload]) -> Sequence[Any]:
        for payload in payloads:
            self.fail("encode all", payload.inputs)
        return [payload.inputs for payload in payloads][1 if self._step == "too few" else 0 :]

    def preprocess(self, payload: Payload, encoded: Any = None) -> Prepared:
        self.fail("preprocess", payload.inputs)
        return Prepared([Unit(payload.inputs, 1, None)])

    def forward(self, units: Sequence[Unit], deadline: float) -> list[Any]:
        for unit in units:
            self.fail("forward", unit.features)
        return [unit.features for unit in units]

    def postprocess(self, prepared: Prepared, outputs: list[Any]) -> Any:
        self.fail("postprocess", outputs[0])
        return outputs[0]


def answered(handler: Any) -> list[Any]:
    """The error of each refused request; what the others were answered."""
    asked = [request(value, accept=str(value)) for value in (1, BAD, 2)]
    results = run(handler, *asked)
    return [
        json.loads(each.body) if isinstance(each, InferenceResponse) else each.error
        for each in results
    ]


@pytest.mark.parametrize("error", ERRORS, ids=lambda error: type(error).__name__)
@pytest.mark.parametrize(
    "step", ["check_accept", "decode", "preprocess", "forward", "postprocess", "encode"]
)
def test_a_request_ends_alone(step: str, error: BaseException) -> None:
    expected = (
        "InferenceFailed" if step in ("forward", "postprocess", "encode") else "InvalidRequest"
    )
    if isinstance(error, MemoryError):
        expected = "InsufficientMemory"
    assert answered(FailingHandler(step, error)) == [1, expected, 2]


@pytest.mark.parametrize("error", ERRORS, ids=lambda error: type(error).__name__)
def test_what_fails_for_all_is_tried_for_each(error: BaseException) -> None:
    assert answered(FailingHandler("encode all", error)) == [1, BAD, 2]


def test_a_batch_that_loses_a_part_is_encoded_one_by_one() -> None:
    assert answered(FailingHandler("too few", KeyError())) == [1, BAD, 2]


def test_a_message_that_quotes_the_request_keeps_its_class() -> None:
    secret = "a secret of the client, not of the container"

    class Quoting(FailingHandler):
        def preprocess(self, payload: Payload, encoded: Any = None) -> Prepared:
            raise PanicError(payload.inputs)

    (result,) = run(Quoting("", KeyError()), json.dumps(secret).encode())
    assert isinstance(result, Refusal)
    assert result.message == "PanicError: the message quotes the request and is withheld"


# ---- loads ----


@pytest.fixture
def front() -> Iterator[Front]:
    front = Front(CpuDevice())
    yield front
    front.close()


def raising(error: BaseException) -> Any:
    def method(self: Any, *arguments: Any) -> Any:
        raise error

    return method


@pytest.mark.parametrize(
    "error", [*ERRORS, InvalidRequest("\ud800")], ids=lambda e: type(e).__name__
)
def test_a_load_ends_alone(
    front: Front, classifier: Path, monkeypatch: pytest.MonkeyPatch, error: BaseException
) -> None:
    with monkeypatch.context() as patch:
        patch.setattr(TorchLoader, "load", raising(error))
        report = front.load(classifier)
        assert isinstance(report, LoadFailed)
        expected = type(error).__name__ if isinstance(error, EngineError) else "ModelLoadFailed"
        assert report.reason.error == expected


def test_a_model_that_cannot_be_unloaded_is_reported_as_held(
    front: Front, classifier: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    loaded = front.load(classifier)
    assert isinstance(loaded, Loaded)
    with monkeypatch.context() as patch:
        patch.setattr(TorchLoader, "unload", raising(PanicError()))
        assert front.ask(Unload(ID)) == Unloaded(ID, loaded.nbytes)
    assert isinstance(front.load(classifier, ID + 1), Loaded)
    assert isinstance(front.answer(ID + 1), InferenceResponse)

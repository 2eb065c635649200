"""One batch: every request gets exactly one result, and its own."""

import json
import logging
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
import torch

from model_handler.device.device import CpuDevice
from model_handler.errors import InvalidRequest
from model_handler.handlers import Payload, Prepared, Unit
from model_handler.handlers.pipeline import PipelineHandler
from model_handler.messages import InferenceResponse, Refusal
from model_handler.worker.capacity import ForwardCapacity
from model_handler.worker.forward import finish, forward, prepare
from tests import artifacts
from tests.model_handler.harness import answers, loaded, refusal, request, run


@dataclass
class DoubleHandler:
    """Doubles numbers. Runs out of memory above `rows`; fails on numbers in `errors`."""

    codec: None = None
    nbytes: int = 0
    rows: int = 1000
    errors: dict[int, Exception] = field(default_factory=dict)
    forwards: list[list[int]] = field(default_factory=list)

    def preprocess(self, payload: Payload) -> Prepared:
        values = payload.inputs if isinstance(payload.inputs, list) else [payload.inputs]
        if not all(isinstance(value, int) for value in values):
            raise InvalidRequest("numbers only")
        group = payload.parameters.get("group")
        return Prepared([Unit(value, abs(value), group) for value in values])

    def forward(self, units: Sequence[Unit], deadline: float) -> list[Any]:
        assert torch.is_inference_mode_enabled()
        self.forwards.append([unit.features for unit in units])
        if len(units) > self.rows:
            raise torch.OutOfMemoryError("CUDA out of memory")
        for unit in units:
            if unit.features in self.errors:
                raise self.errors[unit.features]
        return [unit.features * 2 for unit in units]

    def postprocess(self, prepared: Prepared, outputs: list[Any]) -> Any:
        if None in outputs:
            raise ValueError("an output is missing")
        return outputs


def errors(results: Sequence[InferenceResponse | Refusal]) -> list[str | None]:
    return [each.error if isinstance(each, Refusal) else None for each in results]


def number(value: Any, **parameters: Any) -> dict[str, Any]:
    return {"inputs": value, "parameters": parameters}


# ---- batching ----


def test_requests_share_a_forward_and_keep_their_order() -> None:
    handler = DoubleHandler()
    assert answers(handler, 3, 2, [4, 3], 2) == [[6], [4], [8, 6], [4]]
    assert handler.forwards == [[2, 2, 3, 3, 4]]


def test_groups_stay_apart() -> None:
    handler = DoubleHandler()
    documents = [number(1, group="a"), number(2, group="b"), number(2, group="a")]
    assert answers(handler, *documents) == [[2], [4], [4]]
    assert handler.forwards == [[1, 2], [2]]


def test_rows_times_the_longest_stay_within_the_budget() -> None:
    handler = DoubleHandler()
    answers(handler, [5, 6, 7, 8, 9, 10, 10], token_budget=21)
    assert handler.forwards == [[5, 6, 7], [8, 9], [10, 10]]


def test_short_rows_are_not_padded_to_many_times_their_length() -> None:
    handler = DoubleHandler()
    answers(handler, [1, 2, 3, 100, 150, 300, 2])
    assert handler.forwards == [[1, 2, 2, 3], [100, 150], [300]]


def test_a_little_padding_is_cheaper_than_another_forward() -> None:
    handler = DoubleHandler()
    answers(handler, [4, 30])
    answers(handler, [4, 4, 30])
    assert handler.forwards == [[4, 30], [4, 4], [30]]


def test_a_row_above_the_budget_runs_alone() -> None:
    handler = DoubleHandler()
    assert answers(handler, 50, 60, token_budget=10) == [[100], [120]]
    assert handler.forwards == [[50], [60]]


# ---- memory ----


def test_a_batch_that_does_not_fit_is_halved_until_it_does() -> None:
    handler = DoubleHandler(rows=2)
    assert answers(handler, *[7] * 7) == [[14]] * 7
    assert [len(each) for each in handler.forwards] == [7, 3, 1, 2, 4, 2, 2]


def test_a_size_that_did_not_fit_is_tried_again_only_later() -> None:
    """The next batches of that length are smaller; after many that fit, a larger one is tried."""
    handler, capacity = DoubleHandler(rows=5), ForwardCapacity()
    for _ in range(60):
        batch = prepare(handler, [request(7)] * 8, capacity)
        forward(batch, CpuDevice(), time.monotonic() + 60)
        assert errors(finish(batch)) == [None] * 8
    sizes = [len(each) for each in handler.forwards]
    assert sizes[:3] == [8, 4, 4]
    assert sizes.count(8) == 1
    failures = [size for size in sizes if size > handler.rows]
    assert 1 < len(failures) < 20
    assert len(sizes) < 3 * 60


def test_capacity_is_kept_per_length() -> None:
    handler, capacity = DoubleHandler(rows=2), ForwardCapacity()
    for number in (100, 3):
        batch = prepare(handler, [request(number)] * 4, capacity)
        forward(batch, CpuDevice(), time.monotonic() + 60)
    assert [len(each) for each in handler.forwards] == [4, 2, 2] * 2
    assert capacity.bound(100, 512) < 300 < capacity.bound(300, 512) == 512


def test_only_requests_that_do_not_fit_alone_fail() -> None:
    error = torch.OutOfMemoryError("CUDA out of memory")
    handler = DoubleHandler(errors={9: error})
    results = run(handler, 8, 9, 8, [8, 9], 8)
    assert errors(results) == [None, "InsufficientMemory", None, "InsufficientMemory", None]


def test_the_other_units_of_a_failed_request_are_not_computed() -> None:
    handler = DoubleHandler(errors={5: torch.OutOfMemoryError("CUDA out of memory")})
    assert errors(run(handler, [5, 50])) == ["InsufficientMemory"]
    assert handler.forwards == [[5]]


@pytest.fixture(scope="module")
def generator(tmp_path_factory: pytest.TempPathFactory) -> Iterator[PipelineHandler]:
    with loaded(artifacts.gpt2(tmp_path_factory.mktemp("gpt2"))) as handler:
        yield handler


class Allocating(DoubleHandler):
    """Allocates as many bytes for each unit as its number."""

    def forward(self, units: Sequence[Unit], deadline: float) -> list[Any]:
        for unit in units:
            torch.empty(unit.features, dtype=torch.uint8)
        return super().forward(units, deadline)


def test_a_failure_of_the_real_allocator() -> None:
    """An allocation of a petabyte fails; the other requests and the next batch succeed."""
    handler = Allocating()
    results = run(handler, 8, 10**15, 9)
    assert errors(results) == [None, "InsufficientMemory", None]
    assert answers(handler, 8, 9) == [[16], [18]]


# ---- other errors ----


def test_one_failing_row_fails_its_own_request_only() -> None:
    handler = DoubleHandler(errors={6: RuntimeError("shapes do not match")})
    results = run(handler, 5, 6, 7, [5, 6])
    assert errors(results) == [None, "InferenceFailed", None, "InferenceFailed"]
    assert json.loads(results[2].body) == [14]  # type: ignore[union-attr]


def test_errors_of_every_step_keep_the_order_of_requests() -> None:
    handler = DoubleHandler(errors={6: InvalidRequest("six is refused")})
    documents = [5, "x", b"{", 6, request(5, accept="image/png"), request(5, accept="text/csv"), 5]
    assert errors(run(handler, *documents)) == [
        *(None, "InvalidRequest", "InvalidRequest", "InvalidRequest"),
        *("UnacceptableAccept", "UnacceptableAccept", None),
    ]


def test_an_unacceptable_accept_is_refused_before_the_model_runs() -> None:
    handler = DoubleHandler()
    run(handler, request(5, accept="image/png"))
    assert handler.forwards == []


@pytest.mark.parametrize(
    "error",
    [
        torch.AcceleratorError("CUDA error: device-side assert triggered"),
        RuntimeError("CUDA error: an illegal memory access was encountered"),
    ],
)
def test_a_lost_device_is_not_hidden(error: Exception) -> None:
    handler = DoubleHandler(errors={6: error})
    batch = prepare(handler, [request(5), request(6)])
    with pytest.raises(type(error)):
        forward(batch, CpuDevice(), time.monotonic() + 10)
    assert len(handler.forwards) == 1


def test_nothing_runs_after_the_deadline() -> None:
    handler = DoubleHandler()
    assert errors(run(handler, 5, 6, timeout_s=-1)) == ["DeadlineExceeded"] * 2
    assert handler.forwards == []


def test_messages_are_one_short_line_without_a_traceback() -> None:
    handler = DoubleHandler(errors={5: RuntimeError("first line\n  second line\n" + "x" * 2000)})
    message = refusal(handler, 5).message
    assert message.startswith("RuntimeError: first line second line")
    assert len(message) <= 500
    assert "\n" not in message
    assert "Traceback" not in message


def test_an_error_message_does_not_quote_the_request() -> None:
    secret = "my account number is 0123456789 and my name is Jane"
    body = {"inputs": 5, "secret": secret}
    handler = DoubleHandler(errors={5: ValueError(f"could not read {secret!r} at all")})
    message = refusal(handler, body).message
    assert "0123456789" not in message
    assert message.startswith("ValueError")


def test_the_traceback_goes_to_the_log(caplog: pytest.LogCaptureFixture) -> None:
    handler = DoubleHandler(errors={5: RuntimeError("broken model")})
    with caplog.at_level(logging.INFO, "model_handler.worker.forward"):
        run(handler, 5)
    (record,) = caplog.records
    assert record.levelname == "ERROR"
    assert record.exc_info
    assert "broken model" in str(record.exc_info[1])


def test_no_batch_is_kept_after_an_error(generator: PipelineHandler) -> None:
    """A traceback would reference the tensors of the batch, and so keep their memory."""
    bad = {"inputs": "x", "parameters": {"do_sample": False, "num_return_sequences": 3}}
    batch = prepare(generator, [request(bad)])
    forward(batch, CpuDevice(), time.monotonic() + 10)
    (slot,) = batch.slots
    assert slot.error is not None
    assert slot.error.__traceback__ is None
    assert slot.error.__context__ is None
    assert slot.error.__cause__ is None
    assert isinstance(finish(batch)[0], Refusal)


def test_batched_responses_equal_those_of_single_requests(tmp_path: Path) -> None:
    """Fifty requests of various lengths, valid and invalid, in batches of several sizes."""
    words = " ".join(artifacts.CORPUS).split()
    documents: list[Any] = [
        {"inputs": " ".join(words[start : start + 1 + start % 40])} for start in range(50)
    ]
    documents[7] = {"inputs": None}
    documents[23] = {"inputs": "x", "parameters": {"unknown": 1}}
    with loaded(artifacts.bert_classifier(tmp_path)) as handler:
        alone = [run(handler, document)[0] for document in documents]
        for size in (2, 7, 50):
            together = [
                result
                for start in range(0, len(documents), size)
                for result in run(handler, *documents[start : start + size])
            ]
            assert errors(together) == errors(alone)
            for ours, expected in zip(together, alone, strict=True):
                if isinstance(ours, InferenceResponse) and isinstance(expected, InferenceResponse):
                    (one,), (other,) = json.loads(ours.body), json.loads(expected.body)
                    assert one["label"] == other["label"]
                    assert one["score"] == pytest.approx(other["score"], abs=1e-5)

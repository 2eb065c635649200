"""Queues: first in, first out, bounded; no request is lost or answered twice."""

import asyncio

import hypothesis.strategies as st
import pytest
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from model_handler.engine.queues import Job, RequestQueue
from model_handler.errors import QueueFull
from model_handler.messages import InferenceRequest

LIMIT = 6


def job(nbytes: int) -> Job:
    loop = asyncio.new_event_loop()
    try:
        return Job(InferenceRequest(b"x" * nbytes), 0.0, loop.create_future())
    finally:
        loop.close()


class QueueMachine(RuleBasedStateMachine):
    """Compares the queue with a plain list."""

    def __init__(self) -> None:
        super().__init__()
        self.queue = RequestQueue("m", LIMIT)
        self.expected: list[Job] = []

    @rule(nbytes=st.integers(0, 10))
    def add(self, nbytes: int) -> None:
        new = job(nbytes)
        if len(self.expected) == LIMIT:
            with pytest.raises(QueueFull):
                self.queue.add(new)
        else:
            self.queue.add(new)
            self.expected.append(new)

    @precondition(lambda self: self.expected)
    @rule(number=st.integers(0, 20))
    def caller_gives_up(self, number: int) -> None:
        gone = self.expected.pop(number % len(self.expected))
        self.queue.pop(gone, None)
        self.queue.pop(gone, None)

    @rule(size=st.integers(1, 4), nbytes=st.integers(0, 15))
    def take(self, size: int, nbytes: int) -> None:
        batch = self.queue.take(size, nbytes)
        assert batch == self.expected[: len(batch)]
        assert bool(batch) == bool(self.expected)
        assert len(batch) <= size
        if len(batch) > 1:
            assert sum(len(one.request.body) for one in batch) <= nbytes
        del self.expected[: len(batch)]

    @rule()
    def take_all(self) -> None:
        assert list(self.queue.take_all()) == self.expected
        self.expected.clear()

    @invariant()
    def counts(self) -> None:
        assert len(self.queue) == len(self.expected) <= LIMIT


TestQueue = QueueMachine.TestCase


@pytest.mark.parametrize(("max_nbytes", "expected"), [(9, 1), (10, 2), (14, 2), (15, 3), (99, 3)])
def test_a_batch_may_have_exactly_the_bytes_of_its_bound(max_nbytes: int, expected: int) -> None:
    queue = RequestQueue("m", LIMIT)
    for _ in range(3):
        queue.add(job(5))
    assert len(queue.take(LIMIT, max_nbytes)) == expected


def test_a_request_over_the_bound_is_a_batch_of_its_own() -> None:
    queue = RequestQueue("m", LIMIT)
    for nbytes in (30, 1):
        queue.add(job(nbytes))
    assert len(queue.take(LIMIT, 10)) == 1
    assert len(queue) == 1

"""Queues: first in, first out, bounded, nothing lost or served twice. Turns: nobody is passed over."""

import asyncio
import itertools

import hypothesis.strategies as st
import pytest
from hypothesis import given
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from model_handler.batcher import Job, Queue, Turns
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
    """Against a plain list as the model."""

    def __init__(self) -> None:
        super().__init__()
        self.queue = Queue("m", LIMIT)
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
        self.queue.discard(gone)
        self.queue.discard(gone)

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


@given(st.lists(st.integers(0, 5), min_size=1), st.integers(1, 30))
def test_every_key_has_its_turn_before_any_has_a_second(keys: list[int], turns: int) -> None:
    order = Turns()
    for key in keys:
        order.enter(key)
    taken = [order.next(lambda _: True) for _ in range(turns)]
    distinct = list(dict.fromkeys(keys))
    assert taken == list(itertools.islice(itertools.cycle(distinct), turns))


def test_who_cannot_run_keeps_the_place() -> None:
    order = Turns()
    for key in (1, 2, 3):
        order.enter(key)
    assert order.next(lambda key: key != 1) == 2
    assert order.next(lambda _: True) == 1
    assert order.next(lambda _: False) is None
    order.leave(3)
    assert list(order) == [2, 1]

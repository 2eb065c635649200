"""Waits are added up, forgotten after a while, and not counted after a refusal."""

import hypothesis.strategies as st
import pytest
from hypothesis.stateful import RuleBasedStateMachine, invariant, rule

from model_handler.sharing.delays import MEMORY_S, Delays

times = st.floats(0, 2 * MEMORY_S, allow_nan=False)


def test_waits_are_added_up() -> None:
    delays = Delays()
    assert delays.begin(10.0)
    assert not delays.begin(10.5)
    assert delays.total_s(11.0) == pytest.approx(1.0)
    delays.end(12.0)
    assert delays.total_s(20.0) == pytest.approx(2.0)
    assert delays.begin(20.0)
    delays.end(20.5)
    delays.add(0.25, 21.0)
    assert delays.total_s(21.0) == pytest.approx(2.75)


def test_waits_that_ended_long_ago_do_not_count() -> None:
    delays = Delays()
    delays.add(3.0, 0.0)
    assert delays.total_s(MEMORY_S) == 3.0
    assert delays.total_s(MEMORY_S + 0.1) == 0.0
    delays.add(1.0, MEMORY_S + 0.1)
    assert delays.total_s(MEMORY_S + 0.1) == 1.0


def test_a_wait_that_ends_while_others_still_count_is_added() -> None:
    delays = Delays()
    delays.add(3.0, 0.0)
    delays.add(1.0, MEMORY_S)
    assert delays.total_s(MEMORY_S) == 4.0


def test_a_wait_in_progress_counts_however_long_it_is() -> None:
    delays = Delays()
    delays.begin(0.0)
    assert delays.total_s(5 * MEMORY_S) == 5 * MEMORY_S


def test_nothing_counts_while_refused() -> None:
    delays = Delays()
    delays.begin(0.0)
    delays.refuse(1.0)
    assert delays.refused(1.0)
    delays.add(5.0, 2.0)
    assert delays.total_s(2.0) == 0.0
    assert not delays.refused(1.0 + MEMORY_S)
    assert delays.total_s(1.0 + MEMORY_S) == 5.0


class DelaysMachine(RuleBasedStateMachine):
    """Compares with the list of all waits."""

    def __init__(self) -> None:
        super().__init__()
        self.delays = Delays()
        self.now = 0.0
        self.waits: list[float] = []
        self.ended = -1e9
        self.since: float | None = None

    @rule(seconds=times)
    def time_passes(self, seconds: float) -> None:
        self.now += seconds

    @rule()
    def begin(self) -> None:
        assert self.delays.begin(self.now) == (self.since is None)
        self.since = self.now if self.since is None else self.since

    @rule()
    def end(self) -> None:
        self.delays.end(self.now)
        if self.since is not None:
            self.ended_after(self.now - self.since)
            self.since = None

    @rule(seconds=times)
    def add(self, seconds: float) -> None:
        self.delays.add(seconds, self.now)
        self.ended_after(seconds)

    def ended_after(self, seconds: float) -> None:
        if self.now - self.ended > MEMORY_S:
            self.waits.clear()
        self.waits.append(seconds)
        self.ended = self.now

    @rule()
    def clear(self) -> None:
        self.delays.clear()
        self.waits.clear()
        self.since = None

    @invariant()
    def total(self) -> None:
        past = sum(self.waits) if self.now - self.ended <= MEMORY_S else 0.0
        present = 0.0 if self.since is None else self.now - self.since
        assert self.delays.total_s(self.now) == pytest.approx(past + present)


TestDelays = DelaysMachine.TestCase

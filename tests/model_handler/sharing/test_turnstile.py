"""One thread at a time, first come, first served, and a long computation gives way to others."""

import threading
from collections.abc import Callable

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from model_handler.sharing.turnstile import (
    Turnstile,
    WorkKind,
    give_way,
    let_brief_pass,
    pass_through,
)

PATIENCE_S = 30.0
kinds = st.sampled_from(WorkKind)


@settings(deadline=None, max_examples=30)
@given(st.lists(st.tuples(st.integers(1, 20), kinds, st.booleans()), min_size=2, max_size=6))
def test_one_thread_at_a_time_and_all_of_them_finish(
    works: list[tuple[int, WorkKind, bool]],
) -> None:
    turnstile = Turnstile()
    inside: list[int] = []
    finished: list[int] = []

    def compute(number: int, steps: int, kind: WorkKind, polite: bool) -> None:
        with turnstile.turn(kind):
            for _ in range(steps):
                inside.append(number)
                assert inside == [number]
                inside.remove(number)
                (turnstile.give_way if polite else turnstile.let_brief_pass)()
        finished.append(number)

    threads = [
        threading.Thread(target=compute, args=(number, *work)) for number, work in enumerate(works)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(PATIENCE_S)
    assert sorted(finished) == list(range(len(works)))
    with turnstile.turn(WorkKind.BRIEF):
        pass  # the turn is free again


@pytest.mark.parametrize("brief", [Turnstile.give_way, Turnstile.let_brief_pass])
def test_brief_work_passes_long_work_in_progress(brief: Callable[[Turnstile], None]) -> None:
    turnstile = Turnstile()
    came, done = threading.Event(), threading.Event()

    def short() -> None:
        came.set()
        with turnstile.turn(WorkKind.BRIEF):
            done.set()

    with turnstile.turn(WorkKind.LONG):
        thread = threading.Thread(target=short)
        thread.start()
        assert came.wait(PATIENCE_S)
        while not done.is_set():
            brief(turnstile)
    thread.join(PATIENCE_S)


class Clock:
    """A clock that the test's computations advance."""

    def __init__(self) -> None:
        self.now = 0.0

    def __call__(self) -> float:
        return self.now


@pytest.mark.parametrize("brief_s", [0.001, 0.03, 0.1])
@pytest.mark.parametrize("long_s", [(0.1, 0.001), (0.01, 0.01), (0.05, 0.2)])
def test_shares_of_time_while_all_have_work(brief_s: float, long_s: tuple[float, float]) -> None:
    clock = Clock()
    turnstile = Turnstile(clock)
    works = [(WorkKind.BRIEF, brief_s), *((WorkKind.LONG, seconds) for seconds in long_s)]
    had = [0.0, 0.0, 0.0]
    ready, over = threading.Barrier(4), threading.Event()

    def compute(number: int, kind: WorkKind, seconds: float) -> None:
        ready.wait(PATIENCE_S)
        with turnstile.turn(kind) as turn:
            while not over.is_set():
                clock.now += seconds
                had[number] += turn.lap()
                if clock.now > 40:
                    over.set()
                turnstile.give_way()

    with turnstile.turn(WorkKind.BRIEF):
        threads = [
            threading.Thread(target=compute, args=(number, *work))
            for number, work in enumerate(works)
        ]
        for thread in threads:
            thread.start()
        ready.wait(PATIENCE_S)
        _until_waiting(turnstile, 3)
    for thread in threads:
        thread.join(PATIENCE_S)
    shares = [each / sum(had) for each in had]
    assert shares == pytest.approx([0.75, 0.125, 0.125], abs=0.02)


def _until_waiting(turnstile: Turnstile, count: int) -> None:
    while turnstile.waiting() < count:
        threading.Event().wait(0.001)


def test_a_lap_excludes_the_time_of_others() -> None:
    clock = Clock()
    turnstile = Turnstile(clock)

    def short() -> None:
        with turnstile.turn(WorkKind.BRIEF) as turn:
            clock.now += 5
            assert turn.lap() == 5

    with turnstile.turn(WorkKind.LONG) as turn:
        clock.now += 1
        assert turn.lap() == 1
        clock.now += 2
        thread = threading.Thread(target=short)
        thread.start()
        _until_waiting(turnstile, 1)
        turnstile.give_way()
        clock.now += 3
        assert turn.lap() == 5
    thread.join(PATIENCE_S)
    assert clock.now == 11


def started(work: Callable[[], None], count: int = 1) -> list[threading.Thread]:
    threads = [threading.Thread(target=work) for _ in range(count)]
    for thread in threads:
        thread.start()
    return threads


def test_brief_work_has_one_share_however_much_of_it_waits() -> None:
    """It gets six times as much as one generation, and does not hold it up until nothing is left."""
    clock, finished = Clock(), list[float]()
    turnstile = Turnstile(clock)

    def short() -> None:
        with turnstile.turn(WorkKind.BRIEF):
            clock.now += 1
            finished.append(clock.now)

    with turnstile.turn(WorkKind.LONG):
        threads = started(short, 9)
        _until_waiting(turnstile, 9)
        clock.now += 1
        turnstile.give_way()
        assert len(finished) in (6, 7)  # as sums of sixths are rounded
    for thread in threads:
        thread.join(PATIENCE_S)
    assert finished == [2, 3, 4, 5, 6, 7, 8, 9, 10]


@pytest.mark.parametrize("step", [give_way, let_brief_pass])
def test_the_steps_of_a_thread_with_a_turnstile_let_others_pass(step: Callable[[], None]) -> None:
    turnstile, passed = Turnstile(), threading.Event()

    def generate() -> None:
        pass_through(turnstile)
        with turnstile.turn(WorkKind.LONG):
            begun.set()
            _until_waiting(turnstile, 1)
            step()
            assert passed.is_set()
            done.set()

    def short() -> None:
        with turnstile.turn(WorkKind.BRIEF):
            passed.set()

    begun, done = threading.Event(), threading.Event()
    threads = started(generate)
    assert begun.wait(PATIENCE_S)
    threads += started(short)
    for thread in threads:
        thread.join(PATIENCE_S)
    assert done.is_set()


@pytest.mark.parametrize("step", [give_way, let_brief_pass])
def test_steps_of_a_thread_without_a_turnstile_do_nothing(step: Callable[[], None]) -> None:
    finished: list[int] = []

    def compute() -> None:
        step()
        finished.append(1)

    for thread in started(compute):
        thread.join(PATIENCE_S)
    assert finished == [1]


def test_a_second_generation_does_not_pass_between_two_layers() -> None:
    """Only brief work passes between two layers."""
    turnstile, order = Turnstile(), list[str]()

    def generate() -> None:
        with turnstile.turn(WorkKind.LONG):
            order.append("second")

    with turnstile.turn(WorkKind.LONG):
        threads = started(generate)
        _until_waiting(turnstile, 1)
        turnstile.let_brief_pass()
        order.append("first")
    for thread in threads:
        thread.join(PATIENCE_S)
    assert order == ["first", "second"]

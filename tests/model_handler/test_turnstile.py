"""One at a time, in the order they came, and a long computation lets the others through."""

import threading

from hypothesis import given, settings
from hypothesis import strategies as st

from model_handler.turnstile import Turnstile

PATIENCE_S = 30.0


@settings(deadline=None, max_examples=30)
@given(st.lists(st.integers(1, 20), min_size=2, max_size=6))
def test_one_at_a_time_and_nobody_is_left_behind(steps: list[int]) -> None:
    turnstile = Turnstile()
    inside: list[int] = []
    finished: list[int] = []

    def compute(number: int, count: int) -> None:
        with turnstile:
            for _ in range(count):
                inside.append(number)
                assert inside == [number]
                inside.remove(number)
                turnstile.give_way()
        finished.append(number)

    threads = [
        threading.Thread(target=compute, args=(number, count)) for number, count in enumerate(steps)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(PATIENCE_S)
    assert sorted(finished) == list(range(len(steps)))
    with turnstile:
        pass  # it is free again


def test_whoever_waits_goes_first() -> None:
    """The long one is still at it when the short one, which came later, is done."""
    turnstile = Turnstile()
    came, done = threading.Event(), threading.Event()

    def short() -> None:
        came.set()
        with turnstile:
            done.set()

    with turnstile:
        thread = threading.Thread(target=short)
        thread.start()
        assert came.wait(PATIENCE_S)
        while not done.is_set():
            turnstile.give_way()
    thread.join(PATIENCE_S)

"""Delays between restarts."""

from model_handler.processes.backoff import DELAYS_S, Backoff


def test_delays_grow_with_each_failure_in_a_row() -> None:
    backoff = Backoff()
    assert backoff.wait_s(0.0) == 0.0
    waits = []
    for number in range(len(DELAYS_S) + 2):
        backoff.note(f"failure {number}", 0.0)
        waits.append(backoff.wait_s(0.0))
    assert waits == [*DELAYS_S, DELAYS_S[-1], DELAYS_S[-1]]
    assert sorted(DELAYS_S) == [*DELAYS_S]
    assert (backoff.failures, backoff.reason) == (len(waits), f"failure {len(waits) - 1}")


def test_a_wait_ends_and_a_success_starts_over() -> None:
    backoff = Backoff()
    for _ in range(3):
        backoff.note("crash", 100.0)
    assert backoff.wait_s(100.0 + DELAYS_S[2] / 2) == DELAYS_S[2] / 2
    assert backoff.wait_s(200.0) == 0.0
    backoff.reset()
    backoff.note("crash", 300.0)
    assert (backoff.failures, backoff.wait_s(300.0)) == (1, DELAYS_S[0])

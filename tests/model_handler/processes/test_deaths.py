"""Which deaths are proven to be a model's work."""

import signal

import pytest

from model_handler.processes import deaths
from model_handler.sharing.work_record import WorkInProgress


def work(*models: int, faulty: int | None = None) -> WorkInProgress:
    return WorkInProgress(frozenset(models), faulty)


@pytest.mark.parametrize(
    ("status", "at_work", "suspects", "proven"),
    [
        (-signal.SIGSEGV, work(1, 2, faulty=2), {2}, True),  # the thread is known
        (-signal.SIGBUS, work(1), {1}, True),  # only one model was at work
        (-signal.SIGABRT, work(1, 2), {1, 2}, False),
        (-signal.SIGSEGV, work(1, faulty=0), {1}, False),  # in a thread without a model
        (3, work(1), {1}, True),
        (0, work(1, 2), {1, 2}, False),
        (-signal.SIGKILL, work(1), {1}, False),
        (-signal.SIGTERM, work(1, faulty=1), {1}, False),
        (-signal.SIGRTMIN - 1, work(), set(), False),
        (None, work(1), {1}, False),
    ],
)
def test_the_end_of_a_process(
    status: int | None, at_work: WorkInProgress, suspects: set[int], proven: bool
) -> None:
    death = deaths.of_crash(status, at_work)
    assert (set(death.suspects), death.proven) == (suspects, proven)
    assert not death.poisoned


def test_a_report_names_its_model() -> None:
    assert deaths.of_poison("assert", 3, work(1)) == deaths.Death(
        "assert", frozenset({3}), proven=True, poisoned=True
    )
    unknown = deaths.of_poison("assert", 0, work(1))
    assert (set(unknown.suspects), unknown.proven, unknown.crashed) == ({1}, False, False)


@pytest.mark.parametrize(
    ("culprit", "at_work", "suspects", "proven"),
    [
        (1, work(1, 2), {1}, True),
        (1, work(2), {2}, True),  # its batch waited for that of the other model
        (1, work(2, 3), {1}, True),
        (1, work(), {1}, True),
        (0, work(2), {2}, False),
    ],
)
def test_a_late_batch(
    culprit: int, at_work: WorkInProgress, suspects: set[int], proven: bool
) -> None:
    death = deaths.of_replacement("late", culprit, at_work)
    assert (set(death.suspects), death.proven) == (suspects, proven)

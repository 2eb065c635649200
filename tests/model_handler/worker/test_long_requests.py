"""A request with many forwards does not hold up others in its worker."""

import threading
from collections.abc import Sequence
from typing import Any

import pytest

from model_handler.device.device import CpuDevice
from model_handler.handlers import Unit
from model_handler.sharing import turnstile
from model_handler.sharing.turnstile import Turnstile, WorkKind
from model_handler.worker.forward import forward, is_long, prepare
from tests.model_handler.harness import request
from tests.model_handler.worker.test_forward import DoubleHandler, number

PATIENCE_S = 20.0


@pytest.mark.parametrize(
    ("values", "long"),
    [([[500] * 9], True), ([[500] * 8], False), ([[500]] * 32, False), ([[1] * 65], True)],
)
def test_a_request_is_long_if_it_has_many_forwards(values: list[Any], long: bool) -> None:
    """Many requests with one forward each are not."""
    batch = prepare(DoubleHandler(), [request(number(each)) for each in values])
    assert is_long(batch, CpuDevice()) is long


class Interrupted(DoubleHandler):
    """During its first forward, other work begins to wait for the turn."""

    def __init__(self, waiting: Turnstile) -> None:
        super().__init__()
        self.order: list[str] = []
        self._turnstile = waiting
        self._other = threading.Thread(target=self._compute_other)

    def forward(self, units: Sequence[Unit], deadline: float) -> list[Any]:
        if not self.order:
            self._other.start()
            while not self._turnstile.waiting():
                pass
        self.order.append("own")
        return super().forward(units, deadline)

    def _compute_other(self) -> None:
        with self._turnstile.turn(WorkKind.BRIEF):
            self.order.append("other")


def test_others_compute_between_two_of_its_forwards() -> None:
    forwarding = Turnstile()
    handler = Interrupted(forwarding)
    batch = prepare(handler, [request(number([500] * 10))])

    def compute() -> None:
        turnstile.pass_through(forwarding)
        with forwarding.turn(WorkKind.LONG):
            forward(batch, CpuDevice(), float("inf"))

    thread = threading.Thread(target=compute)
    thread.start()
    thread.join(PATIENCE_S)
    assert handler.order[:3] == ["own", "other", "own"]
    assert len(handler.order) > 4

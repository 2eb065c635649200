"""The device of a load, chosen from what is known of each."""

import pytest

from model_handler.engine.placement import DeviceRoom, preferred

IDLE = DeviceRoom("idle", running=True, failing=False, in_flight=0, free_nbytes=50)
ROOMY = DeviceRoom("roomy", running=True, failing=False, in_flight=0, free_nbytes=80)
BUSY = DeviceRoom("busy", running=True, failing=False, in_flight=3, free_nbytes=90)
STARTING = DeviceRoom("starting", running=False, failing=False, in_flight=0, free_nbytes=99)
FAILING = DeviceRoom("failing", running=False, failing=True, in_flight=0, free_nbytes=100)


@pytest.mark.parametrize(
    ("nbytes", "order"),
    [
        (10, ["roomy", "idle", "busy", "starting"]),
        (60, ["roomy", "busy", "idle", "starting"]),
        (95, ["roomy", "idle", "busy", "starting"]),
    ],
)
def test_the_order(nbytes: int, order: list[str]) -> None:
    assert preferred([FAILING, STARTING, BUSY, IDLE, ROOMY], nbytes) == order


def test_a_failing_device_is_better_than_none() -> None:
    assert preferred([FAILING], 10) == ["failing"]

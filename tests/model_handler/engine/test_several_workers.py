"""Runs of WorkersMachine with two and three workers on a CPU and with two GPUs."""

from typing import Any

from hypothesis import settings

from tests.model_handler.engine.scheduling_machine import WorkersMachine


class ThreeWorkersMachine(WorkersMachine):
    """Fewer cores than workers."""

    devices = ("cpu", "cpu", "cpu")


class ManyCoresMachine(WorkersMachine):
    cores = 8


class TwoGpusMachine(WorkersMachine):
    devices = ("cuda:0", "cuda:1")
    host_capacity = 250


def case(machine: type[WorkersMachine], examples: int) -> Any:
    machine.TestCase.settings = settings(
        max_examples=examples, stateful_step_count=40, deadline=None
    )
    return machine.TestCase


TestTwoWorkers = case(WorkersMachine, 40)
TestThreeWorkers = case(ThreeWorkersMachine, 30)
TestManyCores = case(ManyCoresMachine, 30)
TestTwoGpus = case(TwoGpusMachine, 40)

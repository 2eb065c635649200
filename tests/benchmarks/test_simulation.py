"""The simulation's clock, cores and costs."""

import asyncio

import pytest

from benchmarks.simulation import virtual_time
from benchmarks.simulation.costs import LinearCost, ModelCosts
from benchmarks.simulation.event_loop import SimulatedEventLoop
from benchmarks.simulation.machine import SimulatedMachine, SimulatedProcess


def test_a_day_passes_at_once() -> None:
    async def sleep() -> float:
        async with asyncio.timeout(90_000):
            await asyncio.gather(asyncio.sleep(86_400), asyncio.sleep(3_600))
        return asyncio.get_running_loop().time()

    assert virtual_time.run(sleep()) == pytest.approx(86_400)


def test_waiting_for_nothing_is_an_error() -> None:
    async def forever() -> None:
        await asyncio.Event().wait()

    with pytest.raises(virtual_time.Stalled):
        virtual_time.run(forever())


def ends(count: int, *processes: list[tuple[float, int, float]]) -> tuple[list[float], float]:
    """When each computation (seconds, threads, share of the interpreter) ends; all start at 0. And the core
    seconds used."""

    async def play() -> tuple[list[float], float]:
        loop, machine = asyncio.get_running_loop(), SimulatedMachine(count)
        found: list[float] = []
        for computations in processes:
            process = SimulatedProcess(machine)
            for work_s, threads, interpreter in computations:
                process.compute(
                    work_s,
                    lambda: found.append(loop.time()),
                    threads=threads,
                    interpreter=interpreter,
                )
        await asyncio.sleep(100)
        return found, machine.busy_s

    return virtual_time.run(play())


def test_processes_with_a_core_each_do_not_slow_each_other() -> None:
    found, busy_s = ends(2, [(1, 1, 1)], [(2, 1, 1)])
    assert found == pytest.approx([1, 2])
    assert busy_s == pytest.approx(3)


def test_processes_share_too_few_cores() -> None:
    """Three threads on two cores run at two thirds of their speed until the first one ends."""
    found, busy_s = ends(2, [(1, 1, 1)], [(2, 1, 1)], [(3, 1, 1)])
    assert found == pytest.approx([1.5, 2.5, 3.5])
    assert busy_s == pytest.approx(6)


def test_threads_of_a_forward_hold_a_core_each() -> None:
    for cores, expected in ((4, [1, 1]), (2, [2, 2])):
        found, busy_s = ends(cores, [(1, 3, 0)], [(1, 1, 1)])
        assert found == pytest.approx(expected)
        assert busy_s == pytest.approx(4)


def test_threads_share_the_interpreter_of_their_process() -> None:
    """The forward of 2 s needs half of it: both run at two thirds until the other one ends after 1.5 s."""
    found, busy_s = ends(8, [(1, 1, 1), (2, 1, 0.5)])
    assert found == pytest.approx([1.5, 2.5])
    assert busy_s == pytest.approx(3)


def test_events_that_wait_share_a_turn() -> None:
    async def play() -> list[tuple[str, float]]:
        loop = asyncio.get_running_loop()
        simulated = SimulatedEventLoop(SimulatedProcess(SimulatedMachine(1)), turn_s=1.0)
        found: list[tuple[str, float]] = []

        def post(name: str) -> None:
            simulated.post(0.5, lambda: found.append((name, loop.time())))

        post("first")
        for at, name in ((0.1, "second"), (0.2, "third")):
            loop.call_later(at, post, name)
        await asyncio.sleep(10)
        return found

    names, times = zip(*virtual_time.run(play()), strict=True)
    assert names == ("first", "second", "third")
    assert times == pytest.approx((1.5, 3.5, 3.5))


def test_more_threads_follow_amdahl() -> None:
    one, two = LinearCost(0.0, 0.0, 1.0), LinearCost(0.0, 0.0, 0.6)
    costs = ModelCosts(LinearCost(0, 0, 0), (one, two), 0.5, 1.0, 0.1, 2, 1)
    assert [costs.forward_s(1, 10, threads) for threads in (1, 2, 4)] == pytest.approx([10, 6, 4])


def test_a_slower_second_thread_does_not_help_a_third() -> None:
    costs = ModelCosts(
        LinearCost(0, 0, 0), (LinearCost(1, 0, 0), LinearCost(1.2, 0, 0)), 0.5, 1.0, 0.1, 2, 1
    )
    assert costs.forward_s(1, 10, 4) == 1

"""Memory that a worker did not release stays reserved until its process has ended."""

import asyncio
import logging

import pytest

from model_handler.memory.residency import Residency
from tests.model_handler.engine.test_scheduling import CAPACITY, SIZES, host_pool, model
from tests.model_handler.fake_worker import FakeWorker
from tests.model_handler.memory.test_moves import loaded, story, turns


async def vacated(worker: FakeWorker, residency: Residency, key: int) -> None:
    task = asyncio.create_task(residency.vacate(model(key)))
    await turns()
    worker.let_go(0)
    await task


@pytest.mark.parametrize(("leaked", "kept"), [(1, 1), (SIZES[1], SIZES[1]), (1000, SIZES[1])])
def test_what_an_unload_leaves_is_reserved_until_its_worker_ends(
    leaked: int, kept: int, caplog: pytest.LogCaptureFixture
) -> None:
    async def scenario() -> None:
        worker = FakeWorker(lambda one: SIZES[one.model_id], leaked=leaked)
        residency = Residency(worker, CAPACITY, None)
        await loaded(worker, residency, 1)
        with caplog.at_level(logging.ERROR):
            await vacated(worker, residency, 1)
        assert residency.device.reserved == kept
        (record,) = caplog.records
        assert (vars(record)["model"], vars(record)["nbytes"]) == ("1", leaked)
        residency.release_leaks("of another worker")
        assert residency.device.reserved == kept
        residency.release_leaks(model(1).worker)
        assert residency.device.reserved == 0
        residency.release_leaks(model(1).worker)
        assert residency.device.reserved == 0

    story(scenario())


def test_an_unload_without_a_leak_keeps_nothing(caplog: pytest.LogCaptureFixture) -> None:
    async def scenario() -> None:
        worker = FakeWorker(lambda one: SIZES[one.model_id])
        residency = Residency(worker, CAPACITY, None)
        await loaded(worker, residency, 1)
        await vacated(worker, residency, 1)
        assert residency.device.reserved == 0
        assert caplog.records == []

    story(scenario())


def test_what_a_demotion_leaves_is_not_room_for_others() -> None:
    async def scenario() -> None:
        worker = FakeWorker(lambda one: SIZES[one.model_id], leaked=15)
        residency = Residency(worker, CAPACITY, host_pool(CAPACITY))
        await loaded(worker, residency, 4)
        await loaded(worker, residency, 2)  # the isolated one is never demoted, the other may be
        await loaded(worker, residency, 1)
        assert worker.demoted == {4}
        assert residency.device.reserved == SIZES[2] + SIZES[1] + 15
        residency.release_leaks(model(4).worker)
        assert residency.device.reserved == SIZES[2] + SIZES[1]

    story(scenario())

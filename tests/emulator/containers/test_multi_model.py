"""Loads, evictions and reloads of one multi-model container."""

import asyncio
import random
from pathlib import Path

import pytest

from emulator.interfaces import InvocationFailed
from emulator.limits import PlatformLimits
from tests.emulator.hosting_bed import PREFIX, bed, container, memory, run, upload, variant


def lru_evictions(targets: list[str], capacity: int) -> int:
    held: list[str] = []
    evictions = 0
    for target in targets:
        if target in held:
            held.remove(target)
        elif len(held) == capacity:
            held.pop(0)
            evictions += 1
        held.append(target)
    return evictions


def test_thousand_requests_over_twenty_models_with_memory_for_five(s3: str, tmp_path: Path) -> None:
    """Every response comes from the right model, and the number of evictions is that of an LRU cache."""
    targets = random.Random(0).choices([f"{n}.tar.gz" for n in range(20)], k=1000)

    async def work() -> None:
        async with bed(s3, tmp_path) as here:
            await here.hosting.create("e", [variant(memory(5))])
            for number, target in enumerate(targets):
                body = str(number).encode()
                assert await here.ask(target, body) == f"{target}:{number}".encode()
            assert here.requests("DELETE") == lru_evictions(targets, 5)

    run(work())


@pytest.mark.parametrize(
    ("units", "cached"), [(3, True), (1, True), (2, False)], ids=["three", "one", "uncached"]
)
def test_concurrent_requests_all_get_their_answers(
    s3: str, tmp_path: Path, units: int, cached: bool
) -> None:
    """The requested models together exceed the memory."""
    targets = random.Random(1).choices([f"{n}.tar.gz" for n in range(20)], k=150)
    spec = container(cache_models=cached, environment={"MEMORY": str(units)})

    async def work() -> None:
        async with bed(s3, tmp_path) as here:
            await here.hosting.create("e", [variant(spec)])
            concurrency = asyncio.Semaphore(12)

            async def one(target: str) -> bytes:
                async with concurrency:
                    return await here.ask(target)

            answers = await asyncio.gather(*(one(target) for target in targets))
            assert answers == [f"{target}:x".encode() for target in targets]

    run(work())


def test_507_for_a_model_that_never_fits_is_a_model_error(s3: str, tmp_path: Path) -> None:
    upload(s3, "huge.tar.gz", needs=9)

    async def work() -> None:
        async with bed(s3, tmp_path) as here:
            await here.hosting.create("e", [variant(memory(2))])
            await here.ask("0.tar.gz")
            await here.ask("1.tar.gz")
            with pytest.raises(InvocationFailed) as caught:
                await here.ask("huge.tar.gz")
            assert caught.value.fields["OriginalStatusCode"] == 507
            assert caught.value.status == 424
            assert here.requests("DELETE") == 2  # every other model was unloaded
            assert await here.ask("0.tar.gz") == b"0.tar.gz:x"

    run(work())


def test_507_on_invoke_unloads_others_until_it_works(s3: str, tmp_path: Path) -> None:
    async def work() -> None:
        async with bed(s3, tmp_path) as here:
            await here.hosting.create("e", [variant()])
            for number in range(3):
                await here.ask(f"{number}.tar.gz")
            assert await here.ask("2.tar.gz", b"oom") == b"2.tar.gz:oom"
            assert here.requests("DELETE") == 2

    run(work())


def test_404_on_invoke_loads_again(s3: str, tmp_path: Path) -> None:
    async def work() -> None:
        async with bed(s3, tmp_path) as here:
            await here.hosting.create("e", [variant()])
            await here.ask("0.tar.gz", b"forget")
            assert await here.ask("0.tar.gz") == b"0.tar.gz:x"
            assert here.requests("POST", "/models") == 2

    run(work())


def test_without_caching_models_are_unloaded_after_each_request(s3: str, tmp_path: Path) -> None:
    async def work() -> None:
        async with bed(s3, tmp_path) as here:
            await here.hosting.create("e", [variant(container(cache_models=False))])
            for _ in range(3):
                assert await here.ask("0.tar.gz") == b"0.tar.gz:x"
            assert await asyncio.gather(*(here.ask("1.tar.gz") for _ in range(4)))
            assert await here.ask("0.tar.gz") == b"0.tar.gz:x"
        assert here.requests("DELETE") >= 4

    run(work())


def test_slow_load_is_not_ready_and_continues(s3: str, tmp_path: Path) -> None:
    upload(s3, "slow_load.tar.gz", load_s=1.0)

    async def work() -> None:
        async with bed(s3, tmp_path, limits=PlatformLimits(load_wait_s=0.3)) as here:
            await here.hosting.create("e", [variant()])
            with pytest.raises(InvocationFailed) as caught:
                await here.ask("slow_load.tar.gz")
            assert (caught.value.status, caught.value.code) == (429, "ModelNotReadyException")
            failures = 1
            while failures < 20:
                try:
                    answer = await here.ask("slow_load.tar.gz")
                    break
                except InvocationFailed:
                    failures += 1
            assert answer == b"slow_load.tar.gz:x"
            assert here.requests("POST", "/models") == 1

    run(work())


def test_slow_response_is_a_model_error_without_a_status(s3: str, tmp_path: Path) -> None:
    upload(s3, "slow.tar.gz", invoke_s=5.0)

    async def work() -> None:
        async with bed(s3, tmp_path, limits=PlatformLimits(invoke_s=0.3)) as here:
            await here.hosting.create("e", [variant()])
            with pytest.raises(InvocationFailed, match="Your invocation timed out") as caught:
                await here.ask("slow.tar.gz")
            assert caught.value.fields["OriginalStatusCode"] == 0

    run(work())


@pytest.mark.parametrize(
    "prefix", [PREFIX, PREFIX.rstrip("/"), "https://s3-us-east-1.amazonaws.com/models/mme/"]
)
def test_targets_under_all_forms_of_prefix(s3: str, tmp_path: Path, prefix: str) -> None:
    async def work() -> None:
        async with bed(s3, tmp_path) as here:
            await here.hosting.create("e", [variant(container(model_data_url=prefix))])
            for target in ("0.tar.gz", "sub/0.tar.gz", "ModelA"):
                assert await here.ask(target) == f"{target}:x".encode()
            assert await here.ask("/1.tar.gz") == b"1.tar.gz:x"

    run(work())


@pytest.mark.parametrize("target", ["none.tar.gz", "../mme/0.tar.gz"])
def test_missing_object_is_a_validation_error(s3: str, tmp_path: Path, target: str) -> None:
    async def work() -> None:
        async with bed(s3, tmp_path) as here:
            await here.hosting.create("e", [variant()])
            with pytest.raises(InvocationFailed, match="Failed to download model data") as caught:
                await here.ask(target)
            assert (caught.value.status, caught.value.code) == (400, "ValidationError")

    run(work())


def test_disk_holds_no_more_than_its_budget(s3: str, tmp_path: Path) -> None:
    """The least recently used artifact is removed; if all are loaded, one model is unloaded first."""
    for number in range(4):
        upload(s3, f"disk{number}.tar.gz", extra=40_000)

    async def work() -> None:
        async with bed(s3, tmp_path, limits=PlatformLimits(volume_nbytes=100_000)) as here:
            await here.hosting.create("e", [variant()])
            for number in (0, 1, 2, 3, 0):
                assert await here.ask(f"disk{number}.tar.gz") == f"disk{number}.tar.gz:x".encode()
                assert here.artifacts() <= 2
            assert here.requests("DELETE") == 3
            assert here.artifacts() == 2

    run(work())


def test_unloaded_models_stay_on_disk(s3: str, tmp_path: Path) -> None:
    async def work() -> None:
        async with bed(s3, tmp_path) as here:
            await here.hosting.create("e", [variant(memory(1))])
            for number in (0, 1, 0):
                await here.ask(f"{number}.tar.gz")
            assert here.artifacts() == 2

    run(work())


def test_container_errors_reach_the_caller(s3: str, tmp_path: Path) -> None:
    upload(s3, "broken.tar.gz", load_status=500)

    async def work() -> None:
        async with bed(s3, tmp_path) as here:
            await here.hosting.create("e", [variant()])
            with pytest.raises(InvocationFailed) as caught:
                await here.ask("0.tar.gz", b"fail")
            assert (caught.value.status, caught.value.code) == (424, "ModelError")
            assert caught.value.fields == {
                "OriginalStatusCode": 500,
                "OriginalMessage": '{"message": "it hurts"}',
                "LogStreamArn": "arn:aws:logs:us-east-1:123456789012:log-group:"
                "/aws/sagemaker/Endpoints/e",
                "ErrorCode": "INTERNAL_FAILURE_FROM_MODEL",
            }
            with pytest.raises(InvocationFailed) as caught:
                await here.ask("broken.tar.gz")
            assert caught.value.fields["OriginalMessage"] == "load"

    run(work())

"""Several instances: crashes, scaling, updates, variants, pipelines."""

import asyncio
import json
import os
import signal
from collections import Counter
from pathlib import Path
from typing import Any

import pytest

from emulator.interfaces import DeploymentFailed, Invocation, InvocationFailed
from emulator.limits import PlatformLimits
from emulator.records import ContainerSpec
from tests.emulator.hosting_bed import (
    HostingBed,
    RecordingRunner,
    bed,
    client,
    container,
    memory,
    packed,
    run,
    upload,
    variant,
)

TARGETS = [f"{number}.tar.gz" for number in range(6)]


class Traffic:
    """Concurrent callers that each send requests in sequence, until the context is left."""

    def __init__(self, here: HostingBed, callers: int = 4) -> None:
        self._here = here
        self._callers = callers
        self._stopping = False
        self.answered = 0

    async def __aenter__(self) -> "Traffic":
        self._tasks = [asyncio.create_task(self._call(n)) for n in range(self._callers)]
        return self

    async def __aexit__(self, *_: object) -> None:
        self._stopping = True
        await asyncio.gather(*self._tasks)

    async def reach(self, more: int) -> None:
        """Returns after that many more responses."""
        goal = self.answered + more
        while self.answered < goal:
            done, _ = await asyncio.wait(self._tasks, timeout=0.01)
            for task in done:
                task.result()

    async def _call(self, number: int) -> None:
        while not self._stopping:
            target = TARGETS[number % len(TARGETS)]
            assert (await self._here.ask(target)).startswith(target.encode())
            self.answered += 1
            number += 1


def test_killed_instance_is_replaced_and_nothing_is_lost(s3: str, tmp_path: Path) -> None:
    async def work() -> None:
        async with bed(s3, tmp_path) as here:
            await here.hosting.create("e", [variant(memory(4), count=2)])
            async with Traffic(here) as traffic:
                await traffic.reach(100)
                os.kill(here.runner.pids[0], signal.SIGKILL)
                await traffic.reach(200)
                while here.hosting.status("e")[0].current_count < 2:
                    await traffic.reach(1)
            assert len(here.runner.started) == 3

    run(work())


def test_request_waits_for_the_replacement_of_the_only_instance(s3: str, tmp_path: Path) -> None:
    async def work() -> None:
        async with bed(s3, tmp_path) as here:
            await here.hosting.create("e", [variant()])
            await here.ask("0.tar.gz")
            os.kill(here.runner.pids[0], signal.SIGKILL)
            assert await here.ask("0.tar.gz") == b"0.tar.gz:x"

    run(work())


def test_request_that_kills_every_instance_ends_as_a_model_error(s3: str, tmp_path: Path) -> None:
    async def work() -> None:
        async with bed(s3, tmp_path) as here:
            await here.hosting.create("e", [variant(count=2)])
            with pytest.raises(InvocationFailed) as caught:
                await here.ask("0.tar.gz", b"die")
            assert caught.value.code == "ModelError"
            assert caught.value.fields["OriginalStatusCode"] == 0
            assert await here.ask("0.tar.gz") == b"0.tar.gz:x"

    run(work())


def test_instance_that_stops_answering_pings_is_replaced(s3: str, tmp_path: Path) -> None:
    async def work() -> None:
        limits = PlatformLimits(ping_s=0.2, ping_period_s=0.1, failed_pings=2, stop_s=0.2)
        async with bed(s3, tmp_path, limits=limits) as here:
            await here.hosting.create("e", [variant(count=2)])
            os.kill(here.runner.pids[0], signal.SIGSTOP)
            async with asyncio.timeout(10):
                while len(here.runner.started) < 3:
                    await here.ask("0.tar.gz", target_variant="v")
            assert here.runner.pids[0] not in here.runner.alive()

    run(work())


def test_scaling_under_load_fails_no_request(s3: str, tmp_path: Path) -> None:
    async def work() -> None:
        async with bed(s3, tmp_path) as here:
            await here.hosting.create("e", [variant(memory(4))])
            async with Traffic(here) as traffic:
                await here.hosting.scale("e", {}, {"v": 3})
                assert here.hosting.status("e")[0].current_count == 3
                await traffic.reach(100)
                await here.hosting.scale("e", {"v": 0.5}, {"v": 1})
                await traffic.reach(20)
            status = here.hosting.status("e")[0]
            assert (status.current_count, status.current_weight) == (1, 0.5)
            assert len(here.runner.alive()) == 1

    run(work())


def test_update_is_blue_green_without_a_failed_request(s3: str, tmp_path: Path) -> None:
    async def work() -> None:
        async with bed(s3, tmp_path) as here:
            await here.hosting.create("e", [variant(count=2)])
            async with Traffic(here) as traffic:
                await traffic.reach(50)
                await here.hosting.update("e", [variant(name="w", count=2)])
                await traffic.reach(50)
            assert [status.name for status in here.hosting.status("e")] == ["w"]
            assert len(here.runner.alive()) == 2

    run(work())


def test_failed_update_leaves_the_old_fleet_in_service(s3: str, tmp_path: Path) -> None:
    async def work() -> None:
        async with bed(s3, tmp_path, limits=PlatformLimits(startup_s=0.5)) as here:
            await here.hosting.create("e", [variant()])
            sick = container(environment={"SICK": "1"})
            with pytest.raises(DeploymentFailed, match="did not pass the ping health check"):
                await here.hosting.update("e", [variant(sick)])
            assert await here.ask("0.tar.gz") == b"0.tar.gz:x"
            assert len(here.runner.alive()) == 1

    run(work())


def test_container_that_exits_at_once_fails_the_deployment(s3: str, tmp_path: Path) -> None:
    """The other instances of the endpoint are stopped as well."""

    async def work() -> None:
        async with bed(s3, tmp_path) as here:
            dead = variant(container(environment={"MEMORY": "none"}), name="dead")
            with pytest.raises(DeploymentFailed, match="primary container for production variant"):
                await here.hosting.create("e", [variant(), dead])
            assert not here.runner.alive()

    run(work())


def test_variants_share_by_weight_and_can_be_selected(s3: str, tmp_path: Path) -> None:
    async def work() -> None:
        async with bed(s3, tmp_path) as here:
            await here.hosting.create("e", [variant(weight=9.0), variant(name="w", weight=1.0)])
            request = Invocation(b"", target_model="0.tar.gz")
            outcomes = [await here.hosting.invoke("e", request) for _ in range(200)]
            share = Counter(outcome.variant for outcome in outcomes)
            assert 5 <= share["w"] <= 40
            picked = Invocation(b"", target_model="0.tar.gz", target_variant="w")
            assert (await here.hosting.invoke("e", picked)).variant == "w"
            with pytest.raises(InvocationFailed, match="Variant none not found"):
                await here.ask("0.tar.gz", target_variant="none")

    run(work())


def test_headers_pass_as_documented(s3: str, tmp_path: Path) -> None:
    given = {
        "content-type": "text/x-odd",
        "accept": "text/y-odd",
        "x-amzn-sagemaker-custom-attributes": "a=1",
        "x-amzn-sagemaker-inference-id": "id",
    }

    async def work() -> None:
        async with bed(s3, tmp_path) as here:
            await here.hosting.create("e", [variant()])
            outcome = await here.hosting.invoke("e", Invocation(b"x", given, "/0.tar.gz"))
            assert list(outcome.headers) == ["x-amzn-sagemaker-custom-attributes"]
            assert outcome.content_type == "text/plain"
            seen: dict[str, Any] = json.loads(outcome.headers["x-amzn-sagemaker-custom-attributes"])
            transport = {"host", "connection", "content-length"}
            seen = {name: value for name, value in seen.items() if name not in transport}
            assert seen == given | {"x-amzn-sagemaker-target-model": "/0.tar.gz"}

    run(work())


def test_target_must_fit_the_kind_of_endpoint(s3: str, tmp_path: Path) -> None:
    client(s3).put_object(Bucket="models", Key="one.tar.gz", Body=packed({"answer": "one"}))
    single = container(
        multi_model=False,
        model_data_url="s3://models/one.tar.gz",
        environment={"PREPROCESSOR": "1"},
    )

    async def work() -> None:
        async with bed(s3, tmp_path) as here:
            await here.hosting.create("many", [variant()])
            await here.hosting.create("one", [variant(single)])
            assert await here.ask(None, b"x", "one") == b"Xone"
            with pytest.raises(InvocationFailed, match="is not a multi-model endpoint"):
                await here.ask("0.tar.gz", b"x", "one")
            with pytest.raises(InvocationFailed, match="is missing a target model header"):
                await here.ask(None, b"x", "many")
            await here.hosting.delete("one")
            assert len(here.runner.alive()) == 1

    run(work())


def test_pipeline_passes_bodies_and_content_types_on(s3: str, tmp_path: Path) -> None:
    first = container(
        multi_model=False, model_data_url=None, environment={"PREPROCESSOR": "1"}, image="pre"
    )

    async def work() -> None:
        async with bed(s3, tmp_path) as here:
            await here.hosting.create("e", [variant(first, container())])
            request = Invocation(b"quiet", {"accept": "text/y"}, "0.tar.gz")
            outcome = await here.hosting.invoke("e", request)
            assert outcome.body == b"0.tar.gz:QUIET"
            seen = json.loads(outcome.headers["x-amzn-sagemaker-custom-attributes"])
            assert (seen["content-type"], seen["accept"]) == ("text/x-upper", "text/y")

    run(work())


def test_hot_model_spreads_over_instances(s3: str, tmp_path: Path) -> None:
    upload(s3, "hot.tar.gz", invoke_s=0.2)

    async def work() -> None:
        async with bed(s3, tmp_path, limits=PlatformLimits(hot=2)) as here:
            await here.hosting.create("e", [variant(count=2)])
            await here.ask("hot.tar.gz")
            assert here.requests("POST", "/models") == 1
            await asyncio.gather(*(here.ask("hot.tar.gz") for _ in range(6)))
            assert here.requests("POST", "/models") == 2

    run(work())


def test_cancelled_start_leaves_no_container(s3: str, tmp_path: Path) -> None:
    async def work() -> None:
        async with bed(s3, tmp_path) as here:
            sick = variant(container(environment={"SICK": "1"}), count=2)
            create = asyncio.create_task(here.hosting.create("e", [sick]))
            while len(here.runner.started) < 2:
                await asyncio.wait({create}, timeout=0.01)
            create.cancel()
            await asyncio.wait({create})
            assert not here.runner.alive()

    run(work())


def test_leaving_cancels_loads_and_drains_requests(s3: str, tmp_path: Path) -> None:
    """Requests in progress still get a response; `bed` checks that no container is left."""
    upload(s3, "late.tar.gz", load_s=0.3, invoke_s=0.3)

    async def work() -> None:
        async with bed(s3, tmp_path) as here:
            await here.hosting.create("e", [variant()])
            await here.ask("0.tar.gz")
            late = asyncio.create_task(here.ask("late.tar.gz"))
            while not here.requests("POST", "/models/.*"):
                await asyncio.wait({late}, timeout=0.01)
        assert await late == b"late.tar.gz:x"

    run(work())


@pytest.mark.parametrize(
    ("spec", "message"),
    [
        (container(image="nowhere"), "The container's command did not start"),
        (container(model_data_url="http://elsewhere/"), "is neither an s3:// nor"),
        (
            container(multi_model=False, model_data_url="s3://models/none.tar.gz"),
            "Failed to download model data",
        ),
    ],
)
def test_deployments_that_cannot_start(
    s3: str, tmp_path: Path, spec: ContainerSpec, message: str
) -> None:
    async def work() -> None:
        runner = RecordingRunner(commands={"nowhere": ("/nowhere",)})
        async with bed(s3, tmp_path, runner=runner) as here:
            with pytest.raises(DeploymentFailed, match=message):
                await here.hosting.create("e", [variant(spec)])

    run(work())

"""The start of an instance."""

from pathlib import Path

import httpx

from emulator.limits import PlatformLimits
from tests.emulator.hosting_bed import bed, container, run, variant


def test_in_service_after_three_consecutive_good_pings(s3: str, tmp_path: Path) -> None:
    async def work() -> None:
        async with bed(s3, tmp_path, limits=PlatformLimits()) as here:
            flapping = container(environment={"SICK_PINGS": "1,4"})
            await here.hosting.create("e", [variant(flapping)])
            assert here.requests("GET", "/ping") == 7

    run(work())


def test_ports_are_in_the_range_that_every_server_accepts(s3: str, tmp_path: Path) -> None:
    """Multi-model-server refuses ports from 32767 on; 25000 to 25999 are reserved for the container."""

    async def work() -> None:
        async with bed(s3, tmp_path) as here:
            await here.hosting.create("e", [variant(count=3)])
            ports = {httpx.URL(running.url).port or 0 for running in here.runner.started}
            assert len(ports) == 3
            assert all(1024 <= port < 32767 and port not in range(25000, 26000) for port in ports)

    run(work())

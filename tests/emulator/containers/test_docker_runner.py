"""The docker runner, with a stand-in for the docker command."""

import sys
from pathlib import Path
from typing import Any

import pytest

from emulator.containers.docker_runner import DockerRunner
from emulator.hosting.fleet_hosting import create_hosting
from emulator.interfaces import DeploymentFailed, Invocation
from emulator.limits import PlatformLimits
from tests.emulator.hosting_bed import STAND_IN, container, run, variant

LIMITS = PlatformLimits(ping_period_s=0.1, startup_s=10, stop_s=5)


def docker(state: Path) -> DockerRunner:
    state.mkdir()
    command = Path(__file__).parent / "docker_stand_in.py"
    return DockerRunner(docker=(sys.executable, str(command), str(state), STAND_IN[1]))


def docker_hosting(s3: str, root: Path) -> Any:
    runner = docker(root / "docker")
    return create_hosting(s3=s3, runner=runner, root=root / "i", limits=LIMITS, tick_every_s=None)


def test_containers_run_with_mounted_models_and_leave_nothing(s3: str, tmp_path: Path) -> None:
    async def work() -> None:
        async with docker_hosting(s3, tmp_path) as hosting:
            await hosting.create("e", [variant(container(image="mme:1"))])
            outcome = await hosting.invoke("e", Invocation(b"x", target_model="0.tar.gz"))
            assert outcome.body == b"0.tar.gz:x"

    run(work())
    assert not list((tmp_path / "docker").glob("*.json"))
    (log,) = (tmp_path / "i").glob("*/primary.log")
    assert "POST /models/" in log.read_text()


@pytest.mark.parametrize(
    ("image", "message"),
    [
        (
            "plain:1",
            r"Your Ecr Image plain:1 does not contain required .*\.multi-models=true Docker label",
        ),
        ("absent:1", "pull access denied for absent:1"),
    ],
)
def test_images_that_cannot_be_hosted(s3: str, tmp_path: Path, image: str, message: str) -> None:
    async def work() -> None:
        async with docker_hosting(s3, tmp_path) as hosting:
            with pytest.raises(DeploymentFailed, match=message):
                await hosting.create("e", [variant(container(image=image))])

    run(work())


def test_pipelines_need_the_label_for_ports(s3: str, tmp_path: Path) -> None:
    async def work() -> None:
        async with docker_hosting(s3, tmp_path) as hosting:
            both, one = container(image="both:1", multi_model=False), container(image="mme:1")
            with pytest.raises(DeploymentFailed, match="accept-bind-to-port=true"):
                await hosting.create("e", [variant(one, both)])

    run(work())

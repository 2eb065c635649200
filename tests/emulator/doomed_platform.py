"""Starts containers of both runners, prints their pids, and waits to be killed."""

import asyncio
import json
import sys
from pathlib import Path

from emulator.containers import leftovers
from emulator.containers.docker_runner import DockerRunner
from emulator.containers.process_runner import ProcessRunner
from emulator.containers.runner import ContainerLaunch
from emulator.records import ContainerSpec

SLEEP = (sys.executable, "-c", "import time; time.sleep(1000)")
STUBBORN = (
    sys.executable,
    "-c",
    "import signal, time; signal.signal(signal.SIGTERM, signal.SIG_IGN); time.sleep(1000)",
)


async def main(root: Path) -> None:
    here = Path(__file__).parent
    stand_in = str(here / "containers/docker_stand_in.py")
    server = str(here / "stand_in.py")
    docker = DockerRunner(docker=(sys.executable, stand_in, str(root / "docker"), server))
    pids = []
    for command in (SLEEP, STUBBORN):
        running = await ProcessRunner(command=command).start(launch(root))
        pids.append(running.pid)  # type: ignore[attr-defined]
    await docker.start(launch(root))
    (record,) = (root / "docker").glob("*.json")
    pids.append(json.loads(record.read_text())["pid"])
    print(json.dumps(pids), flush=True)
    await asyncio.Event().wait()


def launch(root: Path) -> ContainerLaunch:
    spec = ContainerSpec(image="mme:1", multi_model=True)
    environment = {"SAGEMAKER_BIND_TO_PORT": "0"}
    return ContainerLaunch(spec, environment, 0, root, root / "log")


if __name__ == "__main__":
    assert leftovers.GRACE_S < 15
    asyncio.run(main(Path(sys.argv[1])))

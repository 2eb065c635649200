"""A stand-in for the docker command, whose containers are local processes.

The image name selects the labels: `both:1`, `mme:1` (no label for ports), `plain:1` (none).
The state directory has one file per container, with its pid and its image.
"""

import json
import os
import select
import signal
import subprocess
import sys
from contextlib import suppress
from pathlib import Path

STATE = Path(sys.argv[1])
SERVER = sys.argv[2]
PREFIX = "com.amazonaws.sagemaker.capabilities."
LABELS = {
    "both:1": {f"{PREFIX}multi-models": "true", f"{PREFIX}accept-bind-to-port": "true"},
    "mme:1": {f"{PREFIX}multi-models": "true"},
    "plain:1": None,
}


def run(arguments: list[str]) -> None:
    name = arguments[arguments.index("--name") + 1]
    given = [a.removeprefix("--env=") for a in arguments if a.startswith("--env=")]
    (volume,) = [a.removeprefix("--volume=") for a in arguments if a.startswith("--volume=")]
    host, inside, mode = volume.split(":")
    assert (inside, mode) == ("/opt/ml/models", "ro")
    environment = dict(os.environ) | dict(entry.split("=", 1) for entry in given)
    environment["MOUNTED"] = f"{inside}={host}"
    with (STATE / f"{name}.log").open("wb") as log:
        process = subprocess.Popen(
            [sys.executable, SERVER, arguments[-1]],
            env=environment,
            stdout=log,
            stderr=log,
            start_new_session=True,
        )
    record = {"pid": process.pid, "image": arguments[-2]}
    (STATE / f"{name}.json").write_text(json.dumps(record))
    print(name)


def wait(name: str) -> None:
    """Like `docker wait`: returns when the process has exited."""
    with suppress(OSError, FileNotFoundError):
        watched = os.pidfd_open(pid(name))
        select.select([watched], [], [])


def stop(name: str) -> None:
    with suppress(ProcessLookupError):
        os.killpg(pid(name), signal.SIGTERM)
    wait(name)


def pid(name: str) -> int:
    number: int = json.loads((STATE / f"{name}.json").read_text())["pid"]
    return number


def inspect(image: str) -> None:
    if image not in LABELS:
        sys.exit(f"Error response from daemon: No such image: {image}")
    print(json.dumps(LABELS[image]))


def main(command: str, *arguments: str) -> None:
    match command:
        case "image":
            inspect(arguments[-1])
        case "pull":
            sys.exit(f"pull access denied for {arguments[-1]}")
        case "run":
            run(list(arguments))
        case "wait":
            wait(arguments[-1])
        case "stop":
            stop(arguments[-1])
        case "rm":
            with suppress(ProcessLookupError):
                os.killpg(pid(arguments[-1]), signal.SIGKILL)
            (STATE / f"{arguments[-1]}.json").unlink()
        case "logs":
            wait(arguments[-1])
            print((STATE / f"{arguments[-1]}.log").read_text())
        case _:
            sys.exit(f"unknown command {command}")


if __name__ == "__main__":
    main(*sys.argv[3:])

"""Ends containers that outlive the platform, however it ended (SIGKILL included).

A `Leftovers` process waits for the end of a pipe that only the platform holds open; then it ends what is
still registered. A container is registered when it starts and removed when it has ended.
"""

import functools
import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterable, Sequence
from contextlib import suppress

GRACE_S = 5.0  # from SIGTERM to SIGKILL
_POLL_S = 0.1


class Leftovers:
    """The platform's side. The process starts with the first container."""

    def __init__(self) -> None:
        self._pipe: int | None = None

    def add_group(self, pid: int) -> None:
        """Register a process group."""
        self._write({"group": pid})

    def add_command(self, name: str, command: Sequence[str]) -> None:
        """Register a command that ends a container."""
        self._write({"name": name, "command": [*command]})

    def remove(self, key: int | str) -> None:
        self._write({"gone": key})

    def _write(self, line: object) -> None:
        if self._pipe is None:
            self._pipe = _start()
        with suppress(BrokenPipeError):  # somebody ended the process: nothing is registered then
            os.write(self._pipe, json.dumps(line).encode() + b"\n")


def _start() -> int:
    reader, writer = os.pipe()
    with os.fdopen(reader):
        os.posix_spawn(
            sys.executable,
            [sys.executable, "-I", __file__],
            os.environ,
            file_actions=[
                (os.POSIX_SPAWN_DUP2, reader, 0),
                (os.POSIX_SPAWN_OPEN, 1, os.devnull, os.O_WRONLY, 0),
            ],
            setsid=True,  # signals to the platform's process group are not for it
        )
    return writer


@functools.cache
def leftovers() -> Leftovers:
    """Those of this process."""
    return Leftovers()


def main(lines: Iterable[str]) -> None:
    """Until the end of `lines`, which is the end of the platform."""
    groups: set[int] = set()
    commands: dict[str, list[str]] = {}
    for line in lines:
        match json.loads(line):
            case {"group": group}:
                groups.add(group)
            case {"name": name, "command": command}:
                commands[name] = command
            case {"gone": int(group)}:
                groups.discard(group)
            case {"gone": name}:
                commands.pop(name, None)
    _signal(groups, signal.SIGTERM)
    for command in commands.values():
        subprocess.run(command, check=False, capture_output=True)
    _end_groups(groups)


def _end_groups(groups: set[int]) -> None:
    """After SIGTERM."""
    deadline = time.monotonic() + GRACE_S
    while any(map(_runs, groups)) and time.monotonic() < deadline:
        time.sleep(_POLL_S)
    _signal(groups, signal.SIGKILL)


def _signal(groups: set[int], number: signal.Signals) -> None:
    for group in groups:
        with suppress(ProcessLookupError):
            os.killpg(group, number)


def _runs(group: int) -> bool:
    try:
        os.killpg(group, 0)
    except ProcessLookupError:
        return False
    return True


if __name__ == "__main__":
    main(sys.stdin)

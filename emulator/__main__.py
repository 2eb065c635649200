"""`python -m emulator up`: prints `export` lines and then `ready`; SIGINT or SIGTERM stops it."""

import argparse
import logging
import shlex
import signal
import socket
import time
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path

from emulator.hosting.autoscaling import MINUTE_S
from emulator.hosting.fleet_hosting import create_hosting
from emulator.platform import HostingFactory, LocalSageMaker

_DESCRIPTION = """\
A local SageMaker for multi-model endpoints. Its control and runtime APIs drive real containers over HTTP;
S3, IAM, CloudWatch and other AWS services are emulated by moto."""
_UP_DESCRIPTION = """\
Starts the platform, prints the environment variables that direct AWS SDKs and the AWS CLI to it, and then the
line `ready`. Ctrl-C stops the platform and its containers; their state is lost."""


def main(arguments: Sequence[str] | None = None) -> None:
    options = _parser().parse_args(arguments)
    _configure_logging(options.log_level)
    stop_signal = _stop_signal()
    with LocalSageMaker(_hosting(options), port=options.port) as platform:
        for name, value in platform.environment.items():
            print(f"export {name}={shlex.quote(value)}")
        print("ready", flush=True)
        stop_signal.recv(1)


def _stop_signal() -> socket.socket:
    """A socket that becomes readable on SIGINT or SIGTERM, whichever thread receives the signal."""
    receiver, sender = socket.socketpair()
    sender.setblocking(False)
    signal.set_wakeup_fd(sender.detach())
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, lambda *_: None)
    return receiver


class EventFormatter(logging.Formatter):
    """Formats an event and its `extra` fields on one line."""

    def format(self, record: logging.LogRecord) -> str:
        standard = vars(logging.makeLogRecord({})).keys() | {"message", "asctime"}
        fields = {key: value for key, value in vars(record).items() if key not in standard}
        return super().format(record) + "".join(f" {key}={value}" for key, value in fields.items())


def _configure_logging(level: str) -> None:
    handler = logging.StreamHandler()
    handler.setFormatter(EventFormatter("platform: %(message)s"))
    logging.basicConfig(level=logging.WARNING, handlers=[handler])
    logging.getLogger("emulator").setLevel(level)


def _hosting(options: argparse.Namespace) -> HostingFactory:
    return partial(
        create_hosting,
        runner=options.runner,
        command=shlex.split(options.command) if options.command else None,
        root=options.root,
        clock=_clock(options.speed),
        tick_every_s=MINUTE_S / options.speed,
    )


def _clock(speed: float) -> Callable[[], float]:
    start = time.time()
    return lambda: start + speed * (time.time() - start)


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser("python -m emulator", description=_DESCRIPTION)
    commands = parser.add_subparsers(required=True, metavar="COMMAND")
    up = commands.add_parser(
        "up", help="start the platform; Ctrl-C stops it", description=_UP_DESCRIPTION
    )
    up.add_argument(
        "--port",
        type=int,
        default=0,
        help="port for the SageMaker control and runtime APIs (default: any free port)",
    )
    up.add_argument(
        "--runner",
        choices=("process", "docker"),
        default="process",
        help="start each container as a local process or with `docker run` (default: %(default)s)",
    )
    up.add_argument(
        "--command",
        help="command that the process runner starts for each container"
        " (default: this Python with `-m container serve`)",
    )
    up.add_argument(
        "--root",
        type=Path,
        metavar="DIRECTORY",
        help="directory for downloaded models and container logs"
        " (default: a temporary directory, deleted at the end)",
    )
    up.add_argument(
        "--speed",
        type=float,
        default=1.0,
        metavar="FACTOR",
        help="speed of the clock for metrics and autoscaling; 60 makes one minute last one second"
        " (default: %(default)s)",
    )
    up.add_argument(
        "--log-level",
        default="INFO",
        choices=("DEBUG", "INFO", "WARNING", "ERROR", "CRITICAL"),
        help="lowest level of the platform's log lines on stderr (default: %(default)s)",
    )
    return parser


if __name__ == "__main__":
    main()

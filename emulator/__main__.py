"""`python -m emulator up`: prints the exports to paste, then `ready`; SIGINT or SIGTERM ends it."""

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


def main(arguments: Sequence[str] | None = None) -> None:
    options = _parser().parse_args(arguments)
    _log(options.log_level)
    told_to_stop = _told_to_stop()
    with LocalSageMaker(_hosting(options), port=options.port) as aws:
        for name, value in aws.environment.items():
            print(f"export {name}={shlex.quote(value)}")
        print("ready", flush=True)
        told_to_stop.recv(1)


def _told_to_stop() -> socket.socket:
    """Readable once SIGINT or SIGTERM has come, whichever thread the kernel gave it to."""
    receiver, sender = socket.socketpair()
    sender.setblocking(False)
    signal.set_wakeup_fd(sender.detach())
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, lambda *_: None)
    return receiver


class EventFormatter(logging.Formatter):
    """An event and its facts on one line."""

    def format(self, record: logging.LogRecord) -> str:
        standard = vars(logging.makeLogRecord({})).keys() | {"message", "asctime"}
        facts = {key: value for key, value in vars(record).items() if key not in standard}
        return super().format(record) + "".join(f" {key}={value}" for key, value in facts.items())


def _log(level: str) -> None:
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
    began = time.time()
    return lambda: began + speed * (time.time() - began)


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser("python -m emulator", description="A local SageMaker.")
    up = parser.add_subparsers(required=True).add_parser("up", help="start it; Ctrl-C ends it")
    up.add_argument("--port", type=int, default=0, help="of SageMaker's two APIs; a free one")
    up.add_argument("--runner", choices=("process", "docker"), default="process")
    up.add_argument(
        "--command",
        help="what the process runner starts as a container (default: this Python with"
        " `-m container serve`)",
    )
    up.add_argument("--root", type=Path, help="where the instances' files are (default: temporary)")
    up.add_argument(
        "--speed",
        type=float,
        default=1.0,
        help="of the clock for metrics and autoscaling: at 60 a minute lasts a second",
    )
    up.add_argument("--log-level", default="INFO", help="of the platform's log on stderr")
    return parser


if __name__ == "__main__":
    main()

"""The command line. The container and its engine are created here and nowhere else."""

import argparse
import logging
import sys
from collections.abc import Mapping, Sequence

from container import settings
from container.app import App, RouteContext
from container.engine import EngineInterface
from container.http.body_budget import BodyBudget
from container.http.peers import guarded
from container.http.protocol import HttpConnection
from container.http.request import BodyLimit
from container.http.server import HttpServer, configuration
from container.mms import multi_model_server
from container.plan import plan
from container.request_log import RequestLog
from container.selection import PlatformSelector
from container.settings import Settings, SettingsError
from container.standalone import StandaloneModels
from model_handler import logs
from model_handler.engine.factory import create_engine
from model_handler.processes import process_table

log = logging.getLogger(__name__)


def main(arguments: Sequence[str], environ: Mapping[str, str]) -> int:
    """The exit status: 0 after a signal, 2 for invalid settings."""
    options = _parser().parse_args(arguments)
    if options.command == "plan":
        return plan.run(options)
    try:
        _serve(Settings.from_environ(environ), environ)
    except SettingsError as error:
        print(error, file=sys.stderr)
        return 2
    return 0


def _serve(chosen: Settings, environ: Mapping[str, str]) -> None:
    logs.configure(chosen.log_level, sys.stderr)
    log.info("starting", extra=chosen.facts())
    if chosen.front == multi_model_server.NAME:
        multi_model_server.run(chosen, environ)
    else:
        process_table.adopt_orphans()  # of a fork server whose parent ends
        create_server(chosen, create_engine(chosen.engine), _request_log()).run()
    log.info("stopped")


def _request_log() -> RequestLog:
    """JSON lines go straight to stderr; text for a terminal is formatted by `logging`."""
    return RequestLog(None if sys.stderr.isatty() else sys.stderr.fileno())


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m container",
        description="Serves many models behind SageMaker's multi-model contract.",
        epilog="environment variables:\n" + settings.describe(),
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    commands = parser.add_subparsers(dest="command", required=True)
    commands.add_parser(
        "serve", help="start the server; SageMaker starts containers with this command"
    )
    plan.describe(
        commands.add_parser("plan", help="estimate how many models fit which instance type")
    )
    return parser


def create_server(
    chosen: Settings, engine: EngineInterface, request_log: RequestLog | None = None
) -> HttpServer:
    app = create_app(chosen, engine, request_log or RequestLog())
    uids = chosen.engine.isolated_uids
    protocol = HttpConnection if uids is None else guarded(uids)
    config = configuration(app, chosen.host, chosen.port, protocol)
    return HttpServer(config, engine, app, chosen.drain_timeout_s)


def create_app(chosen: Settings, engine: EngineInterface, request_log: RequestLog) -> App:
    budget = BodyBudget(max(chosen.body_memory_nbytes, chosen.body_limit_nbytes))
    limit = BodyLimit(chosen.body_limit_nbytes, chosen.request_timeout_s, budget)
    if chosen.multi_model:
        selector = PlatformSelector(engine)
        context = RouteContext(engine, selector, limit, chosen.default_accept)
        return App(context, request_log)
    found = StandaloneModels(engine, chosen.model_dir, chosen.scratch)
    context = RouteContext(engine, found, limit, chosen.default_accept)
    return App(context, request_log, background=found)

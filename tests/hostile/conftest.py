"""One server at a time, with the ENVIRONMENT of the test module."""

from collections.abc import Iterator

import pytest

from tests.hostile.watched_server import WatchedServer, WatchedServers


@pytest.fixture(scope="module")
def servers(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[WatchedServers]:
    servers = WatchedServers(tmp_path_factory.mktemp("hostile"), **request.module.ENVIRONMENT)
    yield servers
    servers.stop()


@pytest.fixture
def server(servers: WatchedServers) -> WatchedServer:
    return servers.get()

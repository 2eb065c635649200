"""Artifacts that were made to do harm are loaded, and asked if they load, while a neighbour is asked."""

import pytest

from tests.hostile.inputs.artifacts import Hostile
from tests.hostile.inputs.files import FILES
from tests.hostile.inputs.graphs import GRAPHS
from tests.hostile.inputs.texts import TEXTS
from tests.hostile.inputs.trees import TABLES
from tests.hostile.watched_server import WatchedServer

LOAD_TIMEOUT_S = 6
REQUEST_TIMEOUT_S = 3
GRACE_S = 3.0
ENVIRONMENT = {
    "MME_WORKERS": "1",
    "MME_DEVICE_MEMORY": "384MiB",
    "MME_LOAD_TIMEOUT": str(LOAD_TIMEOUT_S),
    "MME_REQUEST_TIMEOUT": str(REQUEST_TIMEOUT_S),
}


@pytest.mark.parametrize("case", [*FILES, *TEXTS, *GRAPHS, *TABLES], ids=lambda case: case.name)
def test_artifact(server: WatchedServer, case: Hostile) -> None:
    """The load is refused with a reason, or the model's own requests fail; nobody else notices."""
    directory = case.at(server.root)
    with server.watched(replaced=case.replaced):
        loaded = server.load(case.name, directory)
        if loaded.status == 200:
            asked = server.invoke(case.name, case.asked)
            assert server.unload(case.name).status == 200
        assert loaded.status in case.load, loaded
        if loaded.status == 200:
            assert asked.status in case.answers, asked
            assert asked.seconds < REQUEST_TIMEOUT_S + GRACE_S
        assert loaded.message != "internal error"
        assert loaded.seconds < LOAD_TIMEOUT_S + GRACE_S

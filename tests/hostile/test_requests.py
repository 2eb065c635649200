"""Requests that were made to do harm are sent to sound models, while a neighbour is asked."""

import pytest

from tests.hostile.inputs.other_requests import OTHERS
from tests.hostile.inputs.requests import MODELS, Attack
from tests.hostile.inputs.text_requests import TEXTS
from tests.hostile.watched_server import WatchedServer

REQUEST_TIMEOUT_S = 6
GRACE_S = 3.0
ENVIRONMENT = {
    "MME_WORKERS": "1",
    "MME_DEVICE_MEMORY": "512MiB",
    "MME_REQUEST_TIMEOUT": str(REQUEST_TIMEOUT_S),
}


@pytest.mark.parametrize("case", [*TEXTS, *OTHERS], ids=lambda case: case.name)
def test_request(server: WatchedServer, case: Attack) -> None:
    """It is answered or refused within its time limit; nobody else notices."""
    server.loaded(case.model, MODELS[case.model])
    body = case.make()
    with server.watched():
        reply = server.invoke(case.model, body, case.content_type)
        assert reply.status in case.statuses, reply
        assert reply.seconds < REQUEST_TIMEOUT_S + GRACE_S

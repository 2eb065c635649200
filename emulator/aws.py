"""All AWS services but SageMaker and CloudFormation (S3, STS, IAM, ECR, CloudWatch, …): a moto server.

It runs in a thread of this process on a loopback port and keeps its state in memory.
"""

import logging
import urllib.request
from types import TracebackType
from typing import Self

from moto.server import ThreadedMotoServer

_HOST = "127.0.0.1"
_HEALTH_TIMEOUT_S = 10


class MotoServer:
    """A context manager. At most one per process may run, since moto has one state per process."""

    def __init__(self) -> None:
        self._server = ThreadedMotoServer(_HOST, 0, verbose=False)
        self.url = ""

    def __enter__(self) -> Self:
        # Its one line per request would hide the platform's own log.
        logging.getLogger("werkzeug").setLevel(logging.ERROR)
        self._server.start()
        host, port = self._server.get_host_and_port()
        self.url = f"http://{host}:{port}"
        self._request("/moto-api/data.json")
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self._request("/moto-api/reset", "POST")
        self._server.stop()

    def _request(self, path: str, method: str = "GET") -> None:
        """Raises URLError when the server does not respond or responds with an error."""
        request = urllib.request.Request(self.url + path, method=method)
        with urllib.request.urlopen(request, timeout=_HEALTH_TIMEOUT_S) as response:
            response.read()

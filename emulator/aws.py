"""The rest of AWS (S3, STS, IAM, ECR, CloudWatch, Application Auto Scaling, …): moto's server.

It runs in a thread of this process on a loopback port; its state lasts as long as it runs.
"""

import logging
import urllib.request
from types import TracebackType
from typing import Self

from moto.server import ThreadedMotoServer

_HOST = "127.0.0.1"
_HEALTH_TIMEOUT_S = 10


class MotoServer:
    """Running between enter and exit. One at a time in a process: moto keeps one set of state."""

    def __init__(self) -> None:
        self._server = ThreadedMotoServer(_HOST, 0, verbose=False)
        self.url = ""

    def __enter__(self) -> Self:
        # One line per request of the development server would bury what the platform has to say.
        logging.getLogger("werkzeug").setLevel(logging.ERROR)
        self._server.start()
        host, port = self._server.get_host_and_port()
        self.url = f"http://{host}:{port}"
        self._ask("/moto-api/data.json")
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self._ask("/moto-api/reset", "POST")
        self._server.stop()

    def _ask(self, path: str, method: str = "GET") -> None:
        """Raises when the server is not there or not well."""
        request = urllib.request.Request(self.url + path, method=method)
        with urllib.request.urlopen(request, timeout=_HEALTH_TIMEOUT_S) as answer:
            answer.read()

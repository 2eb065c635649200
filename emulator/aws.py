"""All AWS services but SageMaker and CloudFormation (S3, STS, IAM, ECR, CloudWatch, …): a moto server.

It runs in a thread of this process on a loopback port and keeps its state in memory.
"""

import logging
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager

from moto.server import ThreadedMotoServer

_TIMEOUT_S = 10


@contextmanager
def moto_server() -> Iterator[str]:
    """Yields the server's address. At most one per process may run, since moto has one state per process."""
    # Its one line per request would hide the platform's own log.
    logging.getLogger("werkzeug").setLevel(logging.ERROR)
    server = ThreadedMotoServer("127.0.0.1", 0, verbose=False)
    server.start()
    host, port = server.get_host_and_port()
    try:
        yield f"http://{host}:{port}"
    finally:
        reset = urllib.request.Request(f"http://{host}:{port}/moto-api/reset", method="POST")
        urllib.request.urlopen(reset, timeout=_TIMEOUT_S).close()
        server.stop()

"""python scripts/demo.py

Plays the platform for one container on this machine: unpacks the five models of examples/five_models
as SageMaker would, loads them with POST /models, invokes each, shows what a full ledger answers (507)
and how an unload makes room again, then stops the container and checks that it left cleanly.
"""

import contextlib
import json
import os
import re
import socket
import subprocess
import sys
import tarfile
import tempfile
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

REPOSITORY = Path(__file__).resolve().parent.parent
FIVE_MODELS = REPOSITORY / "examples" / "five_models"
START_LIMIT_S = 60.0
LOADING_LIMIT_S = 120.0  # the first load waits for the worker's imports
PARAMETERS = {"token-classification": {"parameters": {"aggregation_strategy": "simple"}}}
COLUMNS = "{:<18} {:<20} {:>10} {:>8} {:>9}  {}"


@dataclass(frozen=True)
class Answer:
    status: int
    body: bytes
    ms: float


class Container:
    """One running container, spoken to as the platform does."""

    def __init__(self, port: int) -> None:
        self._base = f"http://127.0.0.1:{port}"

    def call(self, method: str, path: str, document: Any = None) -> Answer:
        data = None if document is None else json.dumps(document).encode()
        headers = {"Content-Type": "application/json"}
        request = urllib.request.Request(self._base + path, data, headers, method=method)
        began = time.perf_counter()
        try:
            with urllib.request.urlopen(request, timeout=LOADING_LIMIT_S) as response:
                status, body = response.status, response.read()
        except urllib.error.HTTPError as error:
            status, body = error.code, error.read()
        return Answer(status, body, (time.perf_counter() - began) * 1e3)

    def expect(self, method: str, path: str, document: Any = None, *, status: int = 200) -> Answer:
        answer = self.call(method, path, document)
        if answer.status != status:
            text = answer.body.decode(errors="replace")
            raise SystemExit(f"{method} {path}: {answer.status}, expected {status}: {text}")
        return answer

    def load(self, name: str, directory: Path, *, status: int = 200) -> Answer:
        document = {"model_name": name, "url": str(directory)}
        return self.expect("POST", "/models", document, status=status)

    def reserved(self) -> int:
        """Bytes that the ledger counts as taken."""
        text = self.expect("GET", "/metrics").body.decode()
        found = re.search(r'^mme_memory_reserved_bytes\{tier="device"\} (\S+)$', text, re.MULTILINE)
        assert found is not None
        return int(float(found[1]))


def main() -> None:
    models = json.loads((FIVE_MODELS / "requests.json").read_text(encoding="utf-8"))
    with tempfile.TemporaryDirectory(prefix="mme-demo-") as scratch:
        directories = unpack([model["name"] for model in models], Path(scratch))
        budget = int(sum(map(weights_nbytes, directories.values())) * 1.02)  # and a few buffers
        print(f"1. start the container with room for {budget:,} bytes of weights", flush=True)
        with running(Path(scratch) / "models", budget) as container:
            print("2. load and invoke five models\n", flush=True)
            serve(container, models, directories)
            print("\n3. ask for one more than fits\n", flush=True)
            overfill(container, directories)
            print("\n4. stop: SIGTERM, drain, exit\n", flush=True)
    print("   the container exited with status 0; nothing is left behind")


def unpack(names: list[str], scratch: Path) -> dict[str, Path]:
    """Pack the artifacts as they go to S3, then lay them out as the platform does."""
    archives = scratch / "s3"
    archives.mkdir()
    package = [sys.executable, str(FIVE_MODELS / "package.py"), str(archives)]
    subprocess.run(package, check=True, stdout=subprocess.DEVNULL)
    directories = {}
    for name in names:
        directories[name] = scratch / "models" / name / "model"
        directories[name].mkdir(parents=True)
        with tarfile.open(archives / f"{name}.tar.gz") as archive:
            archive.extractall(directories[name], filter="data")
    return directories


def weights_nbytes(directory: Path) -> int:
    """The data section of the safetensors file: what the ledger will count."""
    with (directory / "model.safetensors").open("rb") as stream:
        header_nbytes = int.from_bytes(stream.read(8), "little")
    return (directory / "model.safetensors").stat().st_size - 8 - header_nbytes


@contextlib.contextmanager
def running(root: Path, budget: int) -> Iterator[Container]:
    """`python -m container serve`, as `docker run IMAGE serve` would start it."""
    port = free_port()
    settings = {
        "SAGEMAKER_MULTI_MODEL": "true",
        "SAGEMAKER_BIND_TO_PORT": str(port),
        "SAGEMAKER_CONTAINER_LOG_LEVEL": "ERROR",
        "MME_MODEL_ROOT": str(root),
        "MME_DEVICE": "cpu",
        "MME_DEVICE_MEMORY": str(budget),
    }
    command = [sys.executable, "-m", "container", "serve"]
    server = subprocess.Popen(command, cwd=REPOSITORY, env=os.environ | settings)
    container = Container(port)
    try:
        began = time.perf_counter()
        wait_for_ping(container, server)
        ms = (time.perf_counter() - began) * 1e3
        print(f"   /ping answered 200 after {ms:,.0f} ms; the worker is still importing PyTorch\n")
        yield container
        server.terminate()
        if server.wait(timeout=30) != 0:
            raise SystemExit(f"the container exited with status {server.returncode}")
    finally:
        if server.poll() is None:
            server.kill()
            server.wait()


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def wait_for_ping(container: Container, server: subprocess.Popen[bytes]) -> None:
    deadline = time.monotonic() + START_LIMIT_S
    while time.monotonic() < deadline:
        with contextlib.suppress(urllib.error.URLError):
            container.expect("GET", "/ping")
            return
        with contextlib.suppress(subprocess.TimeoutExpired):
            raise SystemExit(f"the container exited with status {server.wait(timeout=0.05)}")
    raise SystemExit(f"the container did not answer /ping within {START_LIMIT_S:g} s")


def serve(container: Container, models: list[dict[str, Any]], directories: dict[str, Path]) -> None:
    print(COLUMNS.format("model", "task", "bytes", "load ms", "invoke ms", "answer"))
    print("-" * 110)
    for model in models:
        name = model["name"]
        before = container.reserved()
        load = container.load(name, directories[name])
        nbytes = container.reserved() - before
        path = f"/models/{name}/invoke"
        request = model["request"] | PARAMETERS.get(model["task"], {})
        container.expect("POST", path, request)  # the first one touches the weights
        invoke = container.expect("POST", path, request)
        row = (f"{nbytes:,}", f"{load.ms:,.0f}", f"{invoke.ms:,.1f}", summary(invoke.body))
        print(COLUMNS.format(name, model["task"], *row), flush=True)


def summary(body: bytes) -> str:
    """An answer in one short line."""
    items = json.loads(body)
    if "entity_group" in items[0]:
        return ", ".join(f"{item['word']}/{item['entity_group']}" for item in items)
    if "entity" in items[0]:
        return ", ".join(f"{item['word']}/{item['entity']}" for item in items)
    if "label" in items[0]:
        return f"{items[0]['label']} {items[0]['score']:.3f}"
    return str(next(iter(items[0].values())))


def overfill(container: Container, directories: dict[str, Path]) -> None:
    extra = directories["sentiment"]
    refused = container.load("one_more", extra, status=507)
    print(f"   POST /models one_more          507 in {refused.ms:.1f} ms")
    print(f"   {refused.body.decode()}")
    freed = container.expect("DELETE", "/models/news_topics")
    print(f"   DELETE /models/news_topics     200 in {freed.ms:.1f} ms: its bytes are back")
    loaded = container.load("one_more", extra)
    print(
        f"   POST /models one_more          200 in {loaded.ms:.0f} ms: evict and retry, as SageMaker does"
    )
    request = {"inputs": "What a wonderful little film."}
    answer = container.expect("POST", "/models/one_more/invoke", request)
    print(f"   POST /models/one_more/invoke   200: {summary(answer.body)}")


if __name__ == "__main__":
    main()

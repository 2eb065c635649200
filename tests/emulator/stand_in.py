"""A small multi-model server that starts fast. It implements the contract, with a counter as its memory.

    python tests/emulator/stand_in.py serve

An artifact is a file `model.json`: {"answer": "…", "load_s": 0.0, "invoke_s": 0.0, "load_status": 200,
"needs": 1}. `needs` is the memory of the model, the variable MEMORY the memory of the server.

A response body is the model's answer, a colon and the request body; a header has the request headers as JSON.
These bodies select a behaviour instead: `forget` unloads the model without the platform's knowledge, `oom`
returns 507 while another model is loaded, `die` kills the server, `fail` returns 500.

SICK=1 makes every ping fail, SICK_PINGS the pings with the listed numbers.
PREPROCESSOR=1 makes it a pipeline container: POST /invocations returns the request body in upper case.
"""

import itertools
import json
import os
import signal
import sys
import threading
import time
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

MEMORY = int(os.environ.get("MEMORY", "1000"))
PREPROCESSOR = "PREPROCESSOR" in os.environ
SICK_PINGS = os.environ.get("SICK_PINGS", "").split(",")
pings = itertools.count(1)
models: dict[str, dict[str, Any]] = {}
lock = threading.Lock()
pause = threading.Event()  # never set: `wait` only sleeps


class Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    disable_nagle_algorithm = True

    def do_GET(self) -> None:
        if self.path == "/ping":
            sick = str(next(pings)) in SICK_PINGS or "SICK" in os.environ
            self._answer(500 if sick else 200)
        elif self.path == "/models" and not PREPROCESSOR:
            listed = [{"modelName": name, "modelUrl": models[name]["url"]} for name in models]
            self._answer(200, json.dumps({"models": listed}).encode())
        else:
            self._answer(404)

    def do_POST(self) -> None:
        body = self.rfile.read(int(self.headers.get("content-length", "0")))
        if self.path == "/invocations":
            self._answer(200, body.upper() + self._artifact(), "text/x-upper")
        elif self.path == "/models":
            self._load(json.loads(body))
        else:
            self._invoke(self.path.split("/")[2], body)

    def do_DELETE(self) -> None:
        with lock:
            found = models.pop(self.path.split("/")[2], None)
        self._answer(404 if found is None else 200)

    def _load(self, document: dict[str, str]) -> None:
        name, url = document["model_name"], Path(document["url"])
        assert url.parts[-2:] == (name, "model"), url
        model = json.loads((mounted(url) / "model.json").read_text()) | {"url": document["url"]}
        with lock:
            status = self._admit(name, model)
        pause.wait(model.get("load_s", 0.0))
        self._answer(model.get("load_status", 200) if status == 200 else status, b"load")

    def _admit(self, name: str, model: dict[str, Any]) -> int:
        if name in models:
            return 409
        if sum(m.get("needs", 1) for m in models.values()) + model.get("needs", 1) > MEMORY:
            return 507
        if model.get("load_status", 200) == 200:
            models[name] = model
        return 200

    def _invoke(self, name: str, body: bytes) -> None:
        model = models.get(name)
        if model is None:
            self._answer(404, b"not loaded")
        elif body == b"forget":
            del models[name]
            self._answer(200, b"forgotten")
        elif body == b"oom" and len(models) > 1:
            self._answer(507, b"out of memory")
        elif body == b"fail":
            self._answer(500, b'{"message": "it hurts"}')
        elif body == b"die":
            os.kill(os.getpid(), signal.SIGKILL)
        else:
            pause.wait(model.get("invoke_s", 0.0))
            self._answer(200, f"{model['answer']}:".encode() + body)

    def _artifact(self) -> bytes:
        directory = os.environ.get("MME_MODEL_DIR")
        file = Path(directory, "model.json") if directory else None
        return json.loads(file.read_text())["answer"].encode() if file and file.exists() else b""

    def _answer(self, status: int, body: bytes = b"", content_type: str = "text/plain") -> None:
        self.send_response(status)
        self.send_header("Content-Type", content_type)
        self.send_header("Content-Length", str(len(body)))
        seen = {name.lower(): value for name, value in self.headers.items()}
        self.send_header("X-Amzn-SageMaker-Custom-Attributes", json.dumps(seen))
        self.send_header("X-Not-For-The-Caller", "1")
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_: Any) -> None:
        sys.stderr.write(f"{time.time():.3f} {self.command} {self.path}\n")


def mounted(path: Path) -> Path:
    """Converts a container path to a local one; the variable MOUNTED is `inside=outside`."""
    inside, _, outside = os.environ.get("MOUNTED", "/=/").partition("=")
    return Path(outside) / path.relative_to(inside)


class Server(ThreadingHTTPServer):
    daemon_threads = True
    request_queue_size = 128


def main() -> None:
    assert sys.argv[1:] == ["serve"]
    assert PREPROCESSOR or os.environ["SAGEMAKER_MULTI_MODEL"] == "true"
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(0))
    Server(("127.0.0.1", int(os.environ["SAGEMAKER_BIND_TO_PORT"])), Handler).serve_forever()


if __name__ == "__main__":
    main()

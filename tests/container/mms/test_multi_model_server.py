"""multi-model-server as the front: refused settings, and the service in the process of each model.

The server itself is started by the conformance suite: `make contract TARGET=mms`.
"""

import json
from pathlib import Path

import pytest
from mms.context import Context, RequestProcessor

from container.mms import multi_model_server
from container.mms.mms_service import ModelService
from container.settings import Settings, SettingsError
from tests import artifacts

CODE = """
def model_fn(model_dir, context):
    return context.model_name

def input_fn(body, content_type):
    return body

def predict_fn(data, model):
    if data == "full":
        raise MemoryError
    return f"{model}: {data}"

def output_fn(prediction, accept, context):
    context.set_response_header(0, "X-Words", "2")
    return prediction, "text/plain"
"""
FRONT = {"MME_FRONT": "multi-model-server"}


class ModelProcess:
    """Calls the service as multi-model-server does in the process of a model, with its Context class."""

    def __init__(self, root: Path, name: str = "A", **environ: str) -> None:
        settings = {"SAGEMAKER_MULTI_MODEL": "true", "MME_DEVICE": "cpu"}
        self._service = ModelService({**settings, "MME_MODEL_ROOT": str(root.parent), **environ})
        self.context = Context(name, str(root), None, 1, None, "1.1.11")

    def load(self) -> None:
        assert self._service.handle(None, self.context) is None

    def ask(self, body: bytes, content_type: str = "application/json") -> str | bytes:
        fields = {"Content-Type": content_type, "body": {"content-type": content_type}}
        self.context.request_ids = {0: "an-id"}
        self.context.request_processor = [RequestProcessor(fields)]
        answers = self._service.handle([{"body": bytearray(body)}], self.context)
        assert answers is not None
        (answer,) = answers
        return answer

    @property
    def status(self) -> int:
        return int(self.context.get_response_status(0)[0])


def scripted(root: Path) -> Path:
    (root / "code").mkdir(parents=True)
    (root / "code/inference.py").write_text(CODE)
    return root


@pytest.mark.parametrize(
    ("environ", "says"),
    [
        (FRONT, "requires SAGEMAKER_MULTI_MODEL=true"),
        (FRONT | {"SAGEMAKER_MULTI_MODEL": "true", "PATH": "/nowhere"}, "needs Java"),
        (FRONT | {"SAGEMAKER_MULTI_MODEL": "true", "JAVA_HOME": "/nowhere"}, "needs Java"),
    ],
)
def test_refuses_to_start(environ: dict[str, str], says: str) -> None:
    with pytest.raises(SettingsError, match=says):
        multi_model_server.run(Settings.from_environ(environ), environ)


JAVA = """#!/bin/sh
while [ "$1" != -f ]; do shift; done
service=$(sed -n s/^default_service_handler=//p "$2")
exec python -c "
import importlib, sys
module, name = '$service'.split(':')
sys.exit(7 if callable(getattr(importlib.import_module(module), name)) else 1)
"
"""


def test_its_processes_find_the_service(tmp_path: Path) -> None:
    """With the working directory and the environment that the server gives them."""
    java = tmp_path / "bin/java"
    java.parent.mkdir()
    java.write_text(JAVA)
    java.chmod(0o755)
    environ = FRONT | {"SAGEMAKER_MULTI_MODEL": "true", "JAVA_HOME": str(tmp_path)}
    with pytest.raises(SettingsError, match="ended with status 7"):
        multi_model_server.run(Settings.from_environ(environ), environ)


def test_a_front_that_does_not_exist() -> None:
    with pytest.raises(SettingsError, match=r"MME_FRONT.*uvicorn, multi-model-server"):
        Settings.from_environ({"MME_FRONT": "apache"})


def test_a_model_without_code(tmp_path: Path) -> None:
    server = ModelProcess(artifacts.bert_classifier(tmp_path / "model"))
    server.load()
    (best,) = json.loads(server.ask(b'{"inputs": "a fox"}'))
    assert best["label"] in ("NEGATIVE", "POSITIVE")
    assert server.status == 200
    assert server.context.get_response_content_type(0) == "application/json"


def test_a_model_with_code(tmp_path: Path) -> None:
    server = ModelProcess(scripted(tmp_path / "model"), name="mine")
    server.load()
    assert server.ask(b'"words"') == b'mine: "words"'
    assert server.context.get_response_headers(0)["x-words"] == "2"
    assert server.context.get_response_content_type(0) == "text/plain"


def test_errors_are_those_of_the_other_front(tmp_path: Path) -> None:
    server = ModelProcess(artifacts.bert_classifier(tmp_path / "model"))
    server.load()
    error = json.loads(server.ask(b'{"inputs": 7}'))
    assert error["code"] == server.status == 400
    error = json.loads(server.ask(b"", "video/mp4"))
    assert error["code"] == server.status == 415


def test_out_of_memory(tmp_path: Path) -> None:
    server = ModelProcess(scripted(tmp_path / "model"))
    server.load()
    assert json.loads(server.ask(b"full", "text/csv"))["code"] == server.status == 507


def test_a_load_without_memory_is_the_servers_507(tmp_path: Path) -> None:
    (root := tmp_path / "model" / "code").mkdir(parents=True)
    (root / "inference.py").write_text("def model_fn(model_dir): raise MemoryError\n")
    with pytest.raises(MemoryError):
        ModelProcess(root.parent).load()


def test_a_model_outside_the_roots_is_not_loaded(tmp_path: Path) -> None:
    (inside := tmp_path / "inside" / "model").mkdir(parents=True)
    server = ModelProcess(inside)
    server.context.system_properties["model_dir"] = str(artifacts.bert_classifier(tmp_path / "out"))
    with pytest.raises(Exception, match="outside"):
        server.load()

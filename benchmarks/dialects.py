"""The protocols of the measured servers: where a model is stored, and the format of requests and responses.

Scenarios use the Hugging Face format; a dialect only translates it.
"""

import json
import shutil
from pathlib import Path
from typing import Any, Protocol

# Not `triton`: the other peers have that folder on their path, and PyTorch would take it for the compiler
_TRITON = Path(__file__).parent / "peers/triton_server"


class Dialect(Protocol):
    def place(self, model: str, directory: Path, scratch: Path) -> Path:
        """The path that the server loads for the artifact in `directory`; created in `scratch` if needed."""

    def request(self, document: Any) -> Any: ...

    def answer(self, reply: Any) -> Any: ...


class HuggingFace:
    """The artifact unchanged; requests are `{"inputs": …}`, responses the pipeline's output."""

    def place(self, model: str, directory: Path, scratch: Path) -> Path:
        return directory.resolve()

    def request(self, document: Any) -> Any:
        return document

    def answer(self, reply: Any) -> Any:
        return reply


class Triton:
    """A repository with one Python-backend model that contains the artifact; tensors of JSON strings."""

    def place(self, model: str, directory: Path, scratch: Path) -> Path:
        repository = scratch / "models" / model
        version = repository / model / "1"
        version.mkdir(parents=True)
        shutil.copy(_TRITON / "config.pbtxt", version.parent)
        shutil.copy(_TRITON / "model.py", version)
        (version / "artifact").symlink_to(directory.resolve())
        return repository

    def request(self, document: Any) -> Any:
        text = {"name": "text", "shape": [1, 1], "datatype": "BYTES", "data": [document["inputs"]]}
        return {"inputs": [text]}

    def answer(self, reply: Any) -> Any:
        (output,) = reply["outputs"]
        (text,) = output["data"]
        return json.loads(text)

"""How a server wants to be spoken to: where a model lies, and how a request and its answer are written.

What is measured is said in one way, the Hugging Face one; a dialect translates and decides nothing.
"""

import json
import shutil
from pathlib import Path
from typing import Any, Protocol

# Not `triton`: the other peers have that folder on their path, and PyTorch would take it for the compiler
_TRITON = Path(__file__).parent / "peers/triton_server"


class Dialect(Protocol):
    def place(self, model: str, directory: Path, scratch: Path) -> Path:
        """What the server is to load for the artifact in `directory`; made in `scratch` if need be."""

    def request(self, document: Any) -> Any: ...

    def answer(self, reply: Any) -> Any: ...


class HuggingFace:
    """The artifact as it is; `{"inputs": …}`, answered by the pipeline's own output."""

    def place(self, model: str, directory: Path, scratch: Path) -> Path:
        return directory.resolve()

    def request(self, document: Any) -> Any:
        return document

    def answer(self, reply: Any) -> Any:
        return reply


class Triton:
    """A repository with one model of the Python backend around the artifact; tensors of JSON strings."""

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

"""A service for multi-model-server with sagemaker-inference. Answers begin with the word in the artifact.

Memory is simulated by PLACES places: every model takes one, and a request "feast" takes another while it
runs. If no place is free, the error is "out of memory".
"""

import os
import socket
from http import HTTPStatus
from pathlib import Path
from typing import Any

from sagemaker_inference.default_handler_service import DefaultHandlerService
from sagemaker_inference.default_inference_handler import DefaultInferenceHandler
from sagemaker_inference.errors import GenericInferenceToolkitError
from sagemaker_inference.transformer import Transformer


def place() -> socket.socket:
    """Take a free place. It is free again when the socket is closed or the process has ended."""
    for number in range(int(os.environ["PLACES"])):
        taken = socket.socket(socket.AF_UNIX)
        try:
            taken.bind(f"\0{os.environ['TMPDIR']}/{number}")
        except OSError:
            taken.close()
        else:
            return taken
    # The toolkit answers 500 for every error except its own
    raise GenericInferenceToolkitError(HTTPStatus.INSUFFICIENT_STORAGE, "no place is free")


class Handler(DefaultInferenceHandler):
    """An artifact contains a word, with which the model's answers begin."""

    def default_model_fn(self, model_dir: str, context: Any = None) -> str:
        self.place = place()
        return (Path(model_dir) / "word.txt").read_text()

    def default_input_fn(self, data: Any, content_type: str, context: Any = None) -> str:
        return data if isinstance(data, str) else bytes(data).decode()

    def default_predict_fn(self, data: str, model: str, context: Any = None) -> str:
        if data == "feast":
            place().close()
        return f"{model}:{data}"

    def default_output_fn(self, prediction: str, accept: str, context: Any = None) -> Any:
        return prediction, "text/plain"


_service = DefaultHandlerService(Transformer(default_inference_handler=Handler()))
_ready = False


def handle(data: Any, context: Any) -> Any:
    global _ready
    if not _ready:
        _service.initialize(context)
        _ready = True
    return None if data is None else _service.handle(data, context)

"""Default implementations of the functions that an inference.py does not define, for Hugging Face artifacts.

As in the Hugging Face toolkit: a pipeline, a document in, JSON out. A text in place of an image or audio is
base64 and never followed as a URL or path.
"""

import json
import traceback
from pathlib import Path
from typing import Any

from model_handler.artifacts import tasks
from model_handler.artifacts.tasks import InputKind
from model_handler.device import device as devices
from model_handler.errors import InvalidRequest
from model_handler.handlers import media
from model_handler.loading.loader import TorchLoader
from model_handler.options import RequestLimits
from model_handler.scripted import InputRefused, documents
from model_handler.sharing.turnstile import Turnstile


class PipelineDefaults:
    """`task` may be empty: the default model_fn then infers it from config.json."""

    whole = True

    def __init__(
        self, task: str, dtype: str, device: str, limits: RequestLimits | None = None
    ) -> None:
        self._limits = limits or RequestLimits()
        self._task = task
        self._dtype = dtype
        self._device = devices.parse(device)

    def model_fn(self, model_dir: str) -> Any:
        config = json.loads((Path(model_dir) / "config.json").read_bytes())
        task = self._task or tasks.infer(config)
        return TorchLoader(self._device, Turnstile()).load(model_dir, task, self._dtype).whole

    def adopt(self, model: Any, *, runs: bool) -> None:
        pass

    def input_fn(self, body: bytes | str, content_type: str) -> Any:
        return documents.decode(body, content_type, self._limits)

    def predict_fn(self, data: Any, model: Any) -> Any:
        inputs, parameters = _parted(data)
        inputs = _safe(inputs, model, self._limits)
        try:
            return model(inputs, **parameters)
        except (
            Exception
        ) as error:  # broad: any error before the forward means that the request could not be read
            if _ran(error):
                raise
            raise InputRefused from error

    def output_fn(self, prediction: Any, accept: str) -> tuple[bytes, str]:
        return documents.encode(prediction, accept)


def _parted(data: Any) -> tuple[Any, dict[str, Any]]:
    if not isinstance(data, dict):
        return data, {}
    parameters = data.pop("parameters", None)
    if not isinstance(parameters, dict | None):
        raise InvalidRequest("parameters must be an object")
    return data.pop("inputs", data), parameters or {}


def _ran(error: BaseException) -> bool:
    """Whether the error comes from the forward: a pipeline reads its input before it calls `_forward`."""
    frames = traceback.walk_tb(error.__traceback__)
    return any(frame.f_code.co_name in ("forward", "_forward") for frame, _ in frames)


def _safe(inputs: Any, model: Any, limits: RequestLimits) -> Any:
    """Decode media here, because a pipeline would fetch URLs and open paths; see `media`."""
    task = getattr(model, "task", None)
    if not isinstance(task, str) or tasks.family(task) not in tasks.SUPPORTED:
        return inputs
    kind = tasks.input_kind(task)
    if isinstance(inputs, bytes) and kind is InputKind.IMAGE:
        return media.image(inputs, limits)  # an octet stream, which the toolkit passes undecoded
    rate = getattr(getattr(model, "feature_extractor", None), "sampling_rate", None)
    return media.materialise(inputs, kind, rate, limits)

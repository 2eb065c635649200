"""`code/inference.py`: model_fn, input_fn, predict_fn, output_fn, or transform_fn in place of three.

Which functions there are, what they get and what may be left out follows sagemaker-inference 1.10 and,
for artifacts with a config.json, the Hugging Face toolkit. Not taken over is the npy decoder of
sagemaker-inference, which unpickles what the caller sent.
"""

import inspect
import io
from collections.abc import Callable, Sequence
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy
import torch

from model_handler import codecs, media_types, tasks
from model_handler.errors import (
    HandlerRefusal,
    ModelLoadFailed,
    UnacceptableAccept,
    UnsupportedContentType,
)
from model_handler.messages import InferenceRequest, InferenceResponse
from model_handler.scripted import InputRefused, as_bytes
from model_handler.scripted.context import Context

STEPS = ("model_fn", "input_fn", "predict_fn", "output_fn", "transform_fn")
JSON, CSV, NPY = "application/json", "text/csv", "application/x-npy"
Step = Callable[..., Any]


class InferenceScript:
    """The functions of one module, and the model that its model_fn made."""

    def __init__(self, module: ModuleType, root: Path, task: str, context: Context) -> None:
        """Raises ModelLoadFailed where a step is missing or one too many, and what model_fn raises."""
        steps = {name: getattr(module, name, None) for name in STEPS}
        _check(steps)
        defaults = _hugging_face(task) if (root / "config.json").is_file() else _plain()
        self._steps: dict[str, Step] = {
            name: step or defaults[name]
            for name, step in steps.items()
            if name in defaults or step is not None
        }
        self._context = context
        self._model = _call(self._steps["model_fn"], [str(root)], context)

    def __call__(self, request: InferenceRequest) -> InferenceResponse:
        context = self._context.of(request)
        content_type = request.content_type or JSON
        accept = request.accept if request.accept and request.accept != "*/*" else JSON
        body = _body(request.body, content_type)
        if "transform_fn" in self._steps:
            given = [self._model, body, content_type, accept]
            answer = _call(self._steps["transform_fn"], given, context)
        else:
            answer = self._three_steps(body, content_type, accept, context)
        if (refusal := context.refusal()) is not None:
            raise HandlerRefusal(refusal[1] or "refused by the model's code", refusal[0])
        if isinstance(answer, tuple):
            answer, accept = answer
        return context.response(as_bytes(answer), accept)

    def _three_steps(self, body: Any, content_type: str, accept: str, context: Context) -> Any:
        try:
            data = _call(self._steps["input_fn"], [body, content_type], context)
        except Exception as error:  # whatever it was: the request could not be read
            raise InputRefused from error
        prediction = _call(self._steps["predict_fn"], [data, self._model], context)
        return _call(self._steps["output_fn"], [prediction, accept], context)


def _check(steps: dict[str, Step | None]) -> None:
    given = [name for name, step in steps.items() if step is not None]
    if not given:
        raise ModelLoadFailed(f"inference.py has none of {', '.join(STEPS)}")
    if steps["transform_fn"] is not None and len(given) - (steps["model_fn"] is not None) > 1:
        raise ModelLoadFailed("transform_fn stands in place of input_fn, predict_fn and output_fn")


def _call(step: Step, given: Sequence[Any], context: Context) -> Any:
    """With the context where the function takes one parameter more."""
    takes = len(inspect.signature(step).parameters)
    return step(*given, context) if takes == len(given) + 1 else step(*given)


def _body(body: bytes, content_type: str) -> bytes | str:
    """As sagemaker-inference hands it over: text for JSON and CSV."""
    media, charset = media_types.parse(content_type)
    return media_types.text(body, charset) if media in (JSON, CSV) else body


# ---- what a module may leave out ----


def _plain() -> dict[str, Step]:
    return {
        "model_fn": _no_model_fn,
        "input_fn": _decode,
        "predict_fn": _predict,
        "output_fn": _encode,
    }


def _no_model_fn(model_dir: str) -> Any:
    raise ModelLoadFailed("inference.py has no model_fn, and there is no config.json to do without")


def _decode(body: Any, content_type: str) -> Any:
    from sagemaker_inference import decoder, errors

    if media_types.parse(content_type)[0] == NPY:
        return numpy.load(io.BytesIO(body), allow_pickle=False)
    try:
        return decoder.decode(body, content_type)
    except errors.UnsupportedFormatError as error:
        raise UnsupportedContentType(f"content type {content_type} is not read here") from error


def _predict(data: Any, model: Any) -> Any:
    """A PyTorch module gets a tensor on its own device, as in the PyTorch toolkit."""
    if not isinstance(model, torch.nn.Module):
        return model(data)
    device = next((parameter.device for parameter in model.parameters()), torch.device("cpu"))
    with torch.inference_mode():
        return model(torch.as_tensor(data, dtype=torch.float32).to(device))


def _encode(prediction: Any, accept: str) -> Any:
    from sagemaker_inference import encoder, errors

    if isinstance(prediction, torch.Tensor):
        prediction = prediction.detach().cpu().numpy()
    for wanted in accept.split(","):
        media = wanted.partition(";")[0].strip()
        try:
            return encoder.encode(prediction, JSON if media == "*/*" else media), media
        except errors.UnsupportedFormatError:
            continue
    raise UnacceptableAccept(f"{accept} cannot be produced here")


def _hugging_face(task: str) -> dict[str, Step]:
    """Those of the Hugging Face toolkit: a pipeline, a dictionary in, JSON out."""
    return {
        "model_fn": lambda model_dir: _pipeline(model_dir, task),
        "input_fn": decode_document,
        "predict_fn": _run_pipeline,
        "output_fn": codecs.encode,
    }


def _pipeline(model_dir: str, task: str) -> Any:
    import json

    import transformers

    config = json.loads((Path(model_dir) / "config.json").read_bytes())
    return transformers.pipeline(
        tasks.normalise(task) if task else tasks.infer(config), model=model_dir
    )


def decode_document(body: Any, content_type: str) -> Any:
    """JSON as it is; of everything else a dictionary with the key `inputs`."""
    import json

    if media_types.parse(content_type)[0] == JSON:
        return json.loads(body)
    raw = body.encode() if isinstance(body, str) else body
    payload = codecs.decode(InferenceRequest(raw, content_type))
    inputs = getattr(payload.inputs, "data", payload.inputs)
    return {"inputs": inputs} | ({"parameters": payload.parameters} if payload.parameters else {})


def _run_pipeline(data: Any, model: Any) -> Any:
    if not isinstance(data, dict):
        return model(data)
    parameters = data.pop("parameters", None) or {}
    return model(data.pop("inputs", data), **parameters)

"""`code/inference.py`: model_fn, input_fn, predict_fn, output_fn; transform_fn may replace the last three.

The functions and their arguments follow sagemaker-inference 1.10. `defaults` implements the functions that an
artifact does not define.
"""

import inspect
from collections.abc import Callable
from types import ModuleType
from typing import Any

from model_handler.codecs import media_types
from model_handler.codecs.media_types import CSV, JSON
from model_handler.errors import HandlerRefusal, ModelLoadFailed, UnacceptableAccept
from model_handler.messages import InferenceRequest, InferenceResponse
from model_handler.scripted import InputRefused, as_bytes
from model_handler.scripted.context import HandlerContext
from model_handler.scripted.defaults import Defaults
from model_handler.scripted.refusals import is_unsupported_format
from model_handler.worker.request_errors import one_line

# Number of arguments of each function, without the context
STEPS = {"model_fn": 1, "input_fn": 2, "predict_fn": 2, "output_fn": 2, "transform_fn": 4}
FURTHER = {"pre_model_fn": 1, "model_warmup_fn": 2}
Function = Callable[..., Any]


class Step:
    """One function. It also gets the context if it takes one parameter more than required."""

    def __init__(self, name: str, function: Function, count: int) -> None:
        """Raises ModelLoadFailed if the function cannot take its arguments."""
        self._function = function
        self._wants_context = _takes(name, function, count) == count + 1

    def __call__(self, context: HandlerContext, *given: Any) -> Any:
        return self._function(*given, context) if self._wants_context else self._function(*given)


def _takes(name: str, function: Function, count: int) -> int:
    try:
        signature = inspect.signature(function)
    except ValueError:  # compiled functions may have none
        return count
    kinds = [parameter.kind for parameter in signature.parameters.values()]
    named = sum(kind in (kind.POSITIONAL_ONLY, kind.POSITIONAL_OR_KEYWORD) for kind in kinds)
    given = count + 1 if named == count + 1 else count
    try:
        signature.bind(*range(given))
    except TypeError as error:
        raise ModelLoadFailed(
            f"{name}{signature} must take {count} arguments, or one more for the context"
        ) from error
    return given


class InferenceScript:
    """The functions of one module, and the model that its model_fn returned."""

    def __init__(self, module: ModuleType, defaults: Defaults, context: HandlerContext) -> None:
        """Raises ModelLoadFailed for a missing or conflicting function, and what model_fn raises."""
        own = _functions(module, STEPS | FURTHER)
        _check(own, defaults)
        given = {name: getattr(defaults, name) for name in STEPS if hasattr(defaults, name)} | own
        counts = STEPS | FURTHER
        self._steps = {name: Step(name, each, counts[name]) for name, each in given.items()}
        self._context = context
        self._model = self._load(context.system_properties["model_dir"])
        defaults.adopt(self._model, runs={"predict_fn", "transform_fn"}.isdisjoint(own))

    def _load(self, model_dir: str) -> Any:
        if (before := self._steps.get("pre_model_fn")) is not None:
            before(self._context, model_dir)
        model = self._steps["model_fn"](self._context, model_dir)
        if (warm_up := self._steps.get("model_warmup_fn")) is not None:
            warm_up(self._context, model_dir, model)
        return model

    def __call__(self, request: InferenceRequest) -> InferenceResponse:
        context = self._context.of(request)
        content_type = request.content_type or JSON
        accept = request.accept if request.accept and request.accept.strip() != "*/*" else JSON
        answer = self._answer(_body(request.body, content_type), content_type, accept, context)
        media = _first(accept)
        if isinstance(answer, tuple):
            answer, media = answer
        _check_status(context, answer)
        return context.response(as_bytes(answer), media)

    def _answer(
        self, body: bytes | str, content_type: str, accept: str, context: HandlerContext
    ) -> Any:
        if (transform := self._steps.get("transform_fn")) is not None:
            return transform(context, self._model, body, content_type, accept)
        try:
            data = self._steps["input_fn"](context, body, content_type)
        except Exception as error:  # broad: any error here means that the request could not be read
            raise InputRefused from error
        prediction = self._steps["predict_fn"](context, data, self._model)
        try:
            return self._steps["output_fn"](context, prediction, accept)
        except Exception as error:
            if is_unsupported_format(error):
                raise UnacceptableAccept("the model's code does not write this Accept") from error
            raise


def _functions(module: ModuleType, names: dict[str, int]) -> dict[str, Function]:
    found = {name: getattr(module, name, None) for name in names}
    return {name: each for name, each in found.items() if each is not None}


def _check(own: dict[str, Function], defaults: Defaults) -> None:
    if own.keys().isdisjoint(STEPS) and not defaults.whole:
        raise ModelLoadFailed(f"inference.py has none of {', '.join(STEPS)}")
    if "transform_fn" in own and not {"input_fn", "predict_fn", "output_fn"}.isdisjoint(own):
        raise ModelLoadFailed(
            "transform_fn is in place of input_fn, predict_fn and output_fn: define one or the others"
        )


def _body(body: bytes, content_type: str) -> bytes | str:
    """The body as sagemaker-inference passes it: text for JSON and CSV, else bytes."""
    media, charset = media_types.parse(content_type)
    return media_types.text(body, charset) if media in (JSON, CSV) else body


def _first(accept: str) -> str:
    """The answer's media type if the code returns none: the first in Accept, JSON for a wildcard."""
    media = accept.split(",")[0].partition(";")[0].strip()
    return JSON if "*" in media or not media else media


def _check_status(context: HandlerContext, answer: Any) -> None:
    """Raises HandlerRefusal for an error status. Its message is the answer, as in multi-model-server."""
    status, phrase = context.get_response_status()
    if status >= 400:
        text = "" if answer is None else as_bytes(answer).decode("utf-8", "replace")
        words = one_line(text) or one_line(phrase) or "refused by the model's code"
        raise HandlerRefusal(words, min(status, 600))

"""One model in the calling process, without worker, queue or ledger.

For servers such as multi-model-server that run one process per model themselves.
"""

import time
from collections.abc import Callable

from model_handler.artifacts import artifact as artifacts
from model_handler.artifacts.artifact import Artifact
from model_handler.device import device as devices
from model_handler.device import precision
from model_handler.device.device import Device
from model_handler.errors import EngineError, from_wire
from model_handler.handlers import Handler
from model_handler.loading import formats
from model_handler.loading.formats import FormatLoader
from model_handler.loading.loader import TorchLoader
from model_handler.messages import InferenceRequest, InferenceResponse, Load, Refusal
from model_handler.options import EngineOptions
from model_handler.scripted import Script, refusals
from model_handler.scripted.opening import open_script
from model_handler.sharing.turnstile import Turnstile
from model_handler.worker import forward, warmup

Answer = Callable[[InferenceRequest], InferenceResponse]


def open_model(url: str, name: str, options: EngineOptions, device: str) -> Answer:
    """Load the model at `url` and return the function that answers requests.

    Both raise only EngineError.
    """
    try:
        found = _inspected(url, options, device)
        answer: Script = (
            _script(found, name, options, device)
            if found.isolated
            else _declared(found, options, device)
        )
    except BaseException as error:  # broad: an artifact's code raises anything
        raise _named(refusals.of_load(error)) from error
    return lambda request: _answered(answer, request)


def _inspected(url: str, options: EngineOptions, device: str) -> Artifact:
    precision.configure(device, options.worker.matmul_precision)
    path = artifacts.locate(url, options.model_roots)
    return artifacts.inspect(
        path,
        default_task=options.default_task,
        dtype=options.dtype,
        device=devices.parse(device).torch_device.type,
    )


def _script(found: Artifact, name: str, options: EngineOptions, device: str) -> Script:
    load = Load(0, str(found.path), found.task, found.dtype, found.convention, 1, name)
    store = options.requirements_dir if options.install_requirements else None
    limits = options.worker.limits
    return open_script(load, device, store=store, alone=True, limits=limits)


def _declared(found: Artifact, options: EngineOptions, name: str) -> Script:
    device = devices.parse(name)
    handler: Handler
    if found.convention in formats.CONVENTIONS:
        loader = FormatLoader(device, limits=options.worker.limits)
        handler = loader.load(found.path, found.convention)
    else:
        owner = TorchLoader(device, Turnstile(), options.worker)
        handler = owner.load(str(found.path), found.task, found.dtype)
    declared = Declared(handler, device, options.request_timeout_s)
    if options.worker.warmup and (request := warmup.request(handler)) is not None:
        warmup.judge(declared.result(request, warmup.LIMIT_S))
    return declared


class Declared:
    """An artifact without code: calls its handler with one request at a time."""

    def __init__(self, handler: Handler, device: Device, timeout_s: float) -> None:
        self._handler = handler
        self._device = device
        self._timeout_s = timeout_s

    def __call__(self, request: InferenceRequest) -> InferenceResponse:
        result = self.result(request, self._timeout_s)
        if isinstance(result, Refusal):
            raise _named(result)
        return result

    def result(self, request: InferenceRequest, timeout_s: float) -> InferenceResponse | Refusal:
        deadline = time.monotonic() + timeout_s
        batch = forward.prepare(self._handler, [request], deadline=deadline)
        forward.forward(batch, self._device, deadline)
        (result,) = forward.finish(batch, deadline)
        return result


def _answered(answer: Script, request: InferenceRequest) -> InferenceResponse:
    try:
        return answer(request)
    except BaseException as error:  # broad: an artifact's code raises anything
        raise _named(refusals.of_request(error, request.body)) from error


def _named(refusal: Refusal) -> EngineError:
    return from_wire(refusal.error, refusal.message, refusal.status)

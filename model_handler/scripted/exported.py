"""`.pt2` files of torch.export: reading one can run code, so that it runs in an isolated process."""

import time
from pathlib import Path

from model_handler.artifacts.conventions import Convention
from model_handler.device.device import Device
from model_handler.errors import from_wire
from model_handler.loading.formats import FormatLoader
from model_handler.messages import InferenceRequest, InferenceResponse, Refusal
from model_handler.options import RequestLimits
from model_handler.worker import forward

LIMIT_S = 3600.0  # the front process's deadline is shorter and ends this process


class ExportedScript:
    def __init__(self, root: Path, device: Device, limits: RequestLimits | None = None) -> None:
        """Raises ModelLoadFailed."""
        self._device = device
        loader = FormatLoader(device, alone=True, limits=limits or RequestLimits())
        self._handler = loader.load(root, Convention.EXPORTED)

    def __call__(self, request: InferenceRequest) -> InferenceResponse:
        batch = forward.prepare(self._handler, [request])
        forward.forward(batch, self._device, time.monotonic() + LIMIT_S)
        (result,) = forward.finish(batch)
        if isinstance(result, Refusal):
            raise from_wire(result.error, result.message, result.status)
        return result

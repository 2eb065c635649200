"""In which precision a device computes: what a model runs in, and how float32 is multiplied."""

import logging
from pathlib import Path

import torch

from model_handler.device.device import Device

log = logging.getLogger(__name__)
EXACT = "highest"
DTYPES = {
    "float32": torch.float32,
    "bfloat16": torch.bfloat16,
    "float16": torch.float16,
}


def run_dtype(asked: str, stored: torch.dtype, device: Device, artifact: Path) -> torch.dtype:
    """What a checkpoint's weights run in. `asked`: a name of DTYPES, or `auto`.

    bfloat16 on a device that emulates it becomes float16, of the same size, unless it was asked for; the
    log says either once per load.
    """
    if asked != "auto":
        dtype = DTYPES[asked]
        if _emulated(dtype, device):
            _say(logging.WARNING, "bfloat16 is emulated", artifact, stored, dtype, device)
        return dtype
    if device.torch_device.type == "cpu":
        return torch.float32
    if _emulated(stored, device):
        _say(logging.INFO, "bfloat16 runs as float16", artifact, stored, torch.float16, device)
        return torch.float16
    return stored


def _emulated(dtype: torch.dtype, device: Device) -> bool:
    return dtype is torch.bfloat16 and not device.bfloat16


def _say(
    level: int, event: str, artifact: Path, stored: torch.dtype, run: torch.dtype, device: Device
) -> None:
    reason = f"{device.name} has no arithmetic for bfloat16: that begins with capability 8.0"
    facts = {"artifact": str(artifact), "stored_dtype": str(stored), "run_dtype": str(run)}
    log.log(level, event, extra=facts | {"reason": reason})


def multiply(device: str, precision: str) -> None:
    """How this process multiplies matrices of float32 on a GPU: as torch.set_float32_matmul_precision
    says. On a CPU nothing changes."""
    if device != "cpu":
        torch.set_float32_matmul_precision(precision)

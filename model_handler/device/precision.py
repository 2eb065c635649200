"""The precision of a device's computations: the dtype of a model, and that of float32 matrix products."""

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
    """The dtype in which a checkpoint runs. `asked`: a name in DTYPES, or `auto`.

    With `auto`, bfloat16 becomes float16, of the same size, on a device that emulates bfloat16. Each load
    logs this, or that bfloat16 was requested and is emulated.
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
    reason = f"{device.name} has no bfloat16 arithmetic, which needs compute capability 8.0"
    facts = {"artifact": str(artifact), "stored_dtype": str(stored), "run_dtype": str(run)}
    log.log(level, event, extra=facts | {"reason": reason})


def multiply(device: str, precision: str) -> None:
    """Set the precision of float32 matrix products of this process on a GPU, as named by
    torch.set_float32_matmul_precision. No effect on a CPU."""
    if device != "cpu":
        torch.set_float32_matmul_precision(precision)

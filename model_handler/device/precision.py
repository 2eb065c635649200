"""How a device computes: the dtype of a model, the precision of float32 products, the attention kernels."""

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


def configure(device: str, matmul_precision: str) -> None:
    """Configure this process for a GPU; no effect on a CPU.

    `matmul_precision`: as named by torch.set_float32_matmul_precision. PyTorch prefers cuDNN's attention for
    half precision on Hopper. cuDNN builds a plan for each new shape: on an H200, the first forward of every
    batch size and length took 80 to 95 ms more than the next one, and requests have any length.
    """
    if device == "cpu":
        return
    torch.set_float32_matmul_precision(matmul_precision)
    torch.backends.cuda.enable_cudnn_sdp(False)

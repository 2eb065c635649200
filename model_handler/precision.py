"""In which precision a device computes: what a model runs in, and how float32 is multiplied."""

import torch

EXACT = "highest"


def multiply(device: str, precision: str) -> None:
    """How this process multiplies matrices of float32 on a GPU: as torch.set_float32_matmul_precision
    says. On a CPU nothing changes."""
    if device != "cpu":
        torch.set_float32_matmul_precision(precision)

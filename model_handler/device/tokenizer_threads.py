"""The number of threads for tokenizing."""

import os

import torch

TAKEN_CORES = 2  # with a GPU: one for the front, one for the thread that launches kernels


def tokenizing(device: torch.device, cores: int) -> int:
    """Threads that tokenize a batch: one if the CPU computes the forwards, otherwise all free cores."""
    return 1 if device.type == "cpu" else max(1, cores - TAKEN_CORES)


def tokenize_with(count: int) -> None:
    """Set the number of tokenizer threads of this process and its children. Call before the first text."""
    os.environ["TOKENIZERS_PARALLELISM"] = "true" if count > 1 else "false"
    if count > 1:
        os.environ.setdefault("RAYON_NUM_THREADS", str(count))

"""Models with unique random tensors, so that the bytes of each can be found in device memory."""

import shutil
from pathlib import Path

import safetensors.torch
import torch

from tests import artifacts
from tests.contract.artifacts import of_size
from tests.model_handler.tensors_alive import retensor

LABELS = ("LOWEST", "LOW", "HIGH", "HIGHEST")


class Models:
    """Artifacts below one directory, each written at its first use."""

    def __init__(self, root: Path) -> None:
        self.root = root

    def classifier(self, seed: int) -> Path:
        """About 12 MiB of float32 weights; all of one structure."""
        directory = self.root / f"classifier-{seed}"
        if not directory.exists():
            shape = {"hidden_size": 384, "intermediate_size": 1024}
            artifacts.bert_classifier(directory, labels=LABELS, **shape)
            _randomize(directory / "model.safetensors", seed)
        return directory

    def half(self, seed: int) -> Path:
        """The classifier, stored as bfloat16."""
        directory = self.root / f"half-{seed}"
        if not directory.exists():
            shutil.copytree(self.classifier(seed), directory)
            retensor(
                directory, lambda tensors: {name: each.bfloat16() for name, each in tensors.items()}
            )
        return directory

    def large(self, nbytes: int) -> Path:
        """About `nbytes` of weights, all in one tensor of zeros in a sparse file."""
        directory = self.root / f"large-{nbytes >> 20}"
        return directory if directory.exists() else of_size(directory, nbytes)


def _randomize(file: Path, seed: int) -> None:
    generator = torch.Generator().manual_seed(seed)
    tensors = {
        name: torch.randn(tensor.shape, generator=generator)
        for name, tensor in safetensors.torch.load_file(file).items()
    }
    safetensors.torch.save_file(tensors, file, {"format": "pt"})


def contents(artifact: Path, dtype: torch.dtype | None = None) -> dict[str, bytes]:
    """The expected bytes of each tensor on the device; `dtype`: if it differs from the stored type."""
    return {
        name: _bytes(tensor.to(dtype or tensor.dtype))
        for name, tensor in safetensors.torch.load_file(artifact / "model.safetensors").items()
    }


def nbytes(artifact: Path, dtype: torch.dtype | None = None) -> int:
    """Bytes of the weights, in the stored type or in `dtype`."""
    return sum(map(len, contents(artifact, dtype).values()))


def _bytes(tensor: torch.Tensor) -> bytes:
    return bytes(tensor.contiguous().view(torch.uint8).numpy().data)

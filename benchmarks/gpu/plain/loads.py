"""python -m benchmarks.gpu.plain.loads DEVICE DIR…

Measures loads without the container: reading the tensors, copying them to the device and binding them to
modules, twice; and `from_pretrained` with a device map.
"""

import json
import sys
from pathlib import Path
from typing import Any

import torch
import transformers
from safetensors.torch import load_file
from transformers import AutoConfig, AutoModelForSequenceClassification

from benchmarks.gpu.plain.clock import ms, seconds


def read_and_bind(device: str, directory: Path) -> Any:
    stored = load_file(directory / "model.safetensors")
    tensors = {name: tensor.to(device) for name, tensor in stored.items()}
    with torch.device("meta"):
        config = AutoConfig.from_pretrained(directory)
        model = AutoModelForSequenceClassification.from_config(config)
    model.load_state_dict(tensors, assign=True, strict=False)
    return model


def from_pretrained(device: str, directory: Path) -> Any:
    return AutoModelForSequenceClassification.from_pretrained(
        directory, dtype="auto", device_map=device
    )


def row(device: str, directory: Path) -> dict[str, Any]:
    found: dict[str, Any] = {"model": directory.parent.name}
    for which in ("first", "again"):
        taken_s = seconds(device, lambda: read_and_bind(device, directory))
        found[f"read_and_bind_{which}_ms"] = ms(taken_s)
    try:
        found["from_pretrained_ms"] = ms(
            seconds(device, lambda: from_pretrained(device, directory))
        )
    except (ImportError, ValueError) as error:  # device maps need accelerate
        found["from_pretrained_error"] = f"{error}"[:200]
    return found


if __name__ == "__main__":
    transformers.utils.logging.disable_progress_bar()
    device = sys.argv[1]
    torch.zeros(1, device=device)  # the context is not part of a load
    print(json.dumps([row(device, Path(directory)) for directory in sys.argv[2:]]))

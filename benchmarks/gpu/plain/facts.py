"""python -m benchmarks.gpu.plain.facts DEVICE: versions, and PyTorch's properties of the device."""

import json
import sys
from typing import Any

import torch
import transformers


def versions() -> dict[str, Any]:
    return {
        "torch": torch.__version__,
        "transformers": transformers.__version__,
        "built_for_cuda": torch.version.cuda,
        "cuda_available": torch.cuda.is_available(),
    }


def device_facts() -> dict[str, Any]:
    """Properties of the device, read with a CUDA context, whose memory counts as used."""
    free, total = torch.cuda.mem_get_info()
    properties = torch.cuda.get_device_properties(0)
    return {
        "card": properties.name,
        "compute_capability": f"{properties.major}.{properties.minor}",
        "total_nbytes": total,
        "free_nbytes_with_one_context": free,
    }


if __name__ == "__main__":
    found = versions()
    if sys.argv[1] == "cuda" and found["cuda_available"]:
        found |= device_facts()
    print(json.dumps(found))

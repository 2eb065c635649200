"""python -m benchmarks.gpu.plain.hog MIB: allocates all device memory except MIB until stdin is closed."""

import json
import sys

import torch

MIB = 1 << 20


def take(leave_mib: int) -> torch.Tensor:
    torch.zeros(1, device="cuda")  # the context first
    free, _ = torch.cuda.mem_get_info()
    return torch.empty(max(1, free - leave_mib * MIB), dtype=torch.uint8, device="cuda")


if __name__ == "__main__":
    block = take(int(sys.argv[1]))
    left, _ = torch.cuda.mem_get_info()
    print(json.dumps({"took_MiB": block.numel() // MIB, "left_MiB": left // MIB}), flush=True)
    sys.stdin.read()

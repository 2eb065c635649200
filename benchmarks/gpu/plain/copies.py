"""python -m benchmarks.gpu.plain.copies DEVICE NBYTES…

Measures a plain copy of NBYTES from page-locked memory to the device, in GB/s: the upper limit for a
promotion. On the CPU, the copy is within main memory.
"""

import json
import sys

import torch

from benchmarks.gpu.plain.clock import gb_per_s, median_s


def copy_gb_per_s(device: str, nbytes: int) -> float:
    source = torch.empty(nbytes, dtype=torch.uint8, pin_memory=device == "cuda").random_()
    target = torch.empty(nbytes, dtype=torch.uint8, device=device)
    taken_s = median_s(device, lambda: target.copy_(source, non_blocking=True), times=9, warm=3)
    return gb_per_s(nbytes, taken_s)


if __name__ == "__main__":
    device, *sizes = sys.argv[1:]
    print(json.dumps({size: copy_gb_per_s(device, int(size)) for size in sizes}))

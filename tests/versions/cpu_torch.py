"""Lets PyTorch's CUDA build compute on the CPU without CUDA's libraries: 0.5 GB in place of 2.7.

Package indexes that hold no CPU build of a version hold its CUDA build. Run by the Python of an environment
with `torch` and `nvidia-cuda-runtime`, both installed without their dependencies, it

- puts in the place of every library that torch is linked to and that is missing one that is there already;
- has Python resolve the functions of libraries when they are first called: CUDA's never are without a device.

A CPU build is left as it is. For tests alone: with a CUDA device, such an environment would crash.
"""

import os
import re
import subprocess
import sys
import sysconfig
from pathlib import Path

SITE = Path(sysconfig.get_path("purelib"))
LIBRARIES = SITE / "torch/lib"
ANY = "libc10.so"  # torch's own, loaded before the others
MISSING = re.compile(
    r"ImportError: (lib\S+): cannot open shared object file|OSError: (lib\S+): cannot open"
)


def main() -> None:
    if "+cpu" in (SITE / "torch/version.py").read_text("utf-8"):
        return
    lazily = "import os, sys; sys.setdlopenflags(os.RTLD_LAZY)\n"
    (SITE / "resolve_lazily.pth").write_text(lazily, encoding="utf-8")
    while (missing := first_missing()) is not None:
        (LIBRARIES / missing).symlink_to(ANY)


def first_missing() -> str | None:
    environment = os.environ | {"CUDA_VISIBLE_DEVICES": ""}
    done = subprocess.run(
        [sys.executable, "-c", "import torch"], env=environment, capture_output=True, text=True
    )
    if done.returncode == 0:
        return None
    found = MISSING.search(done.stderr)
    if found is None:
        sys.exit(done.stderr)
    return found[1] or found[2]


if __name__ == "__main__":
    main()

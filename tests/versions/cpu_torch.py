"""Makes PyTorch's CUDA build usable on the CPU without CUDA's libraries: 0.5 GB instead of 2.7 GB.

For package indexes that have the CUDA build of a version but no CPU build. Run it with the Python of an
environment in which `torch` and `nvidia-cuda-runtime` were installed without their dependencies. It

- replaces every missing library that torch is linked to by a link to an existing library;
- makes Python resolve functions of libraries at their first call; without a device, CUDA's are never called.

A CPU build is not changed. For tests only: with a CUDA device, such an environment would crash.
"""

import os
import re
import subprocess
import sys
import sysconfig
from pathlib import Path

SITE = Path(sysconfig.get_path("purelib"))
LIBRARIES = SITE / "torch/lib"
ANY = "libc10.so"  # a library of torch, loaded before the others
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

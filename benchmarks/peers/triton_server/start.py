"""python start.py: starts Triton for a multi-model endpoint, as `docker/sagemaker/serve` in its image does.

The server is the one in the wheel of nvidia-pytriton, which has stubs for CPython 3.8 to 3.13 with a shared
libpython. All files are written below TMPDIR.
"""

import os
import site
import sys
import sysconfig
from pathlib import Path

PACKAGES = Path(site.getsitepackages()[0])
SERVER = PACKAGES / "pytriton/tritonserver"
SCRATCH = Path(os.environ["TMPDIR"])


def main() -> None:
    os.chdir(SCRATCH)
    command = [str(SERVER / "bin/tritonserver"), *_options(_backends(), SCRATCH / "none")]
    os.execve(command[0], command, os.environ | _paths())


def _backends() -> Path:
    """The directory of backends. The Python backend needs the stub for this Python beside its library."""
    version = f"{sys.version_info.major}.{sys.version_info.minor}"
    backend = SCRATCH / "backends/python"
    backend.mkdir(parents=True)
    stub = SERVER / "python_backend_stubs" / version / "triton_python_backend_stub"
    for path in (*(SERVER / "backends/python").iterdir(), stub):
        (backend / path.name).symlink_to(path)
    return backend.parent


def _options(backends: Path, repository: Path) -> list[str]:
    """`repository` stays empty: every load brings its own. Verbose logs, the script's default, cost time."""
    repository.mkdir()
    return [
        "--allow-sagemaker=true",
        "--allow-grpc=false",
        "--allow-http=false",
        "--allow-metrics=false",
        "--model-control-mode=explicit",
        f"--model-repository={repository}",
        "--model-namespacing=true",
        f"--sagemaker-port={os.environ['SAGEMAKER_BIND_TO_PORT']}",
        f"--sagemaker-safe-port-range={os.environ['SAGEMAKER_SAFE_PORT_RANGE']}",
        f"--backend-directory={backends}",
        "--backend-config=python,shm-default-byte-size=16777216",
        "--backend-config=python,shm-growth-byte-size=1048576",
    ]


def _paths() -> dict[str, str]:
    """The stubs embed this Python: they find its library by one, its environment by the other.

    They ignore PYTHONPATH.
    """
    libraries = (str(PACKAGES / "nvidia_pytriton.libs"), sysconfig.get_config_var("LIBDIR"))
    programs = (str(Path(sys.executable).parent), os.environ["PATH"])
    return {
        "LD_LIBRARY_PATH": os.pathsep.join(libraries),
        "PATH": os.pathsep.join(programs),
    }


if __name__ == "__main__":
    main()

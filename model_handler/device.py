"""The device a worker owns: its memory, and what an exception says about its health.

Only here is it decided whether an error is about memory, about the device, or about neither.
"""

import re
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

import torch


class Device(Protocol):
    """One compute device of this process."""

    @property
    def name(self) -> str: ...

    @property
    def torch_device(self) -> torch.device: ...

    def total_nbytes(self) -> int:
        """0 where the device has no memory of its own."""
        ...

    def free_nbytes(self) -> int: ...

    def empty_cache(self) -> None:
        """Give the allocator's unused blocks back to the device."""
        ...

    def synchronize(self) -> None:
        """Block until all that was launched has run; raises what it raised."""
        ...


@dataclass(frozen=True, slots=True)
class CpuDevice:
    """The host's own cores: no memory but the process's, which the front accounts for."""

    @property
    def name(self) -> str:
        return "cpu"

    @property
    def torch_device(self) -> torch.device:
        return torch.device("cpu")

    def total_nbytes(self) -> int:
        return 0

    def free_nbytes(self) -> int:
        return 0

    def empty_cache(self) -> None:
        pass

    def synchronize(self) -> None:
        pass


@dataclass(frozen=True, slots=True)
class CudaDevice:
    index: int = 0

    @property
    def name(self) -> str:
        return f"cuda:{self.index}"

    @property
    def torch_device(self) -> torch.device:
        return torch.device("cuda", self.index)

    def total_nbytes(self) -> int:
        return self._memory()[1]

    def free_nbytes(self) -> int:
        return self._memory()[0]

    def empty_cache(self) -> None:
        with torch.cuda.device(self.index):
            torch.cuda.empty_cache()

    def synchronize(self) -> None:
        torch.cuda.synchronize(self.index)

    def _memory(self) -> tuple[int, int]:
        free, total = torch.cuda.mem_get_info(self.index)
        return int(free), int(total)


_SPELLING = re.compile(r"cuda(?::(\d{1,3}))?")


def parse(spelling: str, nodes: Path = Path("/dev")) -> Device:
    """The device meant by `cpu`, `cuda`, `cuda:<n>` or `auto`.

    Raises ValueError when there is none, and for `auto` also when there is one that cannot be used: an
    endpoint that pays for a GPU must not serve from its CPU unnoticed. `nodes`: where the driver's are.
    """
    text = spelling.strip().lower()
    if text == "cpu":
        return CpuDevice()
    if text == "auto":
        return automatic(nodes, built_for=torch.version.cuda, works=torch.cuda.is_available())
    match = _SPELLING.fullmatch(text)
    if match is None:
        raise ValueError(f"device {spelling!r} is none of cpu, cuda, cuda:<n>, auto")
    return _cuda(int(match[1] or 0))


def automatic(nodes: Path, *, built_for: str | None, works: bool) -> Device:
    """`built_for`: the CUDA of this PyTorch, if any; `works`: whether it finds a device to use."""
    if works:
        return _cuda(0)
    if built_for and any(nodes.glob("nvidia[0-9]*")):
        raise ValueError(f"the machine's GPU cannot be used: {_why_not()}")
    return CpuDevice()


def _cuda(index: int) -> CudaDevice:
    count = torch.cuda.device_count() if torch.cuda.is_available() else 0
    if index >= count:
        reason = f"this machine has {count}" if count else _why_not()
        raise ValueError(f"device cuda:{index} does not exist: {reason}")
    return CudaDevice(index)


def _why_not() -> str:
    """What PyTorch says of CUDA here: no driver, one too old for this build, no device."""
    try:
        torch.cuda.init()  # type: ignore[no-untyped-call]
    except (AssertionError, RuntimeError) as error:
        return str(error).partition("\n")[0]
    return "no device answers"


def facts(device: Device) -> dict[str, object]:
    """For the log: what computes, and whether driver and build fit each other."""
    found: dict[str, object] = {
        "device": device.name, "torch": torch.__version__, "built_for_cuda": torch.version.cuda,
    }  # fmt: skip
    if isinstance(device, CudaDevice):
        properties = torch.cuda.get_device_properties(device.index)
        found |= {
            "gpu": properties.name,
            "compute_capability": f"{properties.major}.{properties.minor}",
            "driver_supports_cuda": _driver_version(),
            "device_nbytes": device.total_nbytes(),
            "device_free_nbytes": device.free_nbytes(),
        }
    return found


def _driver_version() -> str:
    """CUDA counts versions as 1000 × major + 10 × minor."""
    number = torch._C._cuda_getDriverVersion()  # type: ignore[attr-defined]
    return f"{number // 1000}.{number % 1000 // 10}"


# ---- what went wrong ----

# Allocation failures that PyTorch reports as a plain RuntimeError. cuBLAS and cuDNN allocate their
# workspaces when a handle is made, and name the handle instead of the memory.
_OUT_OF_MEMORY = (
    "DefaultCPUAllocator: can't allocate memory",
    "DefaultCPUAllocator: not enough memory",
    "CUBLAS_STATUS_ALLOC_FAILED",
    "CUBLAS_STATUS_NOT_INITIALIZED",
    "CUDNN_STATUS_ALLOC_FAILED",
    "CUDNN_STATUS_NOT_INITIALIZED",
    "CUDA error: out of memory",
    "CUDA out of memory",
)
# After any of these every later call on the device fails too, in this process.
_STICKY = (
    "device-side assert triggered",
    "an illegal memory access was encountered",
    "an illegal instruction was encountered",
    "misaligned address",
    "invalid program counter",
    "hardware stack error",
    "unspecified launch failure",
    "uncorrectable ECC error",
    "uncorrectable NVLink error",
    "the launch timed out and was terminated",
    "CUBLAS_STATUS_EXECUTION_FAILED",
    "CUDNN_STATUS_EXECUTION_FAILED",
)


def is_out_of_memory(error: BaseException) -> bool:
    """True when less work, or fewer models, would have let it pass."""
    if isinstance(error, torch.OutOfMemoryError | MemoryError):
        return True
    return isinstance(error, RuntimeError) and _says(error, _OUT_OF_MEMORY)


def is_sticky(error: BaseException) -> bool:
    """True when the process has lost its device for good and has to be replaced."""
    if is_out_of_memory(error) or not isinstance(error, RuntimeError):
        return False
    return isinstance(error, torch.AcceleratorError) or _says(error, _STICKY)


def _says(error: BaseException, phrases: tuple[str, ...]) -> bool:
    message = str(error)
    return any(phrase in message for phrase in phrases)

"""The device a worker owns: its memory, and what an exception says about its health.

Only here is it decided whether an error is about memory, about the device, or about neither.
"""

import ctypes
import re
from collections.abc import Callable
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

    @property
    def bfloat16(self) -> bool:
        """It has arithmetic for it, and does not emulate it."""
        ...

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

    def probe(self) -> None:
        """Compute one number and copy it to the host; raises what the device raises."""
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

    @property
    def bfloat16(self) -> bool:
        return True

    def total_nbytes(self) -> int:
        return 0

    def free_nbytes(self) -> int:
        return 0

    def empty_cache(self) -> None:
        pass

    def synchronize(self) -> None:
        pass

    def probe(self) -> None:
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

    @property
    def bfloat16(self) -> bool:
        return torch.cuda.get_device_capability(self.index) >= (8, 0)

    def total_nbytes(self) -> int:
        return self._memory()[1]

    def free_nbytes(self) -> int:
        return self._memory()[0]

    def empty_cache(self) -> None:
        with torch.cuda.device(self.index):
            torch.cuda.empty_cache()

    def synchronize(self) -> None:
        torch.cuda.synchronize(self.index)

    def probe(self) -> None:
        self.synchronize()
        torch.ones(1, device=self.torch_device).add(1).cpu()

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


UNKNOWN = "unknown"


def facts(device: Device) -> dict[str, object]:
    """For the log: what computes, and whether driver and build fit each other. Never raises: what cannot
    be read is `unknown`, with the reason."""
    found: dict[str, object] = {
        "device": device.name, "torch": torch.__version__, "built_for_cuda": torch.version.cuda,
    }  # fmt: skip
    if isinstance(device, CudaDevice):
        index = device.index
        readings: dict[str, Callable[[], object]] = {
            "gpu": lambda: torch.cuda.get_device_name(index),
            "compute_capability": lambda: _dotted(torch.cuda.get_device_capability(index)),
            "driver_supports_cuda": driver_version,
            "device_nbytes": device.total_nbytes,
            "device_free_nbytes": device.free_nbytes,
        }
        found |= {name: _read(reading) for name, reading in readings.items()}
    return found


def _read(reading: Callable[[], object]) -> object:
    try:
        return reading()
    # A line in the log must not end a worker, whatever PyTorch and the driver raise
    except Exception as error:  # noqa: BLE001
        return f"{UNKNOWN}: {type(error).__name__}: {error}".partition("\n")[0]


def _dotted(version: tuple[int, int]) -> str:
    return f"{version[0]}.{version[1]}"


def driver_version(library: str = "libcuda.so.1") -> str:
    """The newest CUDA that the driver can run. Raises OSError or AttributeError without a driver, and
    RuntimeError with one that returns an error."""
    number = ctypes.c_int(0)
    status = ctypes.CDLL(library).cuDriverGetVersion(ctypes.byref(number))
    if status != 0:
        raise RuntimeError(f"cuDriverGetVersion returned {status}")
    return _dotted((number.value // 1000, number.value % 1000 // 10))


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


def is_sticky(error: BaseException, device: Device) -> bool:
    """True when the process has lost its device for good and has to be replaced.

    An accelerator's error that is not known to be fatal (an invalid argument, a missing kernel) is judged
    by whether the device still computes; that blocks until all that was launched has run.
    """
    if is_out_of_memory(error) or not isinstance(error, RuntimeError):
        return False
    if _says(error, _STICKY):
        return True
    return isinstance(error, torch.AcceleratorError) and not _computes(device)


def _computes(device: Device) -> bool:
    try:
        device.probe()
    except RuntimeError as error:  # every failure of PyTorch and its devices is one
        return is_out_of_memory(error)
    return True


def _says(error: BaseException, phrases: tuple[str, ...]) -> bool:
    message = str(error)
    return any(phrase in message for phrase in phrases)

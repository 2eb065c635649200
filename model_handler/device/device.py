"""The device of a worker: its memory, and the classification of its errors.

Only this module decides whether an exception means that memory ran out, that the device is lost, or
neither.
"""

import ctypes
import re
from collections.abc import Callable, MutableMapping
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import torch


class Device:
    """One compute device of this process. What is not overridden is the host's CPU."""

    @property
    def name(self) -> str:
        return str(self.torch_device)

    @cached_property
    def torch_device(self) -> torch.device:
        return torch.device("cpu")

    @property
    def bfloat16(self) -> bool:
        """True if the device has bfloat16 arithmetic and does not emulate it."""
        return True

    def count(self) -> int:
        """Number of devices of this kind that this process can use."""
        return 1

    def total_nbytes(self) -> int:
        """0 if the device has no memory of its own."""
        return 0

    def free_nbytes(self) -> int:
        return 0

    def empty_cache(self) -> None:
        """Return the allocator's unused blocks to the device."""

    def synchronize(self) -> None:
        """Block until all launched work has finished; raises its errors."""

    def probe(self) -> None:
        """Compute one number and copy it to the host; raises the device's errors."""


@dataclass(frozen=True, slots=True)
class CpuDevice(Device):
    """The host's CPU. It uses main memory, which the front accounts for."""


@dataclass(frozen=True, slots=True)
class CudaDevice(Device):
    index: int = 0

    @cached_property
    def torch_device(self) -> torch.device:
        return torch.device("cuda", self.index)

    @property
    def bfloat16(self) -> bool:
        return torch.cuda.get_device_capability(self.index) >= (8, 0)

    def count(self) -> int:
        return torch.cuda.device_count()

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


VISIBLE = "CUDA_VISIBLE_DEVICES"


def see_only(device: str, environ: MutableMapping[str, str]) -> str:
    """Hide the other GPUs from this process, so that code which asks for "cuda" gets this one. Returns its
    new name. Must be called before CUDA is initialized."""
    kind, _, index = device.partition(":")
    if kind != "cuda":
        return device
    visible = environ.get(VISIBLE)
    environ[VISIBLE] = visible.split(",")[int(index or 0)] if visible else index or "0"
    return "cuda:0"


_SPELLING = re.compile(r"cuda(?::(\d{1,3}))?")


def parse(spelling: str, nodes: Path = Path("/dev")) -> Device:
    """The device named `cpu`, `cuda`, `cuda:<n>` or `auto`.

    Raises ValueError if it does not exist, and for `auto` also if the machine has a GPU that cannot be
    used: an endpoint on a GPU instance must not silently serve from its CPU. `nodes`: directory of the
    driver's device files.
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
    """The first GPU, or the CPU of a machine without a GPU. Raises ValueError if a GPU cannot be used.

    `built_for`: CUDA version of this PyTorch, None without CUDA; `works`: PyTorch can use a GPU.
    """
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
    """PyTorch's reason why CUDA is not available, such as a missing or too old driver."""
    try:
        torch.cuda.init()  # type: ignore[no-untyped-call]
    except (AssertionError, RuntimeError) as error:
        return str(error).partition("\n")[0]
    return "no device answers"


UNKNOWN = "unknown"


def facts(device: Device) -> dict[str, object]:
    """Log fields that identify the device and the versions of driver and build. Never raises: a value that
    cannot be read is `unknown`, with the reason."""
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
    """The newest CUDA version that the driver supports. Raises OSError or AttributeError without a driver,
    and RuntimeError if the driver returns an error."""
    number = ctypes.c_int(0)
    status = ctypes.CDLL(library).cuDriverGetVersion(ctypes.byref(number))
    if status != 0:
        raise RuntimeError(f"cuDriverGetVersion returned {status}")
    return _dotted((number.value // 1000, number.value % 1000 // 10))


# ---- classification of errors ----

# Allocation failures that PyTorch reports as a plain RuntimeError. cuBLAS and cuDNN allocate their
# workspaces when a handle is created, and their messages name the handle instead of the memory.
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
# After any of these, every later call on the device fails too in this process.
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
    """True if the error would not occur with less work or fewer models."""
    if isinstance(error, torch.OutOfMemoryError | MemoryError):
        return True
    return isinstance(error, RuntimeError) and _says(error, _OUT_OF_MEMORY)


def is_sticky(error: BaseException, device: Device) -> bool:
    """True if the process has lost its device permanently and must be replaced.

    For an accelerator error that is not known to be fatal (an invalid argument, a missing kernel), a probe
    tests whether the device still computes; it blocks until all launched work has finished.
    """
    if is_out_of_memory(error) or not isinstance(error, RuntimeError):
        return False
    if _says(error, _STICKY):
        return True
    return isinstance(error, torch.AcceleratorError) and not _computes(device)


def _computes(device: Device) -> bool:
    try:
        device.probe()
    except RuntimeError as error:  # the type of all errors of PyTorch and its devices
        return is_out_of_memory(error)
    return True


def _says(error: BaseException, phrases: tuple[str, ...]) -> bool:
    try:
        message = str(error)
    except Exception:  # noqa: BLE001  libraries raise errors whose text cannot be decoded
        return False
    return any(phrase in message for phrase in phrases)

"""The device's memory, and the classification of its errors."""

import ctypes.util
from pathlib import Path

import pytest
import torch

from model_handler.device.device import (
    VISIBLE,
    CpuDevice,
    CudaDevice,
    automatic,
    driver_version,
    facts,
    is_out_of_memory,
    is_sticky,
    parse,
    see_only,
)


class Lost(CpuDevice):
    """A device that no longer computes."""

    def probe(self) -> None:
        raise torch.AcceleratorError("CUDA error: an unknown error occurred")


class Full(CpuDevice):
    """A device without free memory."""

    def probe(self) -> None:
        raise torch.OutOfMemoryError("CUDA out of memory.")


@pytest.mark.parametrize("spelling", ["cpu", "CPU", " cpu "])
def test_cpu(spelling: str) -> None:
    assert parse(spelling) == CpuDevice()


@pytest.mark.parametrize("spelling", ["", "gpu", "cuda:", "cuda:x", "cuda:-1", "cuda:999", "cpu:0"])
def test_no_such_device(spelling: str) -> None:
    with pytest.raises(ValueError, match="device"):
        parse(spelling)


def test_auto_selects_the_gpu_if_there_is_one() -> None:
    assert parse("auto") == (CudaDevice(0) if torch.cuda.is_available() else CpuDevice())


def test_a_gpu_that_cannot_be_used_is_not_replaced_by_the_cpu(tmp_path: Path) -> None:
    """The driver's device file exists and PyTorch is built for CUDA, but CUDA does not work."""
    assert automatic(tmp_path, built_for="13.0", works=False) == CpuDevice()
    (tmp_path / "nvidia0").touch()
    with pytest.raises(ValueError, match=r"the machine's GPU cannot be used: .+"):
        automatic(tmp_path, built_for="13.0", works=False)
    assert automatic(tmp_path, built_for=None, works=False) == CpuDevice()


def test_log_fields_of_a_cpu() -> None:
    assert facts(CpuDevice())["device"] == "cpu"


@pytest.mark.skipif(torch.cuda.is_available(), reason="every fact can be read here")
def test_a_fact_that_cannot_be_read_raises_nothing() -> None:
    fields = facts(CudaDevice(0))
    assert fields["device"] == "cuda:0"
    for name in ("gpu", "compute_capability", "driver_supports_cuda", "device_free_nbytes"):
        assert str(fields[name]).startswith("unknown: "), name


def test_the_drivers_version_without_a_driver() -> None:
    with pytest.raises(OSError, match="no-such-driver"):
        driver_version("libno-such-driver.so.1")
    with pytest.raises(AttributeError, match="cuDriverGetVersion"):
        driver_version(ctypes.util.find_library("c") or "libc.so.6")


@pytest.mark.gpu
def test_log_fields_of_a_gpu() -> None:
    fields = facts(CudaDevice(0))
    assert str(fields["driver_supports_cuda"]).split(".") >= str(torch.version.cuda).split(".")
    assert isinstance(fields["device_free_nbytes"], int)


def allocation_failure() -> RuntimeError:
    with pytest.raises(RuntimeError) as caught:
        torch.empty(10**15)
    return caught.value


@pytest.mark.parametrize(
    "error",
    [
        torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB."),
        MemoryError(),
        allocation_failure(),
        RuntimeError("CUDA error: CUBLAS_STATUS_ALLOC_FAILED when calling `cublasCreate(handle)`"),
        RuntimeError("CUDA error: CUBLAS_STATUS_NOT_INITIALIZED when calling `cublasCreate`"),
        RuntimeError("cuDNN error: CUDNN_STATUS_NOT_INITIALIZED"),
        torch.AcceleratorError("CUDA error: out of memory"),
    ],
)
def test_out_of_memory(error: Exception) -> None:
    assert is_out_of_memory(error)
    assert not is_sticky(error, Lost())


@pytest.mark.parametrize(
    "error",
    [
        torch.AcceleratorError("CUDA error: device-side assert triggered"),
        RuntimeError("CUDA error: an illegal memory access was encountered"),
        RuntimeError("CUDA error: CUBLAS_STATUS_EXECUTION_FAILED when calling `cublasSgemm`"),
        RuntimeError("CUDA error: unspecified launch failure"),
    ],
)
def test_sticky(error: Exception) -> None:
    assert is_sticky(error, CpuDevice())
    assert not is_out_of_memory(error)


@pytest.mark.parametrize(
    "error",
    [
        RuntimeError("Expected all tensors to be on the same device, cuda:0 and cpu"),
        RuntimeError("The size of tensor a (3) must match the size of tensor b (4)"),
        ValueError("CUDA out of memory"),  # not an exception class of the allocator
        IndexError("index out of range in self"),
        KeyError("CUDA"),
    ],
)
def test_neither(error: Exception) -> None:
    assert not is_out_of_memory(error)
    assert not is_sticky(error, Lost())


@pytest.mark.parametrize(
    "text", ["CUDA error: invalid argument", "CUDA error: no kernel image is available"]
)
def test_an_accelerator_error_is_sticky_if_the_device_no_longer_computes(text: str) -> None:
    error = torch.AcceleratorError(text)
    assert not is_sticky(error, CpuDevice())
    assert not is_sticky(error, Full())
    assert is_sticky(error, Lost())


@pytest.mark.gpu
def test_an_error_after_which_the_device_computes_is_not_sticky() -> None:
    """The runtime raises the error and clears it."""
    device = CudaDevice(0)
    with pytest.raises(torch.AcceleratorError) as caught:
        torch.cuda.synchronize(torch.cuda.device_count())
    assert not is_sticky(caught.value, device)
    device.probe()


@pytest.mark.gpu
def test_cuda_memory_is_allocated_and_released() -> None:
    device = parse("cuda")
    device.empty_cache()
    before = device.free_nbytes()
    block = torch.empty(256 << 20, dtype=torch.uint8, device=device.torch_device)
    assert device.free_nbytes() <= before - block.numel()
    del block
    device.empty_cache()
    assert device.free_nbytes() >= before - (2 << 20)
    assert before <= device.total_nbytes()


@pytest.mark.gpu
def test_cuda_allocation_failure_is_out_of_memory() -> None:
    with pytest.raises(RuntimeError) as caught:
        torch.empty(10**15, device="cuda")
    assert is_out_of_memory(caught.value)


@pytest.mark.parametrize(
    ("name", "visible", "seen"),
    [
        ("cuda", None, "0"),
        ("cuda:1", None, "1"),
        ("cuda:1", "4,6", "6"),
        ("cuda:0", "GPU-a", "GPU-a"),
    ],
)
def test_code_sees_its_own_gpu_only(name: str, visible: str | None, seen: str) -> None:
    environ = {} if visible is None else {VISIBLE: visible}
    assert see_only(name, environ) == "cuda:0"
    assert environ == {VISIBLE: seen}


def test_on_a_cpu_nothing_is_hidden() -> None:
    environ: dict[str, str] = {}
    assert see_only("cpu", environ) == "cpu"
    assert environ == {}

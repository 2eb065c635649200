"""The precision of a device's computations."""

import logging
from collections.abc import Iterator
from pathlib import Path

import pytest
import torch

from model_handler.device import precision
from model_handler.device.device import CpuDevice
from model_handler.options import MATMUL_PRECISIONS


@pytest.fixture(autouse=True)
def as_before() -> Iterator[None]:
    before = torch.get_float32_matmul_precision()
    cudnn = torch.backends.cuda.cudnn_sdp_enabled()
    yield
    torch.set_float32_matmul_precision(before)
    torch.backends.cuda.enable_cudnn_sdp(cudnn)


@pytest.mark.parametrize("wanted", MATMUL_PRECISIONS)
def test_matmul_precision_on_a_gpu(wanted: str) -> None:
    precision.configure("cuda:0", wanted)
    assert torch.get_float32_matmul_precision() == wanted


def test_a_gpu_computes_attention_without_a_plan_for_each_shape() -> None:
    precision.configure("cuda:0", "highest")
    assert not torch.backends.cuda.cudnn_sdp_enabled()


def test_float32_on_a_cpu_is_not_changed() -> None:
    before = torch.get_float32_matmul_precision()
    precision.configure("cpu", "medium")
    assert torch.get_float32_matmul_precision() == before


class Gpu(CpuDevice):
    """A GPU with bfloat16 arithmetic, as far as the choice of a precision needs one."""

    units = True

    @property
    def torch_device(self) -> torch.device:
        return torch.device("cuda", 0)

    @property
    def bfloat16(self) -> bool:
        return self.units


class OldGpu(Gpu):
    units = False


HALF, BRAIN, FULL = torch.float16, torch.bfloat16, torch.float32


@pytest.mark.parametrize(
    ("asked", "stored", "device", "expected"),
    [
        ("auto", BRAIN, CpuDevice(), FULL),
        ("auto", BRAIN, Gpu(), BRAIN),
        ("auto", BRAIN, OldGpu(), HALF),
        ("auto", HALF, OldGpu(), HALF),
        ("auto", FULL, OldGpu(), FULL),
        ("bfloat16", FULL, OldGpu(), BRAIN),
        ("bfloat16", BRAIN, OldGpu(), BRAIN),
        ("float16", BRAIN, OldGpu(), HALF),
        ("float32", BRAIN, OldGpu(), FULL),
        ("bfloat16", FULL, CpuDevice(), BRAIN),
    ],
)
def test_dtype_in_which_a_checkpoint_runs(
    asked: str, stored: torch.dtype, device: CpuDevice, expected: torch.dtype
) -> None:
    assert precision.run_dtype(asked, stored, device, Path("/m")) is expected


@pytest.mark.parametrize(
    ("asked", "level", "run"),
    [("auto", "INFO", "torch.float16"), ("bfloat16", "WARNING", "torch.bfloat16")],
)
def test_the_reason_is_logged(
    caplog: pytest.LogCaptureFixture, asked: str, level: str, run: str
) -> None:
    caplog.set_level(logging.INFO, "model_handler.device.precision")
    precision.run_dtype(asked, BRAIN, OldGpu(), Path("/opt/ml/models/m"))
    (record,) = caplog.records
    assert record.levelname == level
    fields = vars(record)
    assert fields["artifact"] == "/opt/ml/models/m"
    assert (fields["stored_dtype"], fields["run_dtype"]) == ("torch.bfloat16", run)
    assert "8.0" in fields["reason"]


@pytest.mark.parametrize("device", [CpuDevice(), Gpu()])
def test_nothing_is_logged_if_the_dtype_is_not_changed(
    caplog: pytest.LogCaptureFixture, device: CpuDevice
) -> None:
    caplog.set_level(logging.INFO, "model_handler.device.precision")
    for asked in ("auto", "bfloat16"):
        precision.run_dtype(asked, BRAIN, device, Path("/m"))
    assert not caplog.records

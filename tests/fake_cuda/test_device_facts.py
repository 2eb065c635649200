"""The GPU fields of the worker's first log line, read from the CUDA runtime of PyTorch."""

import pytest
import torch

from model_handler.device.device import CudaDevice, driver_version, facts

pytestmark = pytest.mark.gpu


def test_the_facts_are_those_of_the_device() -> None:
    said = facts(CudaDevice(0))
    major, minor = torch.cuda.get_device_capability(0)
    assert said["gpu"] == torch.cuda.get_device_name(0)
    assert said["compute_capability"] == f"{major}.{minor}"
    assert said["device_nbytes"] == torch.cuda.mem_get_info(0)[1]
    assert isinstance(said["device_free_nbytes"], int)


def test_all_devices_are_counted() -> None:
    assert CudaDevice(0).count() == torch.cuda.device_count() >= 1


def test_the_driver_is_new_enough_for_the_build() -> None:
    supported = [int(part) for part in driver_version().split(".")]
    built_for = [int(part) for part in str(torch.version.cuda).split(".")[:2]]
    assert supported >= built_for

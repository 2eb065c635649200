"""Weights of another type than stored: converted on the device, into one contiguous block."""

import pytest
import torch

from tests.fake_cuda.gpu_server import GpuServer
from tests.fake_cuda.models import Models, contents

# Room for three models; a warm-up would copy its input
SETTINGS = {"MME_DEVICE_MEMORY": "20MiB", "MME_DTYPE": "bfloat16", "MME_WARMUP": "false"}
ALIGNMENT = 256


def test_the_bytes_are_those_of_the_type(gpu_server: GpuServer, models: Models) -> None:
    """After the first load of a structure, after a later load, and after promotions."""
    artifacts = [models.classifier(seed) for seed in range(1, 6)]
    for artifact in artifacts:
        gpu_server.load([artifact])
        assert not gpu_server.worker().missing(contents(artifact, torch.bfloat16))
    for artifact in artifacts:
        wanted = contents(artifact, torch.bfloat16)
        if gpu_server.worker().missing(wanted):
            gpu_server.worker().erase(wanted)
        assert gpu_server.status(artifact.name) == 200
        assert not gpu_server.worker().missing(wanted)


def test_one_contiguous_block_per_model(gpu_server: GpuServer, models: Models) -> None:
    """There is only padding between the tensors."""
    for seed in (1, 2):
        artifact = models.classifier(seed)
        gpu_server.load([artifact])
        wanted = contents(artifact, torch.bfloat16)
        extent = gpu_server.worker().extent(wanted)
        assert extent is not None, "in several allocations"
        total = sum(map(len, wanted.values()))
        assert total <= extent <= total + ALIGNMENT * len(wanted)


def test_the_device_converts(gpu_server: GpuServer, models: Models) -> None:
    """No tensor of its size is converted on the CPU or copied from pageable memory."""
    gpu_server.load([models.classifier(1)])
    before = gpu_server.worker().counters()
    gpu_server.load([models.classifier(2)])
    after = gpu_server.worker().counters()
    assert after["conversions"] > before["conversions"]
    assert after["pageable_nbytes"] - before["pageable_nbytes"] < 64 << 10
    stored = sum(map(len, contents(models.classifier(2)).values()))
    assert after["h2d_nbytes"] - before["h2d_nbytes"] >= stored


@pytest.mark.parametrize("seed", [1, 2])
def test_the_reserved_bytes_are_those_of_the_type(
    gpu_server: GpuServer, models: Models, seed: int
) -> None:
    gpu_server.load([models.classifier(seed)])
    gpu_server.check_ledger([models.classifier(seed)], torch.bfloat16)

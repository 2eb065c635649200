"""Weights in another type than the stored one: converted on the device, into one stretch of memory."""

import pytest
import torch

from tests.fake_cuda.house import House
from tests.fake_cuda.models import Models, contents

# Room for three models; a warm-up would copy its input
SETTINGS = {"MME_DEVICE_MEMORY": "20MiB", "MME_DTYPE": "bfloat16", "MME_WARMUP": "false"}
ALIGNMENT = 256


def test_the_bytes_are_those_of_the_type(house: House, models: Models) -> None:
    """After the first load of a structure, a later one, and after promotions."""
    artifacts = [models.classifier(seed) for seed in range(1, 6)]
    for artifact in artifacts:
        house.load([artifact])
        assert not house.worker().missing(contents(artifact, torch.bfloat16))
    for artifact in artifacts:
        wanted = contents(artifact, torch.bfloat16)
        if house.worker().missing(wanted):
            house.worker().erase(wanted)
        assert house.status(artifact.name) == 200
        assert not house.worker().missing(wanted)


def test_one_stretch_of_memory_for_each_model(house: House, models: Models) -> None:
    """With nothing but padding between the tensors."""
    for seed in (1, 2):
        artifact = models.classifier(seed)
        house.load([artifact])
        wanted = contents(artifact, torch.bfloat16)
        extent = house.worker().extent(wanted)
        assert extent is not None, "in several allocations"
        total = sum(map(len, wanted.values()))
        assert total <= extent <= total + ALIGNMENT * len(wanted)


def test_the_device_converts(house: House, models: Models) -> None:
    """Nothing but the inputs of the warm-up is copied from pageable memory, let alone converted before."""
    house.load([models.classifier(1)])
    before = house.worker().counters()
    house.load([models.classifier(2)])
    after = house.worker().counters()
    assert after["conversions"] > before["conversions"]
    assert after["pageable_nbytes"] - before["pageable_nbytes"] < 64 << 10
    stored = sum(map(len, contents(models.classifier(2)).values()))
    assert after["h2d_nbytes"] - before["h2d_nbytes"] >= stored


@pytest.mark.parametrize("seed", [1, 2])
def test_the_ledger_has_the_bytes_of_the_type(house: House, models: Models, seed: int) -> None:
    house.load([models.classifier(seed)])
    house.check_ledger([models.classifier(seed)], torch.bfloat16)

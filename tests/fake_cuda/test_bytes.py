"""Device memory holds the bytes of the file after every load and every promotion.

The fake device runs copies only when they are waited for, and these tests overwrite freed memory before the
next promotion. A copy without a wait, or to a wrong address, therefore shows as wrong bytes.
"""

import pytest

from tests.fake_cuda.gpu_server import GpuServer
from tests.fake_cuda.models import Models, contents

SETTINGS = {"MME_DEVICE_MEMORY": "40MiB"}  # for three models
COUNT = 6


@pytest.fixture
def names(gpu_server: GpuServer, models: Models) -> list[str]:
    return gpu_server.load([models.classifier(seed) for seed in range(1, COUNT + 1)])


def test_after_the_load(gpu_server: GpuServer, models: Models) -> None:
    """The first model of a structure is built by transformers, later ones from the structure cache."""
    for seed in range(1, 4):
        gpu_server.load([models.classifier(seed)])
        assert gpu_server.resident(models.classifier(seed))


def test_after_each_promotion(gpu_server: GpuServer, models: Models, names: list[str]) -> None:
    for seed in (1, 2, 3, 4, 5, 6, 1, 3, 5, 2, 4, 6):
        artifact = models.classifier(seed)
        if not gpu_server.resident(artifact):
            gpu_server.erase(artifact)
        assert gpu_server.status(artifact.name) == 200
        assert gpu_server.resident(artifact)


def test_promotions_do_not_change_other_models(
    gpu_server: GpuServer, models: Models, names: list[str]
) -> None:
    """A promotion into memory of a demoted model does not write beyond it."""
    for seed in range(1, COUNT + 1):
        assert gpu_server.status(names[seed - 1]) == 200
        whole = [
            each for each in range(1, COUNT + 1) if gpu_server.resident(models.classifier(each))
        ]
        assert seed in whole
        assert len(whole) >= 3 or seed < 3


def test_nothing_but_the_weights_is_copied(
    gpu_server: GpuServer, models: Models, names: list[str]
) -> None:
    """A promotion copies the bytes of the model, including the gaps between tensors."""
    artifact = models.classifier(1)
    for seed in range(2, COUNT + 1):
        assert gpu_server.status(names[seed - 1]) == 200
    gpu_server.erase(artifact)
    before = gpu_server.worker().counters()["h2d_nbytes"]
    assert gpu_server.status(artifact.name) == 200
    copied = gpu_server.worker().counters()["h2d_nbytes"] - before
    wanted = sum(map(len, contents(artifact).values()))
    assert wanted <= copied <= wanted + (1 << 20)

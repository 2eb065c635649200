"""Precision on GPUs: float32 products in isolated processes, and bfloat16 on old GPUs."""

from collections.abc import Iterator
from pathlib import Path

import pytest
import torch

from model_handler.device.device import CudaDevice
from model_handler.loading.loader import TorchLoader
from model_handler.sharing.turnstile import Turnstile
from tests.fake_cuda.gpu import MIB, FakeMachine
from tests.fake_cuda.models import Models, contents
from tests.fake_cuda.programs import result
from tests.model_handler.scripted.process import ForkServer, write

pytestmark = pytest.mark.gpu

_SAYS = """
import json, torch
def model_fn(model_dir): return None
def transform_fn(model, body, content_type, accept):
    return json.dumps(torch.get_float32_matmul_precision())
"""


@pytest.fixture(scope="module")
def fork_server() -> Iterator[ForkServer]:
    fork_server = ForkServer()
    yield fork_server
    fork_server.close()


def test_isolated_processes_use_the_matmul_precision(
    fork_server: ForkServer, tmp_path: Path
) -> None:
    root = write(tmp_path / "model", _SAYS)
    for asked, expected in (({"matmul_precision": "high"}, "high"), ({}, "highest")):
        with fork_server.process(device="cuda:0", **asked) as process:
            assert process.load(root).ask("") == expected


@pytest.mark.parametrize(
    ("capability", "asked", "expected"),
    [
        ("7.5", "auto", torch.float16),
        ("7.5", "bfloat16", torch.bfloat16),
        ("8.0", "auto", torch.bfloat16),
    ],
)
def test_bfloat16_checkpoints_run_in_a_dtype_of_the_gpu(
    machine: FakeMachine, models: Models, capability: str, asked: str, expected: torch.dtype
) -> None:
    """They need half the memory of float32 weights, apart from the allocator's rounding."""
    path = models.half(1)
    dtypes, nbytes = result(machine, load, path, asked, CAPABILITY=capability)
    assert dtypes == {expected}
    stored = sum(map(len, contents(path).values()))
    assert stored <= nbytes < stored + 2 * MIB


def load(path: Path, dtype: str) -> tuple[set[torch.dtype], int]:
    """The types of the model's parameters on the device, and its reserved bytes."""
    loader = TorchLoader(CudaDevice(0), Turnstile())
    handler = loader.load(path, "text-classification", dtype)
    return {each.dtype for each in handler.model.parameters()}, handler.nbytes

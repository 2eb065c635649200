"""Precision on GPUs: of float32 in the processes of models that bring code, and of bfloat16 on old ones."""

import json
import math
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from model_handler import weights
from tests import artifacts
from tests.model_handler.loading import retensor
from tests.model_handler.scripted.process import Forks, write

pytestmark = pytest.mark.gpu

_SAYS = """
import json, torch
def model_fn(model_dir): return None
def transform_fn(model, body, content_type, accept):
    return json.dumps(torch.get_float32_matmul_precision())
"""


@pytest.fixture(scope="module")
def forks() -> Iterator[Forks]:
    forks = Forks()
    yield forks
    forks.close()


def test_isolated_processes_multiply_as_asked(forks: Forks, tmp_path: Path) -> None:
    root = write(tmp_path / "model", _SAYS)
    for asked, expected in (({"matmul_precision": "high"}, "high"), ({}, "highest")):
        with forks.process(device="cuda:0", **asked) as process:
            assert process.load(root).ask("") == expected


# A process of its own: the fake runtime reads its capability once
_LOAD = """
import json, sys
from model_handler.device import CudaDevice
from model_handler.loader import TorchLoader
from model_handler.turnstile import Turnstile
loader = TorchLoader(CudaDevice(0), Turnstile())
handler = loader.load(sys.argv[1], "text-classification", sys.argv[2])
weights = list(handler.model.parameters())
dtypes = {str(each.dtype) for each in weights}
print(json.dumps([sorted(dtypes), sum(each.nbytes for each in weights), handler.nbytes]))
"""


@pytest.mark.skipif("FAKE_CUDA_DIR" not in os.environ, reason="a real GPU is what it is")
@pytest.mark.parametrize(
    ("capability", "asked", "expected"),
    [
        ("7.5", "auto", "torch.float16"),
        ("7.5", "bfloat16", "torch.bfloat16"),
        ("8.0", "auto", "torch.bfloat16"),
    ],
)
def test_bfloat16_checkpoints_run_in_what_the_gpu_has(
    tmp_path: Path, capability: str, asked: str, expected: str
) -> None:
    path = artifacts.bert_classifier(tmp_path / "model")
    retensor(path, lambda tensors: {name: each.bfloat16() for name, each in tensors.items()})
    described = weights.header(path / "model.safetensors").values()
    stored = sum(2 * math.prod(each["shape"]) for each in described)
    environment = os.environ | {"FAKE_CUDA_CAPABILITY": capability}
    command = [sys.executable, "-c", _LOAD, str(path), asked]
    done = subprocess.run(command, env=environment, capture_output=True, text=True, check=True)
    dtypes, nbytes, held = json.loads(done.stdout.splitlines()[-1])
    assert dtypes == [expected]
    assert nbytes == stored
    assert stored <= held < stored + (2 << 20)  # in whole blocks of the allocator

"""Precision on GPUs: how float32 is multiplied in the processes of models that bring code."""

from collections.abc import Iterator
from pathlib import Path

import pytest

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

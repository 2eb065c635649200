"""In which precision a device computes."""

from collections.abc import Iterator

import pytest
import torch

from model_handler import precision
from model_handler.options import MATMUL_PRECISIONS


@pytest.fixture(autouse=True)
def as_before() -> Iterator[None]:
    before = torch.get_float32_matmul_precision()
    yield
    torch.set_float32_matmul_precision(before)


@pytest.mark.parametrize("wanted", MATMUL_PRECISIONS)
def test_float32_on_a_gpu_is_multiplied_as_asked(wanted: str) -> None:
    precision.multiply("cuda:0", wanted)
    assert torch.get_float32_matmul_precision() == wanted


def test_float32_on_a_cpu_is_not_changed() -> None:
    before = torch.get_float32_matmul_precision()
    precision.multiply("cpu", "medium")
    assert torch.get_float32_matmul_precision() == before

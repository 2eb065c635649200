"""Heavy forwards get every core, light ones leave the front its own, and nothing outlives the block."""

import pytest
import torch

from model_handler.threads import HEAVY_S, Threads, first_work_s


@pytest.mark.parametrize(
    ("cores", "work_s", "expected"),
    [
        (1, 0.0, 1),
        (1, 1.0, 1),
        (2, 0.0, 1),
        (2, 0.019, 1),
        (2, HEAVY_S, 2),
        (16, 0.001, 1),
        (16, 0.011, 2),
        (16, 0.019, 3),
        (16, HEAVY_S, 16),
        (3, 0.019, 2),
    ],
)
def test_how_many(cores: int, work_s: float, expected: int) -> None:
    before = torch.get_num_threads()
    threads = Threads(cores)
    usual = torch.get_num_threads()
    assert usual == max(1, min(cores - 1, 3))
    with threads.computing(work_s) as count:
        assert count == torch.get_num_threads() == expected
    assert torch.get_num_threads() == usual
    torch.set_num_threads(before)


def test_the_first_forward_of_a_large_model_is_heavy() -> None:
    bert_base, tiny = 438_000_000, 17_500_000
    before = torch.get_num_threads()
    threads = Threads(2)
    torch.set_num_threads(before)
    assert threads.many(first_work_s(bert_base)) == 2
    assert threads.many(first_work_s(tiny)) == 1


def test_a_device_that_computes_elsewhere_is_left_alone() -> None:
    before = torch.get_num_threads()
    with Threads.of(torch.device("cuda")).computing(1.0) as count:
        assert count == 1
        assert torch.get_num_threads() == before

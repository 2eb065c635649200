"""Heavy forwards get all cores, light ones leave one core to the front; the block restores the count."""

import pytest
import torch

from model_handler.worker.forward import HEAVY_S, Threads, first_work_s


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
def test_threads_of_a_forward(cores: int, work_s: float, expected: int) -> None:
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


def test_the_thread_count_is_not_changed_with_a_gpu() -> None:
    before = torch.get_num_threads()
    with Threads.of(torch.device("cuda")).computing(1.0) as count:
        assert count == 1
        assert torch.get_num_threads() == before

"""Heavy forwards get all cores, light ones leave one core to the front; the block restores the count."""

import subprocess
import sys

import pytest
import torch

from model_handler.device.cpu_threads import HEAVY_S, Threads, first_work_s, tokenizing


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


@pytest.mark.parametrize(
    ("device", "cores", "expected"),
    [("cpu", 16, 1), ("cuda", 16, 14), ("cuda", 4, 2), ("cuda", 2, 1), ("cuda", 1, 1)],
)
def test_threads_that_tokenize(device: str, cores: int, expected: int) -> None:
    assert tokenizing(torch.device(device), cores) == expected


# In a separate process, since the tokenizers library reads its settings only once
_TOKENIZE = """
import sys
from pathlib import Path
from model_handler.device.cpu_threads import tokenize_with
tokenize_with(int(sys.argv[1]))
import tokenizers
tokenizer = tokenizers.Tokenizer(tokenizers.models.WordLevel({"a": 0}, unk_token="a"))
before = len(list(Path("/proc/self/task").iterdir()))
tokenizer.encode_batch(["a"] * 64)
print(len(list(Path("/proc/self/task").iterdir())) - before)
"""


@pytest.mark.parametrize(("count", "started"), [(1, 0), (3, 3)])
def test_the_tokenizers_library_uses_the_given_number_of_threads(count: int, started: int) -> None:
    command = [sys.executable, "-c", _TOKENIZE, str(count)]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    assert int(done.stdout) == started, done.stderr

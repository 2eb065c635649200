"""One thread tokenizes where the CPU computes the forwards, otherwise all cores that are free."""

import subprocess
import sys

import pytest
import torch

from model_handler.device.tokenizer_threads import tokenizing


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
from model_handler.device.tokenizer_threads import tokenize_with
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

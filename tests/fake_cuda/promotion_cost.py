"""The CPU time of a promotion on the loading thread, excluding the copies.

    . build/fake_cuda/env.sh; python -m tests.fake_cuda.promotion_cost

Measured on a model with the tensors (201) and reads (30) of bert-base, and a hundredth of its bytes: the
fake device copies with the CPU time and caches of the thread, which a real device does not. The fake
runtime measures the time of its copies, which is subtracted; its other overhead is included.
"""

import os
import tempfile
import time
from pathlib import Path

import transformers

from model_handler.device.device import CudaDevice
from model_handler.handlers import Handler
from model_handler.loading.loader import TorchLoader
from model_handler.sharing.turnstile import Turnstile
from model_handler.transfer.upload import Uploader
from tests import artifacts
from tests.fake_cuda.gpu import FakeMachine, FakeProcess

CHUNK_NBYTES = 96 << 10
ROUNDS, MOVES, LOADS = 10, 20, 5
TASK = "text-classification"


def bert(root: Path) -> Path:
    """A narrow model with twelve layers."""
    artifacts.bert_classifier(root)
    shape = {"hidden_size": 64, "intermediate_size": 256, "num_attention_heads": 4}
    config = transformers.BertConfig(vocab_size=1000, num_hidden_layers=12, **shape)
    transformers.BertForSequenceClassification(config).save_pretrained(root)
    return root


def own_process() -> FakeProcess:
    machine = FakeMachine(Path(os.environ["FAKE_CUDA_DIR"]), Path(os.devnull))
    (found,) = (each for each in machine.processes() if each.pid == os.getpid())
    return found


def owner() -> TorchLoader:
    device = CudaDevice(0)
    uploader = Uploader(device.torch_device, chunk_nbytes=CHUNK_NBYTES)
    return TorchLoader(device, Turnstile(), uploader=uploader)


def load_s(owner: TorchLoader, path: Path) -> float:
    """CPU seconds of this thread for a load from the artifact, after the first of its structure."""
    best = float("inf")
    for _ in range(LOADS):
        began = time.thread_time()
        handler = owner.load(path, TASK)
        best = min(best, time.thread_time() - began)
        assert owner.unload(handler) == 0
    return best


def promotion_s(owner: TorchLoader, handler: Handler) -> float:
    """CPU seconds of this thread for a demotion and a promotion, excluding the copies."""
    process, best = own_process(), float("inf")
    for _ in range(ROUNDS):
        copied_ns, began = process.counters()["copy_ns"], time.thread_time()
        for _ in range(MOVES):
            assert owner.demote(handler)
            assert owner.promote(handler)
        spent = time.thread_time() - began
        spent -= (process.counters()["copy_ns"] - copied_ns) / 1e9
        best = min(best, spent / MOVES)
    return best


def main() -> None:
    with tempfile.TemporaryDirectory() as scratch:
        os.environ.setdefault("FAKE_CUDA_DIR", scratch)
        loader = owner()
        handler = loader.load(path := bert(Path(scratch) / "bert"), TASK)
        print(
            f"{1000 * promotion_s(loader, handler):.2f} ms of CPU time per demotion and promotion"
        )
        assert loader.unload(handler) == 0
        print(f"{1000 * load_s(loader, path):.2f} ms of CPU time per load")


if __name__ == "__main__":
    main()

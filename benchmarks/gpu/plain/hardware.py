"""python -m benchmarks.gpu.plain.hardware DEVICE DIR

Measures the machine: copies to the device, reads from the page cache, tokenizing, and forwards of the
bert-base in DIR with and without the allocator's cache.
"""

import json
import os
import statistics
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from pathlib import Path
from typing import Any

import torch
import transformers
from transformers import AutoModelForSequenceClassification, AutoTokenizer

from benchmarks import traffic
from benchmarks.gpu.plain.clock import gb_per_s, median_s, ms, seconds

MIB = 1 << 20
CHUNK = 16 * MIB
PIECES = 201  # tensors of a bert-base
TEXTS = traffic.texts(126, 32, seed=11)
Rows = dict[str, Any]

# ---- copies ----


def copies(device: str) -> Rows:
    found: Rows = {}
    for mib in (16, 256) if device == "cuda" else (16,):
        target = torch.empty(mib * MIB, dtype=torch.uint8, device=device)
        pageable = torch.randint(255, (mib * MIB,), dtype=torch.uint8)
        began = time.perf_counter()
        pinned = torch.empty(mib * MIB, dtype=torch.uint8, pin_memory=device == "cuda")
        found[f"allocate_pinned_{mib}MiB_ms"] = ms(time.perf_counter() - began)
        pinned.copy_(pageable)
        for name, source in (("pinned", pinned), ("pageable", pageable)):
            taken_s = median_s(device, partial(target.copy_, source, non_blocking=True))
            found[f"copy_{name}_{mib}MiB_GBps"] = gb_per_s(mib * MIB, taken_s)
    return found


def pieces(device: str) -> Rows:
    """Copy the bytes of a bert-base, with one copy per tensor."""
    target = torch.empty(PIECES * MIB, dtype=torch.uint8, device=device)
    source = torch.empty(PIECES * MIB, dtype=torch.uint8, pin_memory=device == "cuda").random_()

    def copy() -> None:
        for at in range(0, PIECES * MIB, MIB):
            target[at : at + MIB].copy_(source[at : at + MIB], non_blocking=True)

    return {"copy_201_pieces_of_1MiB_GBps": gb_per_s(PIECES * MIB, median_s(device, copy))}


# ---- reads ----


def reads(file: Path) -> Rows:
    """Reads from the page cache into memory that was written before."""
    view = memoryview(bytearray(file.stat().st_size))
    found: Rows = {}
    for threads in (1, 4, 8):
        with ThreadPoolExecutor(threads) as pool:
            taken_s = median_s("cpu", partial(_read, pool, file, view), times=3)
        found[f"read_page_cache_{threads}_threads_GBps"] = gb_per_s(len(view), taken_s)
    return found


def _read(pool: ThreadPoolExecutor, file: Path, view: memoryview) -> None:
    descriptor = os.open(file, os.O_RDONLY)
    try:
        list(pool.map(partial(_read_at, descriptor, view), range(0, len(view), CHUNK)))
    finally:
        os.close(descriptor)


def _read_at(descriptor: int, view: memoryview, at: int) -> int:
    return os.preadv(descriptor, [view[at : at + CHUNK]], at)


# ---- tokenizing and forwards ----


def tokenizing(tokenizer: Any) -> Rows:
    found: Rows = {}
    for parallel in ("false", "true"):
        os.environ["TOKENIZERS_PARALLELISM"] = parallel
        taken_s = median_s("cpu", lambda: tokenizer(TEXTS, padding=True, return_tensors="pt"))
        found[f"tokenize_32x128_parallel_{parallel}_ms"] = ms(taken_s)
    return found


def forwards(device: str, model: Any, tokenizer: Any) -> Rows:
    found: Rows = {}
    for rows in (1, 8, 32, 128) if device == "cuda" else (1, 8):
        batch = tokenizer((TEXTS * 4)[:rows], padding=True, return_tensors="pt").to(device)
        taken_s = median_s(device, partial(_forward, model, batch), times=11, warm=3)
        found[f"forward_{rows}x128_ms"] = ms(taken_s)
    return found


def _forward(model: Any, batch: Any) -> Any:
    with torch.inference_mode():
        return model(**batch).logits.cpu()


def emptied(model: Any, tokenizer: Any) -> Rows:
    """A forward right after the allocator has returned its blocks to the device."""
    batch = tokenizer(TEXTS, padding=True, return_tensors="pt").to("cuda")
    plain, after = [], []
    for _ in range(10):
        plain.append(seconds("cuda", partial(_forward, model, batch)))
        torch.cuda.empty_cache()
        after.append(seconds("cuda", partial(_forward, model, batch)))
    with_cache, without = statistics.median(plain), statistics.median(after)
    return {
        "forward_32x128_with_cache_ms": ms(with_cache),
        "forward_32x128_after_empty_cache_ms": ms(without),
        "empty_cache_adds_ms": ms(without - with_cache),
    }


def precisions(model: Any, tokenizer: Any) -> Rows:
    """Float32 without and with TF32. Changes the model."""
    batch = tokenizer(TEXTS, padding=True, return_tensors="pt").to("cuda")
    found: Rows = {}
    single = model.float()
    for precision in ("highest", "high"):
        torch.set_float32_matmul_precision(precision)
        taken_s = median_s("cuda", partial(_forward, single, batch), times=9, warm=3)
        found[f"float32_{precision}_forward_32x128_ms"] = ms(taken_s)
    return found


def main() -> None:
    transformers.utils.logging.disable_progress_bar()
    device, directory = sys.argv[1], Path(sys.argv[2])
    found = copies(device) | pieces(device) | reads(directory / "model.safetensors")
    tokenizer = AutoTokenizer.from_pretrained(directory)
    model = AutoModelForSequenceClassification.from_pretrained(directory, dtype="auto")
    model = model.eval().to(device)
    found |= tokenizing(tokenizer) | forwards(device, model, tokenizer)
    if device == "cuda":
        found |= emptied(model, tokenizer) | precisions(model, tokenizer)
    print(json.dumps(found))


if __name__ == "__main__":
    main()

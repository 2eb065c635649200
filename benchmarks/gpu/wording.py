"""Plainer texts for predictions on the pages. Results store a prediction's own text, which identifies it."""

from collections.abc import Mapping

TEXTS: Mapping[tuple[str, str], str] = {
    (
        "preflight",
        "one hot answer of a bert-base",
    ): "time of one answer of a bert-base, after the first",
    (
        "contract-64",
        "/ping while the device is lost",
    ): "status of /ping after the device has failed",
    ("contract-64", "neighbours answer again after"): "time until other models answer again",
    (
        "asserts",
        "workers lost to sampling parameters",
    ): "workers that died because of sampling parameters",
    ("swap", "return of a bfloat16 bert-base, of a plain copy's rate"): (
        "promotion of a bfloat16 bert-base: its rate divided by a plain copy's"
    ),
    ("swap", "return of a float32 bert-base, of a plain copy's rate"): (
        "promotion of a float32 bert-base: its rate divided by a plain copy's"
    ),
    (
        "swap",
        "return of float32 files as bfloat16",
    ): "rate of a promotion of float32 files as bfloat16",
    ("oversubscription", "throughput with room for a third of the models, over room for all"): (
        "throughput with memory for a third of the models, divided by that with memory for all"
    ),
    ("throughput", "served over plain PyTorch at its best batch, 128 tokens, 64 clients"): (
        "throughput divided by plain PyTorch's at its best batch size; 128 tokens, 64 clients"
    ),
    ("throughput", "the same with 32 tokens, 256 clients, batches up to 128"): (
        "throughput divided by plain PyTorch's; 32 tokens, 256 clients, batches up to 128"
    ),
    ("volley", "32 bert-bases × one request of 32 tokens, until the last answer"): (
        "one request of 32 tokens to each of 32 bert-bases: time until the last answer"
    ),
    ("killed", "worker killed with 200 models on the GPU, until the first right answer"): (
        "time from the kill of a worker with 200 models on the GPU to the first right answer"
    ),
    ("killed", "wrong answers of all of them afterwards"): "wrong answers of all models afterwards",
    ("density", "bert-bases on the device over a process for each, bfloat16"): (
        "number of bfloat16 bert-bases on the device, divided by the number with one process each"
    ),
    ("density", "the same, float32"): (
        "number of float32 bert-bases on the device, divided by the number with one process each"
    ),
    ("density", "device memory per bfloat16 model beyond its weights"): (
        "device memory per bfloat16 model minus its weights"
    ),
    ("load", "load of a bfloat16 bert-base over plain reading and copying"): (
        "load of a bfloat16 bert-base, divided by the time to read and copy its file"
    ),
    ("load", "the same, float32"): (
        "load of a float32 bert-base, divided by the time to read and copy its file"
    ),
    ("out-of-memory", "workers lost"): "workers that died",
    ("custom-code", "device memory of custom code beyond the ledger's, after a small request"): (
        "device memory of custom code minus that in the ledger, after a small request"
    ),
    (
        "registered-memory",
        "return of a bfloat16 bert-base with MME_REGISTERED_MEMORY, of a plain copy's rate",
    ): (
        "promotion of a bfloat16 bert-base with MME_REGISTERED_MEMORY: its rate divided by a plain copy's"
    ),
    ("warm-up", "first answer of the first model over a hot one, warmed up"): (
        "first answer of the first model divided by a later one, with warm-up"
    ),
    ("hardware", "what empty_cache adds to the next forward of 32 × 128"): (
        "time that empty_cache adds to the next forward of 32 × 128 tokens"
    ),
    ("hardware", "forward of 32 × 128, bert-base, bfloat16"): (
        "forward of 32 × 128 tokens, bert-base, bfloat16"
    ),
    (
        "five-models",
        "throughput in bfloat16 over float32",
    ): "throughput in bfloat16 divided by float32",
    ("uploads", "upload of a bfloat16 bert-base in reads of 4 MiB"): (
        "rate of copying a bfloat16 bert-base to the device, in reads of 4 MiB by 15 threads"
    ),
    ("kernels", "first forward of a shape with cuDNN's attention"): (
        "first forward of a new input shape, with cuDNN's attention"
    ),
    ("kernels", "forward of 1 × 32 as a CUDA graph"): "forward of 1 × 32 tokens as a CUDA graph",
}


def plain(section: str, what: str) -> str:
    return TEXTS.get((section, what), what)

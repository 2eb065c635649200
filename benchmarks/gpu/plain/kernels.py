"""python -m benchmarks.gpu.plain.kernels DEVICE DIR…

Measures forwards of the bert-bases in each DIR: the first forward of a new shape and the later ones, by
implementation of attention, and forwards recorded as a CUDA graph.
"""

import json
import statistics
import sys
from collections.abc import Callable
from functools import partial
from typing import Any

import torch
import transformers
from transformers import AutoModelForSequenceClassification

from benchmarks.gpu.plain.clock import median_s, ms, seconds

LENGTHS = range(40, 56, 2)  # no other measurement has these shapes
SHAPES = ((1, 32), (8, 32), (32, 32), (32, 128))
GRAPHS = ((1, 32), (8, 32), (32, 128))
Inputs = dict[str, torch.Tensor]


def batch(device: str, rows: int, tokens: int) -> Inputs:
    """Every second row is padded. The mask has its final form: building it would synchronize."""
    ids = torch.randint(5, 1000, (rows, tokens), device=device)
    mask = torch.ones(rows, 1, 1, tokens, dtype=torch.bool, device=device)
    mask[1::2, ..., tokens // 2 :] = False
    return {"input_ids": ids, "attention_mask": mask.expand(rows, 1, tokens, tokens)}


@torch.inference_mode()
def forward(model: Any, inputs: Inputs) -> torch.Tensor:
    logits: torch.Tensor = model(**inputs).logits
    return logits.float().cpu()


# ---- attention ----


def attention(device: str, model: Any) -> dict[str, Any]:
    forward(model, batch(device, 2, 36))  # loads the libraries
    new = [seconds(device, partial(forward, model, batch(device, 4, n))) for n in LENGTHS]
    known = [seconds(device, partial(forward, model, batch(device, 4, n))) for n in LENGTHS]
    found: dict[str, Any] = {
        "new_shape_ms": ms(statistics.median(new)),
        "known_shape_ms": ms(statistics.median(known)),
    }
    for rows, tokens in SHAPES:
        inputs = batch(device, rows, tokens)
        taken_s = median_s(device, partial(forward, model, inputs), times=15, warm=3)
        found[f"{rows}x{tokens}_ms"] = ms(taken_s)
    return found


def attentions(device: str, model: Any) -> dict[str, Any]:
    found = {}
    for name, cudnn in (("with_cudnn", True), ("without_cudnn", False)):
        torch.backends.cuda.enable_cudnn_sdp(cudnn)
        found[name] = attention(device, model)
    return found


# ---- CUDA graphs ----


def recorded(model: Any, inputs: Inputs, pool: Any = None) -> tuple[Any, torch.Tensor]:
    """A graph, and the tensor that its replays write."""
    aside = torch.cuda.Stream()  # type: ignore[no-untyped-call]
    with torch.inference_mode(), torch.cuda.stream(aside):
        for _ in range(3):
            model(**inputs)
    torch.cuda.synchronize()
    graph = torch.cuda.CUDAGraph()
    with torch.inference_mode(), torch.cuda.graph(graph, pool=pool):
        out = model(**inputs).logits
    return graph, out


def graphs(device: str, models: list[Any]) -> dict[str, Any]:
    return {f"{rows}x{tokens}": graph(device, models, rows, tokens) for rows, tokens in GRAPHS}


def graph(device: str, models: list[Any], rows: int, tokens: int) -> dict[str, Any]:
    inputs = batch(device, rows, tokens)
    before = torch.cuda.memory_reserved()
    eager_s = median_s(device, partial(forward, models[0], inputs), times=15, warm=3)
    record_s = seconds(device, lambda: recorded(models[0], inputs))
    pool = torch.cuda.graph_pool_handle()
    made = [recorded(model, inputs, pool) for model in models]
    expected = forward(models[0], inputs)
    replay_s = median_s(device, partial(replay, made[:1]), times=15, warm=3)
    return {
        "eager_ms": ms(eager_s),
        "replay_ms": ms(replay_s),
        "record_ms": ms(record_s),
        "replays_of_all_ms": ms(median_s(device, partial(replay, made), times=15, warm=3)),
        "models": len(made),
        "reserved_MiB": (torch.cuda.memory_reserved() - before) >> 20,
        "largest_difference": (replay(made[:1])[0] - expected).abs().max().item(),
    }


def replay(made: list[tuple[Any, torch.Tensor]]) -> list[torch.Tensor]:
    for graph, _ in made:
        graph.replay()
    return [out.float().cpu() for _, out in made]


def guarded(work: Callable[[], dict[str, Any]]) -> dict[str, Any]:
    try:
        return work()
    except RuntimeError as error:  # the other measurement must go on
        return {"error": str(error)[:500]}


def main() -> None:
    transformers.utils.logging.disable_progress_bar()
    torch.manual_seed(0)
    device, *directories = sys.argv[1:]
    load = AutoModelForSequenceClassification.from_pretrained
    models = [load(each, dtype="auto").eval().to(device) for each in directories]
    found = {"attention": guarded(lambda: attentions(device, models[0]))}
    if device == "cuda":
        found["graphs"] = guarded(lambda: graphs(device, models))
    print(json.dumps(found))


if __name__ == "__main__":
    main()

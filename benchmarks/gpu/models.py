"""python -m benchmarks.gpu.models DIR full|small

Writes the models of the GPU day to DIR, and their expected responses, computed on the CPU in float32, to
expected.json. Existing models are kept.

`b16-00`, `b16-01`, …: bert-base classifiers in bfloat16; `f32-00`, …: the same numbers stored as float32.
All have the tensors of one random model, with different signs and a different label, so that any tensor of
a wrong model changes the response. Also written: `table`, a TorchScript program whose input can be out of
range; `gpt`, which samples; `code-0` and `code-1`, with their own code that computes on the GPU.
"""

import json
import shutil
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import torch
import transformers
from safetensors.torch import save_file

from benchmarks import traffic
from benchmarks.tiny_models import VOCABULARY, save_tokenizer

LABELS = 64
MARGIN = 4.0  # added to the logit of a model's own label, so that it always wins
TEXTS = [*traffic.texts(6, 3, seed=1), *traffic.texts(20, 3, seed=2), *traffic.texts(60, 2, seed=3)]
COUNTS = {"full": {"b16": 32, "f32": 6}, "small": {"b16": 6, "f32": 6}}
DTYPES = {"b16": torch.bfloat16, "f32": torch.float32}
SMALL = {
    "hidden_size": 64,
    "intermediate_size": 128,
    "num_attention_heads": 2,
    "num_hidden_layers": 2,
}
CODE = """
import json
import torch


def model_fn(model_dir):
    device = "cuda" if torch.cuda.is_available() else "cpu"
    return torch.nn.Linear(4096, 4096).to(device), device


def input_fn(body, content_type):
    return json.loads(body)


def predict_fn(data, model):
    net, device = model
    with torch.inference_mode():
        return float(net(torch.zeros(int(data["rows"]), 4096, device=device)).sum().item())


def output_fn(value, accept):
    return json.dumps({"value": value})
"""
Tensors = dict[str, torch.Tensor]


def main() -> None:
    root, size = Path(sys.argv[1]), sys.argv[2]
    began = time.perf_counter()
    if not (root / "expected.json").exists():
        transformers.utils.logging.disable_progress_bar()
        write(root, size)
    print(json.dumps({"seconds": round(time.perf_counter() - began, 1), **_sizes(root)}))


def write(root: Path, size: str) -> None:
    """Write all files; expected.json is the last and marks the directory as complete."""
    others(root)
    save_tokenizer(root / "tokenizer", VOCABULARY)
    answers = list(berts(root, size))
    expected = {"texts": TEXTS, "answers": answers, "size": size}
    (root / "expected.json").write_text(json.dumps(expected))


def _sizes(root: Path) -> dict[str, int]:
    return {
        f"{kind}_nbytes": (root / f"{kind}-00/model/model.safetensors").stat().st_size
        for kind in DTYPES
    }


# ---- the classifiers ----


def berts(root: Path, size: str) -> Iterator[list[tuple[str, float]]]:
    """The answers of one model after the other."""
    shape: dict[str, Any] = SMALL if size == "small" else {}
    model = random_bert(shape)
    base = {name: tensor.clone() for name, tensor in model.state_dict().items()}
    for number in range(COUNTS[size]["b16"]):
        tensors = own(base, number)
        for kind, count in COUNTS[size].items():
            if number < count:
                _save(root / f"{kind}-{number:02}" / "model", model.config, tensors, DTYPES[kind])
        model.load_state_dict(tensors)
        yield answer(model, root / "tokenizer")


def random_bert(shape: dict[str, Any]) -> transformers.BertForSequenceClassification:
    """All of its numbers can be represented in bfloat16, regardless of the stored type."""
    torch.manual_seed(0)
    config = transformers.BertConfig(vocab_size=VOCABULARY, num_labels=LABELS, **shape)
    model = transformers.BertForSequenceClassification(config).eval()
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            if "LayerNorm" not in name:
                parameter.normal_(std=spread(name))
            parameter.copy_(parameter.bfloat16().float())
    return model


def spread(name: str) -> float:
    """Standard deviation of a tensor's numbers: wide enough for each tensor to matter for the answer.

    Tokens must stay different from each other up to the last layer, else attention does nothing.
    """
    if name.endswith("bias"):
        return 0.1
    return 0.08 if "query" in name or "key" in name else 0.03


def own(base: Tensors, number: int) -> Tensors:
    """Signs and label of model `number`."""
    draw = torch.Generator().manual_seed(number)
    signs = {
        name: 1.0 if "LayerNorm" in name or torch.rand(1, generator=draw) < 0.5 else -1.0
        for name in base
    }
    tensors = {name: tensor * signs[name] for name, tensor in base.items()}
    bias = torch.zeros(LABELS)
    bias[number % LABELS] = MARGIN
    return tensors | {"classifier.bias": bias}


def _save(home: Path, config: Any, tensors: Tensors, dtype: torch.dtype) -> None:
    home.mkdir(parents=True, exist_ok=True)
    config.architectures, config.dtype = ["BertForSequenceClassification"], dtype
    config.save_pretrained(home)
    shutil.copytree(home.parents[1] / "tokenizer", home, dirs_exist_ok=True)
    stored = {name: tensor.to(dtype).contiguous() for name, tensor in tensors.items()}
    save_file(stored, home / "model.safetensors", {"format": "pt"})


def answer(model: Any, directory: Path) -> list[tuple[str, float]]:
    tokenizer = transformers.AutoTokenizer.from_pretrained(directory)
    inputs = tokenizer(TEXTS, padding=True, return_tensors="pt")
    with torch.inference_mode():
        best = model(**inputs).logits.softmax(-1).max(-1)
    pairs = zip(best.indices.tolist(), best.values.tolist(), strict=True)
    return [(f"LABEL_{index}", score) for index, score in pairs]


# ---- the others ----


class Table(torch.nn.Module):
    """Ten rows: an input of 1000 is a device-side assert on CUDA."""

    def __init__(self) -> None:
        super().__init__()
        self.table = torch.nn.Embedding(10, 4)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        found: torch.Tensor = self.table(x.long())
        return found


def others(root: Path) -> None:
    _write_gpt(root / "gpt/model")
    table = root / "table/model"
    table.mkdir(parents=True, exist_ok=True)
    torch.jit.save(torch.jit.script(Table()), table / "model.pt")
    for number in range(2):
        code = root / f"code-{number}/model/code"
        code.mkdir(parents=True, exist_ok=True)
        (code / "inference.py").write_text(CODE)


def _write_gpt(home: Path) -> None:
    tokens = {"bos_token_id": 2, "eos_token_id": 3, "pad_token_id": 0}
    shape = {"n_embd": 64, "n_layer": 2, "n_head": 2}
    config = transformers.GPT2Config(vocab_size=VOCABULARY, **shape, **tokens)
    transformers.GPT2LMHeadModel(config).save_pretrained(home)
    save_tokenizer(home, VOCABULARY, ("input_ids", "attention_mask"))


if __name__ == "__main__":
    main()

"""python -m benchmarks.first_load.models DIR COUNT KIND…

Writes DIR/KIND/000/model, DIR/KIND/001/model, … for each kind: COUNT artifacts that differ in content. Those
of a kind that ends in `-tuned` share structure and tokenizer and differ in their labels, as fine-tuned models
do. The weights of Hugging Face models are zeros, in files that take no space on the disk; all files are read
once, so that they are in the page cache. Existing artifacts are kept.
"""

import functools
import itertools
import json
import struct
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import torch
import transformers

from benchmarks.tiny_models import INPUTS, VOCABULARY, save_tokenizer

TUNED = "-tuned"
WIDER = 8  # units by which the structures of one kind differ
_DTYPES = {torch.float32: "F32", torch.int64: "I64"}
_COLUMNS, _TREES = 20, 900
_READ_NBYTES = 16 << 20
_TOKENS = {"pad_token_id": 0, "bos_token_id": 2, "eos_token_id": 3}


def main() -> None:
    root, count, kinds = Path(sys.argv[1]), int(sys.argv[2]), sys.argv[3:]
    torch.set_num_threads(1)
    for kind, number in itertools.product(kinds, range(count)):
        directory = root / kind / f"{number:03}" / "model"
        if not directory.exists():
            directory.mkdir(parents=True)
            WRITERS[kind](directory, number)
        _read(directory)


def _read(directory: Path) -> None:
    for file in directory.iterdir():
        with file.open("rb") as stream:
            while stream.read(_READ_NBYTES):
                pass


# ---- Hugging Face models ----


def _classifier(directory: Path, number: int, *, auto: Any, config: Any, tuned: bool) -> None:
    """`config`: a function of the structure's number."""
    settings = config(0 if tuned else number)
    settings.id2label = {0: f"no {number}", 1: f"yes {number}"}
    settings.label2id = {label: index for index, label in settings.id2label.items()}
    _hugging_face(directory, auto, settings, "word" if tuned else f"word{number}x")


def _hugging_face(directory: Path, auto: Any, settings: Any, word: str) -> None:
    with torch.device("meta"):
        model = auto.from_config(settings)
    settings.architectures = [type(model).__name__]
    settings.save_pretrained(directory)
    if model.can_generate():
        model.generation_config.save_pretrained(directory)
    _save_zeros(directory / "model.safetensors", model)
    if model.main_input_name == "pixel_values":
        transformers.ViTImageProcessor().save_pretrained(directory)
        return
    save_tokenizer(directory, settings.vocab_size, INPUTS[::2])
    file = directory / "tokenizer.json"
    file.write_text(file.read_text().replace('"word', f'"{word}'))


def _save_zeros(file: Path, model: Any) -> None:
    header: dict[str, Any] = {"__metadata__": {"format": "pt"}}
    end = 0
    unsaved = {*model.all_tied_weights_keys, *(model._keys_to_ignore_on_save or ())}
    for name, tensor in model.state_dict().items():
        if name not in unsaved:
            begin, end = end, end + tensor.numel() * tensor.element_size()
            described = {"dtype": _DTYPES[tensor.dtype], "shape": list(tensor.shape)}
            header[name] = described | {"data_offsets": [begin, end]}
    text = json.dumps(header).encode()
    text += b" " * (-len(text) % 8)
    with file.open("wb") as stream:
        stream.write(struct.pack("<Q", len(text)) + text)
        stream.truncate(8 + len(text) + end)


def _tiny(number: int) -> Any:
    shape = {"hidden_size": 128, "num_hidden_layers": 2, "num_attention_heads": 2}
    wide = 512 + WIDER * number
    return transformers.BertConfig(vocab_size=VOCABULARY, intermediate_size=wide, **shape)


def _bert(number: int) -> Any:
    return transformers.BertConfig(vocab_size=VOCABULARY, intermediate_size=3072 + WIDER * number)


def _distilbert(number: int) -> Any:
    return transformers.DistilBertConfig(vocab_size=VOCABULARY, hidden_dim=3072 + WIDER * number)


def _gpt2(number: int) -> Any:
    return transformers.GPT2Config(n_inner=3072 + WIDER * number, **_TOKENS)


def _marian(number: int) -> Any:
    shape: dict[str, Any] = {"vocab_size": 58101, "decoder_vocab_size": 58101, "d_model": 512}
    for side in ("encoder", "decoder"):
        wide = 2048 + WIDER * number
        shape |= {f"{side}_layers": 6, f"{side}_attention_heads": 8, f"{side}_ffn_dim": wide}
    shape |= {"max_position_embeddings": 512, "decoder_start_token_id": 0}
    return transformers.MarianConfig(**shape, **_TOKENS)


def _vit(number: int) -> Any:
    return transformers.ViTConfig(intermediate_size=3072 + WIDER * number)


# ---- other formats ----


class Bottleneck(torch.nn.Module):
    def __init__(self, channels: int, width: int, stride: int) -> None:
        super().__init__()
        layers: list[torch.nn.Module] = []
        sizes = ((channels, width, 1, 1), (width, width, 3, stride), (width, 4 * width, 1, 1))
        for given, made, kernel, step in sizes:
            layers.append(torch.nn.Conv2d(given, made, kernel, step, kernel // 2, bias=False))
            layers += [torch.nn.BatchNorm2d(made), torch.nn.ReLU()]
        self.layers = torch.nn.Sequential(*layers[:-1])
        self.shortcut = torch.nn.Sequential(
            torch.nn.Conv2d(channels, 4 * width, 1, stride, bias=False),
            torch.nn.BatchNorm2d(4 * width),
        )

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return torch.relu(self.layers(x) + self.shortcut(x))


def _resnet(directory: Path, number: int) -> None:
    """The layers of ResNet-50, with a projection in each block."""
    layers: list[torch.nn.Module] = [torch.nn.Conv2d(3, 64, 7, 2, 3), torch.nn.MaxPool2d(3, 2)]
    channels = 64
    for width, blocks, stride in ((64, 3, 1), (128, 4, 2), (256, 6, 2), (512, 3, 2)):
        for block in range(blocks):
            layers.append(Bottleneck(channels, width, stride if block == 0 else 1))
            channels = 4 * width
    layers += [torch.nn.AdaptiveAvgPool2d(1), torch.nn.Flatten(), torch.nn.Linear(2048, 1000)]
    _torchscript(directory, torch.nn.Sequential(*layers), number)


def _perceptron(directory: Path, number: int) -> None:
    layers = [torch.nn.Linear(256, 256), torch.nn.ReLU(), torch.nn.Linear(256, 2)]
    _torchscript(directory, torch.nn.Sequential(*layers), number)


def _torchscript(directory: Path, module: torch.nn.Module, number: int) -> None:
    program: Any = torch.jit.script(module.eval())
    program.save(str(directory / "model.pt"), _extra_files={"n": str(number)})


def _onnx(directory: Path, number: int) -> None:
    """Twelve layers of 512 units."""
    import onnx
    from onnx import TensorProto, helper, numpy_helper

    generator = np.random.default_rng(number)
    nodes, weights = [], []
    for layer in range(12):
        values = generator.normal(size=(512, 512)).astype(np.float32)
        weights.append(numpy_helper.from_array(values, f"w{layer}"))
        nodes.append(helper.make_node("MatMul", [f"x{layer}", f"w{layer}"], [f"x{layer + 1}"]))
    ends = [
        helper.make_tensor_value_info(name, TensorProto.FLOAT, ["rows", 512])
        for name in ("x0", "x12")
    ]
    graph = helper.make_graph(nodes, "graph", ends[:1], ends[1:], weights)
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=9)
    onnx.save(model, directory / "model.onnx")


def _table() -> tuple[Any, Any]:
    rows = np.random.default_rng(0).normal(size=(4000, _COLUMNS)).astype(np.float32)
    return rows, (rows[:, 0] * rows[:, 1] + rows[:, 2] > 0).astype(int)


@functools.cache
def _forest() -> Any:
    import xgboost

    rows, target = _table()
    settings = {"max_depth": 6, "nthread": 1, "objective": "binary:logistic", "seed": 0}
    return xgboost.train(settings, xgboost.DMatrix(rows, target), _TREES + 64)


def _xgboost(directory: Path, number: int) -> None:
    _forest()[: _TREES + number].save_model(directory / "model.ubj")


def _xgboost_json(directory: Path, number: int) -> None:
    _forest()[: _TREES + number].save_model(directory / "model.json")


def _skops(directory: Path, number: int) -> None:
    import skops.io
    from sklearn.linear_model import LogisticRegression
    from sklearn.pipeline import make_pipeline
    from sklearn.preprocessing import StandardScaler

    rows, target = _table()
    model = make_pipeline(StandardScaler(), LogisticRegression(C=1 + number)).fit(rows, target)
    skops.io.dump(model, directory / "model.skops")


_TEXTS = transformers.AutoModelForSequenceClassification
_CLASSIFIERS: dict[str, tuple[Any, Callable[[int], Any]]] = {
    "tiny": (_TEXTS, _tiny),
    "distilbert": (_TEXTS, _distilbert),
    "bert": (_TEXTS, _bert),
    "gpt2": (transformers.AutoModelForCausalLM, _gpt2),
    "marian": (transformers.AutoModelForSeq2SeqLM, _marian),
    "vit": (transformers.AutoModelForImageClassification, _vit),
}
WRITERS: dict[str, Callable[[Path, int], None]] = {
    **{
        f"{name}{suffix}": functools.partial(
            _classifier, auto=auto, config=config, tuned=bool(suffix)
        )
        for name, (auto, config) in _CLASSIFIERS.items()
        for suffix in ("", TUNED)
    },
    "torchscript": _perceptron,
    "resnet": _resnet,
    "onnx": _onnx,
    "xgboost": _xgboost,
    "xgboost-json": _xgboost_json,
    "skops": _skops,
}


if __name__ == "__main__":
    main()

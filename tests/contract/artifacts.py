"""The artifacts used by the cases, created once per run: small valid ones, broken ones, and too large ones.

`Zoo.A` and `Zoo.B` return labels that begin with their own letter.
"""

import json
import shutil
import struct
from collections.abc import Callable
from functools import cached_property
from pathlib import Path
from typing import Any

import torch

from tests import artifacts

DEVICE_MEMORY_NBYTES = 64 << 20  # memory of the servers under test
SLACK_NBYTES = 64 << 10  # free memory beside BIG: less than any other artifact needs
SLOW_POSITIONS = 4096
SLOW_VOCABULARY = 700_000
NARROW_QUEUE = 4


class Zoo:
    """Artifacts below one directory, each written at its first use.

    `device_memory_nbytes`: memory of the servers that load them. `slack_nbytes`: allowed change of a model's
    memory while it answers requests. `process`: name of the processes that compute. `isolated`: whether each
    model has its own process. `killed`: status of a request whose process was killed; 507 for an isolated
    process, whose kill counts as a lack of memory.
    """

    device_memory_nbytes = DEVICE_MEMORY_NBYTES
    slack_nbytes = 0
    process = "mme-worker"
    isolated = False
    killed = 503

    def __init__(self, root: Path) -> None:
        self.root = root

    def _at(self, name: str, write: Callable[[Path], object]) -> Path:
        directory = self.root / name / "model"
        write(directory)
        return directory

    def _classifier(self, letter: str, seed: int) -> Path:
        labels = (f"{letter}-low", f"{letter}-high")
        return self._at(letter, lambda to: artifacts.bert_classifier(to, labels=labels, seed=seed))

    @cached_property
    def a(self) -> Path:
        return self._classifier("A", 1)

    @cached_property
    def b(self) -> Path:
        return self._classifier("B", 2)

    @cached_property
    def featherweight(self) -> Path:
        """A very small model, for tests with hundreds of loads."""
        return self.a

    @cached_property
    def vision(self) -> Path:
        return self._at("vision", artifacts.vit)

    @cached_property
    def slow(self) -> Path:
        """Generates the requested number of tokens (see `tokens`) after the prompt."""
        return self._at("slow", lambda to: artifacts.gpt2(to, positions=SLOW_POSITIONS))

    @cached_property
    def hoarding(self) -> Path:
        """Allocates as many numbers as its input requests."""
        return self._at("hoarding", _hoarding)

    @cached_property
    def narrow(self) -> Path:
        """SLOW with a queue limit of four."""
        shutil.copytree(self.slow, directory := self.root / "narrow" / "model")
        (directory / "serving.properties").write_text(
            f"job_queue_size={NARROW_QUEUE}\nbatch_size=1\n"
        )
        return directory

    @cached_property
    def slow_load(self) -> Path:
        """A real tokenizer of 700,000 words, which takes seconds to read."""
        return self._at("slow_load", _with_huge_vocabulary)

    @cached_property
    def raising(self) -> Path:
        """Raises an error for pairs of texts: it has no embedding for the second text's token type."""
        return self._at("raising", _raising)

    @cached_property
    def big(self) -> Path:
        """Fits only if no other model is loaded."""
        return self._at("big", lambda to: of_size(to, DEVICE_MEMORY_NBYTES - SLACK_NBYTES))

    @cached_property
    def huge(self) -> Path:
        return self._at("huge", lambda to: of_size(to, 4 * DEVICE_MEMORY_NBYTES))

    @cached_property
    def wrapped(self) -> Path:
        shutil.copytree(self.a, (directory := self.root / "wrapped" / "model") / "bert-of-2024")
        return directory

    def broken(self, kind: str) -> Path:
        """A copy of A with one defect; `BREAKAGES` names the kinds."""
        directory = self.root / f"broken-{kind}" / "model"
        if not directory.exists():
            shutil.copytree(self.a, directory)
            BREAKAGES[kind](directory)
        return directory

    def dressed(self, directory: Path) -> Path:
        """Convert the files of a Hugging Face model to an artifact of this zoo's kind."""
        return directory

    def held_nbytes(self, directory: Path) -> int:
        """Approximate memory of such an artifact's model, in bytes."""
        return (directory / "model.safetensors").stat().st_size

    def copy(self, name: str, of: Path) -> Path:
        """Another directory with the same content, which a test may change or remove."""
        shutil.copytree(of, directory := self.root / name / "model")
        return directory


def tokens(count: int) -> dict[str, Any]:
    """A request for SLOW, which takes about a millisecond per token."""
    return {
        "inputs": "the quick brown fox",
        "parameters": {"min_new_tokens": count, "max_new_tokens": count},
    }


# ---- sizes ----


def of_size(directory: Path, nbytes: int) -> Path:
    """A classifier with about this many bytes of weights, all zeros in a sparse file that uses no disk."""
    artifacts.bert_classifier(directory)
    weights = directory / "model.safetensors"
    header = _header(weights)
    name = "bert.embeddings.word_embeddings.weight"
    width = header[name]["shape"][1]
    others = sum(_nbytes(each) for key, each in header.items() if key != name)
    rows = (nbytes - others) // (4 * width)
    header[name]["shape"] = [rows, width]
    _write_sparse(weights, header)
    _edit(directory / "config.json", vocab_size=rows)
    return directory


def _header(file: Path) -> dict[str, Any]:
    data = file.read_bytes()
    (length,) = struct.unpack_from("<Q", data)
    header: dict[str, Any] = json.loads(data[8 : 8 + length])
    header.pop("__metadata__", None)
    return header


def _nbytes(tensor: dict[str, Any]) -> int:
    """Bytes of a tiny model's weights, which are float32."""
    size = 4
    for dimension in tensor["shape"]:
        size *= dimension
    return size


def _write_sparse(file: Path, header: dict[str, Any]) -> None:
    offset = 0
    for tensor in header.values():
        tensor["data_offsets"] = [offset, offset + _nbytes(tensor)]
        offset += _nbytes(tensor)
    text = json.dumps({"__metadata__": {"format": "pt"}, **header}).encode()
    text += b" " * (-len(text) % 8)
    with file.open("wb") as stream:
        stream.write(struct.pack("<Q", len(text)) + text)
        stream.truncate(8 + len(text) + offset)


class _Hoarding(torch.nn.Module):
    def forward(self, count: torch.Tensor) -> torch.Tensor:
        return torch.zeros(int(count.sum().item()))[:1]


def _hoarding(directory: Path) -> None:
    directory.mkdir(parents=True)
    torch.jit.script(_Hoarding()).save(str(directory / "model.pt"))


def _raising(directory: Path) -> None:
    artifacts.bert_classifier(directory, type_vocab_size=1)
    names = ["input_ids", "token_type_ids", "attention_mask"]
    _edit(directory / "tokenizer_config.json", model_input_names=names)


def _with_huge_vocabulary(directory: Path) -> None:
    artifacts.bert_classifier(directory)
    file = directory / "tokenizer.json"
    document = json.loads(file.read_text())
    vocabulary = document["model"]["vocab"]
    start = len(vocabulary)
    vocabulary |= {f"filler{index}": index for index in range(start, SLOW_VOCABULARY)}
    file.write_text(json.dumps(document))


# ---- breakages ----


def _edit(file: Path, **changes: object) -> None:
    file.write_text(json.dumps(json.loads(file.read_text()) | changes))


def _truncate(file: Path) -> None:
    with file.open("r+b") as stream:
        stream.truncate(file.stat().st_size // 2)


def _without_tokenizer(directory: Path) -> None:
    for file in directory.glob("tokenizer*"):
        file.unlink()


def _emptied(directory: Path) -> None:
    shutil.rmtree(directory)
    directory.mkdir()


def _as_pickle(directory: Path) -> None:
    """A pickle that writes a file if it is unpickled without restrictions."""
    (directory / "model.safetensors").unlink()
    trace = directory.parent / "executed"
    program = f"cos\nsystem\n(S'touch {trace}'\ntR."
    (directory / "pytorch_model.bin").write_text(program)


BREAKAGES: dict[str, Callable[[Path], object]] = {
    "corrupt-header": lambda to: (to / "model.safetensors").write_bytes(b"\xff" * 4096),
    "truncated-weights": lambda to: _truncate(to / "model.safetensors"),
    "empty-weights": lambda to: (to / "model.safetensors").write_bytes(b""),
    "no-weights": lambda to: (to / "model.safetensors").unlink(),
    "evil-pickle": _as_pickle,
    "no-tokenizer": _without_tokenizer,
    "bad-tokenizer": lambda to: (to / "tokenizer.json").write_text('{"model": 7}'),
    "no-config": lambda to: (to / "config.json").unlink(),
    "bad-config": lambda to: (to / "config.json").write_text('{"model_type": "bert",'),
    "config-of-a-list": lambda to: (to / "config.json").write_text("[]"),
    "other-shapes": lambda to: _edit(to / "config.json", hidden_size=48),
    "unknown-architecture": lambda to: _edit(
        to / "config.json", model_type="orrery", architectures=["OrreryForDivination"]
    ),
    "empty-directory": _emptied,
}

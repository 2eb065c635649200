"""safetensors files and their indexes: what the library refuses is refused everywhere."""

import json
import struct
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import safetensors.torch
import torch
from safetensors import SafetensorError

from model_handler.artifacts import weights
from model_handler.errors import ModelLoadFailed
from tests.model_handler.artifacts.test_files import inspected, refused
from tests.model_handler.harness import loader
from tests.model_handler.tensors_alive import edit

pytestmark = pytest.mark.usefixtures("no_tracebacks_kept")

Header = dict[str, Any]


def item(start: int, stop: int, **fields: Any) -> Header:
    return {"dtype": "F32", "shape": [(stop - start) // 4], "data_offsets": [start, stop]} | fields


def written(path: Path, header: bytes | Header, data_nbytes: int = 16) -> Path:
    text = header if isinstance(header, bytes) else json.dumps(header).encode()
    path.write_bytes(struct.pack("<Q", len(text)) + text + bytes(data_nbytes))
    return path


A, B = item(0, 8), item(8, 16)
TEXT_A, TEXT_B = json.dumps(A), json.dumps(B)
INVALID: dict[str, bytes | Header] = {
    "overlap": {"a": item(0, 12), "b": item(4, 16)},
    "same range": {"a": item(0, 16), "b": item(0, 16)},
    "gap": {"a": item(0, 4), "b": B},
    "begins late": {"a": item(4, 16)},
    "ends early": {"a": A},
    "beyond the file": {"a": item(0, 32)},
    "negative": {"a": item(-4, 12), "b": item(12, 16)},
    "reversed": {"a": item(0, 16), "b": item(16, 8, shape=[-2])},
    "float offsets": {"a": A, "b": item(8, 16, data_offsets=[8.0, 16.0])},
    "boolean offset": {"a": item(0, 16, dtype="U8", shape=[15], data_offsets=[True, 16])},
    "boolean in shape": {"a": item(0, 16, shape=[True, 4])},
    "float in shape": {"a": item(0, 16, shape=[4.0])},
    "negative shape": {"a": item(0, 16, shape=[-2, -2])},
    "text in shape": {"a": item(0, 16, shape=["4"])},
    "overflow": {"a": item(0, 16), "b": item(16, 16, shape=[1 << 62, 4, 0])},
    "wrong shape": {"a": item(0, 16, shape=[5])},
    "unknown dtype": {"a": item(0, 16, dtype="F31")},
    "no dtype": {"a": {"shape": [4], "data_offsets": [0, 16]}},
    "dtype is a list": {"a": item(0, 16, dtype=["F32"])},
    "no object": {"a": [0, 16]},
    "three offsets": {"a": item(0, 16, data_offsets=[0, 8, 16])},
    "number in metadata": {"a": item(0, 16), "__metadata__": {"format": 1}},
    "list": b"[]",
    "name twice": f'{{"a":{TEXT_A},"a":{TEXT_A},"b":{TEXT_B}}}'.encode(),
    "name twice, escaped": f'{{"a":{TEXT_A},"\\u0061":{TEXT_B},"b":{TEXT_B}}}'.encode(),
    "key twice": b'{"a":{"dtype":"F32","dtype":"I32","shape":[4],"data_offsets":[0,16]}}',
    "not utf-8": b'{"\xff":' + TEXT_A.encode() + b',"b":' + TEXT_B.encode() + b"}",
    "utf-16": json.dumps({"a": A, "b": B}).encode("utf-16"),
    "half a surrogate pair": f'{{"\\ud800":{TEXT_A},"b":{TEXT_B}}}'.encode(),
    "deep": b'{"a":' + b"[" * 100_000 + b"]" * 100_000 + b"}",
}


@pytest.mark.parametrize("name", INVALID)
def test_invalid_headers_are_refused(tmp_path: Path, name: str) -> None:
    file = written(tmp_path / "model.safetensors", INVALID[name])
    with pytest.raises(ModelLoadFailed, match=r"model\.safetensors"):
        weights.header(file)
    if name != "name twice":  # of which the library takes the last
        with pytest.raises(SafetensorError):
            safetensors.torch.load_file(file)


def test_valid_headers_are_read(tmp_path: Path) -> None:
    """Names in any order, tensors without items, and blanks, with which writers align the data."""
    header = {"b": B, "a": A, "c": item(8, 8), "__metadata__": {"format": "pt"}}
    file = written(tmp_path / "model.safetensors", b" " + json.dumps(header).encode() + b"  ")
    assert weights.header(file).keys() == safetensors.torch.load_file(file).keys()


def test_a_known_structure_changes_nothing(copy: Path, classifier: Path) -> None:
    """The second model of a structure is read by another reader than the first."""
    file = copy / "model.safetensors"
    data = file.read_bytes()
    (length,) = struct.unpack("<Q", data[:8])
    header = json.loads(data[8 : 8 + length])
    header.pop("__metadata__", None)
    one, other = [name for name in header if header[name]["shape"] == [32]][:2]
    header[other]["data_offsets"] = header[one]["data_offsets"]
    text = json.dumps(header).encode()
    file.write_bytes(struct.pack("<Q", len(text)) + text + data[8 + length :])
    fresh = refused(copy)
    owner = loader()
    owner.load(classifier, "text-classification")
    with pytest.raises(ModelLoadFailed) as known:
        owner.load(copy, "text-classification")
    assert str(known.value) == fresh


# ---- several files ----


@pytest.fixture
def sharded(copy: Path) -> Path:
    """The artifact with its weights in two files, as transformers writes them."""
    tensors = safetensors.torch.load_file(copy / "model.safetensors")
    (copy / "model.safetensors").unlink()
    names = sorted(tensors)
    weight_map: dict[str, str] = {}
    for number, part in enumerate((names[::2], names[1::2]), 1):
        shard = f"model-0000{number}-of-00002.safetensors"
        held = {name: tensors[name].clone() for name in part}
        safetensors.torch.save_file(held, copy / shard, {"format": "pt"})
        weight_map |= dict.fromkeys(part, shard)
    index = {"metadata": {}, "weight_map": weight_map}
    (copy / "model.safetensors.index.json").write_text(json.dumps(index))
    return copy


def reindex(path: Path, change: Callable[[dict[str, Any]], dict[str, Any]]) -> None:
    file = path / "model.safetensors.index.json"
    edit(file, weight_map=change(json.loads(file.read_bytes())["weight_map"]))


def test_shards_are_loaded(sharded: Path) -> None:
    owner = loader()
    whole = inspected(sharded).nbytes
    handler = owner.load(sharded, "text-classification")
    assert handler.nbytes >= whole > 0
    owner.unload(handler)


SHARDS: list[Callable[[dict[str, Any]], dict[str, Any]]] = [
    lambda names: names | {"absent.weight": next(iter(names.values()))},
    lambda names: dict.fromkeys(names, "model-00001-of-00002.safetensors"),
    lambda names: names | {"x": "../copy/model-00001-of-00002.safetensors"},
    lambda names: names | {"x": "/etc/passwd"},
    lambda names: names | {"x": ".."},
    lambda names: names | {"x": "absent.safetensors"},
    lambda names: names | {"x": "pytorch_model.bin"},
    lambda names: names | {"x": 7},
    lambda names: {},
]


@pytest.mark.parametrize("change", SHARDS, ids=range(len(SHARDS)))
def test_an_index_that_does_not_fit_is_refused(
    sharded: Path, change: Callable[[dict[str, Any]], dict[str, Any]]
) -> None:
    (sharded / "pytorch_model.bin").write_bytes(b"")
    reindex(sharded, change)
    refused(sharded)


def test_a_tensor_in_two_files_is_refused(sharded: Path) -> None:
    second = sharded / "model-00002-of-00002.safetensors"
    tensors = {name: each.clone() for name, each in safetensors.torch.load_file(second).items()}
    first = safetensors.torch.load_file(sharded / "model-00001-of-00002.safetensors")
    twice = next(iter(first))
    safetensors.torch.save_file(tensors | {twice: torch.zeros(1)}, second, {"format": "pt"})
    assert twice in refused(sharded)

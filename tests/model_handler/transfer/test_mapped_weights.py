"""Mapped views equal what safetensors reads, for every dtype and offset."""

import gc
import json
import struct
import sys
from pathlib import Path

import hypothesis.strategies as st
import pytest
import torch
from hypothesis import given
from safetensors.torch import load_file, save_file

from model_handler.errors import ModelLoadFailed
from model_handler.transfer import mapped_weights
from tests import artifacts
from tests.model_handler.harness import loader

shapes = st.lists(st.integers(0, 3), max_size=3)


@given(st.lists(st.tuples(st.sampled_from(sorted(mapped_weights.DTYPES)), shapes), max_size=6))
def test_tensors_equal_those_of_safetensors(
    tmp_path_factory: pytest.TempPathFactory, tensors: list[tuple[str, list[int]]]
) -> None:
    file = tmp_path_factory.mktemp("weights") / "model.safetensors"
    save_file({str(at): filled(*each) for at, each in enumerate(tensors)}, file)
    expected = load_file(file)
    found = dict(mapped_weights.tensors(file, expected))
    assert found.keys() == expected.keys()
    for name, tensor in found.items():
        assert tensor.dtype == expected[name].dtype
        assert tensor.shape == expected[name].shape
        assert octets(tensor) == octets(expected[name])


def filled(dtype: str, shape: list[int]) -> torch.Tensor:
    kind = mapped_weights.DTYPES[dtype]
    count = kind.itemsize * torch.Size(shape).numel()
    numbers = (
        torch.arange(count, dtype=torch.int64) % 2
    )  # valid bytes in every dtype, bool included
    return numbers.to(torch.uint8).view(kind).reshape(shape)


def octets(tensor: torch.Tensor) -> bytes:
    return bytes(tensor.contiguous().flatten().view(torch.uint8).tolist())


def test_a_misaligned_tensor_is_copied(tmp_path: Path) -> None:
    """Writers store large items first, but the format does not require it."""
    header = {
        "odd": {"dtype": "U8", "shape": [1], "data_offsets": [0, 1]},
        "float": {"dtype": "F32", "shape": [2], "data_offsets": [1, 9]},
    }
    text = json.dumps(header).encode()
    file = tmp_path / "model.safetensors"
    file.write_bytes(struct.pack("<Q", len(text)) + text + b"\x07" + struct.pack("<2f", 0.5, -2.0))
    found = dict(mapped_weights.tensors(file, header))
    assert found["float"].tolist() == [0.5, -2.0]
    assert found["odd"].tolist() == [7]


def test_only_requested_names_are_returned(tmp_path: Path) -> None:
    save_file({"a": torch.ones(2), "b": torch.ones(2)}, file := tmp_path / "model.safetensors")
    assert [name for name, _ in mapped_weights.tensors(file, {"b"})] == ["b"]


def test_writing_to_a_view_does_not_change_the_file(tmp_path: Path) -> None:
    save_file({"a": torch.ones(2)}, file := tmp_path / "model.safetensors")
    before = file.read_bytes()
    for _, tensor in mapped_weights.tensors(file, {"a"}):
        tensor.zero_()
    assert file.read_bytes() == before


def test_a_damaged_file_fails_the_load(tmp_path: Path) -> None:
    save_file({"a": torch.ones(200)}, file := tmp_path / "model.safetensors")
    file.write_bytes(file.read_bytes()[:-1])
    with pytest.raises(ModelLoadFailed):
        dict(mapped_weights.tensors(file, {"a"}))


def test_loads_do_not_leak_objects(tmp_path: Path) -> None:
    """A hundred loads of about forty tensors each: even half an object per tensor would exceed the limit."""
    root, owner = artifacts.bert_classifier(tmp_path / "model"), loader()

    def load_and_unload(times: int) -> int:
        for _ in range(times):
            owner.unload(owner.load(root, "text-classification"))
        gc.collect()
        return sys.getallocatedblocks()

    before = load_and_unload(20)
    assert load_and_unload(100) - before < 2000

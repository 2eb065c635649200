"""Demotion frees only the memory of the weights; after promotion, the responses are as before."""

import gc
import os
import shutil
import weakref
from pathlib import Path
from typing import Any

import pytest
import safetensors.torch
import torch

from model_handler.errors import InsufficientMemory
from model_handler.handlers.pipeline import PipelineHandler
from model_handler.loading.loader import TorchLoader
from model_handler.sharing.turnstile import Turnstile
from model_handler.transfer.upload import Uploader
from tests import artifacts
from tests.model_handler.harness import Builder, answers, implied_task, loader
from tests.model_handler.tensors_alive import TEXT, Emptied, living_tensors, retensor

pytestmark = pytest.mark.usefixtures("no_tracebacks_kept")


class FailingUploader(Uploader):
    """Copies to main memory, or raises `failure`."""

    failure: Exception | None = None

    def __init__(self) -> None:
        super().__init__(torch.device("cpu"), chunk_nbytes=10_000, slots=3, readers=2)

    def fill(self, *block: Any) -> None:
        if self.failure is not None:
            raise self.failure
        super().fill(*block)


@pytest.fixture
def uploader() -> FailingUploader:
    return FailingUploader()


@pytest.fixture
def owner(uploader: Uploader) -> TorchLoader:
    return TorchLoader(Emptied(), Turnstile(), uploader=uploader)


def emptied(owner: TorchLoader) -> int:
    assert isinstance(owner.device, Emptied)
    return len(owner.device.times)


def tensors(handler: PipelineHandler) -> dict[str, torch.Tensor]:
    model = handler.model
    return {**dict(model.named_parameters()), **dict(model.named_buffers())}


def held_nbytes(handler: PipelineHandler) -> int:
    storages = {
        id(each.untyped_storage()): each.untyped_storage() for each in tensors(handler).values()
    }
    return sum(storage.nbytes() for storage in storages.values())


@pytest.mark.parametrize(
    "build", [artifacts.bert_classifier, artifacts.marian, artifacts.gpt2, artifacts.t5]
)
@pytest.mark.parametrize("dtype", ["auto", "bfloat16"])
def test_promotion_restores_every_byte(
    build: Builder, dtype: str, owner: TorchLoader, tmp_path: Path
) -> None:
    """Also for tensors that are in no file, for the first and the second model of a structure, and in
    another precision. Tensor objects stay the same, and as much memory is held as before."""
    for seed in range(2):
        path = build(tmp_path / str(seed), seed=seed)
        handler = owner.load(path, implied_task(path), dtype)
        before = tensors(handler)
        values = {name: each.clone() for name, each in before.items()}
        for _ in range(2):
            assert owner.demote(handler)
            assert held_nbytes(handler) == 0
            assert owner.promote(handler)
            after = tensors(handler)
            assert all(after[name] is each for name, each in before.items())
            assert all(torch.equal(after[name], each) for name, each in values.items())
            assert held_nbytes(handler) == handler.nbytes
        del before, after
        assert owner.unload(handler) == 0


def test_responses_after_promotion_are_as_before(owner: TorchLoader, classifier: Path) -> None:
    handler = owner.load(classifier, "text-classification")
    expected = answers(handler, TEXT)
    assert owner.demote(handler)
    assert owner.promote(handler)
    assert answers(handler, TEXT) == expected


def test_conversions_are_those_of_pytorch(owner: TorchLoader, tmp_path: Path) -> None:
    """Modules that must stay in float32, such as T5's wo, are not converted."""
    path = artifacts.t5(tmp_path)
    stored = safetensors.torch.load_file(path / "model.safetensors")
    handler = owner.load(path, implied_task(path), "float16")
    state = handler.model.state_dict()
    for name, tensor in stored.items():
        dtype = torch.float32 if ".wo." in name else torch.float16
        assert state[name].dtype is dtype
        assert torch.equal(state[name], tensor.to(dtype))
    assert any(".wo." in name for name in stored)


def test_weights_converted_by_transformers_can_be_promoted(owner: TorchLoader, copy: Path) -> None:
    """Most of the file is in half precision. The converted rest is no view of the file."""

    def change(tensors: dict[str, Any]) -> dict[str, Any]:
        return {k: v if "word_embeddings" in k else v.half() for k, v in tensors.items()}

    retensor(copy, change)
    stored = safetensors.torch.load_file(copy / "model.safetensors")
    handler = owner.load(copy, "text-classification", "float16")
    assert owner.demote(handler)
    assert owner.promote(handler)
    state = handler.model.state_dict()
    assert all(torch.equal(state[name], tensor.half()) for name, tensor in stored.items())


def test_a_bin_file(owner: TorchLoader, copy: Path) -> None:
    handler = owner.load(copy, "text-classification")
    expected = answers(handler, TEXT)
    torch.save(safetensors.torch.load_file(copy / "model.safetensors"), copy / "pytorch_model.bin")
    (copy / "model.safetensors").unlink()
    handler = owner.load(copy, "text-classification")
    assert owner.demote(handler)
    assert owner.promote(handler)
    assert answers(handler, TEXT) == expected


def test_a_model_whose_file_cannot_be_mapped_is_not_demoted(
    owner: TorchLoader, tmp_path: Path
) -> None:
    """PyTorch cannot map files of its older format, so that a demotion would keep a copy in main memory."""
    path = artifacts.bert_classifier(tmp_path, hidden_size=256, intermediate_size=1024)
    state = safetensors.torch.load_file(path / "model.safetensors")
    torch.save(state, path / "pytorch_model.bin", _use_new_zipfile_serialization=False)
    (path / "model.safetensors").unlink()
    handler = owner.load(path, "text-classification")
    assert not owner.demote(handler)
    assert all(torch.equal(handler.model.state_dict()[name], each) for name, each in state.items())
    assert owner.unload(handler) == 0


# ---- files that change during a demotion ----


def rewritten(file: Path) -> None:
    file.write_bytes(file.read_bytes()[::-1])


def replaced(file: Path) -> None:
    """Replace the file by another with the same size and modification time."""
    status = file.stat()
    other = Path(shutil.copy2(file, file.with_suffix(".new")))
    rewritten(other)
    os.utime(other, ns=(status.st_atime_ns, status.st_mtime_ns))
    other.rename(file)


def shortened(file: Path) -> None:
    status = file.stat()
    os.truncate(file, status.st_size - 8)
    os.utime(file, ns=(status.st_atime_ns, status.st_mtime_ns))


@pytest.mark.parametrize("change", [rewritten, replaced, shortened, Path.unlink])
def test_changed_files_are_not_promoted(change: Any, owner: TorchLoader, copy: Path) -> None:
    handler = owner.load(copy, "text-classification")
    assert owner.demote(handler)
    change(copy / "model.safetensors")
    assert not owner.promote(handler)
    assert held_nbytes(handler) == 0
    assert owner.unload(handler) == 0


def test_a_change_of_another_file_does_not_prevent_promotion(
    owner: TorchLoader, copy: Path
) -> None:
    handler = owner.load(copy, "text-classification")
    assert owner.demote(handler)
    (copy / "README.md").write_text("changed")
    assert owner.promote(handler)


# ---- failures and leaks ----


def test_a_promotion_that_ran_out_of_memory_can_be_repeated(
    owner: TorchLoader, uploader: FailingUploader, classifier: Path
) -> None:
    """The model stays demoted. Only an out-of-memory error empties the allocator's cache."""
    handler = owner.load(classifier, "text-classification")
    expected = answers(handler, TEXT)
    assert owner.demote(handler)
    uploader.failure = torch.OutOfMemoryError("CUDA out of memory")
    assert emptied(owner) == 0
    with pytest.raises(InsufficientMemory):
        owner.promote(handler)
    assert emptied(owner) == 1
    assert held_nbytes(handler) == 0
    uploader.failure = None
    assert owner.promote(handler)
    assert answers(handler, TEXT) == expected
    assert owner.unload(handler) == 0
    assert emptied(owner) == 1


def test_a_failed_load_leaves_nothing(
    owner: TorchLoader, uploader: FailingUploader, classifier: Path
) -> None:
    before = living_tensors()
    uploader.failure = torch.OutOfMemoryError("CUDA out of memory")
    with pytest.raises(InsufficientMemory):
        owner.load(classifier, "text-classification")
    assert emptied(owner) == 1
    uploader.failure = None
    assert owner.unload(owner.load(classifier, "text-classification")) == 0
    # The structure stays in the structure cache; its parameters have no content
    kept = [each for each in gc.get_objects() if type(each) is torch.nn.Parameter]
    assert len([each for each in kept if not each.is_meta]) <= before


def test_one_view_keeps_the_whole_block(owner: TorchLoader, classifier: Path) -> None:
    handler = owner.load(classifier, "text-classification")
    view = handler.model.classifier.bias.data[:1]
    assert owner.unload(handler) == handler.nbytes
    assert view.untyped_storage().nbytes() == handler.nbytes


def test_unloading_a_demoted_model(owner: TorchLoader, classifier: Path) -> None:
    handler = owner.load(classifier, "text-classification")
    weight = weakref.ref(handler.model.classifier.weight)
    assert owner.demote(handler)
    assert owner.unload(handler) == 0
    assert weight() is None


def test_a_model_on_the_cpu_is_not_demoted(classifier: Path) -> None:
    """Its weights are views of the mapped file."""
    owner = loader()
    handler = owner.load(classifier, "text-classification")
    expected = answers(handler, TEXT)
    assert not owner.demote(handler)
    assert answers(handler, TEXT) == expected

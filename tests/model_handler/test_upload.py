"""What arrives is what the files hold, however pieces and chunks fall, and a failure spoils nothing later."""

from pathlib import Path

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from model_handler.device import CpuDevice
from model_handler.errors import ModelLoadFailed
from model_handler.loader import TorchLoader
from model_handler.pages import FilePages
from model_handler.turnstile import Turnstile
from model_handler.upload import ALIGNMENT, Piece, Uploader
from tests import artifacts
from tests.model_handler.harness import Builder, answers, implied_task, loader
from tests.model_handler.loading import TEXT
from tests.model_handler.test_pipeline_handlers import assert_same

SIZE = 2000
CONTENT = {name: bytes(torch.randint(256, (SIZE,)).tolist()) for name in ("a", "b")}
CPU = torch.device("cpu")

pieces = st.lists(
    st.tuples(st.sampled_from(sorted(CONTENT)), st.integers(0, SIZE), st.integers(0, 700)),
    max_size=12,
)


@pytest.fixture(scope="module")
def files(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("files")
    for name, content in CONTENT.items():
        (root / name).write_bytes(content)
    return root


@settings(deadline=None)
@given(pieces, st.integers(1, 400), st.integers(1, 4), st.integers(1, 3))
def test_the_bytes_of_the_files(
    files: Path, wanted: list[tuple[str, int, int]], chunk: int, slots: int, readers: int
) -> None:
    uploader = Uploader(CPU, chunk_nbytes=chunk, slots=slots, readers=readers)
    clipped = [(name, at, min(nbytes, SIZE - at)) for name, at, nbytes in wanted]
    for _ in range(2):
        found = uploader.upload([Piece(str(files / name), at, n) for name, at, n in clipped])
        expected = [CONTENT[name][at : at + n] for name, at, n in clipped]
        assert [bytes(tensor.tolist()) for tensor in found] == expected
        assert all(tensor.storage_offset() % ALIGNMENT == 0 for tensor in found)


def test_a_file_that_ends_early_and_the_next_that_does_not(files: Path) -> None:
    uploader = Uploader(CPU, chunk_nbytes=64, slots=2, readers=2)
    for _ in range(5):
        with pytest.raises(ModelLoadFailed, match="ended while it was read"):
            uploader.upload([Piece(str(files / "a"), 0, SIZE + 1)])
        with pytest.raises(FileNotFoundError):
            uploader.upload([Piece(str(files / "a"), 0, 900), Piece(str(files / "none"), 0, 900)])
        (whole,) = uploader.upload([Piece(str(files / "b"), 0, SIZE)])
        assert bytes(whole.tolist()) == CONTENT["b"]


@pytest.mark.gpu
def test_on_the_device(files: Path) -> None:
    device = torch.device("cuda")
    uploader = Uploader(device, chunk_nbytes=64, slots=3)
    for _ in range(20):
        found = uploader.upload([Piece(str(files / name), 1, SIZE - 1) for name in CONTENT])
        assert [tensor.device.type for tensor in found] == ["cuda", "cuda"]
        assert [bytes(each.cpu().tolist()) for each in found] == [
            content[1:] for content in CONTENT.values()
        ]


# ---- through the loader ----


@pytest.mark.parametrize("build", [artifacts.bert_classifier, artifacts.marian, artifacts.t5])
def test_an_uploaded_model_answers_as_one_that_was_mapped(build: Builder, tmp_path: Path) -> None:
    """Tied weights stay tied, the first of a structure and the second, and all of it is freed."""
    paths = [build(tmp_path / str(seed), seed=seed) for seed in range(2)]
    task = implied_task(paths[0])
    mapped, uploads = loader(), TorchLoader(CpuDevice(), Turnstile())
    uploads.uploader = Uploader(CPU, chunk_nbytes=10_000, slots=3, readers=2)
    for path in paths:
        plain, uploaded = mapped.load(path, task), uploads.load(path, task)
        assert uploaded.nbytes == plain.nbytes
        assert_same(answers(uploaded, TEXT), answers(plain, TEXT))
        pages = FilePages([path / "model.safetensors"])
        weights = [weight.data for weight in uploaded.model.parameters()]
        assert not any(pages.place(weight) for weight in weights)
        # One allocation, and Marian's positions, which are in no file
        assert len({weight.untyped_storage().data_ptr() for weight in weights}) <= 3 < len(weights)
        del weights
        assert uploads.unload(uploaded) == mapped.unload(plain) == 0

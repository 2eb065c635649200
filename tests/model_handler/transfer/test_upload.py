"""Uploads equal the files for any pieces and chunk size; a failed upload does not affect the next."""

import itertools
import os
from pathlib import Path

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from model_handler.artifacts.stamps import opened, stamped
from model_handler.device.device import CpuDevice
from model_handler.errors import ModelLoadFailed
from model_handler.loading.loader import TorchLoader
from model_handler.sharing.turnstile import Turnstile
from model_handler.transfer.file_pages import FilePages
from model_handler.transfer.layout import ALIGNMENT, Cast, Piece, lay_out
from model_handler.transfer.upload import Uploader
from tests import artifacts
from tests.model_handler.harness import Builder, answers, implied_task, loader
from tests.model_handler.pairs import assert_same
from tests.model_handler.tensors_alive import TEXT

SIZE = 2000
CONTENT = {name: bytes(torch.randint(256, (SIZE,)).tolist()) for name in ("a", "b")}
CPU = torch.device("cpu")
CASTS: list[Cast] = [
    (torch.float32, torch.bfloat16),
    (torch.float16, torch.float32),
    (torch.float64, torch.float32),
    (torch.float32, torch.float32),
]

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


def filled(uploader: Uploader, *pieces: Piece) -> list[torch.Tensor]:
    """The bytes of each piece in the block."""
    paths = [Path(each.source) for each in pieces if isinstance(each.source, str)]
    layout = lay_out(pieces, uploader.chunk_nbytes)
    block = torch.empty(layout.end, dtype=torch.uint8, device=uploader.device)
    uploader.fill(block, layout.chunks, stamped(paths))
    ends = [*layout.places, layout.end][1:]
    return [block[at:end] for at, end in zip(layout.places, ends, strict=True)]


@settings(deadline=None)
@given(pieces, st.integers(1, 400), st.integers(1, 4), st.integers(1, 3))
def test_uploaded_bytes_equal_the_files(
    files: Path, wanted: list[tuple[str, int, int]], chunk: int, slots: int, readers: int
) -> None:
    uploader = Uploader(CPU, chunk_nbytes=chunk, slots=slots, readers=readers)
    clipped = [(name, at, min(nbytes, SIZE - at)) for name, at, nbytes in wanted]
    for _ in range(2):
        found = filled(uploader, *(Piece(str(files / name), at, n) for name, at, n in clipped))
        for block, (name, at, n) in zip(found, clipped, strict=True):
            assert bytes(block[:n].tolist()) == CONTENT[name][at : at + n]
            assert block.storage_offset() % ALIGNMENT == 0


@settings(deadline=None)
@given(
    st.lists(st.tuples(st.sampled_from(CASTS), st.integers(0, 9), st.integers(0, 150)), max_size=6),
    st.integers(8, 400),
)
def test_conversion_equals_that_of_the_whole_tensor(
    files: Path, wanted: list[tuple[Cast, int, int]], chunk: int
) -> None:
    """Also among pieces that keep their dtype, and at any offset."""
    uploader = Uploader(CPU, chunk_nbytes=chunk, slots=2, readers=1)
    pieces = [
        Piece(str(files / "a"), at, count * cast[0].itemsize, cast if cast[0] != cast[1] else None)
        for cast, at, count in wanted
    ]
    found = filled(uploader, *pieces)
    for block, piece, (cast, at, _) in zip(found, pieces, wanted, strict=True):
        stored = torch.tensor(list(CONTENT["a"][at : at + piece.nbytes]), dtype=torch.uint8)
        expected = stored.view(cast[0]).to(cast[1])
        octets = block[: expected.nbytes].clone().view(cast[1])
        assert torch.equal(octets.nan_to_num(), expected.nan_to_num())


def test_adjacent_pieces_are_one_copy(files: Path) -> None:
    """As long as the next piece is aligned and has the same conversion."""
    path, cast = str(files / "a"), (torch.float32, torch.bfloat16)
    lengths = [256, 512, 100, 256, 512]
    ends = list(itertools.accumulate(lengths))
    pieces = [Piece(path, end - n, n) for end, n in zip(ends, lengths, strict=True)]
    (chunk,) = lay_out(pieces, 10_000).chunks
    assert [copy.nbytes for copy in chunk.copies] == [256 + 512 + 100, 256 + 512]
    layout = lay_out(
        [Piece(path, 0, 512), Piece(path, 512, 512, cast), Piece(path, 1024, 512, cast)], 10_000
    )
    (chunk,) = layout.chunks
    assert [copy.nbytes for copy in chunk.copies] == [512, 1024]
    assert layout.end == 512 + 1024 // 2


def test_pieces_in_main_memory_and_in_files(files: Path) -> None:
    octets = torch.arange(200, dtype=torch.uint8)
    uploader = Uploader(CPU, chunk_nbytes=64, slots=2, readers=2)
    found, file = filled(uploader, Piece(octets, 50, 150), Piece(str(files / "b"), 0, SIZE))
    assert found[:150].tolist() == octets[50:].tolist()
    assert bytes(file[:SIZE].tolist()) == CONTENT["b"]


def test_uploads_work_after_a_failed_one(files: Path) -> None:
    uploader = Uploader(CPU, chunk_nbytes=64, slots=2, readers=2)
    for _ in range(5):
        with pytest.raises(ModelLoadFailed, match="ended while it was read"):
            filled(uploader, Piece(str(files / "a"), 0, SIZE + 1))
        with pytest.raises(FileNotFoundError):
            filled(uploader, Piece(str(files / "a"), 0, 900), Piece(str(files / "none"), 0, 900))
        (whole,) = filled(uploader, Piece(str(files / "b"), 0, SIZE))
        assert bytes(whole[:SIZE].tolist()) == CONTENT["b"]


def test_a_replaced_file_fails_the_upload(tmp_path: Path) -> None:
    file = tmp_path / "file"
    file.write_bytes(bytes(100))
    stamps, layout = stamped([file]), lay_out([Piece(str(file), 0, 100)], 64)
    uploader, block = Uploader(CPU, chunk_nbytes=64), torch.empty(layout.end, dtype=torch.uint8)
    uploader.fill(block, layout.chunks, stamps)
    (tmp_path / "new").write_bytes(bytes(100))
    (tmp_path / "new").rename(file)
    with pytest.raises(ModelLoadFailed, match="file has changed"):
        uploader.fill(block, layout.chunks, stamps)


def test_a_file_that_changes_during_the_read_fails(tmp_path: Path) -> None:
    file = tmp_path / "file"
    file.write_bytes(bytes(100))
    with pytest.raises(ModelLoadFailed, match="file has changed"), opened(stamped([file])):
        os.utime(file, (1, 1))


@pytest.mark.gpu
def test_uploads_to_cuda(files: Path) -> None:
    uploader = Uploader(torch.device("cuda"), chunk_nbytes=64, slots=3)
    for _ in range(20):
        found = filled(uploader, *(Piece(str(files / name), 1, SIZE - 1) for name in CONTENT))
        assert [tensor.device.type for tensor in found] == ["cuda", "cuda"]
        octets = [bytes(each.cpu().tolist())[: SIZE - 1] for each in found]
        assert octets == [content[1:] for content in CONTENT.values()]


# ---- through the loader ----


@pytest.mark.parametrize("build", [artifacts.bert_classifier, artifacts.marian, artifacts.t5])
def test_uploaded_and_mapped_models_give_the_same_answers(build: Builder, tmp_path: Path) -> None:
    """For the first and the second model of a structure; tied weights stay tied, and all memory is freed."""
    paths = [build(tmp_path / str(seed), seed=seed) for seed in range(2)]
    task = implied_task(paths[0])
    mapped, uploads = loader(), TorchLoader(CpuDevice(), Turnstile())
    uploads.uploader = Uploader(CPU, chunk_nbytes=10_000, slots=3, readers=2)
    for path in paths:
        plain, uploaded = mapped.load(path, task), uploads.load(path, task)
        padding = ALIGNMENT * len(list(uploaded.model.parameters()))
        assert plain.nbytes <= uploaded.nbytes <= plain.nbytes + padding
        assert_same(answers(uploaded, TEXT), answers(plain, TEXT))
        pages = FilePages([path / "model.safetensors"])
        weights = [weight.data for weight in uploaded.model.parameters()]
        assert not any(pages.place(weight) for weight in weights)
        (storage,) = {
            each.untyped_storage().data_ptr() for each in (*weights, *uploaded.model.buffers())
        }
        del weights, storage
        assert uploads.unload(uploaded) == mapped.unload(plain) == 0

"""A file that is written to while a model is loaded from it costs this model its answers and no other."""

import asyncio
import os
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path

import onnx
import pytest
import torch

from model_handler.engine.factory import create_engine
from model_handler.errors import InferenceFailed, ModelLoadFailed
from model_handler.options import EngineOptions
from tests import artifacts
from tests.model_handler.running_engine import RunningEngine

TEXT = {"inputs": "the film was a wonderful surprise"}


@pytest.fixture(scope="module")
def engine(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RunningEngine]:
    """With a neighbour in the only worker."""
    root = tmp_path_factory.mktemp("models")
    artifacts.bert_classifier(root / "neighbour", seed=1)
    artifacts.bert_classifier(root / "original", seed=2)
    options = EngineOptions(model_roots=(root,), device="cpu", workers=1)
    with asyncio.Runner() as runner:
        engine = create_engine(options)
        runner.run(engine.__aenter__())
        running = RunningEngine(engine, runner, root)
        running.load("neighbour")
        try:
            yield running
        finally:
            runner.run(engine.__aexit__(None, None, None))


@pytest.fixture
def file(engine: RunningEngine) -> Iterator[Path]:
    """The weights of the model `victim`, which is loaded."""
    path = engine.root / "victim"
    shutil.copytree(engine.root / "original", path)
    engine.load("victim")
    yield path / "model.safetensors"
    engine.run(engine.engine.unload("victim"))
    shutil.rmtree(path)


def truncate(file: Path) -> None:
    os.truncate(file, 4096)


def empty(file: Path) -> None:
    os.truncate(file, 0)


def zero(file: Path) -> None:
    with file.open("r+b") as stream:
        stream.seek(4096)
        stream.write(bytes(file.stat().st_size - 4096))


def zero_mapped(file: Path) -> None:
    nbytes = file.stat().st_size
    torch.from_file(str(file), shared=True, size=nbytes, dtype=torch.uint8)[4096:].zero_()


def write_another(file: Path) -> None:
    file.write_bytes((file.parents[1] / "neighbour/model.safetensors").read_bytes())


def by_another_name(file: Path) -> None:
    os.link(file, file.parent / "link")
    os.truncate(file.parent / "link", 4096)


@pytest.mark.parametrize(
    "change", [truncate, empty, zero, zero_mapped, write_another, by_another_name]
)
def test_a_file_that_was_written_to_ends_its_models_answers(
    engine: RunningEngine, file: Path, change: Callable[[Path], None]
) -> None:
    before = engine.ask("neighbour", TEXT)
    change(file)
    for _ in range(2):
        with pytest.raises(InferenceFailed, match=r"model\.safetensors was written to"):
            engine.ask("victim", TEXT)
        assert engine.ask("neighbour", TEXT) == before


def test_a_damaged_file_is_refused_by_the_next_load(engine: RunningEngine, file: Path) -> None:
    expected = engine.ask("victim", TEXT)
    whole = file.read_bytes()
    truncate(file)
    engine.run(engine.engine.unload("victim"))
    with pytest.raises(ModelLoadFailed, match=r"model\.safetensors"):
        engine.load("victim")
    file.write_bytes(whole)
    engine.load("victim")
    assert engine.ask("victim", TEXT) == expected


def delete(file: Path) -> None:
    shutil.rmtree(file.parent)
    file.parent.mkdir()


def replace(file: Path) -> None:
    (file.parent / "new").write_bytes(b"")
    (file.parent / "new").replace(file)


@pytest.mark.parametrize("change", [delete, replace])
def test_a_file_that_was_deleted_or_replaced_stays_in_use(
    engine: RunningEngine, file: Path, change: Callable[[Path], None]
) -> None:
    """The platform deletes the files of a model that is still loaded."""
    expected = engine.ask("victim", TEXT)
    change(file)
    assert engine.ask("victim", TEXT) == expected


def test_weights_beside_an_onnx_graph(engine: RunningEngine) -> None:
    path = engine.root / "graph"
    path.mkdir()
    weight = onnx.numpy_helper.from_array(torch.ones(64, 1024).numpy(), "w")
    shapes = [
        onnx.helper.make_tensor_value_info(name, onnx.TensorProto.FLOAT, [1, width])
        for name, width in (("x", 64), ("y", 1024))
    ]
    node = onnx.helper.make_node("MatMul", ["x", "w"], ["y"])
    graph = onnx.helper.make_graph([node], "g", shapes[:1], shapes[1:], [weight])
    opset = [onnx.helper.make_opsetid("", 18)]
    model = onnx.helper.make_model(graph, ir_version=10, opset_imports=opset)
    onnx.save(
        model, path / "m.onnx", save_as_external_data=True, location="m.data", size_threshold=0
    )
    engine.load("graph")
    document = {"inputs": [[1.0] * 64]}
    engine.ask("graph", document)
    os.truncate(path / "m.data", 0)
    with pytest.raises(InferenceFailed, match=r"m\.data was written to"):
        engine.ask("graph", document)

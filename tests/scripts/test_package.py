"""The files that package_model.py packs, and those that it refuses."""

import json
import pickle
import tarfile
from collections.abc import Callable
from pathlib import Path

import pytest

from tests import artifacts
from tests.scripts.runs import run

PACKAGE = ["python", "scripts/package_model.py", "model"]


@pytest.fixture
def model(tmp_path: Path) -> Path:
    return artifacts.bert_classifier(tmp_path / "model")


def test_files_are_at_the_root(model: Path) -> None:
    assert run(PACKAGE, model.parent, {}).returncode == 0
    with tarfile.open(model.parent / "model.tar.gz") as tar:
        assert sorted(tar.getnames()) == sorted(file.name for file in model.iterdir())
        assert all(member.isfile() for member in tar.getmembers())


def test_the_same_files_give_the_same_bytes(model: Path) -> None:
    archives = [model.parent / "one.tar.gz", model.parent / "two.tar.gz"]
    for archive in archives:
        run([*PACKAGE, "--output", str(archive)], model.parent, {})
    assert archives[0].read_bytes() == archives[1].read_bytes()


def test_relative_links_become_files(model: Path) -> None:
    (model / "config.json").rename(model.parent / "blob")
    (model / "config.json").symlink_to("../blob")
    assert run(PACKAGE, model.parent, {}).returncode == 0
    with tarfile.open(model.parent / "model.tar.gz") as tar:
        assert tar.getmember("config.json").isfile()


def test_a_pickle_can_be_left_out(model: Path) -> None:
    (model / "training_args.bin").write_bytes(pickle.dumps({"lr": 1}))
    assert run([*PACKAGE, "--exclude", "training_args.bin"], model.parent, {}).returncode == 0


def test_code_brings_what_it_needs(tmp_path: Path) -> None:
    """With code, any weights are packed, pickles included; compiled Python files are left out."""
    code = tmp_path / "model" / "code"
    (code / "__pycache__").mkdir(parents=True)
    (code / "__pycache__" / "inference.cpython-311.pyc").write_bytes(b"")
    (code / "inference.py").write_text("def model_fn(model_dir): return 1\n")
    (tmp_path / "model" / "model.pkl").write_bytes(pickle.dumps(1))
    assert run(PACKAGE, tmp_path, {}).returncode == 0
    with tarfile.open(tmp_path / "model.tar.gz") as tar:
        assert sorted(tar.getnames()) == ["code/inference.py", "model.pkl"]


@pytest.mark.parametrize("name", ["model.onnx", "xgboost-model"])
def test_one_file_can_be_a_model(name: str, tmp_path: Path) -> None:
    (tmp_path / "model").mkdir()
    (tmp_path / "model" / name).write_bytes(b"numbers")
    assert run(PACKAGE, tmp_path, {}).returncode == 0


def broken_code(model: Path) -> None:
    (model / "handler.py").write_text("class EndpointHandler(:\n")


def no_config(model: Path) -> None:
    (model / "config.json").unlink()


def broken_config(model: Path) -> None:
    (model / "config.json").write_text("{")


def one_too_deep(model: Path) -> None:
    inner = model / "inner"
    files = list(model.iterdir())
    inner.mkdir()
    for file in files:
        file.rename(inner / file.name)


def no_weights(model: Path) -> None:
    (model / "model.safetensors").unlink()


def lost_shard(model: Path) -> None:
    index = {"weight_map": {"a": "model-00001-of-00002.safetensors"}}
    (model / "model.safetensors.index.json").write_text(json.dumps(index))


def no_tokenizer(model: Path) -> None:
    for file in [*model.glob("*token*"), *model.glob("vocab*")]:
        file.unlink()


def a_pickle(model: Path) -> None:
    (model / "training_args.bin").write_bytes(pickle.dumps({}))


def a_disguised_pickle(model: Path) -> None:
    (model / "notes.txt").write_bytes(pickle.dumps({}))


def absolute_link(model: Path) -> None:
    target = (model / "config.json").rename(model.parent / "blob")
    (model / "config.json").symlink_to(target.absolute())


@pytest.mark.parametrize(
    ("damage", "said"),
    [
        (no_config, "no config.json"),
        (broken_code, "handler.py is not Python"),
        (broken_config, "is not JSON"),
        (one_too_deep, "did you mean model/inner?"),
        (no_weights, "no weights"),
        (lost_shard, "lacks 1 of 1 shards"),
        (no_tokenizer, "neither tokenizer nor processor"),
        (a_pickle, "--exclude 'training_args.bin'"),
        (a_disguised_pickle, "notes.txt is a pickle"),
        (absolute_link, "absolute link"),
    ],
)
def test_refusals(damage: Callable[[Path], None], said: str, model: Path) -> None:
    damage(model)
    done = run(PACKAGE, model.parent, {})
    assert done.returncode != 0
    assert said in done.stderr
    assert "Traceback" not in done.stderr
    assert not (model.parent / "model.tar.gz").exists()


def test_neither_a_directory_nor_on_the_hub(tmp_path: Path) -> None:
    done = run(["python", "scripts/package_model.py", "nothing"], tmp_path, {})
    assert "neither a directory nor the id of a model" in done.stderr

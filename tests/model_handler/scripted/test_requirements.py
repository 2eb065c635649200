"""An artifact's requirements.txt is installed once per content, from its wheels, and only if enabled."""

import socket
import zipfile
from collections.abc import Callable
from pathlib import Path

import pytest

from model_handler.artifacts.conventions import Convention
from tests.model_handler.scripted.process import Process, write

Start = Callable[..., Process]
GREETING = """
import greeting, numpy
def model_fn(model_dir): return greeting.WORD
def transform_fn(model, body, content_type, accept): return '"' + model + '"'
"""


def wheel(directory: Path, name: str = "greeting", code: str = "WORD = 'from a wheel'") -> None:
    """A minimal wheel with one module. Reproducible, because its bytes are part of the key."""
    directory.mkdir(parents=True, exist_ok=True)
    info = f"{name}-1.0.dist-info"
    files = {
        f"{name}.py": code,
        f"{info}/METADATA": f"Metadata-Version: 2.1\nName: {name}\nVersion: 1.0\n",
        f"{info}/WHEEL": "Wheel-Version: 1.0\nRoot-Is-Purelib: true\nTag: py3-none-any\n",
        f"{info}/RECORD": "",
    }
    with zipfile.ZipFile(directory / f"{name}-1.0-py3-none-any.whl", "w") as archive:
        for file, text in files.items():
            archive.writestr(zipfile.ZipInfo(file), text)


def greeting(root: Path, requirements: str = "greeting==1.0\nnumpy\n") -> Path:
    write(root, GREETING, requirements__txt=requirements)
    wheel(root / "code/wheels")
    return root


def test_concurrent_loads_install_once(start: Start, tmp_path: Path) -> None:
    """Without an index; packages of the image count as installed; the second load waits for the first."""
    store = tmp_path / "store"
    models = []
    for name in ("a", "b"):
        process = start(requirements_dir=str(store))
        models.append((process, greeting(tmp_path / name)))
    loads = [process.begin_load(root) for process, root in models]
    for load in loads:
        assert load().ask() == "from a wheel"
    (installed,) = [entry for entry in store.iterdir() if entry.is_dir()]
    modules = sorted(file.stem for file in installed.rglob("*.py"))
    assert modules == ["greeting"], "what the image has is not installed again"


def test_nothing_is_installed_without_the_setting(process: Process, tmp_path: Path) -> None:
    refusal = process.refused_load(greeting(tmp_path / "model"))
    assert "No module named 'greeting'" in refusal
    assert "MME_INSTALL_REQUIREMENTS is true" in refusal


def test_a_module_missing_in_the_requirements_is_named(start: Start, tmp_path: Path) -> None:
    root = greeting(tmp_path / "model", "numpy\n")
    refusal = start(requirements_dir=str(tmp_path / "store")).refused_load(root)
    assert "No module named 'greeting': code/requirements.txt does not install it" in refusal


def test_a_failed_installation_fails_the_load(start: Start, tmp_path: Path) -> None:
    """With pip's message; no incomplete directory is left."""
    process = start(requirements_dir=str(tmp_path / "store"))
    refusal = process.refused_load(greeting(tmp_path / "model", "not-in-the-wheels==3\n"))
    assert "not-in-the-wheels==3" in refusal
    assert [entry for entry in (tmp_path / "store").iterdir() if entry.is_dir()] == []


def test_no_index_is_used_with_wheels(start: Start, tmp_path: Path) -> None:
    """Not even one that the requirements name: without a network, requests to it fail only after minutes."""
    with socket.create_server(("127.0.0.1", 0)) as index:
        index.setblocking(False)
        asked = f"--index-url http://127.0.0.1:{index.getsockname()[1]}/\nnot-in-the-wheels\n"
        process = start(requirements_dir=str(tmp_path / "store"))
        process.refused_load(greeting(tmp_path / "model", asked))
        with pytest.raises(BlockingIOError):
            index.accept()


def test_models_with_different_versions(start: Start, tmp_path: Path) -> None:
    """Each model gets its own version; changed wheels change the key."""
    words = []
    for word in ("old", "new"):
        root = greeting(tmp_path / word)
        wheel(root / "code/wheels", code=f"WORD = {word!r}")
        process = start(requirements_dir=str(tmp_path / "store"))
        words.append(process.load(root).ask())
    assert words == ["old", "new"]


def test_requirements_beside_a_handler(start: Start, tmp_path: Path) -> None:
    """Inference Endpoints expect the file at the root."""
    code = """
import greeting
class EndpointHandler:
    def __init__(self, path): pass
    def __call__(self, data): return greeting.WORD
"""
    root = write(tmp_path / "m", code, Convention.ENDPOINT_HANDLER, requirements__txt="greeting")
    wheel(root / "wheels")
    process = start(requirements_dir=str(tmp_path / "store"))
    assert process.load(root).ask() == "from a wheel"


def test_already_imported_packages_are_not_replaced(start: Start, tmp_path: Path) -> None:
    """A process has one torch; the log warns that the artifact's version has no effect."""
    code = """
import torch
def model_fn(model_dir): return torch.tensor([1])
def predict_fn(data, model): return model
"""
    root = write(tmp_path / "model", code)
    wheel(root / "code/wheels", name="torch")
    (root / "code/requirements.txt").write_text(str(next((root / "code/wheels").iterdir())))
    process = start(requirements_dir=str(tmp_path / "store"))
    model = process.load(root)
    process.prints(b"requirement without effect")
    assert model.ask({}) == [1]

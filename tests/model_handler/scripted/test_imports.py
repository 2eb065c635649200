"""An artifact's code imports its own modules first, then the image's, and never another artifact's."""

import os
from collections.abc import Callable
from pathlib import Path

from model_handler.artifacts.conventions import Convention
from tests.model_handler.scripted.process import Process, write

SAYING = """
import sys
import words
def model_fn(model_dir): return words.WORD
def transform_fn(model, body, content_type, accept): return '"' + model + " " + words.WORD + '"'
"""


def test_its_own_directory_then_its_root(process: Process, tmp_path: Path) -> None:
    """Before packages of the image, also with the same name."""
    root = write(
        tmp_path / "model",
        """
import json as standard
import beside, in_root, package.part
def model_fn(model_dir): return None
def transform_fn(model, body, content_type, accept):
    import late
    return standard.dumps([beside.WORD, in_root.WORD, package.part.WORD, late.WORD])
""",
        beside__py="WORD = 'beside'",
        late__py="WORD = 'late'",
    )
    (root / "in_root.py").write_text("WORD = 'root'")
    (root / "beside.py").write_text("WORD = 'the wrong one'")
    (root / "code/package").mkdir()
    (root / "code/package/part.py").write_text("WORD = 'part'")
    assert process.load(root).ask() == ["beside", "root", "part", "late"]


def test_a_handler_imports_modules_beside_it(process: Process, tmp_path: Path) -> None:
    code = """
from words import WORD
class EndpointHandler:
    def __init__(self, path): pass
    def __call__(self, data): return WORD
"""
    root = write(tmp_path / "m", code, Convention.ENDPOINT_HANDLER, words__py="WORD = 'own'")
    assert process.load(root).ask() == "own"


def test_nothing_is_written_beside_the_code(process: Process, tmp_path: Path) -> None:
    root = write(tmp_path / "model", SAYING, words__py="WORD = 'a'")
    before = sorted(root.rglob("*"))
    process.load(root).ask()
    assert sorted(root.rglob("*")) == before


def test_a_read_only_artifact_loads(process: Process, tmp_path: Path) -> None:
    root = write(tmp_path / "model", SAYING, words__py="WORD = 'a'")
    for path in (root, *root.rglob("*")):
        path.chmod(0o555)
    assert process.load(root).ask() == "a a"
    for path in (root, *root.rglob("*")):
        path.chmod(0o755)


def test_models_in_one_process_do_not_see_each_other(
    start: Callable[..., Process], tmp_path: Path
) -> None:
    """Modules with the same names, and modules that only one of them has."""
    process = start(alone=False)
    roots = [
        write(tmp_path / word, SAYING, words__py=f"import only_{word}\nWORD = {word!r}")
        for word in ("one", "two")
    ]
    for root in roots:
        (root / f"code/only_{root.name}.py").write_text("")
    models = [process.load(root) for root in roots]
    assert [model.ask() for model in models] == ["one one", "two two"]
    prying = write(tmp_path / "three", "import only_one\ndef model_fn(model_dir): return len")
    assert "No module named 'only_one'" in process.refused_load(prying)


def test_a_replaced_artifact_runs_the_new_code(
    start: Callable[..., Process], tmp_path: Path
) -> None:
    """Also in a shared process, and if the directories have the same modification times."""
    process = start(alone=False)
    root = write(tmp_path / "model", SAYING, words__py="WORD = 'old'")
    os.utime(root / "code", (0, 0))
    first = process.load(root)
    assert first.ask() == "old old"
    first.unload()
    (root / "code/words.py").write_text("from more import WORD")
    (root / "code/more.py").write_text("WORD = 'new'")
    os.utime(root / "code", (0, 0))
    assert process.load(root).ask() == "new new"


def test_a_failed_load_leaves_no_modules(start: Callable[..., Process], tmp_path: Path) -> None:
    process = start(alone=False)
    failing = write(tmp_path / "bad", "import words\nraise OSError", words__py="WORD = 'bad'")
    process.refused_load(failing)
    good = write(tmp_path / "good", SAYING, words__py="WORD = 'good'")
    assert process.load(good).ask() == "good good"


def test_a_missing_module_is_named_with_a_hint(process: Process, tmp_path: Path) -> None:
    """For imports at the top of the file and inside model_fn."""
    top = process.refused_load(write(tmp_path / "top", "import not_there"))
    assert "No module named 'not_there'" in top
    assert "to code/requirements.txt" in top
    assert "MME_INSTALL_REQUIREMENTS" in top
    code = "def model_fn(model_dir): import not_there"
    inside = process.refused_load(write(tmp_path / "in", code, requirements__txt="not-there"))
    assert "code/requirements.txt is installed when MME_INSTALL_REQUIREMENTS" in inside


def test_child_processes_can_import_the_code(process: Process, tmp_path: Path) -> None:
    """Also spawned ones, which start a new interpreter."""
    root = write(
        tmp_path / "model",
        """
import json, multiprocessing
import words
def model_fn(model_dir): return multiprocessing.get_context("spawn")
def transform_fn(model, body, content_type, accept):
    with model.Pool(1) as pool:
        return json.dumps(pool.map(words.double, json.loads(body)))
""",
        words__py="def double(number): return 2 * number",
    )
    assert process.load(root).ask([1, 2]) == [2, 4]

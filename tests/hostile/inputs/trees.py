"""Hostile models of tables: XGBoost's JSON and UBJ, scikit-learn in skops archives."""

import io
import json
import struct
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import xgboost
from sklearn.linear_model import LogisticRegression
from skops import io as skops

from tests.hostile.inputs.artifacts import ANSWERED, EITHER, FAILED, Hostile, rows

ROW = rows(1.0, 2.0, 3.0)
ANY = ANSWERED | FAILED
ROWS = np.random.default_rng(5).normal(size=(40, 3)).astype(np.float32)
TARGET = (ROWS.sum(axis=1) > 0).astype(np.float32)
PARAMETERS = {"max_depth": 3, "nthread": 1, "objective": "binary:logistic"}
Change = Callable[[dict[str, Any]], object]


def booster(to: Path) -> Path:
    """A sound one, as JSON."""
    matrix = xgboost.DMatrix(ROWS, TARGET)
    xgboost.train(PARAMETERS, matrix, 3).save_model(to / "model.json")
    return to


def _first_tree(document: dict[str, Any]) -> dict[str, Any]:
    tree: dict[str, Any] = document["learner"]["gradient_booster"]["model"]["trees"][0]
    return tree


def changed(change: Change) -> Callable[[Path], None]:
    def write(to: Path) -> None:
        booster(to)
        document = json.loads((to / "model.json").read_text())
        change(document)
        (to / "model.json").write_text(json.dumps(document))

    return write


def _in_tree(key: str, index: int, value: Any) -> Callable[[Path], None]:
    return changed(lambda document: _first_tree(document)[key].__setitem__(index, value))


def _cycle(document: dict[str, Any]) -> None:
    """Both children of the root are the root."""
    tree = _first_tree(document)
    tree["left_children"][0] = tree["right_children"][0] = 0


def _long_cycle(document: dict[str, Any]) -> None:
    tree = _first_tree(document)
    tree["left_children"][1] = tree["right_children"][1] = 0
    tree["left_children"][2] = tree["right_children"][2] = 0


def _of_model(key: str, value: str) -> Callable[[Path], None]:
    def change(document: dict[str, Any]) -> None:
        document["learner"]["learner_model_param"][key] = value

    return changed(change)


def _without(key: str) -> Callable[[Path], None]:
    return changed(lambda document: _first_tree(document).pop(key))


def _shortened(key: str) -> Callable[[Path], None]:
    return changed(lambda document: _first_tree(document).update({key: []}))


def text(name: str, data: bytes) -> Callable[[Path], object]:
    return lambda to: (to / name).write_bytes(data)


def _ubj_array(count: int) -> bytes:
    """`{"a": [float32; count]}` without the numbers."""
    return b"{L" + struct.pack(">q", 1) + b"a[$d#L" + struct.pack(">q", count)


NESTED = 2_000_000
TREES = (
    Hostile("trees-nested", text("model.json", b'{"a":' + b"[" * NESTED)),
    Hostile("trees-nested-objects", text("model.json", b'{"a":' * NESTED)),
    Hostile(
        "trees-nested-ubj", text("model.ubj", b"{L" + struct.pack(">q", 1) + b"a" + b"[" * NESTED)
    ),
    Hostile("trees-ubj-length", text("model.ubj", _ubj_array(1 << 60))),
    Hostile("trees-ubj-negative", text("model.ubj", _ubj_array(-1))),
    Hostile("trees-ubj-text", text("model.ubj", b"{L" + struct.pack(">q", 1 << 62) + b"a")),
    Hostile("tree-cycle", changed(_cycle)),
    Hostile("tree-long-cycle", changed(_long_cycle)),
    Hostile("tree-far-child", _in_tree("left_children", 0, 1 << 28)),
    Hostile("tree-near-child", _in_tree("right_children", 0, 99)),
    Hostile("tree-negative-child", _in_tree("left_children", 0, -7)),
    Hostile("tree-far-column", _in_tree("split_indices", 0, 1 << 30)),
    Hostile("tree-near-column", _in_tree("split_indices", 0, 3)),
    Hostile("tree-no-parents", _without("parents"), EITHER, ROW, ANY),
    Hostile("tree-no-children", _shortened("left_children")),
    Hostile("tree-no-conditions", _shortened("split_conditions")),
    Hostile("tree-no-types", _shortened("split_type"), EITHER, ROW, ANY),
    Hostile(
        "tree-nodes", changed(lambda d: _first_tree(d)["tree_param"].update(num_nodes="999999999"))
    ),
    Hostile("trees-columns", _of_model("num_feature", "2000000000"), EITHER, ROW),
    Hostile("trees-classes", _of_model("num_class", "2000000000"), EITHER, ROW, ANY),
    Hostile("trees-score", _of_model("base_score", "x" * 100_000)),
    Hostile(
        "trees-groups",
        changed(
            lambda d: d["learner"]["gradient_booster"]["model"].update(tree_info=[1 << 30] * 3)
        ),
    ),
    Hostile("trees-empty", text("model.json", b"{}")),
    Hostile("trees-null", text("model.json", b'{"learner": null}')),
)


# ---- scikit-learn ----


def estimator(to: Path) -> Path:
    skops.dump(LogisticRegression().fit(ROWS, TARGET), to / "model.skops")
    return to


def schema(change: Change) -> Callable[[Path], None]:
    """A sound skops archive with a changed schema."""

    def write(to: Path) -> None:
        estimator(to)
        rewrite(to / "model.skops", {"schema.json": lambda data: _changed(data, change)})

    return write


def _changed(data: bytes, change: Change) -> bytes:
    document = json.loads(data)
    change(document)
    return json.dumps(document).encode()


def rewrite(file: Path, changes: dict[str, Callable[[bytes], bytes]]) -> None:
    with zipfile.ZipFile(file) as archive:
        contents = {name: archive.read(name) for name in archive.namelist()}
    with zipfile.ZipFile(file, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, data in contents.items():
            archive.writestr(name, changes.get(name, bytes)(data))


def _array(values: np.ndarray) -> bytes:
    buffer = io.BytesIO()
    np.save(buffer, values)
    return buffer.getvalue()


def _arrays_of(values: np.ndarray) -> Callable[[Path], None]:
    """All arrays of the archive are replaced."""

    def write(to: Path) -> None:
        estimator(to)
        with zipfile.ZipFile(to / "model.skops") as archive:
            names = [name for name in archive.namelist() if name.endswith(".npy")]
        rewrite(to / "model.skops", dict.fromkeys(names, lambda data: _array(values)))

    return write


def _of_class(module: str, name: str) -> Change:
    return lambda document: document.update(__module__=module, __class__=name)


ESTIMATORS = (
    Hostile("skops-of-system", schema(_of_class("os", "system"))),
    Hostile("skops-of-eval", schema(_of_class("builtins", "eval"))),
    Hostile("skops-no-loader", schema(lambda document: document.update(__loader__="Nothing"))),
    Hostile("skops-itself", schema(lambda document: document.update(content=dict(document)))),
    Hostile("skops-empty", lambda to: rewrite(_bare(to), {"schema.json": lambda data: b"{}"})),
    Hostile(
        "skops-nested",
        lambda to: rewrite(_bare(to), {"schema.json": lambda data: b'{"a":' + b"[" * NESTED}),
    ),
    Hostile("skops-objects", _arrays_of(np.array([1.0, 2.0])), EITHER, ROW, ANY),
    Hostile("skops-bomb", _arrays_of(np.zeros(1 << 27, np.uint8)), EITHER, ROW, ANY),
    Hostile("skops-no-archive", text("model.skops", b"PK\x03\x04" + b"\0" * 4096)),
)


def _bare(to: Path) -> Path:
    return estimator(to) / "model.skops"


TABLES = (*TREES, *ESTIMATORS)

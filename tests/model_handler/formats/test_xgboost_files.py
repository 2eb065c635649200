"""XGBoost follows children and features unchecked: models in which they are wrong are refused."""

import json
import struct
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import xgboost

from model_handler.artifacts.conventions import Convention
from tests.model_handler.formats.tables import ROWS, TARGET, answered, failure, opened

Change = Callable[[Any, Any], object]  # of the learner and its first tree
PARAMETERS = {"max_depth": 3, "nthread": 1, "tree_method": "hist"}


def trained(**parameters: Any) -> xgboost.Booster:
    rows = ROWS.copy()
    rows[:, 0] = np.arange(len(rows)) % 7
    matrix = xgboost.DMatrix(rows, TARGET, feature_types=["c", "q", "q"], enable_categorical=True)
    return xgboost.train({**PARAMETERS, **parameters}, matrix, 4)


@pytest.fixture(scope="module")
def documents() -> dict[str, Any]:
    kinds: dict[str, dict[str, Any]] = {
        "gbtree": {"max_cat_to_onehot": 1},
        "dart": {"booster": "dart"},
        "gblinear": {"booster": "gblinear"},
    }
    found = {
        name: json.loads(trained(**kind).save_raw("json"))
        for name, kind in kinds.items()
        if name != "gblinear"
    }
    linear = xgboost.train({"booster": "gblinear", "nthread": 1}, xgboost.DMatrix(ROWS, TARGET), 2)
    return {**found, "gblinear": json.loads(linear.save_raw("json"))}


def written(path: Path, document: Any) -> Path:
    (path / "model.json").write_text(json.dumps(document))
    return path


def refused(path: Path) -> str:
    return failure(path, Convention.XGBOOST)


def _set(name: str, index: int, value: Any) -> Change:
    return lambda learner, tree: tree[name].__setitem__(index, value)


def _shorten(name: str) -> Change:
    return lambda learner, tree: tree[name].pop()


def _learner(*names: str, value: Any) -> Change:
    def change(learner: Any, tree: Any) -> None:
        *path, last = names
        for name in path:
            learner = learner[name]
        learner[last] = value

    return change


_MODEL = ("gradient_booster", "model")
_CHANGES: dict[str, Change] = {
    "cycle to the root": _set("left_children", 1, 0),
    "own child": _set("left_children", 1, 1),
    "two parents": _set("right_children", 0, 1),
    "child outside": _set("left_children", 0, 1 << 28),
    "child at the end": lambda learner, tree: tree["right_children"].__setitem__(0, len(tree["parents"])),
    "negative child": _set("left_children", 0, -7),
    "half a leaf": _set("right_children", 0, -1),
    "feature outside": _set("split_indices", 0, 3),
    "huge feature": _set("split_indices", 0, (1 << 31) - 1),
    "negative feature": _set("split_indices", 0, -1),
    "fractional child": _set("left_children", 0, 1.5),
    "text child": _set("left_children", 0, "1"),
    "nested child": _set("left_children", 0, [1]),
    "huge child": _set("left_children", 0, 10**30),
    **{f"short {name}": _shorten(name) for name in (
        "left_children", "right_children", "split_indices", "split_conditions", "default_left", "parents",
        "base_weights", "split_type", "sum_hessian", "loss_changes",
    )},
    "more nodes than arrays": lambda learner, tree: tree["tree_param"].update(num_nodes="100000"),
    "no nodes": lambda learner, tree: tree["tree_param"].update(num_nodes="0"),
    "leaf vectors": lambda learner, tree: tree["tree_param"].update(size_leaf_vector="1000"),
    "category outside": _set("categories", 0, 1 << 30),
    "negative category": _set("categories", 0, -1),
    "segment outside": _set("categories_segments", 0, 1 << 40),
    "negative segment": _set("categories_segments", 0, -1),
    "size outside": _set("categories_sizes", 0, 1 << 40),
    "categories of another node": _set("categories_nodes", 0, 1 << 20),
    "no categories": lambda learner, tree: tree.update(
        categories_nodes=[], categories_segments=[], categories_sizes=[]
    ),
    "group outside": _learner(*_MODEL, "tree_info", value=[5, 0, 0, 0]),
    "negative group": _learner(*_MODEL, "tree_info", value=[-1, 0, 0, 0]),
    "fewer groups": _learner(*_MODEL, "tree_info", value=[0]),
    "more trees": _learner(*_MODEL, "gbtree_model_param", "num_trees", value="9"),
    "no parallel trees": _learner(*_MODEL, "gbtree_model_param", "num_parallel_tree", value="0"),
    "rounds outside": _learner(*_MODEL, "iteration_indptr", value=[0, 1, 2, 3, 99]),
    "rounds backwards": _learner(*_MODEL, "iteration_indptr", value=[0, 3, 2, 4, 4]),
    "fewer features": _learner("learner_model_param", "num_feature", value="1"),
    "negative features": _learner("learner_model_param", "num_feature", value="-1"),
    "many classes": _learner("learner_model_param", "num_class", value="100000000"),
    "text for a number": _learner("learner_model_param", "num_class", value="many"),
    "several base scores": _learner("learner_model_param", "base_score", value="[1, 2, 3]"),
    "base score": _learner("learner_model_param", "base_score", value="[]"),
    "base score text": _learner("learner_model_param", "base_score", value='"x"'),
    "feature names": _learner("feature_names", value=["a"]),
    "best iteration": _learner("attributes", value={"best_iteration": "-5"}),
    "unknown booster": _learner("gradient_booster", "name", value="gbforest"),
    "no trees": _learner(*_MODEL, "trees", value=7),
    "no model": _learner("gradient_booster", value=[]),
}  # fmt: skip


def test_the_unchanged_models_load(tmp_path: Path, documents: dict[str, Any]) -> None:
    for document in documents.values():
        with opened(written(tmp_path, document)) as handler:
            assert answered(handler, [[1.0, 2.0, 3.0]])


@pytest.mark.parametrize("name", _CHANGES)
@pytest.mark.parametrize("binary", [False, True], ids=["json", "ubj"])
def test_inconsistent_trees_are_refused(
    tmp_path: Path, documents: dict[str, Any], name: str, binary: bool
) -> None:
    document = json.loads(json.dumps(documents["gbtree"]))
    learner = document["learner"]
    trees = learner["gradient_booster"]["model"]["trees"]
    assert trees[0]["categories_nodes"], "the tree splits by category"
    _CHANGES[name](learner, trees[0])
    if binary and 10**30 not in trees[0].get("left_children", ()):
        (tmp_path / "model.ubj").write_bytes(ubj(document))
    else:
        written(tmp_path, document)
    assert "is not consistent" in refused(tmp_path)


def ubj(value: Any) -> bytes:
    match value:
        case bool():
            return b"T" if value else b"F"
        case int():
            return b"L" + struct.pack(">q", value)
        case float():
            return b"D" + struct.pack(">d", value)
        case str():
            return b"S" + _text(value)
        case list():
            return b"[" + b"".join(map(ubj, value)) + b"]"
        case dict():
            return b"{" + b"".join(_text(key) + ubj(each) for key, each in value.items()) + b"}"
    raise TypeError(value)


def _text(value: str) -> bytes:
    return b"L" + struct.pack(">q", len(value.encode())) + value.encode()


def test_weights_of_other_boosters_are_counted(tmp_path: Path, documents: dict[str, Any]) -> None:
    dart = json.loads(json.dumps(documents["dart"]))
    dart["learner"]["gradient_booster"]["weight_drop"].pop()
    assert "weight_drop" in refused(written(tmp_path, dart))
    tree = dart["learner"]["gradient_booster"]["gbtree"]["model"]["trees"][1]
    dart["learner"]["gradient_booster"]["weight_drop"].append(1.0)
    tree["left_children"][0] = 0
    assert "is not consistent" in refused(written(tmp_path, dart))
    linear = json.loads(json.dumps(documents["gblinear"]))
    linear["learner"]["gradient_booster"]["model"]["weights"].pop()
    assert "weights" in refused(written(tmp_path, linear))


def test_a_chain_deeper_than_the_limit_is_refused(
    tmp_path: Path, documents: dict[str, Any]
) -> None:
    document = json.loads(json.dumps(documents["gbtree"]))
    tree = document["learner"]["gradient_booster"]["model"]["trees"][0]
    levels = 10_000
    count = 2 * levels + 1
    left, right = [-1] * count, [-1] * count
    for level in range(levels):
        node = 0 if level == 0 else 2 * level - 1
        left[node], right[node] = 2 * level + 1, 2 * level + 2
    arrays = (
        "split_conditions",
        "default_left",
        "parents",
        "base_weights",
        "sum_hessian",
        "loss_changes",
    )
    tree.update({name: [0] * count for name in (*arrays, "split_type", "split_indices")})
    tree.update(left_children=left, right_children=right)
    tree.update({name: [] for name in tree if name.startswith("categories")})
    tree["tree_param"]["num_nodes"] = str(count)
    assert "deeper" in refused(written(tmp_path, document))


@pytest.mark.parametrize(
    "content",
    [
        b'{"a":' + b"[" * 2_000_000,
        b'{"a":' + b'{"a":' * 1_000_000,
        b'{"a":"\\"' + b"[" * 2_000_000 + b'"}',
        b"{L\0\0\0\0\0\0\0\1a" + b"[" * 2_000_000,
        b"{L\0\0\0\0\0\0\0\1a" * 200_000,
        b"{i\1a[$i#L\x7f\xff\xff\xff\xff\xff\xff\xff",
        b"{i\1a[$i#L\xff\xff\xff\xff\xff\xff\xff\xff",
        b"{i\1a[#L\x7f\xff\xff\xff\xff\xff\xff\xffZ",
        b"{L\x7f\xff\xff\xff\xff\xff\xff\xffa",
        b"{i\1a[$[#i\3",
        b'{"learner": {}, "learner": {}}',
        b'{"learner": 1e999}',
        b"{",
        b'{"',
    ],
    ids=range(14),
)
def test_damaged_documents_are_refused(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "xgboost-model").write_bytes(content)
    assert refused(tmp_path).startswith("the XGBoost model is")

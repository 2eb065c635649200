"""XGBoost models, checked before XGBoost reads them: it follows children and features unchecked."""

import json
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from model_handler.checks import json_values
from model_handler.errors import ModelLoadFailed

_MAX_OUTPUTS = 100_000
_MAX_DEPTH = 4096  # some functions of XGBoost call themselves for each level
_MAX_CATEGORY = 1 << 24  # XGBoost's own limit
_CATEGORICAL = 1
Numbers = NDArray[Any]


def check(content: bytes) -> None:
    """Raises ModelLoadFailed."""
    document = json_values.parse(content, "the XGBoost model")
    try:
        _check_learner(document["learner"])
    except (KeyError, TypeError, ValueError, AttributeError, OverflowError) as error:
        reason = f"{error} is missing" if isinstance(error, KeyError) else error
        raise ModelLoadFailed(f"the XGBoost model is not consistent: {reason}") from None


def _check_learner(learner: Mapping[str, Any]) -> None:
    parameters = learner["learner_model_param"]
    columns = _whole(parameters["num_feature"], "num_feature", 0, (1 << 31) - 1)
    classes = _whole(parameters["num_class"], "num_class", 0, _MAX_OUTPUTS)
    targets = _whole(parameters.get("num_target", "1"), "num_target", 0, _MAX_OUTPUTS)
    outputs = max(classes, targets, 1)
    _check_base_score(str(parameters["base_score"]), outputs)
    objective = learner["objective"].get("softmax_multiclass_param")
    _require(objective is None or int(objective["num_class"]) == classes, "num_class differs")
    for name in ("feature_names", "feature_types"):
        _require(len(learner.get(name, ())) in (0, columns), f"{name} has another length")
    _check_attributes(learner.get("attributes", {}))
    booster = learner["gradient_booster"]
    if booster["name"] == "gblinear":
        weights = booster["model"]["weights"]
        _require(len(weights) == (columns + 1) * outputs, "the number of weights")
        return
    _require(booster["name"] in ("gbtree", "dart"), "the booster is not known")
    if booster["name"] == "dart":
        dropped = booster["weight_drop"]
        booster = booster["gbtree"]
        _require(len(dropped) == len(booster["model"]["trees"]), "the number of weight_drop")
    _check_model(booster["model"], columns, outputs)


def _check_base_score(text: str, outputs: int) -> None:
    scores = json.loads(text)
    scores = scores if isinstance(scores, list) else [scores]
    _require(len(scores) in (1, outputs) and len(scores) > 0, "the number of base scores")
    _require(all(type(each) in (int, float) for each in scores), "a base score is no number")


def _check_attributes(attributes: Mapping[str, Any]) -> None:
    best = attributes.get("best_iteration")
    if best is not None:
        _whole(best, "best_iteration", 0, (1 << 31) - 2)


def _check_model(model: Mapping[str, Any], columns: int, outputs: int) -> None:
    trees = model["trees"]
    parameters = model["gbtree_model_param"]
    _require(int(parameters["num_trees"]) == len(trees), "num_trees differs")
    _whole(parameters.get("num_parallel_tree", "1"), "num_parallel_tree", 1, max(len(trees), 1))
    groups = _integers(model["tree_info"], "tree_info")
    _require(len(groups) == len(trees) and _within(groups, outputs), "tree_info")
    ends = _integers(model.get("iteration_indptr", [0, len(trees)]), "iteration_indptr")
    steps = np.diff(ends)
    _require(len(ends) > 0 and ends[0] == 0 and ends[-1] == len(trees), "iteration_indptr")
    _require(bool((steps >= 0).all()), "iteration_indptr")
    _check_categories(model.get("cats", {}), columns)
    if trees:
        _check_trees(trees, columns, outputs)


def _check_categories(stored: Mapping[str, Any], columns: int) -> None:
    """The categories of the training data, by feature."""
    encodings = stored.get("enc", [])
    segments = _integers(stored.get("feature_segments", []), "feature_segments")
    order = _integers(stored.get("sorted_idx", []), "sorted_idx")
    _require(len(encodings) in (0, columns), "the number of categorical features")
    if not encodings:
        _require(len(order) == 0, "sorted_idx")
        return
    _require(len(segments) == columns + 1 and segments[0] == 0, "feature_segments")
    _require(
        bool((np.diff(segments) >= 0).all()) and segments[-1] == len(order), "feature_segments"
    )
    for encoding, count in zip(encodings, np.diff(segments), strict=True):
        values, offsets = encoding["values"], encoding.get("offsets")
        if offsets is None:
            _require(len(values) == count, "the number of categories")
            continue
        places = _integers(offsets, "offsets")
        _require(len(places) in (0, count + 1), "the number of categories")
        ascends = bool((np.diff(places) >= 0).all()) and _within(places, len(values) + 1)
        _require(ascends and (len(places) == 0 or places[0] == 0), "the offsets of categories")


def _check_trees(trees: Sequence[Mapping[str, Any]], columns: int, outputs: int) -> None:
    """All trees at once, their arrays in one after the other. Deleted nodes may hold anything."""
    counts = np.array([_node_count(tree, outputs) for tree in trees])
    left, right, features, kinds = (
        np.concatenate([_integers(tree[name], name) for tree in trees])
        for name in ("left_children", "right_children", "split_indices", "split_type")
    )
    _require(len(left) == len(right) == len(features) == len(kinds) == counts.sum(), "node arrays")
    first = np.cumsum(counts) - counts  # of each tree's nodes
    starts, sizes = np.repeat(first, counts), np.repeat(counts, counts)
    used = np.zeros(len(left), bool)
    level = first
    for _ in range(_MAX_DEPTH):
        _require(not used[level].any(), "a node has two parents, or is its own ancestor")
        used[level] = True
        inner = level[left[level] != -1]
        if not len(inner):
            break
        _require(_within(features[inner], columns), "a split is on a feature that does not exist")
        children = np.concatenate([left[inner], right[inner]])
        owners = np.concatenate([inner, inner])
        in_tree = (children > 0) & (children < sizes[owners])
        _require(bool(in_tree.all()), "a child is outside its tree")
        level = children + starts[owners]
        _require(len(np.unique(level)) == len(level), "a node has two parents")
    else:
        raise ValueError(f"a tree is deeper than {_MAX_DEPTH}")
    categorical = used & (left != -1) & (kinds == _CATEGORICAL)
    for tree, start, count in zip(trees, first, counts, strict=True):
        if len(tree["categories_nodes"]) or categorical[start : start + count].any():
            _check_splits(tree, np.flatnonzero(categorical[start : start + count]), int(count))


def _node_count(tree: Mapping[str, Any], outputs: int) -> int:
    parameters = tree["tree_param"]
    count = _whole(parameters["num_nodes"], "num_nodes", 1, (1 << 31) - 2)
    width = _whole(parameters.get("size_leaf_vector", "1"), "size_leaf_vector", 0, _MAX_OUTPUTS)
    _require(width in (0, 1, outputs), "size_leaf_vector")
    for name in _BY_NODE:
        if len(tree[name]) != count:
            raise ValueError(f"{name} has another length than num_nodes")
    for name in ("loss_changes", "sum_hessian"):
        if len(tree.get(name, ())) not in (0, count):
            raise ValueError(f"{name} has another length")
    _require(len(tree["base_weights"]) == count * max(width, 1), "base_weights has another length")
    return count


_BY_NODE = (
    "left_children", "right_children", "split_indices", "split_conditions", "default_left", "parents",
    "split_type",
)  # fmt: skip


def _check_splits(tree: Mapping[str, Any], wanted: Numbers, count: int) -> None:
    """`wanted`: the nodes that split by categories."""
    nodes, segments, sizes, categories = (
        _integers(tree[name], name)
        for name in ("categories_nodes", "categories_segments", "categories_sizes", "categories")
    )
    _require(len(nodes) == len(segments) == len(sizes), "categorical splits")
    _require(_within(nodes, count) and bool((np.diff(nodes) > 0).all()), "categories_nodes")
    _require(bool(np.isin(wanted, nodes).all()), "a categorical split has no categories")
    total = len(categories)
    inside = _within(segments, total + 1) and _within(sizes, total + 1)
    _require(inside and bool((segments + sizes <= total).all()), "categories_segments")
    _require(_within(categories, _MAX_CATEGORY), "a category is out of range")


def _integers(values: Any, name: str) -> Numbers:
    array = np.asarray(values)
    if array.size == 0:
        return np.zeros(0, np.int64)
    if array.ndim != 1 or array.dtype.kind not in "iub":
        raise ValueError(f"{name} does not hold whole numbers")
    return array.astype(np.int64)


def _within(values: Numbers, end: int) -> bool:
    return bool(((values >= 0) & (values < end)).all())


def _whole(value: Any, name: str, lowest: int, highest: int) -> int:
    text = str(value)
    if not text.isdecimal() or len(text) > 12 or not lowest <= int(text) <= highest:
        raise ValueError(f"{name} is {text[:20]}, not a whole number from {lowest} to {highest}")
    return int(text)


def _require(holds: bool, what: str) -> None:
    if not holds:
        raise ValueError(what)

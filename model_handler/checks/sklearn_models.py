"""scikit-learn objects whose compiled code follows sizes and indices of the file unchecked.

Decision trees, gradient boosting and sparse matrices are not among the trusted types, so that they are never
created. Checked are support vector machines, neighbour trees and k-means, wherever they are in the object.
"""

from collections.abc import Callable, Iterator
from typing import Any

import numpy as np

from model_handler.errors import ModelLoadFailed

_TREES = ("KDTree", "BallTree", "KDTree64", "BallTree64")
_KMEANS = ("KMeans", "MiniBatchKMeans", "BisectingKMeans")
_LIBSVM = ("SVC", "NuSVC", "SVR", "NuSVR", "OneClassSVM")
_WEIGHTED = ("SEuclideanDistance", "MinkowskiDistance")


def check(root: Any) -> None:
    """Raises ModelLoadFailed. Sets the number of threads that k-means uses beside the process's own to 1."""
    for value in _distinct(root):
        name = type(value).__name__
        check_one = _CHECKS.get(name)
        if check_one is None:
            continue
        try:
            check_one(value)
        # Attributes of any type may be missing or wrong, and each library raises other classes
        except Exception as error:  # noqa: BLE001
            raise ModelLoadFailed(f"the {name} in the file is not consistent: {error}") from None


def _distinct(root: Any) -> Iterator[Any]:
    """Each object that can be reached from `root` by attributes and containers, once."""
    seen: dict[int, Any] = {}
    waiting = [root]
    while waiting:
        value = waiting.pop()
        if id(value) in seen:
            continue
        seen[id(value)] = value  # keeps it, so that its id stays its own
        waiting += _inside(value)
        yield value


def _inside(value: Any) -> list[Any]:
    if isinstance(value, dict):
        return [*value, *value.values()]
    if isinstance(value, list | tuple | set | frozenset):
        return list(value)
    if isinstance(value, np.ndarray):
        return value.ravel().tolist() if value.dtype == object else []
    return list(getattr(value, "__dict__", {}).values())


def _check_libsvm(model: Any) -> None:
    counts, coefficients = np.asarray(model._n_support), model._dual_coef_
    vectors, rows = model.support_vectors_, len(model.support_)
    classes = len(counts)
    pairs = classes * (classes - 1) // 2
    _require(counts.ndim == 1 and classes >= 1 and bool((counts >= 0).all()), "_n_support")
    if hasattr(model, "classes_"):
        _require(len(model.classes_) == classes and counts.sum() == rows, "_n_support")
    _require(coefficients.shape == (max(classes - 1, 1), rows), "_dual_coef_")
    _require(np.shape(model._intercept_) == (max(pairs, 1),), "_intercept_")
    for name in ("_probA", "_probB"):
        _require(len(getattr(model, name)) in (0, max(pairs, 1)), name)
    support = np.asarray(model.support_)
    _require(support.ndim == 1 and support.dtype.kind == "i", "support_")
    if model.kernel == "precomputed":
        _require(_within(support, model.shape_fit_[0]), "support_")
    else:
        _require(vectors.shape == (rows, model.n_features_in_), "support_vectors_")


def _check_kmeans(model: Any) -> None:
    centers = model.cluster_centers_
    _require(isinstance(centers, np.ndarray) and centers.dtype.kind == "f", "cluster_centers_")
    _require(centers.ndim == 2 and len(centers) > 0, "cluster_centers_")
    _require(centers.shape[1] == model.n_features_in_, "cluster_centers_")
    model._n_threads = 1


def _check_tree(tree: Any) -> None:
    state = tree.__getstate__()
    data, order, nodes, bounds = state[:4]
    count, metric, weights = state[6], state[11], state[12]
    rows, columns = data.shape
    _require(rows > 0 and len(nodes) == count > 0, "the number of nodes")
    _require(len(order) == rows and _within(order, rows), "the order of its rows")
    _require(bounds.ndim == 3 and bounds.shape[1:] == (count, columns), "the bounds of its nodes")
    _require(bounds.shape[0] >= (2 if type(tree).__name__.startswith("KD") else 1), "the bounds")
    starts, ends = nodes["idx_start"], nodes["idx_end"]
    _require(_within(starts, rows + 1) and _within(ends, rows + 1), "the rows of its nodes")
    _require(bool((starts <= ends).all()), "the rows of its nodes")
    inner = np.flatnonzero(nodes["is_leaf"] == 0)
    _require(_within(2 * inner + 2, count), "the children of its nodes")
    _require(weights is None or len(weights) == rows, "the weights of its rows")
    vector = np.asarray(metric.__getstate__()[1])
    if type(metric).__name__.startswith(_WEIGHTED):
        is_default = type(metric).__name__.startswith("Minkowski") and vector.size <= 1
        _require(is_default or vector.shape == (columns,), "the weights of its metric")


def _within(values: Any, end: int) -> bool:
    array = np.asarray(values)
    return bool(((array >= 0) & (array < end)).all())


def _require(holds: bool, what: str) -> None:
    if not holds:
        raise ValueError(f"{what} has the wrong size or values")


_CHECKS: dict[str, Callable[[Any], None]] = {
    **dict.fromkeys(_LIBSVM, _check_libsvm),
    **dict.fromkeys(_KMEANS, _check_kmeans),
    **dict.fromkeys(_TREES, _check_tree),
}

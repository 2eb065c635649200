"""scikit-learn's compiled code follows indices of the file unchecked: wrong ones are refused at the load."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from sklearn.cluster import KMeans
from sklearn.ensemble import HistGradientBoostingRegressor, RandomForestClassifier
from sklearn.linear_model import SGDClassifier
from sklearn.neighbors import KernelDensity, KNeighborsClassifier
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler
from sklearn.svm import SVC, SVR, NuSVC, OneClassSVM

from model_handler.artifacts.conventions import Convention
from tests.model_handler.formats import builders
from tests.model_handler.formats.tables import COLORS, ROWS, TARGET, answered, failure, opened


def refused(path: Path) -> str:
    return failure(path, Convention.SKOPS)


@pytest.mark.parametrize(
    "model",
    [
        SVC(), NuSVC(nu=0.1), SVR(), OneClassSVM(), SVC(kernel="precomputed"), KMeans(3, n_init=1),
        KNeighborsClassifier(algorithm="kd_tree"),
        KNeighborsClassifier(algorithm="ball_tree", metric="minkowski", p=3),
        KernelDensity(),
    ],
    ids=lambda model: str(model),
)  # fmt: skip
def test_unchanged_models_load(tmp_path: Path, model: Any) -> None:
    rows = ROWS @ ROWS.T if getattr(model, "kernel", "") == "precomputed" else ROWS.astype(float)
    model.fit(rows, TARGET if isinstance(model, SVR) else COLORS)
    if isinstance(model, KernelDensity):
        model = make_pipeline(StandardScaler().fit(ROWS), KNeighborsClassifier().fit(ROWS, COLORS))
    builders.estimator(tmp_path, model)
    with opened(tmp_path) as handler:
        assert answered(handler, rows[:2].tolist())


def _set(name: str, change: Callable[[Any], Any]) -> Callable[[Any], None]:
    return lambda model: setattr(model, name, change(getattr(model, name)))


SVM = {
    "support_vectors_": lambda value: value[:, :1],
    "support_": lambda value: np.arange(100_000, dtype=np.int32),
    "_n_support": lambda value: value * 1000,
    "_dual_coef_": lambda value: value[:, :2],
    "_intercept_": lambda value: value[:1],
    "_probA": lambda value: np.zeros(1),
}


@pytest.mark.parametrize("name", SVM)
def test_support_vector_machines_are_consistent(tmp_path: Path, name: str) -> None:
    model = SVC().fit(ROWS, COLORS)
    _set(name, SVM[name])(model)
    builders.estimator(tmp_path, make_pipeline(StandardScaler().fit(ROWS), model))
    assert "the SVC in the file is not consistent" in refused(tmp_path)


def test_kernels_index_the_rows_of_the_training(tmp_path: Path) -> None:
    model = SVC(kernel="precomputed").fit(ROWS @ ROWS.T, COLORS)
    model.support_ = model.support_ + 1_000_000
    builders.estimator(tmp_path, model)
    assert "support_" in refused(tmp_path)


def test_centers_have_the_columns_of_the_model(tmp_path: Path) -> None:
    model = KMeans(3, n_init=1).fit(ROWS)
    model.cluster_centers_ = model.cluster_centers_[:, :1].copy()
    builders.estimator(tmp_path, model)
    assert "cluster_centers_" in refused(tmp_path)


def test_sparse_matrices_are_not_created(tmp_path: Path) -> None:
    builders.estimator(tmp_path, SGDClassifier(max_iter=5, tol=None).fit(ROWS, COLORS).sparsify())
    assert "not trusted: scipy.sparse" in refused(tmp_path)


def _state(
    place: int, change: Callable[[Any], Any]
) -> Callable[[tuple[Any, ...]], tuple[Any, ...]]:
    return lambda state: (*state[:place], change(state[place]), *state[place + 1 :])


def _field(name: str, value: int) -> Callable[[Any], Any]:
    def change(nodes: Any) -> Any:
        changed = nodes.copy()
        changed[name] = value
        return changed

    return change


TREES = {
    "order": _state(1, lambda order: order + (1 << 40)),
    "negative order": _state(1, lambda order: order - 1000),
    "short order": _state(1, lambda order: order[:3].copy()),
    "begin": _state(2, _field("idx_start", -5)),
    "end": _state(2, _field("idx_end", 1 << 40)),
    "no leaves": _state(2, _field("is_leaf", 0)),
    "few nodes": _state(2, lambda nodes: nodes[:1].copy()),
    "bounds": _state(3, lambda bounds: bounds[:, :, :1].copy()),
    "count": _state(6, lambda count: 1 << 30),
}


@pytest.mark.parametrize("name", TREES)
@pytest.mark.parametrize("algorithm", ["kd_tree", "ball_tree"])
def test_neighbour_trees_are_consistent(tmp_path: Path, algorithm: str, name: str) -> None:
    model = KNeighborsClassifier(algorithm=algorithm, leaf_size=10).fit(ROWS, COLORS)
    tree = model._tree  # noqa: SLF001 - what an attacker would change
    tree.__setstate__(TREES[name](tree.__getstate__()))
    builders.estimator(tmp_path, model)
    assert "Tree in the file is not consistent" in refused(tmp_path)


@pytest.mark.parametrize("kind", [RandomForestClassifier, HistGradientBoostingRegressor])
def test_decision_trees_are_not_created(tmp_path: Path, kind: Any) -> None:
    builders.estimator(tmp_path, kind().fit(ROWS[:20], np.arange(20) % 2))
    assert "not trusted: sklearn." in refused(tmp_path)

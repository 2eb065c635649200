"""XGBoost and scikit-learn models give the library's answers, for single and batched requests."""

import json
import sys
import threading
from pathlib import Path
from typing import Any

import numpy as np
import psutil
import pytest
import xgboost
from sklearn.decomposition import PCA
from sklearn.linear_model import LinearRegression
from sklearn.neighbors import KNeighborsClassifier
from sklearn.preprocessing import FunctionTransformer, OneHotEncoder

from model_handler.artifacts.conventions import Convention
from model_handler.handlers.estimators import TRUSTED, skops_io
from model_handler.handlers.tensors import ArrayHandler
from tests.model_handler.formats import builders
from tests.model_handler.formats.tables import (
    COLORS,
    ROWS,
    TARGET,
    answered,
    asked,
    csv_of,
    failure,
    npy_of,
    opened,
)
from tests.model_handler.harness import refusal, run

JSON, CSV, NPY = "application/json", "text/csv", "application/x-npy"


def scores(path: Path, rows: Any) -> Any:
    model = xgboost.Booster()
    model.load_model(path)
    return model.inplace_predict(rows, validate_features=False)


def predictions(answer: Any, name: str = "score") -> list[Any]:
    return [row[name] for row in json.loads(answer.body)["predictions"]]


# ---- XGBoost ----


def test_xgboost_answers_match_the_library_and_default_to_csv(booster: Path) -> None:
    expected = scores(booster / "model.ubj", ROWS[:4])
    with opened(booster) as handler:
        plain, table, array = answered(
            handler,
            asked(csv_of(ROWS[:4]), CSV),
            asked(json.dumps({"instances": ROWS[:4].tolist()}), JSON, JSON),
            asked(npy_of(ROWS[:4]), NPY, NPY),
        )
    assert plain.content_type == CSV
    assert [float(line) for line in plain.body.splitlines()] == expected.tolist()
    assert predictions(table) == expected.tolist()
    assert array.body == npy_of(expected)


def test_many_requests_get_the_answers_they_get_alone(booster: Path) -> None:
    """One batch of requests with different lengths and media types."""
    parts = [ROWS[start : start + 1 + start % 3] for start in range(20)]
    requests = [asked(csv_of(rows), CSV) for rows in parts]
    requests[5] = asked(json.dumps(parts[5].tolist()), JSON, CSV)
    with opened(booster) as handler:
        alone = [answered(handler, request)[0].body for request in requests]
        assert [each.body for each in answered(handler, *requests)] == alone


def test_requests_of_a_batch_run_together(booster: Path) -> None:
    with opened(booster) as handler:
        units = [
            unit
            for rows in (ROWS[:1], ROWS[1:4])
            for unit in handler.preprocess(handler.codec.decode(asked(csv_of(rows), CSV))).units
        ]
        assert units[0].group == units[1].group
        assert [len(part["score"]) for part in handler.forward(units, 0.0)] == [1, 3]


def test_missing_numbers_take_the_trained_default_branch(named_booster: Path) -> None:
    rows = np.array([[0.5, np.nan, -1.0], [np.nan, np.nan, np.nan]])
    expected = scores(named_booster / "xgboost-model.json", rows).tolist()
    named = [{"depth": -1, "height": None, "width": 0.5}, dict.fromkeys(builders.NAMES)]
    with opened(named_booster) as handler:
        answers = answered(
            handler,
            asked("0.5,,-1\nnan,,\n", CSV, JSON),
            asked("depth,width,height\n-1,0.5,\n,,", CSV, JSON),
            asked(json.dumps({"instances": named}), JSON, JSON),
            asked("1 0:0.5 2:-1\n0\n", "text/libsvm", JSON),
        )
    assert [predictions(answer) for answer in answers] == [expected] * 4


@pytest.mark.parametrize(
    ("body", "content_type", "said"),
    [
        ("1,2", CSV, "the model takes 3 columns, the input has 2"),
        ("[[[1, 2, 3]]]", JSON, "rows of numbers, the input has shape (1, 1, 3)"),
        ('[["a", "b", "c"]]', JSON, "the model takes numbers, the input has texts"),
        ("[]", JSON, "the model takes 3 columns, the input has 0"),
        ("[[1e39, 0, 0]]", JSON, "too large for float32"),
        ('{"inputs": {"width": [1], "height": [2]}}', JSON, "depth missing, none unknown"),
        ("width,height,colour\n1,2,3", CSV, "depth missing, colour unknown to the model"),
        ('{"inputs": [[1, 2, 3]], "parameters": {"k": 1}}', JSON, "takes no parameters"),
    ],
)
def test_unfit_inputs_are_refused(
    named_booster: Path, body: str, content_type: str, said: str
) -> None:
    with opened(named_booster) as handler:
        refused = refusal(handler, asked(body, content_type))
    assert refused.error == "InvalidRequest"
    assert said in refused.message


def test_one_bad_request_does_not_affect_the_others_of_its_batch(booster: Path) -> None:
    good = asked(csv_of(ROWS[:1]), CSV)
    with opened(booster) as handler:
        first, second, third = run(handler, good, asked("1,2", CSV), good)
    assert first == third
    assert getattr(second, "error", None) == "InvalidRequest"


@pytest.mark.parametrize(
    ("parameters", "classes"),
    [({"objective": "multi:softprob", "num_class": 3}, 3), ({"booster": "gblinear"}, 0)],
)
def test_other_objectives_and_boosters(
    tmp_path: Path, parameters: dict[str, Any], classes: int
) -> None:
    target = np.unique(COLORS, return_inverse=True)[1] if classes else TARGET
    builders.booster(tmp_path, {"nthread": 1, **parameters}, target)
    model = xgboost.Booster(model_file=tmp_path / "model.ubj")
    expected = model.predict(xgboost.DMatrix(ROWS[:2])).tolist()
    with opened(tmp_path) as handler:
        (answer,) = answered(handler, asked(csv_of(ROWS[:2]), CSV, JSON))
    assert predictions(answer) == expected


def test_early_stopping_uses_the_trees_up_to_the_best_iteration(tmp_path: Path) -> None:
    train = xgboost.DMatrix(ROWS[:60], TARGET[:60])
    watched = xgboost.DMatrix(ROWS[60:], np.random.default_rng(0).permutation(TARGET[60:]))
    stop = xgboost.callback.EarlyStopping(rounds=2)
    model = xgboost.train(
        builders.PARAMETERS,
        train,
        30,
        evals=[(watched, "watched")],
        callbacks=[stop],
        verbose_eval=False,
    )
    assert model.best_iteration + 1 < model.num_boosted_rounds()
    model.save_model(tmp_path / "model.ubj")
    expected = model.inplace_predict(ROWS[:2], iteration_range=(0, model.best_iteration + 1))
    with opened(tmp_path) as handler:
        (answer,) = answered(handler, asked(csv_of(ROWS[:2]), CSV, JSON))
    assert predictions(answer) == expected.tolist()


def test_xgboost_files_other_than_json_and_ubj_are_refused(tmp_path: Path) -> None:
    (tmp_path / "model.ubj").write_bytes(b"binf\x00\x00")
    assert 'save_model("model.ubj")' in failure(tmp_path, Convention.XGBOOST)
    (tmp_path / "model.ubj").write_bytes(b'{"learner": {}}')
    assert failure(tmp_path, Convention.XGBOOST)


# ---- scikit-learn ----


def test_neighbours_answer_with_labels_and_probabilities(neighbours: Path) -> None:
    model = skops_io().load(neighbours / "model.skops", trusted=sorted(TRUSTED))
    proba = {"instances": ROWS[:3].tolist(), "parameters": {"method": "predict_proba"}}
    with opened(neighbours) as handler:
        labels, table, chances = answered(
            handler,
            asked(csv_of(ROWS[:3]), CSV),
            asked(json.dumps([{"features": row} for row in ROWS[:3].tolist()]), JSON, CSV),
            asked(json.dumps(proba), JSON),
        )
    expected = model.predict(ROWS[:3]).tolist()
    assert labels.content_type == JSON
    assert predictions(labels, "predicted_label") == expected
    assert table.body.decode().split() == expected
    assert predictions(chances, "probabilities") == model.predict_proba(ROWS[:3]).tolist()


def test_batched_neighbours_match_single_requests(neighbours: Path) -> None:
    requests = [asked(csv_of(ROWS[start : start + 2]), CSV) for start in range(30)]
    with opened(neighbours) as handler:
        alone = [answered(handler, request)[0].body for request in requests]
        assert [each.body for each in answered(handler, *requests)] == alone


def test_regressions_give_scores_and_transformers_projections(tmp_path: Path) -> None:
    builders.estimator(tmp_path, LinearRegression().fit(ROWS, TARGET))
    with opened(tmp_path) as handler:
        (answer,) = answered(handler, asked(csv_of(ROWS[:2]), CSV))
    expected = LinearRegression().fit(ROWS, TARGET).predict(ROWS[:2])
    np.testing.assert_allclose(predictions(answer), expected, rtol=1e-5)
    builders.estimator(tmp_path, OneHotEncoder().fit([[0.0], [1.0]]))
    with opened(tmp_path) as handler:
        (answer,) = answered(handler, asked("1\n", CSV))
    assert predictions(answer, "projection") == [[0.0, 1.0]]


def test_named_columns_are_put_in_the_estimators_order(tmp_path: Path) -> None:
    model = LinearRegression().fit(ROWS, TARGET)
    model.feature_names_in_ = np.array(builders.NAMES, dtype=object)
    builders.estimator(tmp_path, model)
    with opened(tmp_path) as handler:
        plain, named = answered(
            handler, asked("1,2,3", CSV), asked("depth,width,height\n3,1,2", CSV)
        )
        assert plain.body == named.body
        assert "unknown to the model" in refusal(handler, asked("a,b,c\n1,2,3", CSV)).message


@pytest.mark.parametrize(
    ("body", "said"),
    [
        ("[[1, 2]]", "takes 3 columns, the input has 2"),
        ("[[1, 2, null]]", "NaN"),
        ('{"inputs": [[1, 2, 3]], "parameters": {"method": "fit"}}', "predict or predict_proba"),
        ('{"inputs": [[1, 2, 3]], "parameters": {"n_jobs": 8}}', "predict or predict_proba"),
    ],
)
def test_inputs_an_estimator_cannot_take_are_refused(
    neighbours: Path, body: str, said: str
) -> None:
    with opened(neighbours) as handler:
        refused = refusal(handler, asked(body, JSON))
    assert refused.error == "InvalidRequest"
    assert said in refused.message


def test_untrusted_types_are_named_and_not_built(tmp_path: Path) -> None:
    builders.estimator(tmp_path, FunctionTransformer(_unknown_function))
    assert "test_tables._unknown_function" in failure(tmp_path, Convention.SKOPS)


def _unknown_function(rows: Any) -> Any:
    raise AssertionError("run")


def test_objects_that_are_not_estimators_are_refused(tmp_path: Path) -> None:
    builders.estimator(tmp_path, {"weights": ROWS})
    assert "no estimator" in failure(tmp_path, Convention.SKOPS)


@pytest.mark.parametrize("algorithm", ["kd_tree", "ball_tree", "brute"])
def test_every_kind_of_neighbours_is_trusted(tmp_path: Path, algorithm: str) -> None:
    for metric in ("euclidean", "manhattan", "chebyshev"):
        model = KNeighborsClassifier(algorithm=algorithm, metric=metric).fit(ROWS, COLORS)
        builders.estimator(tmp_path, model)
        with opened(tmp_path) as handler:
            assert answered(handler, asked(csv_of(ROWS[:1]), CSV))


@pytest.mark.parametrize(
    ("library", "fixture", "convention"),
    [
        ("xgboost", "booster", Convention.XGBOOST),
        ("skops.io", "neighbours", Convention.SKOPS),
        ("onnxruntime", "onnx_graph", Convention.ONNX),
    ],
)
def test_a_missing_library_is_named_with_the_install_command(
    request: pytest.FixtureRequest, library: str, fixture: str, convention: Convention
) -> None:
    path = request.getfixturevalue(fixture)
    with pytest.MonkeyPatch.context() as environment:
        environment.setitem(sys.modules, library, None)
        message = failure(path, convention)
    assert message.startswith(f"{library} is not installed")
    assert "[formats]" in message


# ---- memory and threads ----


def test_nbytes_is_the_size_of_the_model(booster: Path, neighbours: Path) -> None:
    with opened(booster) as handler:
        assert handler.nbytes == (booster / "model.ubj").stat().st_size
    with opened(neighbours) as handler:
        assert ROWS.nbytes < handler.nbytes < (neighbours / "model.skops").stat().st_size


def test_unloading_gives_the_memory_back(tmp_path: Path) -> None:
    """Forty megabytes of neighbours. `opened` already checks that the object is gone."""
    rows = np.random.default_rng(0).normal(size=(500_000, 10))
    builders.estimator(tmp_path, PCA(2).fit(ROWS))
    with opened(tmp_path) as handler:  # the imports of the first model of a kind stay in memory
        answered(handler, asked("1,2,3", CSV))
    builders.estimator(
        tmp_path, KNeighborsClassifier(1, algorithm="brute").fit(rows, rows[:, 0] > 0)
    )
    del rows
    process = psutil.Process()
    with opened(tmp_path) as handler:
        assert handler.nbytes > 40_000_000
        loaded = process.memory_info().rss
        handler_nbytes = handler.nbytes
    assert loaded - process.memory_info().rss > 0.7 * handler_nbytes


def native(handler: ArrayHandler) -> Any:
    """The library's own model."""
    return vars(handler.model)["native"]


def test_no_more_threads_than_torch_has(booster: Path, neighbours: Path) -> None:
    """One of the two was saved with n_jobs for all cores."""
    process = psutil.Process()
    with opened(booster) as trees, opened(neighbours) as near:
        before, python = process.num_threads(), threading.active_count()
        answered(trees, asked(csv_of(ROWS), CSV))
        answered(near, asked(csv_of(ROWS), CSV))
        assert native(near).get_params()["kneighborsclassifier__n_jobs"] == 1
        config = json.loads(native(trees).save_config())
        assert config["learner"]["generic_param"]["nthread"] == "1"
        assert (process.num_threads(), threading.active_count()) == (before, python)

"""scikit-learn estimators in skops files.

Only objects of types known to be harmless are created; no code from the file runs.
"""

import importlib
import re
import sys
import warnings
import zipfile
from contextlib import AbstractContextManager, nullcontext
from pathlib import Path
from typing import Any

import numpy as np
import torch

from model_handler.checks import sklearn_models
from model_handler.errors import InvalidRequest, ModelLoadFailed
from model_handler.handlers import Payload
from model_handler.handlers.tables import table
from model_handler.handlers.tensors import Array, ArrayCall, Arrays

# Compiled parts of scikit-learn's neighbours that skops does not trust by default. They hold only data and
# arithmetic
_DISTANCES = ("Chebyshev", "Euclidean", "Hamming", "Manhattan", "Minkowski", "SEuclidean")
TRUSTED = frozenset(
    {
        "sklearn.neighbors._ball_tree.BallTree",
        "sklearn.neighbors._kd_tree.KDTree",
        *(f"sklearn.metrics._dist_metrics.{name}Distance64" for name in _DISTANCES),
    }
)
# The name of each method's answer in SageMaker's built-in algorithms
_ANSWERS = {
    "predict": "score",
    "predict_proba": "probabilities",
    "decision_function": "score",
    "transform": "projection",
}
_LABEL = "predicted_label"
_ALIAS = re.compile(r"transformers\..*_fast")


class Estimator:
    """`nbytes`: uncompressed size of the file; nearly all of it is arrays as they are in memory."""

    joins = True
    by_row = True

    def __init__(self, path: Path) -> None:
        """Raises ModelLoadFailed naming types that are not trusted, and what skops raises."""
        import threadpoolctl

        skops = skops_io()
        untrusted = set(skops.get_untrusted_types(file=path)) - TRUSTED
        if untrusted:
            named = ", ".join(sorted(untrusted)[:5])
            raise ModelLoadFailed(f"{path.name} holds types that are not trusted: {named}")
        self.native: Any = skops.load(path, trusted=sorted(TRUSTED))
        sklearn_models.check(self.native)
        self.methods = [method for method in _ANSWERS if hasattr(self.native, method)]
        if not self.methods:
            raise ModelLoadFailed(
                f"{path.name} is no estimator: it has none of {', '.join(_ANSWERS)}"
            )
        _one_process(self.native)
        self.columns: int | None = getattr(self.native, "n_features_in_", None)
        names = getattr(self.native, "feature_names_in_", None)
        self.names = None if names is None else [str(name) for name in names]
        with zipfile.ZipFile(path) as archive:
            self.nbytes = sum(member.file_size for member in archive.infolist())
        self._pools = threadpoolctl.ThreadpoolController()

    def read(self, payload: Payload) -> ArrayCall:
        parameters = dict(payload.parameters)
        method = parameters.pop("method", self.methods[0])
        if parameters or method not in self.methods:
            raise InvalidRequest(f"the only parameter is method: {' or '.join(self.methods)}")
        rows = table(payload.inputs, self.columns, self.names)
        return ArrayCall({"": rows.astype(np.float64)}, method)

    def run(self, call: ArrayCall, deadline: float) -> Arrays:
        (rows,) = call.inputs.values()
        method = getattr(self.native, call.method)
        with self._pools.limit(limits=torch.get_num_threads()), self._quiet():
            try:
                return {self._name(call.method): _dense(method(rows))}
            except ValueError as error:  # mostly missing values
                raise InvalidRequest(str(error).partition("\n")[0]) from None

    def _quiet(self) -> AbstractContextManager[object]:
        """Suppress the warning about missing column names: `table` has checked and ordered the columns."""
        if self.names is None:
            return nullcontext()
        return warnings.catch_warnings(action="ignore", category=UserWarning)

    def _name(self, method: str) -> str:
        labels = method == "predict" and not _is_regressor(self.native)
        return _LABEL if labels else _ANSWERS[method]


def skops_io() -> Any:
    """Import skops.io.

    Its import looks up names in every loaded module. Before 5.21, transformers has modules that import
    torchvision on such a look-up; they are hidden meanwhile.
    """
    hidden = {name: sys.modules.pop(name) for name in list(sys.modules) if _ALIAS.fullmatch(name)}
    try:
        return importlib.import_module("skops.io")
    finally:
        sys.modules.update(hidden)


def _is_regressor(native: Any) -> bool:
    from sklearn.base import is_regressor

    return bool(is_regressor(native))


def _one_process(native: Any) -> None:
    """Set n_jobs to 1: a request has one thread here, but estimators keep the n_jobs of their training."""
    if hasattr(native, "get_params"):
        jobs = [name for name in native.get_params() if name.split("__")[-1] == "n_jobs"]
        native.set_params(**dict.fromkeys(jobs, 1))


def _dense(values: Any) -> Array:
    """A dense array: some scikit-learn transformers return a sparse matrix."""
    return np.asarray(values.toarray() if hasattr(values, "toarray") else values)

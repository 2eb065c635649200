"""XGBoost models, read from XGBoost's JSON or UBJ formats: a score for each row."""

import json
from collections.abc import Sequence
from typing import Any

import numpy as np
import torch

from model_handler.checks import xgboost_models
from model_handler.errors import InvalidRequest, ModelLoadFailed
from model_handler.handlers import Payload
from model_handler.handlers.tables import table
from model_handler.handlers.tensors import ArrayCall, Arrays

_INPLACE = ("gbtree", "dart")  # boosters for which xgboost predicts without building a DMatrix


class Booster:
    """`nbytes`: length of the file, within a few percent of the memory that the trees take."""

    joins = True
    by_row = True

    def __init__(self, serialized: bytes) -> None:
        """Raises ModelLoadFailed for other formats than JSON and UBJ, and what xgboost raises."""
        import xgboost

        if not serialized.startswith(b"{"):
            raise ModelLoadFailed(
                "not XGBoost's JSON or UBJ format: load the model with the xgboost version that wrote it"
                ' and save it with save_model("model.ubj")'
            )
        xgboost_models.check(serialized)
        self._matrix = xgboost.DMatrix
        self._threads = 0
        self.native = xgboost.Booster()
        self.native.load_model(bytearray(serialized))
        self.native.set_param({"device": "cpu"})
        self._use_threads(torch.get_num_threads())
        self.columns = int(self.native.num_features())
        self.names: Sequence[str] | None = self.native.feature_names
        self.nbytes = len(serialized)
        self._trees = _trees(self.native)
        self._inplace = _kind(self.native) in _INPLACE

    def read(self, payload: Payload) -> ArrayCall:
        if payload.parameters:
            raise InvalidRequest("an XGBoost model takes no parameters")
        with np.errstate(over="ignore"):  # infinities are refused below
            rows = table(payload.inputs, self.columns, self.names).astype(np.float32)
        if np.isinf(rows).any():
            raise InvalidRequest(
                "the input has numbers that are infinite, or too large for float32"
            )
        return ArrayCall({"": rows})

    def run(self, call: ArrayCall, deadline: float) -> Arrays:
        (rows,) = call.inputs.values()
        self._use_threads(torch.get_num_threads())
        if self._inplace:
            score = self.native.inplace_predict(
                rows, iteration_range=self._trees, validate_features=False
            )
        else:
            matrix = self._matrix(rows, nthread=self._threads)
            score = self.native.predict(matrix, validate_features=False)
        return {"score": np.asarray(score)}

    def _use_threads(self, count: int) -> None:
        if count != self._threads:
            self._threads = count
            self.native.set_param({"nthread": count})


def _trees(native: Any) -> tuple[int, int]:
    """The iteration range: up to the best iteration if training stopped early, otherwise all."""
    best = native.attr("best_iteration")
    return (0, int(best) + 1) if best is not None else (0, 0)


def _kind(native: Any) -> str:
    learner = json.loads(native.save_config())["learner"]
    return str(learner["gradient_booster"]["name"])

"""Tiny real models of each format. All take three columns; the seeds are fixed."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import torch
import xgboost
from onnx import TensorProto, helper, numpy_helper
from sklearn.neighbors import KNeighborsClassifier
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from model_handler.handlers.estimators import skops_io
from tests.model_handler.formats.tables import COLORS, ROWS, TARGET

PARAMETERS = {"max_depth": 3, "nthread": 1, "seed": 0}
WEIGHT = np.random.default_rng(2).normal(size=(3, 2)).astype(np.float32)
NAMES = ["width", "height", "depth"]


def booster(path: Path, parameters: Mapping[str, Any] = PARAMETERS, target: Any = TARGET) -> Path:
    xgboost.train(parameters, xgboost.DMatrix(ROWS, target), 8).save_model(path / "model.ubj")
    return path


def named_booster(path: Path) -> Path:
    """Saved as JSON, with column names, and trained on data with missing numbers."""
    rows = np.where(np.arange(ROWS.size).reshape(ROWS.shape) % 7 == 0, np.nan, ROWS)
    matrix = xgboost.DMatrix(rows, TARGET, feature_names=NAMES)
    xgboost.train(PARAMETERS, matrix, 8).save_model(path / "xgboost-model.json")
    return path


def estimator(path: Path, model: Any) -> Path:
    skops_io().dump(model, path / "model.skops")
    return path


def neighbours(path: Path) -> Path:
    """k-NN with text labels, configured to use all cores."""
    model = make_pipeline(StandardScaler(), KNeighborsClassifier(3, n_jobs=-1))
    return estimator(path, model.fit(ROWS, COLORS))


def onnx_graph(path: Path, rows: str | int | None = "batch") -> Path:
    """y = x (rows, 3) times WEIGHT."""
    node = helper.make_node("MatMul", ["x", "w"], ["y"])
    return graph(path, [node], {"x": [rows, 3]}, {"y": [rows, 2]}, {"w": WEIGHT})


def graph(
    path: Path,
    nodes: Sequence[Any],
    inputs: Mapping[str, Any],
    outputs: Mapping[str, Any],
    weights: Mapping[str, Any],
    kind: int = TensorProto.FLOAT,
) -> Path:
    drawn = helper.make_graph(
        nodes,
        "graph",
        [helper.make_tensor_value_info(name, kind, shape) for name, shape in inputs.items()],
        [helper.make_tensor_value_info(name, kind, shape) for name, shape in outputs.items()],
        [numpy_helper.from_array(values, name) for name, values in weights.items()],
    )
    model = helper.make_model(drawn, opset_imports=[helper.make_opsetid("", 17)], ir_version=9)
    onnx.save(model, path / "model.onnx")
    return path


class Linear(torch.nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.weight = torch.nn.Parameter(torch.from_numpy(WEIGHT.copy()))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return x @ self.weight


class Pair(torch.nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.weight = torch.nn.Parameter(torch.from_numpy(WEIGHT.copy()))

    def forward(self, x: torch.Tensor, ids: torch.Tensor) -> dict[str, torch.Tensor]:
        return {"product": x @ self.weight, "next": ids + 1}


class Text(torch.nn.Module):
    def forward(self, x: torch.Tensor, name: str) -> torch.Tensor:
        return x


class Deciding(Linear):
    """Returns one number for all rows together."""

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return (x @ self.weight).sum()


def torchscript(path: Path, module: torch.nn.Module) -> Path:
    torch.jit.script(module.eval()).save(str(path / "model.pt"))
    return path


def exported(path: Path) -> Path:
    shapes = ({0: torch.export.Dim("batch")},)
    program = torch.export.export(Linear(), (torch.ones(2, 3),), dynamic_shapes=shapes)
    torch.export.save(program, path / "model.pt2")
    return path
